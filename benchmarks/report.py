"""Tables of README.md and docs/*.md from results/*.json:  python -m benchmarks.report

Between `<!-- results: NAME -->` and `<!-- end -->` a page holds nothing that was typed. Every block
stands in one page, once. What it says is its benchmark's `readme`. --check changes nothing and
fails where a page differs.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    batch_speed,
    cache_rate,
    changes,
    compare_loaders,
    cpu_step,
    dataset_hours,
    demo_time,
    demonstrations,
    finetune,
    first_step,
    growth,
    how_good,
    inference_speed,
    loader_rate,
    long_runs,
    pack_speed,
    plan_scale,
    prepare_speed,
    profile_steps,
    real_refine,
    real_speech,
    shift_recovery,
    speakers,
    timing_cost,
)
from benchmarks.faults import table as faults
from benchmarks.fuzz import table as fuzz
from benchmarks.gpu_suite import table as gpu
from benchmarks.markdown import machine_line, table
from benchmarks.module_map import module_map
from benchmarks.result import RESULTS
from benchmarks.strangers import rounds
from benchmarks.strangers import tables as strangers
from benchmarks.studies import (
    augmentation,
    detectors,
    loss,
    margin,
    min_shift,
    order,
    pairing,
    refinement,
    unseen,
    windows_per_run,
)
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
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is no JSON; measure it again") from None
    return result


def _one(benchmark: str, readme: Callable[[dict[str, Any]], str]) -> Callable[[], str]:
    """A block of one benchmark."""
    return lambda: readme(_read(benchmark))


def _when_measured(name: str, readme: Callable[[Any], str]) -> Callable[[], str]:
    """As `_one`, of a benchmark whose result may not be there yet."""
    made = _one(name, readme)
    there = (RESULTS / f"{name}.json").exists
    return lambda: made() if there() else "Written, but not measured in full yet.\n"


def _cost() -> str:
    """Opening many shards, and packing."""
    rows = growth.readme_rows(_read("growth")) + pack_speed.readme_rows(_read("pack_speed"))
    return table(["cost", "measured"], rows)


def _loader() -> str:
    """First steps, and the loader against its ceiling."""
    rate = _read("loader_rate")
    rows = first_step.readme_rows(_read("first_step")) + loader_rate.readme_rows(rate)
    rows += timing_cost.readme_rows(_read("timing_cost"))
    return table(["loader", "measured"], rows) + f"\n{machine_line(rate)}\n"


def _training() -> str:
    """Accuracy of the demonstration and of one speaker's mouths."""
    return demonstrations.readme({name: _read(name) for name in demonstrations.RESULTS})


def _how_good() -> str:
    """The README's figures of accuracy."""
    return how_good.readme(_read("real_speech"), _read("strangers"), _read("demo"))


def _gpu_short() -> str:
    """The GPU's figures in a sentence."""
    return gpu.short(gpu.read(RESULTS / "gpu_suite.json"))


def _gpu() -> str:
    """What has been measured on a GPU, if anything has."""
    path = RESULTS / "gpu_suite.json"
    return gpu.readme(gpu.read(path))


def studies() -> str:
    """A paragraph for each study."""
    modules = (
        loss, pairing, windows_per_run, order, refinement, margin, min_shift, augmentation, unseen,
    )  # fmt: skip
    asked = [module.STUDY for module in modules]
    done = [study for study in asked if (RESULTS / f"study_{study.name}.json").exists()]
    told = [study.told(_read(f"study_{study.name}")) for study in done]
    if left := [f"`{study.name}`" for study in asked if study not in done]:
        told.append(f"Written, but not measured in full yet: {', '.join(left)}.")
    return "\n\n".join(told) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "loaders_short": _one("compare_loaders", compare_loaders.readme_short),
    "how_good": _how_good,
    "compare": _one("compare_loaders", compare_loaders.readme),
    "steps": _one("profile_steps", profile_steps.readme),
    "cache": _when_measured("cache_rate", cache_rate.readme),
    "cost": _cost,
    "loader": _loader,
    "training": _training,
    "prepare": _one("prepare_speed", prepare_speed.readme),
    "detectors": _when_measured("study_detectors", detectors.readme),
    "datasets": _one("prepare_speed", dataset_hours.readme),
    "long_runs": _when_measured("long_runs", long_runs.readme),
    "plan_scale": _one("plan_scale", plan_scale.readme),
    "inference": _one("inference_speed", inference_speed.readme),
    "batch": _when_measured("batch_speed", batch_speed.readme),
    "real": _one("real_speech", real_speech.readme),
    "strangers": _one("strangers", strangers.readme),
    "strangers_rounds": _one("strangers_rounds", rounds.readme),
    "strangers_short": _one("strangers", strangers.readme_short),
    "refined": _one("real_refine", real_refine.readme),
    "finetune": _one("finetune", finetune.readme),
    "changes": _one("changes", changes.readme),
    "fuzz": _one("fuzz", fuzz.readme),
    "speakers": _when_measured("speakers", speakers.readme),
    "shifts": _one("shift_recovery", shift_recovery.readme),
    "cpu_step": _one("cpu_step", cpu_step.readme),
    "demo_time": _when_measured("demo_time", demo_time.readme),
    "faults": _one("faults", faults.readme),
    "gpu": _gpu,
    "gpu_short": _gpu_short,
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
