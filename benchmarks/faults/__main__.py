"""Faults injected for real, and what became of each: python -m benchmarks.faults

Every try injects one fault into a program of this project, as a process of its own, and ends as

    survived    the result is, to the bit, what the undisturbed program makes (after a kill: what
                the same command makes when it is called again)
    refused     an exit status of 1 or 2 and one sentence; nothing that was whole was damaged
    lost        anything else: a traceback, another result, a hang, half a file under its name

A try is told by its kind and its seed: --only KIND --seed 7 --tries 1 plays one again. A full disk
is a small one of memory (tmpfs) where this process may mount one, which it tries by `unshare -rm`;
else a limit to the size of files (RLIMIT_FSIZE): the result says which.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from benchmarks.faults import all_kinds, disks
from benchmarks.faults.children import Children
from benchmarks.faults.lab import Kind, Lab, Outcome
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import Result
from data_tools.cli import whole
from data_tools.errors import UsageError, UserError

_INSIDE = "SYNCNET_FAULTS_INSIDE"  # set in the process that unshare has started


def played(lab: Lab, kind: Kind, seeds: range, console: Console) -> dict[str, Any]:
    """Inject a kind of fault, once for each seed; its row."""
    found: dict[str, Any] = {"fault": kind.fault, "kind": kind.name, "tries": len(seeds)}
    counts = dict.fromkeys(("survived", "refused", "lost"), 0)
    said: dict[str, list[int]] = {}
    lost: list[dict[str, Any]] = []
    begun = time.monotonic()
    for seed in seeds:
        try:
            outcome = kind.play(lab, seed)
        except Exception as error:  # the benchmark's own fault is no survival
            outcome = Outcome("lost", f"the benchmark: {type(error).__name__}: {error}")
        counts[outcome.verdict] += 1
        if outcome.verdict == "refused":
            said.setdefault(outcome.words, []).append(seed)
        elif outcome.verdict == "lost":
            lost.append({"seed": seed, "what": outcome.words})
            console.print(f"[red]lost[/red] {kind.name}, seed {seed}: ", end="")
            console.print(outcome.words, markup=False, soft_wrap=True)
        lab.tidy()
    found |= counts | {"first_seed": seeds.start, "seconds": round(time.monotonic() - begun, 1)}
    found["sentences"] = [{"said": words, "seeds": where} for words, where in said.items()]
    console.print(
        f"{kind.fault}: {len(seeds)} tries, "
        + ", ".join(f"{count} {name}" for name, count in counts.items()),
        soft_wrap=True,
    )
    return found | ({"lost_tries": lost} if lost else {})


def chosen(kinds: list[Kind], names: list[str] | None, quick: bool) -> list[Kind]:
    """The kinds to play.

    Raises:
        UsageError: a name is none of theirs.
    """
    if names:
        known = {kind.name: kind for kind in kinds}
        if missing := [name for name in names if name not in known]:
            raise UsageError(f"--only: there is no {missing[0]!r}; there are {', '.join(known)}")
        return [known[name] for name in names]
    return [kind for kind in kinds if kind.quick or not quick]


class Log:
    """The rows so far, written after each: a run of all kinds takes long.

    Args:
        args: of the command line.
        kinds: that are played.
        disk: how a disk is made full.
    """

    def __init__(self, args: Namespace, kinds: list[Kind], disk: str) -> None:
        self._args, self._kinds, self._disk = args, kinds, disk
        self._lock, self._cpu_s = Lock(), 0.0
        self.rows: dict[str, dict[str, Any]] = {}
        if args.resume and args.json and args.json.exists():
            before = json.loads(args.json.read_text(encoding="utf-8"))
            self.rows = {row["kind"]: row for row in before["rows"]}
            self._cpu_s = before["cpu_s"]

    def has(self, kind: Kind, seeds: range) -> bool:
        """Whether the kind was played before, from these seeds."""
        row = self.rows.get(kind.name, {})
        return (row.get("first_seed"), row.get("tries")) == (seeds.start, len(seeds))

    def add(self, row: dict[str, Any], cpu_s: float) -> None:
        """Add a row, and write.

        cpu_s: seconds of processor that this run has taken.
        """
        with self._lock:
            self.rows[row["kind"]] = row
            self.write(cpu_s)

    def write(self, cpu_s: float) -> tuple[dict[str, int], Path]:
        """Write the result; the totals and its file."""
        rows = [self.rows[kind.name] for kind in self._kinds if kind.name in self.rows]
        totals = {name: sum(row[name] for row in rows) for name in _COUNTS}
        figures: dict[str, Any] = {"rows": rows, "totals": totals, "full_disk": self._disk}
        figures["cpu_s"] = round(self._cpu_s + cpu_s)
        quick = self._args.quick or bool(self._args.only)
        return totals, Result("faults", figures, quick=quick).write(self._args.json)


def measure(args: Namespace, console: Console) -> tuple[dict[str, int], Path]:
    """Play the kinds; the totals, and the file of the result."""
    kinds = chosen(all_kinds.KINDS, args.only, args.quick)
    labs: SimpleQueue[Lab] = SimpleQueue()
    workers = min(args.workers or len(os.sched_getaffinity(0)), len(kinds))
    with (
        tempfile.TemporaryDirectory(prefix="syncnet-faults-") as name,
        ExitStack() as stack,
        ThreadPoolExecutor(workers) as pool,
    ):
        log = Log(args, kinds, disks.way(Path(name)))
        servers = []
        for number in range(workers):
            folder = Path(name) / f"lab-{number}"
            folder.mkdir()
            servers.append(stack.enter_context(Children(folder, trainer=not args.quick)))
            labs.put(Lab(folder, servers[-1], disks.way(folder)))

        def cpu_s() -> float:
            return sum(os.times()[:2]) + sum(server.cpu_s for server in servers)

        def play(kind: Kind) -> None:
            tries = args.tries or (kind.quick or 1 if args.quick else kind.tries)
            seeds = range(args.seed, args.seed + tries)
            if not log.has(kind, seeds):
                lab = labs.get()
                try:
                    log.add(played(lab, kind, seeds, console), cpu_s())
                finally:
                    labs.put(lab)

        list(pool.map(play, kinds))
        return log.write(cpu_s())


_COUNTS = ("tries", "survived", "refused", "lost")


def _inside_a_namespace() -> None:
    """Become a process that may mount a small disk, where `unshare -rm` gives that; else go on."""
    if _INSIDE in os.environ or shutil.which("unshare") is None:
        return
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        return
    os.environ[_INSIDE] = "1"
    os.execvp(
        "unshare", ["unshare", "-rm", sys.executable, "-m", "benchmarks.faults", *sys.argv[1:]]
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if anything was lost, 2 wrong usage."""
    parser = command_line("faults", __doc__, cache=False)
    parser.add_argument("--only", type=str, nargs="+", metavar="KIND", help="kinds, by name")
    parser.add_argument("--seed", type=whole("AtLeastZero", 0), default=0, help="of the first try")
    parser.add_argument("--tries", type=AtLeastOne, help="of each kind (default: as suits it)")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that --json holds of the same tries"
    )
    parser.add_argument(
        "--workers",
        type=whole("AtLeastZero", 0),
        default=0,
        help="kinds that are played side by side; 0: one per core",
    )

    def work(args: Namespace) -> None:
        if argv is None:
            _inside_a_namespace()
        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
        totals, written = measure(args, console)
        console.print(
            f"in all {totals['tries']} tries: {totals['survived']} survived, "
            f"{totals['refused']} refused, {totals['lost']} lost; wrote {written}",
            soft_wrap=True,
        )
        if totals["lost"]:
            raise UserError(f"{totals['lost']} of {totals['tries']} tries were lost")

    return run("faults", parser, argv, work)


if __name__ == "__main__":
    sys.exit(main())
