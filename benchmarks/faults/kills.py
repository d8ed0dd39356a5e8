"""kill -9: at a random moment, and as a file is about to be put in its place."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults.lab import Kind, Lab, Outcome, Program

_FILE_CALLS = 40
NAMES = ("pack", "prepare --shards", "trainer.run", "trainer.refine", "syncnet --out")


def _half_a_file(lab: Lab, program: Program, out: Path) -> str:
    """A shard under its final name that is not the undisturbed one."""
    wanted, _ = lab.expected(program)
    for path in out.rglob("*.tar"):
        name = str(path.relative_to(out))
        if not path.name.startswith(".") and path.read_bytes() != wanted.get(name):
            return f"half a file: {name}"
    return ""


def at_a_moment(lab: Lab, seed: int, name: str) -> Outcome:
    """Kill it once or, one try of four, twice, at random moments, then let it end."""
    rng, program = np.random.default_rng(seed), lab.programs[name]
    _, seconds = lab.expected(program)
    out = lab.new("out")
    for _ in range(2 if seed % 4 == 3 else 1):
        done = lab.run(replace(program.job(out), kill_after=float(rng.uniform(0, seconds))))
        if done.status not in (0, -9) or done.left:
            return replace(lab.refused(done), verdict="lost")
        if wrong := _half_a_file(lab, program, out):
            return Outcome("lost", wrong)
    return lab.again(program, out)


def at_a_file(lab: Lab, seed: int, name: str) -> Outcome:
    """Kill it as it begins a random one of its first calls that put files in place."""
    rng, program = np.random.default_rng(seed), lab.programs[name]
    out, number = lab.new("out"), int(rng.integers(1, _FILE_CALLS + 1))
    job = program.job(out)
    disturbed = {**job.disturbed, "kill_at_file_call": {"number": number}}
    done = lab.run(replace(job, disturbed=disturbed))
    if done.status not in (0, -9) or done.left:
        return replace(lab.refused(done), verdict="lost")
    return Outcome("lost", w) if (w := _half_a_file(lab, program, out)) else lab.again(program, out)


def kinds() -> list[Kind]:
    """Both, for each program."""
    found = []
    for name in NAMES:
        fault = f"kill -9 of `{name}` at random moments"
        quick = 2 if name == "pack" else 0
        found.append(Kind(f"kill {name}", fault, 20, partial(at_a_moment, name=name), quick))
    for name in NAMES:
        fault = f"kill -9 of `{name}` as it puts a file in its place"
        tries, quick = (8, 1) if name == "pack" else (3, 0)
        found.append(
            Kind(f"kill at file {name}", fault, tries, partial(at_a_file, name=name), quick)
        )
    return found
