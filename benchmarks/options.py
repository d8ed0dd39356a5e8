"""What the command lines of the benchmarks share: options, and how they end."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import restricted_number_type

from benchmarks.result import try_writing
from data_tools.cli import command, exit_status, parse, whole
from data_tools.errors import UsageError

CACHE = Path(tempfile.gettempdir()) / "syncnet-bench"
AtLeastOne = whole("AtLeastOne", 1)
AtLeastTwo = whole("AtLeastTwo", 2)
VideoSeconds = restricted_number_type("VideoSeconds", float, (">=", 3))


def command_line(benchmark: str, description: str | None, cache: bool = True) -> ArgumentParser:
    """A parser with --json, --quick and, unless the benchmark makes no data, --cache.

    Args:
        benchmark: module under benchmarks.
        description: its docstring.
    """
    parser = command(f"python -m benchmarks.{benchmark}", description or "")
    if cache:
        parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what is made once")
    parser.add_argument("--json", type=Path, help="file of the result (default: in results/)")
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    return parser


def add_data(parser: ArgumentParser, gray: bool = True) -> None:
    """Options of the frames to load: --shards, or synthetic heads.

    Args:
        gray: whether there is a --gray.
    """
    parser.add_argument("--shards", type=Path, help="your shards (default: synthetic heads)")
    parser.add_argument("--clips", type=AtLeastOne, default=64, help="synthetic clips")
    parser.add_argument("--size", type=AtLeastOne, default=224, help="of synthetic frames")
    if gray:
        parser.add_argument("--gray", action="store_true", help="synthetic frames without colour")


def run(
    benchmark: str,
    parser: ArgumentParser,
    argv: list[str] | None,
    work: Callable[[Namespace], object],
    quick: dict[str, Any] | None = None,
) -> int:
    """Do `work(args)`; its exit status: 0, 2 (wrong usage) or 1 (data).

    Whether the file of --json can be written is tried first, not after all the measuring.

    Args:
        quick: options that --quick sets.
    """

    def checked() -> None:
        args = parse(parser, argv)
        if args.json is not None:
            try_writing(args.json)
        if args.quick:
            for name, value in (quick or {}).items():
                setattr(args, name, value)
        work(args)

    return exit_status(benchmark, checked, "stopped")


def check_even(option: str, value: int) -> None:
    """Check a batch size.

    Raises:
        UsageError: it is odd.
    """
    if value % 2:
        raise UsageError(f"{option} must be even (half are genuine pairs), not {value}")


def check_device(name: str) -> None:
    """Check that `name` is cpu or a GPU that is there.

    Raises:
        UsageError: it is not.
    """
    import torch

    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, not {name}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"torch {torch.__version__} finds no GPU here; try --device cpu")


def part_of(*commands: str) -> int:
    """Say that a module is no command but a part of others; the exit status 0."""
    print(f"a part of {' and '.join(f'python -m benchmarks.{command}' for command in commands)}")
    return 0
