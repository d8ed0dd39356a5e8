"""Tables of strangers: every network by group and by length, and where GRID's zero lies."""

from typing import Any

from benchmarks.markdown import Row, in_order, machine_line, table
from benchmarks.strangers.groups import JUDGED, PLAUSIBLE, WORDS, Group
from benchmarks.strangers.truth import LENGTHS, LONG, WHOLE

_ALL = "all of them"
_COLUMNS = ["right", "trusted", "trusted and wrong", "another speaker's sound trusted"]


def readme(result: dict[str, Any]) -> str:
    """Everything, for the page of results."""
    networks = result["networks"]
    return "\n".join(
        [
            _groups(networks, intervals=True),
            _counted(result),
            "By length, all groups together; each clip weighs the same at each length:\n",
            _lengths(networks),
            _zeros(networks),
            machine_line(result) + "\n",
        ]
    )


def readme_short(result: dict[str, Any]) -> str:
    """One table without intervals, for the README."""
    return (
        _groups(result["networks"], intervals=False)
        + "\nSpeakers that no network was trained on. K=5 and K=15: offsets within one frame among "
        "31, where there is speech; then whole clips. "
        "TalkVid's offsets are unknown: an answer is right if it is plausible and follows "
        "sound that is moved.\n"
    )


def _groups(networks: dict[str, Any], intervals: bool) -> str:
    def share(figure: dict[str, Any] | None) -> str:
        return _share(figure, intervals)

    rows: list[Row] = []
    for group in JUDGED:
        for name, network in networks.items():
            found = network["groups"].get(group)
            if found is None:
                continue
            whole, speech = found["lengths"][WHOLE], found["speech"]
            who = f"{WORDS[group]} ({whole['clips']} clips, {whole['speakers']} speakers)"
            contexts = speech.keys() if intervals else ("k5", "k15")
            shares = [share(figure) for _, figure in in_order(speech, _contexts(contexts))]
            rows.append([who, name, *shares, *_cells(whole, intervals)])
    for name, network in networks.items():
        blank = [""] * (len(rows[0]) - 2 - len(_COLUMNS))
        for length, who in ((WHOLE, _ALL), (LONG, f"{_ALL}, of 3 s or more")):
            if found := network["all"].get(length):
                rows.append(
                    [f"{who} ({found['clips']} clips)", name, *blank, *_cells(found, intervals)]
                )
    first = next(iter(networks.values()))["groups"]
    contexts = next(iter(first.values()))["speech"] if intervals else ("k5", "k15")
    heads = [f"K={name[1:]}" for name in _contexts(contexts)]
    return table(["strangers", "network", *heads, *_COLUMNS], rows)


def _contexts(names: Any) -> list[str]:
    return sorted(names, key=lambda name: int(name[1:]))


def _cells(found: dict[str, Any], intervals: bool) -> Row:
    return [
        _share(found["right"], intervals),
        _share(found["trusted"], intervals),
        str(found["trusted_and_wrong"]),
        _share(found["others_trusted"], intervals),
    ]


def _share(figure: dict[str, Any] | None, intervals: bool = True) -> str:
    if figure is None or figure["value"] is None:
        return ""
    between = ""
    if intervals and figure["low"] is not None:
        between = f" ({100 * figure['low']:.0f} to {100 * figure['high']:.0f})"
    return f"{100 * figure['value']:.1f}{between}"


def _counted(result: dict[str, Any]) -> str:
    left_out, (least, most) = result["left_out"], PLAUSIBLE["talkvid"]
    missing = f" Not measured, for no usable face: {', '.join(left_out)}." if left_out else ""
    return (
        "Percent, with 95 % intervals over speakers; the networks were trained on none of these. "
        "K=5 to K=15: within one frame over ±15, where there is speech and every shift lies inside "
        "the clip (chance 9.7). Right: the whole clip within one frame of the truth. Trusted: "
        "`syncnet` stands by the answer. The truth is GRID's own sync, and for the talking videos "
        "what another network found. TalkVid's offsets are unknown: right means that the answer "
        f"lies within {least:+d} to {most:+d}, where another network puts all of it, give or take "
        "a frame, and follows sound moved by 3 to 10 frames within one frame; K is counted "
        "against the network's own answer for the whole clip, which flatters it. What fits by "
        "chance follows too, so there are two more tests of clips without a known offset: "
        f"{_unknown(result)}.{missing}\n"
    )


def _unknown(result: dict[str, Any]) -> str:
    return "; ".join(
        f"`{name}`: halves of a clip agree within a frame in {_share(found['halves_agree'])} "
        "(chance 9.7), and the answer follows another speaker's sound in "
        f"{_share(found['follows_by_chance'])}"
        for name, network in result["networks"].items()
        if (found := network["unknown"])
    )


def _lengths(networks: dict[str, Any]) -> str:
    rows = [
        [length, str(found["asked"]), name, *_cells(found, True)]
        for length in LENGTHS
        for name, network in networks.items()
        if (found := network["all"].get(length))
    ]
    return table(["length", "parts", "network", *_COLUMNS], rows)


def _zeros(networks: dict[str, Any]) -> str:
    told = [_zero(name, network) for name, network in networks.items()]
    return (
        "Where GRID's zero lies. Offsets are given against the sync of GRID's recordings, which "
        "need not be that of others. " + " ".join(told) + "\n"
    )


def _zero(name: str, network: dict[str, Any]) -> str:
    def mean(group: Group) -> str:
        found = network["zero"][group]
        between = ""
        if found["low"] is not None:
            between = f" ({found['low']:+.1f} to {found['high']:+.1f})"
        return f"{group} {found['value']:+.1f}{between}"

    example = network["example_224"]
    demo = ""
    if example["found"] is not None:
        demo = (
            "; the official network's demonstration clip, where that says "
            f"{example['official']:+d}, at {example['found']:+d}"
        )
    means = ", ".join(mean(group) for group in JUDGED if group in network["zero"])
    return f"`{name}` puts whole clips at a mean of, in frames: {means}{demo}."
