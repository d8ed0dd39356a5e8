"""The README's one table of accuracy: every kind of video, with chance and limits.

Its figures are those of `benchmarks.real_speech`, `benchmarks.strangers` and of the demonstration.
"""

from typing import Any

from benchmarks.markdown import Row, table
from benchmarks.strangers.groups import Group
from benchmarks.strangers.truth import WHOLE

_ONE_SPEAKER = "multiway, seed 0"  # of `benchmarks.real_speech`
_PACKAGED = "mouth"  # the network that comes with the package
_CHANCE = ["9.7%"] * 3  # 3 of 31 shifts


def readme(real: dict[str, Any], strangers: dict[str, Any], demo: dict[str, Any]) -> str:
    """The table and what it counts.

    Args:
        real: result of `benchmarks.real_speech`.
        strangers: result of `benchmarks.strangers --weights`.
        demo: result of the demonstration.
    """
    heads = [f"{demo['test_clips']} synthetic heads (the demonstration's network)"]
    heads += [f"{demo[f'test_accuracy_k{context}']:.1%}" for context in (5, 15)]
    rows = [[*heads, "", "drawn heads"], *_rows(real, strangers), ["chance", *_CHANCE, ""]]
    return (
        table(["never seen in training", "5 frames", "15 frames", "whole clip", "limits"], rows)
        + "\nShare of offsets found within one frame (40 ms) of the truth, among 31 candidates, "
        "from 5 frames of video, from 15, and from the whole clip. Of real speech, where it is "
        "not silent. Bold: the network that comes with the package, on speakers that it has never "
        "seen.\n"
    )


def _rows(real: dict[str, Any], strangers: dict[str, Any]) -> list[Row]:
    same = real["unseen_clips"][_ONE_SPEAKER]
    own = [
        f"{same['clips']} new sentences of the one speaker that a network was trained on",
        *_shares(same),
        "one speaker, one studio",
    ]
    groups = strangers["networks"][_PACKAGED]["groups"]
    return [
        own,
        _strangers(groups, "grid", "sentences of new speakers in a studio", "few speakers"),
        _strangers(
            groups,
            "talking",
            "videos of new speakers in the wild",
            "the truth is another network's",
        ),
        _strangers(
            groups, "talkvid", "videos of new speakers, several languages", "their truth is unknown"
        ),
    ]


def _strangers(groups: dict[str, Any], group: Group, who: str, limits: str) -> Row:
    whole, speech = groups[group]["lengths"][WHOLE], groups[group]["speech"]
    contexts = [f"{speech[name]['value']:.1%}" for name in ("k5", "k15")]
    return [
        f"**{whole['clips']} {who}**",
        # of an unknown truth the network's own answer stands in, which says nothing of these
        *(contexts if group != "talkvid" else ["", ""]),
        f"{whole['right']['value']:.1%}",
        f"sure of {whole['trusted']['value']:.0%}, {whole['trusted_and_wrong']} of them wrong; "
        f"{limits}",
    ]


def _shares(measured: dict[str, Any]) -> Row:
    speech = measured["accuracy_speech"]
    shares = speech["k5"], speech["k15"], measured["accuracy"]["clip"]
    return [f"{share['value']:.1%}" for share in shares]
