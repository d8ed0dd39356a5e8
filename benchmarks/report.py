"""Tables of README.md and docs/*.md from results/*.json:  python -m benchmarks.report

Between `<!-- results: NAME -->` and `<!-- end -->` a page holds nothing that was typed. Every block
stands in one page, once. --check changes nothing and fails where a page differs.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import compare_loaders, real_speech
from benchmarks.attribute import ALONE, LADDER
from benchmarks.loaders import CEILINGS, LOADERS
from benchmarks.measure import RESULTS
from benchmarks.module_map import module_map
from benchmarks.studies import augmentation, loss, margin, min_shift, pairing, refinement
from data_tools.atomic import atomic_path
from data_tools.cli import command, exit_status, parse
from data_tools.errors import UserError

ROOT = Path(__file__).parents[1]
_MARKER = re.compile(r"^<!-- results: (\w+) -->$", re.MULTILINE)
_BLOCK = re.compile(
    r"^(<!-- results: (\w+) -->\n)(?:(?!^<!-- results: ).)*?^(<!-- end -->)$",
    re.DOTALL | re.MULTILINE,
)


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is no JSON; measure it again") from None
    return found


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _machine(result: dict[str, Any]) -> str:
    m = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    gpu = m["gpu"] or "no GPU"
    return f"{m['cores']} cores of {m['processor']}, {gpu}; Python {m['python']}, {versions}."


def _in_order(found: dict[str, Any], names: Iterable[str]) -> list[tuple[str, Any]]:
    """Entries in the order of `names`: a JSON's keys are sorted."""
    return [(name, found[name]) for name in names if name in found]


def compare() -> str:
    """Every loader on the same frames, and what follows for ours."""
    result = _read("compare_loaders")
    found = result["loaders"]
    rows = [
        [
            f"**{name}**" if name == "ours" else name,
            f"{row['first_step_wait_ms']:,.1f} ms",
            f"{row['first_step_wait_p99_ms']:,.1f} ms",
            f"{row['samples_per_s']:,}",
            f"{row['utilisation']:.1%}",
            f"{row['cold_start_s']:.2f} s",
            f"{row['peak_memory_mb']:,.0f} MB",
            f"{row['processes']}",
            f"{row['cpu_s_per_1000']:.2f} s",
        ]
        for name, row in _in_order(found, LOADERS)
        if name not in CEILINGS
    ]
    header = ["loader", "first step waits", "p99", "samples/s", "utilisation", "first batch"]
    header += ["memory", "processes", "CPU for 1,000"]
    ours = found["ours"]
    torch = {name: row for name, row in found.items() if name.startswith("torch-")}
    best, best_on_files = (
        max(names, key=lambda name: torch[name]["samples_per_s"])
        for names in (list(torch), [name for name in torch if name != "torch-shards"])
    )
    fastest = max(
        (name for name in found if name not in CEILINGS),
        key=lambda name: found[name]["samples_per_s"],
    )
    below = torch["torch-persistent"]["first_step_wait_ms"] / ours["first_step_wait_ms"]
    other = ""
    if fastest != "ours":
        ratio = ours["samples_per_s"] / found[fastest]["samples_per_s"]
        other = f" Free running, {fastest} is faster: ours reaches {ratio:.2f} of it."
    equal = [
        name
        for name, row in _in_order(found, LOADERS)
        if name not in ("ours", *CEILINGS) and row["samples_per_s_max"] >= ours["samples_per_s_min"]
    ]
    if equal:
        other += (
            f" Level with ours, by the spread of the rounds (rate, often the other columns too): "
            f"{', '.join(equal)}."
        )
    what = "".join(
        f"- **{name}**: {LOADERS[name].what}\n"
        for name, _ in _in_order(found, LOADERS)
        if name not in CEILINGS
    )
    return (
        _table(header, rows)
        + f"\n{result['frame']} frames, batches of {result['batch_size']}, steps of "
        f"{result['step_ms']:.0f} ms ({result['headroom']:g} times what ours took for a batch in a "
        "trial before the rounds), "
        f"medians of "
        f"{result['repetitions']} interleaved rounds. Ours: {ours['of_libjpeg_turbo']:.2f} of "
        f"libjpeg-turbo alone on all cores ({result['libjpeg_turbo_samples_per_s']:,} samples/s), "
        f"{ours['samples_per_s'] / torch[best]['samples_per_s']:.1f} times the fastest torch "
        f"DataLoader ({best}) and "
        f"{ours['samples_per_s'] / torch[best_on_files]['samples_per_s']:.1f} times the fastest "
        f"one on files ({best_on_files}), first step {_round_down(below):,} times below "
        f"torch-persistent.{other} "
        f"Copying batches in memory gives {found['copy']['samples_per_s']:,} samples/s. "
        f"{_machine(result)}\n\n<details><summary>What each loader is and how it was set"
        f"</summary>\n\n{what}\n</details>\n"
    )


def _round_down(ratio: float) -> int:
    """To one digit: of waits that take microseconds no more is known."""
    digit = 10 ** (len(str(int(ratio))) - 1)
    return int(ratio) // digit * digit


def steps() -> str:
    """The emulated seed: shape, causes, remedies."""
    result = _read("profile_steps")
    rows = [
        [
            remedy["what"],
            f"{remedy['first_step_wait_ms']:,.0f} ms",
            f"{result['loaders'][name]['first_step_share']:.0%}",
            f"{remedy['epoch_wait_ms']:,.0f} ms",
            f"{remedy['epoch_ms']:,.0f} ms",
        ]
        for name, remedy in _in_order(
            result["attribution"]["remedies"], [trial.name for trial in (*LADDER, *ALONE)]
        )
    ]
    header = ["loader", "first step waits", "its share of the epoch", "all waits", "an epoch"]
    found = result["attribution"]
    parts = ", ".join(
        f"{cause} {ms:,.0f} ms"
        for cause, ms in _in_order(
            found["first_step_wait_ms_explained"],
            [str(trial.cause) for trial in LADDER[1:]] + ["left with ours"],
        )
    )
    return (
        _table(header, rows)
        + f"\n{result['steps']} steps of {result['batch_size']} samples, {result['workers']} "
        f"workers, compute emulated. Of the first step's wait: {parts}. "
        f"Main cause: {found['main_cause']}.\n"
    )


def cost() -> str:
    """Opening many shards, and packing."""
    curves, packing = _read("growth")["curves"], _read("pack_speed")
    rows = [
        [
            f"opening {point['x']:,} shard{'s' if point['x'] > 1 else ''} "
            f"({point['frames']:,.0f} frames)",
            f"{point['open_s']:.2f} s, {point['memory_mb']:,.0f} MB, first batch of an epoch drawn "
            f"in {point['first_batch_of_epoch_ms']:.1f} ms",
        ]
        for point in curves["shards"]
        if point["x"] in (1, 100, 1000)
    ]
    rows += [
        [
            f"frames of {point['x']}",
            f"{5 * point['samples_per_s']:,.0f} frames/s, "
            f"{point['samples_per_s'] / point['libjpeg_turbo_samples_per_s']:.2f} of libjpeg-turbo",
        ]
        for point in curves["frame"]
    ]
    rows += [
        [f"{point['x']} % of the page cache dropped", f"{5 * point['samples_per_s']:,.0f} frames/s"]
        for point in curves["cache"]
    ]
    for workers, rate in packing["pack_mb_per_s"].items():
        what = (
            f"packing {packing['megabytes']:,.0f} MB with {workers} "
            f"process{'es' if workers != '1' else ''}"
        )
        share = packing["of_copy"][workers]
        rows.append([what, f"{rate:,.0f} MB/s, {share:.2f} of a plain copy of the same bytes"])
    return _table(["cost", "measured"], rows)


def loader() -> str:
    """First steps, and the loader against its ceiling."""
    step, rate, cost = _read("first_step"), _read("loader_rate"), _read("timing_cost")
    rows = [
        [
            f"wait in the first step of an epoch (median, epochs 2-{step['epochs']})",
            f"{step['first_step_wait_ms']:.2f} ms",
        ],
        ["wait in the other steps (median)", f"{step['other_step_wait_ms']:.2f} ms"],
        [
            f"utilisation, first steps included, {step['step_ms']:.0f} ms steps of "
            f"{step['batch_size']} samples",
            f"{step['utilisation']:.1%}",
        ],
        [
            f"loader alone, {rate['frame']} frames of {rate['jpeg_bytes'] / 1000:.1f} kB",
            f"{rate['loader_frames_per_s']:,} frames/s",
        ],
        [
            "libjpeg-turbo alone on all cores, same run",
            f"{rate['libjpeg_turbo_frames_per_s']:,} frames/s",
        ],
        ["ratio (median of pairs)", f"{rate['ratio']:.2f}"],
        [
            f"memory after {rate['epochs']} epochs against after {rate['epochs'] // 10}",
            f"{rate['memory_mb'][-1] - rate['memory_mb'][0]:+.0f} MB",
        ],
        ["cost of timing a step, share of a step of the small model", f"{cost['share']:.3%}"],
    ]
    return _table(["loader", "measured"], rows) + f"\n{_machine(rate)}\n"


def training() -> str:
    """Accuracy of the demonstration and of real speech."""
    names = {"demo": "synthetic heads", "grid_mouths": "GRID, one speaker, 238 sentences"}
    rows = []
    for name, what in names.items():
        result = _read(name)
        rows.append(
            [
                what,
                f"{result['test_clips']}",
                f"{result['seconds']:.0f} s",
                f"{result['test_accuracy_k5']:.1%}",
                f"{result['test_accuracy_k15']:.1%}",
                f"{result['test_auc']:.3f}",
                f"{result['test_swapped_accuracy_k15']:.1%}",
            ]
        )
    header = ["data", "unseen clips", "training, evaluation", "K=5", "K=15", "AUC"]
    header.append("K=15, sound swapped")
    return _table(header, rows) + f"\n{_read('grid_mouths')['device']}; chance is 9.7 %.\n"


def prepare() -> str:
    """Videos to clips: rate, cost against decoding and detecting alone, shares."""
    result = _read("prepare_speed")
    shares = ", ".join(
        f"{name} {share:.0%}"
        for name, share in sorted(result["shares"].items(), key=lambda entry: -entry[1])
        if share >= 0.005
    )
    rows = [
        [
            f"video seconds a second, {result['processes']} processes",
            f"{result['seconds_per_second_all_cores']:.1f}",
        ],
        [
            "the same, one process with one thread",
            f"{result['seconds_per_second_one_thread']:.1f}",
        ],
        [
            "cost against decoding and detecting alone, same run",
            f"{result['cost_over_floor']:.2f}",
        ],
        ["share of each stage", shares],
    ]
    return _table(["720p, one face, a detection every 5 frames", "measured"], rows)


def inference() -> str:
    """One pass against windows batched by 20, floor, memory."""
    result = _read("inference_speed")
    peaks, by_length = result["peak_memory_mb"], result["sync_by_seconds"]
    names = {
        "ours": "**ours**, one pass",
        "ours, bf16": "ours, `--bf16`",
        "official": "windows batched by 20",
    }
    rows = [
        [
            what,
            f"{result['video_seconds_per_s'][name]:.2f}",
            f"{result['ms_per_window'][name]:.1f} ms",
            f"{peaks[name]:,.0f} MB" if name in peaks else "",
        ]
        for name, what in names.items()
    ]
    (short, first), (long, last) = sorted(by_length.items(), key=lambda entry: int(entry[0]))
    return (
        _table(["published architecture", "video seconds a second", "a window", "memory"], rows)
        + f"\n{result['times_faster']:.1f} times faster ({result['times_faster_min']:.1f} to "
        f"{result['times_faster_max']:.1f} over {result['repetitions']} rounds in turns, "
        f"{result['frames']} frames of 224x224, {result['threads']} threads), embeddings equal to "
        f"{result['largest_relative_difference']:.0e}; in bfloat16 "
        f"{result['times_faster_bf16']:.1f} times, to "
        f"{result['largest_relative_difference_bf16']:.0e}. A window takes "
        f"{result['gflops_per_window']:.1f} GFLOP, which the best matrix product of this machine "
        f"does in {result['floor_ms_per_window']:.1f} ms: ours runs at {result['of_floor']:.0%} of "
        f"that. `trainer.sync` with the small model: {first['peak_memory_mb']:,.0f} MB for "
        f"{int(short) / 60:.2g} min of video, {last['peak_memory_mb']:,.0f} MB for "
        f"{int(long) / 60:.2g} min, {last['video_seconds_per_s']:.0f} seconds of video a second. "
        f"{_machine(result)}\n"
    )


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"


def real() -> str:
    """Sentences of GRID never seen in training, by everything that was trained on the others."""
    result = _read("real_speech")
    rows = []
    for name, found in result["unseen_clips"].items():
        accuracy, trained = found["accuracy"], result["trained"][name]
        swapped = found.get("swapped", {}).get("k15", {}).get("value")
        rows.append(
            [
                f"**{name}**" if name.startswith("multiway") else name,
                f"{trained['parameters'] / 1e6:.2f} M" if "parameters" in trained else "",
                f"{trained['seconds']:,.0f} s",
                _interval(found["accuracy_speech"]["k5"]),
                _interval(found["accuracy_speech"]["k15"]),
                f"{found['accuracy_inside']['k5']['value']:.1%}, "
                f"{found['accuracy_inside']['k15']['value']:.1%}",
                f"{accuracy['k5']['value']:.1%}, {accuracy['k15']['value']:.1%}",
                f"{accuracy['clip']['value']:.1%}",
                "" if swapped is None else f"{swapped:.1%}",
            ]
        )
    clips = next(iter(result["unseen_clips"].values()))["clips"]
    rows.append(["chance", "", "", "9.7%", "9.7%", "", "", "9.7%", ""])
    header = ["trained with", "parameters", "training", "K=5", "K=15", "pauses too"]
    header.append("edges too")
    header.append("whole clip")
    header.append("K=15, sound swapped")
    return (
        _table(header, rows)
        + f"\n{clips} sentences of one GRID speaker never seen in training (studio, one camera); "
        "within +-1 frame over +-15, 95 % intervals over sentences. K=5 and K=15 are counted where "
        "the sound is louder than 20 dB below the sentence's loud parts and all 31 shifts lie "
        "inside the clip; then (K=5, K=15) in pauses too, of which nothing can be told from five "
        "frames; then also at the silent edges of the clip. "
        f"{_machine(result)}\n\n" + _own_offsets(result)
    )


def _own_offsets(result: dict[str, Any]) -> str:
    """The same sentences against the offsets that they have themselves."""
    own = result["unseen_clips_own_offsets"]
    rows = [
        [
            name,
            *(_interval(found["accuracy_speech"][f"k{context}"]) for context in (5, 15)),
            f"{found['accuracy_inside']['k5']['value']:.1%}, "
            f"{found['accuracy_inside']['k15']['value']:.1%}",
            f"{found['accuracy']['clip']['value']:.1%}",
        ]
        for name, found in own.items()
    ]
    judged = next(found for name, found in own.items() if name != "contrastive")["own_offsets"]
    offsets = sorted(judged, key=int)
    counts = ", ".join(f"{judged[offset]} at {int(offset):+d}" for offset in offsets)
    return (
        "The recordings themselves are not all in sync, which that table counts as errors of the "
        f"network: judged by the contrastive network, whole sentences lie at {counts} frames. "
        "Against those offsets, found by a network of another size, loss and training (the "
        "contrastive one is judged by the first multi-way one):\n\n"
        + _table(["against own offsets", "K=5", "K=15", "pauses too", "whole clip"], rows)
    )


def speakers() -> str:
    """Speakers never seen: what trainer.sync says, against the offsets that are listed."""
    result = _read("real_speech")
    rows = [
        [
            row["video"],
            "unknown" if row["listed"] is None else f"{row['listed']:+d}",
            f"{row['offset']:+d}",
            "yes" if row["trusted"] else "not sure",
        ]
        for row in result["unseen_speakers"]
    ]
    known = [row for row in result["unseen_speakers"] if row["listed"] is not None]
    right = sum(abs(row["offset"] - row["listed"]) <= 1 for row in known)
    sure = sum(row["trusted"] for row in known)
    accuracy = result["unseen_studio_speakers"]["accuracy_speech"]
    clips = result["unseen_studio_speakers"]["clips"]
    wrong = sum(row["trusted"] and abs(row["offset"] - row["listed"]) > 2 for row in known)
    return (
        _table(["video", "listed offset, frames", "found", "trusted"], rows)
        + f"\nIt is sure of {sure} of {len(known)}, of which {wrong} are off by more than two "
        f"frames; sure or not, {right} are within +-1 frame of what is listed. From a few frames "
        f"it is much weaker than on its own speaker (below): the {clips} studio clips give K=5 "
        f"{_interval(accuracy['k5'])}, K=15 {_interval(accuracy['k15'])}. The listed offsets were "
        "found by another network, not by a person, and GRID's own sound may be a frame early.\n"
    )


def refined() -> str:
    """Real speech of which a fifth was put off sync in secret, before and after refinement."""
    result = _read("real_refine")
    before, after = result["before"], result["after"]
    rows = [
        [
            "rejected or re-aligned, of "
            f"{result['clips']} training clips with {result['off_sync']} off sync",
            f"{result['rejected']}",
        ],
        ["precision", f"{result['precision']:.1%}"],
        [
            "recall (shifted, dubbed)",
            f"{result['recall']:.1%} ({result['recall_shifted']:.1%}, "
            f"{result['recall_dubbed']:.1%})",
        ],
        [
            "shift of the shifted found within +-1 frame",
            f"{result['shift_found_within_one_frame']:.1%}",
        ],
        [
            "K=5 on untouched clips, before and after",
            f"{before['test_accuracy_k5']:.1%}, {after['test_accuracy_k5']:.1%}",
        ],
        [
            "K=15 on untouched clips, before and after",
            f"{before['test_accuracy_k15']:.1%}, {after['test_accuracy_k15']:.1%}",
        ],
    ]
    note = f"\nTwo trainings of {result['epochs']} epochs each, seed {result['seed']}.\n"
    return _table(["refinement on GRID", "found"], rows) + note


def studies() -> str:
    """A paragraph for each study."""
    modules = (loss, pairing, refinement, margin, min_shift, augmentation)
    asked = [module.STUDY for module in modules]
    done = [study for study in asked if (RESULTS / f"study_{study.name}.json").exists()]
    told = [study.told(_read(f"study_{study.name}")) for study in done]
    if left := [f"`{study.name}`" for study in asked if study not in done]:
        told.append(f"Written, but not measured in full yet: {', '.join(left)}.")
    return "\n\n".join(told) + "\n"


def shifts() -> str:
    """Shifts of synthetic videos, found and mended."""
    result = _read("shift_recovery")
    rows = [
        ["videos of " + f"{result['seconds']:g} s", f"{result['videos']}"],
        ["offset within +-1 frame", f"{result['within_one_frame']:.1%}"],
        ["largest error", f"{result['largest_error']} frames"],
        ["words that state the same offset", f"{result['words_agree']:.1%}"],
        ["trusted", f"{result['trusted']:.1%}"],
        [
            "after `--fix` within +-1 frame of none",
            f"{result['mended_within_one_frame']} of {result['mended']}",
        ],
    ]
    return _table(["shift recovery", "measured"], rows)


def _short(header: list[str], rows: list[list[str]], note: str) -> str:
    return f"{_table(header, rows)}\n{note}\n"


def loaders_short() -> str:
    """The README's five loaders."""
    return _short(*compare_loaders.short_table(_read("compare_loaders")))


def how_good() -> str:
    """The README's figures of accuracy, with chance and limits."""
    return _short(*real_speech.short_table(_read("real_speech"), _read("demo")))


TABLES: dict[str, Callable[[], str]] = {
    "loaders_short": loaders_short,
    "how_good": how_good,
    "compare": compare,
    "steps": steps,
    "cost": cost,
    "loader": loader,
    "training": training,
    "prepare": prepare,
    "inference": inference,
    "real": real,
    "speakers": speakers,
    "refined": refined,
    "shifts": shifts,
    "studies": studies,
    "modules": module_map,
}


def pages() -> list[Path]:
    """The files that may hold blocks: README.md and docs/*.md."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def check_places(texts: dict[Path, str]) -> None:
    """Check that every block stands in one of the pages, once, and that all are known.

    Raises:
        UserError: one does not; names the block and the page.
    """
    places: dict[str, list[str]] = {name: [] for name in TABLES}
    for path, text in texts.items():
        page = path.relative_to(ROOT).as_posix()
        for name in _MARKER.findall(text):
            if name not in places:
                raise UserError(
                    f"{page} has a block {name!r}, which is unknown; there are {', '.join(TABLES)}"
                )
            places[name].append(page)
        if len(_MARKER.findall(text)) != len(_BLOCK.findall(text)):
            raise UserError(f"{page}: a block lacks its <!-- end -->")
    for name, where in places.items():
        if not where:
            raise UserError(f"the block {name!r} stands in no page: README.md or docs/*.md")
        if len(where) > 1:
            raise UserError(f"the block {name!r} stands twice: {', '.join(where)}")


def rendered(text: str) -> str:
    """The text of a page with every block made anew.

    Raises:
        UserError: a result is older than its table.
    """

    def block(match: re.Match[str]) -> str:
        table = TABLES[match[2]]
        try:
            return f"{match[1]}{table()}{match[3]}"
        except KeyError as error:
            raise UserError(
                f"the result of the table {match[2]!r} has no {error}: measure it again"
            ) from None

    return _BLOCK.sub(block, text)


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if --check finds a difference or a result cannot be read."""
    parser = command("python -m benchmarks.report", __doc__ or "")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if they differ")

    def work() -> None:
        args = parse(parser, argv)
        texts = {path: path.read_text(encoding="utf-8") for path in pages()}
        check_places(texts)
        changed = {path: new for path, text in texts.items() if (new := rendered(text)) != text}
        names = ", ".join(path.relative_to(ROOT).as_posix() for path in changed)
        if args.check and changed:
            raise UserError(
                f"{names}: differs from benchmarks/results; run python -m benchmarks.report"
            )
        for path, text in changed.items():
            with atomic_path(path) as partial:
                partial.write_text(text, encoding="utf-8")
        if not args.check:
            print(f"wrote {names}" if changed else "all pages hold the results")

    return exit_status("report", work)


if __name__ == "__main__":
    sys.exit(main())
