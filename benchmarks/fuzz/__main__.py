"""What do readers do with bad input?  python -m benchmarks.fuzz

Sound files of every kind are damaged at random, or forged with right checksums, and read as the
commands read them. Each kind is read in a process of its own under limits of time and memory. A
finding is whatever is neither read nor refused in one sentence: another exception, a crash, a hang,
too much memory, code that is run, a file outside the folder. It is kept as a file, and tried again
by --replay FILE.
"""

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks.fuzz.child import Tried, file_name, fuzz
from benchmarks.fuzz.mended import MENDED
from benchmarks.fuzz.targets import TARGETS
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import RESULTS, Result
from data_tools.atomic import atomic_path
from data_tools.cli import whole
from data_tools.errors import UsageError, UserError
from data_tools.progress import progress

_QUICK = 400  # how many times fewer inputs --quick tries
FromZero = whole("FromZero", 0)


def measure(args: Namespace) -> dict[str, Any]:
    """Try the inputs of the targets asked for; the rows of the result.

    Raises:
        UserError: there are findings; they are written.
    """
    wanted = {name: TARGETS[name] for name in args.target}
    counts = {name: args.inputs or target.inputs for name, target in wanted.items()}
    if args.quick:
        counts = {name: max(2, count // _QUICK) for name, count in counts.items()}
    kept = _others(args.json or RESULTS / "fuzz.json", args.target, args.seed)
    rows: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    written = None  # anew after each target
    with progress("fuzzing", sum(counts.values()), "inputs") as advance:
        for name, target in wanted.items():
            tried = fuzz(target, counts[name], args.seed, advance)
            rows.append(_row(name, target.what, tried))
            _tell(rows[-1])
            _keep(args.findings, name, tried)
            figures = _figures([*kept, *rows], args.seed)
            written = Result("fuzz", figures, quick=args.quick).write(args.json or written)
    print(f"{figures['inputs']:,} inputs in {figures['seconds']:.0f} s; wrote {written}")
    if figures["findings"]:
        raise UserError(f"{figures['findings']} findings, in {args.findings}: --replay them")
    return figures


def _others(file: Path, targets: list[str], seed: int) -> list[dict[str, Any]]:
    """The rows of a result that are not measured anew, where it is of the same seed.

    Raises:
        UsageError: the file is no result of this benchmark.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        rows = [row for row in result["rows"] if row["target"] not in targets]
        return rows if result["seed"] == seed else []
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file} is no result of fuzz; name another file or delete it") from None


def _figures(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The result, so far."""
    rows = sorted(rows, key=lambda row: list(TARGETS).index(row["target"]))
    names = [row["target"] for row in rows if row["mended"]]
    return {
        "rows": rows,
        "found_and_mended": {name: list(MENDED[name]) for name in names},
        **{key: sum(row[key] for row in rows) for key in ("inputs", "findings", "mended")},
        "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows), 1),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "seed": seed,
    }


def _row(name: str, what: str, tried: Tried) -> dict[str, Any]:
    return {
        "target": name,
        "what": what,
        "inputs": tried.inputs,
        "refused": tried.refused,
        "findings": len(tried.findings),
        "mended": len(MENDED.get(name, ())),
        "seconds": round(tried.seconds, 1),
        "cpu_seconds": round(tried.cpu_seconds, 1),
        "peak_mb": round(tried.peak_mb),
    }


def _tell(row: dict[str, Any]) -> None:
    rate = row["inputs"] / max(row["cpu_seconds"], 0.1)
    print(
        f"{row['target']}: {row['inputs']:,} inputs, {row['refused']:,} refused, {row['findings']} "
        f"findings, {rate:,.0f} a CPU second, {row['peak_mb']} MB more",
        flush=True,
    )


def _keep(folder: Path, name: str, tried: Tried) -> None:
    """Write what was found to files: the input, and beside it what went wrong."""
    for said, content in tried.findings.items():
        print(f"  {said}", flush=True)
        file = folder / file_name(name, content)
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in ((file, content), (file.with_name(f"{file.name}.txt"), said.encode())):
            with atomic_path(path) as partial_path:
                partial_path.write_bytes(data)


def replay(files: list[Path]) -> None:
    """Try findings again.

    Raises:
        UsageError: a file is not called after a target.
        UserError: some are findings still.
    """
    left = 0
    for file in files:
        name = file.name.partition("-")[0]
        if name not in TARGETS:
            raise UsageError(f"{file} is not called as a finding: TARGET-..., as they are written")
        tried = fuzz(TARGETS[name], 1, 0, lambda count: None, [file.read_bytes()])
        outcome = "refused" if tried.refused else "read"
        print(f"{file.name}: {next(iter(tried.findings), outcome)}")
        left += bool(tried.findings)
    if left:
        raise UserError(f"{left} of {len(files)} are findings still")


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if there are findings, 2 for wrong usage."""
    parser = command_line("fuzz", __doc__, cache=False)
    parser.add_argument("--inputs", type=AtLeastOne, help="of each target (default: its own)")
    parser.add_argument("--seed", type=FromZero, default=0, help="another one draws other inputs")
    parser.add_argument(
        "--target", nargs="+", default=list(TARGETS), metavar="NAME", choices=list(TARGETS),
        help=f"only these, the rows of others stay: {', '.join(TARGETS)}",
    )  # fmt: skip
    parser.add_argument(
        "--findings", type=Path, default=Path("fuzz-findings"), help="folder of inputs that failed"
    )
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="findings to retry")

    def work(args: Namespace) -> None:
        if args.replay:
            replay(args.replay)
        else:
            measure(args)

    return run("fuzz", parser, argv, work)


if __name__ == "__main__":
    sys.exit(main())
