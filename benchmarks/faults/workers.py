"""Workers that are killed or hang, and a clock that is set back."""

import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.faults.kills import stopped
from benchmarks.faults.lab import Kind, Lab, Outcome

_WORKERS = ("prepare --shards", "syncnet --out")
_DRAWS = 12  # of moments for a kill, until there is a worker
_STALL = 15  # seconds: a busy machine must not make others look hung
# In a worker: the first that opens a certain video sleeps, for ever.
_HANGING = """
import os, sys, time
import av
_open, _mark, _name = av.open, {mark!r}, {name!r}
def opened(file, *given, **named):
    if _name in str(file) and "spawn_main" in " ".join(sys.orig_argv):
        try:
            os.close(os.open(_mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            time.sleep(10_000)
    return _open(file, *given, **named)
av.open = opened
"""


def killed(lab: Lab, seed: int, name: str) -> Outcome:
    """Kill a worker by -9, some moment after it is there."""
    program = lab.programs[name]
    _, seconds = lab.expected(program)
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        out, after = lab.new("out"), float(rng.uniform(0, seconds))
        done = lab.run(replace(program.job(out), worker=(after, int(signal.SIGKILL))))
        if done.signalled:
            break
        if done.status != 0:
            return replace(lab.refused(done), verdict="lost")
    else:
        return Outcome("lost", "the benchmark: no worker was killed")
    if done.status == 0 and not lab.same(program, out):
        return Outcome("survived")
    refusal = lab.refused(done)
    return refusal if refusal.verdict == "lost" else lab.again(program, out, refusal)


def hung(lab: Lab, seed: int, name: str) -> Outcome:
    """Let a worker hang, for ever, as it opens a random video for the first time."""
    program, out = lab.programs[name], lab.new("out")
    lab.expected(program)
    site = lab.new("site")
    site.mkdir()
    video = f"{'v' if 'prepare' in name else 'h'}{int(np.random.default_rng(seed).integers(0, 3))}"
    code = _HANGING.format(mark=str(site / "hung"), name=video + ".mp4")
    (site / "sitecustomize.py").write_text(code)
    job = program.job(out)
    argv = [*job.argv, "--stall-limit", str(_STALL)]
    done = lab.run(replace(job, argv=argv, disturbed={"site": {"folder": str(site)}}))
    if not (site / "hung").exists():
        return Outcome("lost", "the benchmark: no worker hung")
    if done.status != 0:
        return replace(lab.refused(done), verdict="lost")
    return Outcome("lost", wrong) if (wrong := lab.same(program, out)) else Outcome("survived")


def set_back(lab: Lab, seed: int, name: str) -> Outcome:
    """Kill it, set the clock back by up to ten years, and go on; files are of the future then."""
    rng, program = np.random.default_rng(seed), lab.programs[name]
    back = float(10 ** rng.uniform(0, 8.5))
    out, lost = stopped(lab, program, rng, share=(0.3, 0.9))
    if lost:
        return lost
    for path in out.rglob("*") if out.exists() else ():
        status = path.stat()
        os.utime(path, (status.st_atime + back, status.st_mtime + back))
    clock, job = {"after": int(rng.integers(0, 40)), "back": back}, program.job(out)
    done = lab.run(replace(job, disturbed={**job.disturbed, "clock": clock}))
    if done.status != 0:
        return replace(lab.refused(done), verdict="lost")
    return Outcome("lost", wrong) if (wrong := lab.same(program, out)) else Outcome("survived")


def kinds() -> list[Kind]:
    """All of them."""
    found = []
    for name in _WORKERS:
        fault = f"a worker of `{name}` killed by -9"
        found.append(Kind(f"worker killed {name}", fault, 4, partial(killed, name=name)))
        fault = f"a worker of `{name}` hangs"
        found.append(Kind(f"worker hung {name}", fault, 2, partial(hung, name=name)))
    for name in ("pack", "trainer.run", "syncnet --out"):
        fault = f"the clock set back under `{name}` (time.time in its process, os.utime)"
        quick = 1 if name == "pack" else 0
        found.append(Kind(f"clock {name}", fault, 4, partial(set_back, name=name), quick))
    return found
