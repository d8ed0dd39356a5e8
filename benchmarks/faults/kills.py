"""kill -9: at a random moment, and as a file is about to be put in its place."""

import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults.lab import Kind, Lab, Outcome, Program

_FILE_CALLS = 40
_DRAWS = 12  # of moments for a kill, until it comes before the end
NAMES = ("pack", "prepare --shards", "trainer.run", "trainer.refine", "syncnet --out")


def _half_a_file(lab: Lab, program: Program, out: Path) -> str:
    """A shard under its final name that is not the undisturbed one."""
    wanted, _ = lab.expected(program)
    for path in out.rglob("*.tar"):
        name = str(path.relative_to(out))
        if not path.name.startswith(".") and path.read_bytes() != wanted.get(name):
            return f"half a file: {name}"
    return ""


def stopped(
    lab: Lab,
    program: Program,
    rng: np.random.Generator,
    times: int = 1,
    share: tuple[float, float] = (0.0, 1.0),
) -> tuple[Path, Outcome | None]:
    """Kill a program at random moments, `times` in a row; its folder, and what was lost by then.

    A kill that comes after the end is none: all of them are drawn again.

    share: of the time that it takes undisturbed, within which it is killed.
    """
    _, seconds = lab.expected(program)
    for _ in range(_DRAWS):
        out, came = lab.new("out"), 0
        while came < times:
            after = float(rng.uniform(*share) * seconds)
            done = lab.run(replace(program.job(out), kill_after=after))
            if done.status == 0:
                break
            if done.status != -signal.SIGKILL or done.left:
                return out, replace(lab.refused(done), verdict="lost")
            if wrong := _half_a_file(lab, program, out):
                return out, Outcome("lost", wrong)
            came += 1
        else:
            return out, None
    return out, Outcome("lost", "the benchmark: no kill came before the end")


def at_a_moment(lab: Lab, seed: int, name: str) -> Outcome:
    """Kill it once or, one try of four, twice, at random moments, then let it end."""
    rng, program = np.random.default_rng(seed), lab.programs[name]
    out, lost = stopped(lab, program, rng, times=2 if seed % 4 == 3 else 1)
    return lost or lab.again(program, out)


def at_a_file(lab: Lab, seed: int, name: str) -> Outcome:
    """Kill it as it begins a random one of its first calls that put files in place."""
    rng, program = np.random.default_rng(seed), lab.programs[name]
    number = _FILE_CALLS + 1
    while number > 1:
        number, out = int(rng.integers(1, number)), lab.new("out")
        job = program.job(out)
        disturbed = {**job.disturbed, "kill_at_file_call": {"number": number}}
        done = lab.run(replace(job, disturbed=disturbed))
        if done.status == 0:  # it has fewer such calls
            continue
        if done.status != -signal.SIGKILL or done.left:
            return replace(lab.refused(done), verdict="lost")
        wrong = _half_a_file(lab, program, out)
        return Outcome("lost", wrong) if wrong else lab.again(program, out)
    return Outcome("lost", "the benchmark: no kill came")


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
