"""What a GPU does with this project, in one call:  python -m benchmarks.gpu_suite

Sections, each in a process of its own with a budget of time. One that fails is reported with its
error and the others go on; the JSON is written anew after each. Those whose answer is no time run
beside each other first. Correctness: the decoder's frames,
no synchronisation, no early reuse, damaged frames, memory, kill and resume. Speed: the seed's
recipe (batch 1,024, the published architecture on 224 x 224 colour, 15 steps an epoch) with every
way to feed it, beside the seed's 4,920 samples/s of compute and 512 in truth; ways to compute the
step; piece sizes of inference; pinned JPEGs. The shards are synthetic and made first.

`--device cpu --quick` runs the same code small, to show that it works; its figures say nothing of a
GPU, and the report names what a CPU could not show.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat

from benchmarks.gpu_suite.lab import Setting
from benchmarks.gpu_suite.sections import SECTIONS, preload, run_sections
from benchmarks.options import AtLeastOne, AtLeastTwo, check_device, check_even, command_line, run
from benchmarks.result import Result
from data_tools.errors import UsageError, UserError
from trainer.model.syncnet import PRESETS

QUICK = {"model": "small", "batch_size": 8, "epochs": 2, "steps": 2, "clips": 20}


def measure(
    setting: Setting, names: list[str], limit: float, path: Path | None = None
) -> dict[str, Any]:
    """All sections, one after another; writes the result after each.

    Args:
        names: of the sections.
        limit: seconds for all of them.
        path: of the JSON.

    Returns:
        What was written beside machine and command.

    Raises:
        UserError: sections failed or were not reached; all is written.
    """
    began = time.monotonic()
    figures: dict[str, Any] = {
        "device": setting.device,
        "model": setting.model,
        "batch_size": setting.batch_size,
        "sections": {},
    }
    if setting.device == "cpu":
        figures["not_shown"] = {name: SECTIONS[name].unseen for name in names}

    def left() -> float:
        return limit - (time.monotonic() - began)

    def keep() -> None:
        nonlocal path
        figures["seconds"] = round(time.monotonic() - began, 1)
        path = Result("gpu_suite", figures, quick=setting.quick).write(path)

    preload(setting.device != "cpu")
    print("shards: making them", flush=True)
    shards = setting.make_shards()
    figures["shards_seconds"] = round(time.monotonic() - began, 1)
    print(f"shards: {figures['shards_seconds']} s", flush=True)

    def tell(name: str, found: dict[str, Any] | None) -> None:
        if found is None:
            print(f"{name}: {SECTIONS[name].what}", flush=True)
            return
        figures["sections"][name] = found
        keep()
        print(f"{name}: {found['state']}, {found['seconds']} s", flush=True)
        short = {key: value for key, value in found.items() if key not in ("trace", "log")}
        print(json.dumps(short), flush=True)

    run_sections(names, setting, shards, left, tell)
    keep()
    _tell_the_end(figures, path)
    return figures


def _tell_the_end(figures: dict[str, Any], path: Path | None) -> None:
    for name, what in figures.get("not_shown", {}).items():
        print(f"not shown on a CPU, {name}: {what}")
    print(f"wrote {path} after {figures['seconds']} s")
    without = [
        f"{name} ({found['state']})"
        for name, found in figures["sections"].items()
        if found["state"] != "done"
    ]
    if without:
        raise UserError(f"not all was answered: {', '.join(without)}; {path} says why")


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 not every section was done."""
    parser = command_line("gpu_suite", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    parser.add_argument("--model", default="syncnet", choices=sorted(PRESETS), help="of the recipe")
    parser.add_argument("--batch-size", type=AtLeastTwo, default=1024, help="of the recipe")
    parser.add_argument("--epochs", type=AtLeastTwo, default=4, help="of each run of the recipe")
    parser.add_argument("--steps", type=AtLeastTwo, default=15, help="of an epoch")
    parser.add_argument("--clips", type=AtLeastOne, default=320, help="synthetic clips to make")
    parser.add_argument(
        "--limit", type=PositiveFloat, default=295.0, help="seconds for all sections together"
    )
    parser.add_argument(
        "--sections",
        nargs="+",
        default=list(SECTIONS),
        metavar="NAME",
        help=f"only these: {', '.join(SECTIONS)}",
    )
    return run("gpu_suite", parser, argv, _measure, QUICK)


def _measure(args: Namespace) -> None:
    check_device(args.device)
    check_even("--batch-size", args.batch_size)
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        raise UsageError(f"--sections: no {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    setting = Setting(
        args.device, args.cache, args.model, args.batch_size, args.steps, args.epochs, args.clips,
        args.quick,
    )  # fmt: skip
    names = [name for name in SECTIONS if name in args.sections]
    measure(setting, names, args.limit, args.json)


if __name__ == "__main__":
    sys.exit(main())
