"""Starts the programs of this project as processes that are disturbed: a part of the faults.

It has the libraries and no thread, so a program is a fork of it and begins within milliseconds. It
reads a job a line (JSON of `children.Job`) and answers with a line when that job has ended.
"""

import gc
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

_GRACE = 60.0  # seconds in which workers must notice that whoever started them is dead


def members(group: int) -> list[int]:
    """The processes of a group that have not ended; a zombie has."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = entry.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state not in "ZX":
            found.append(int(entry.parent.name))
    return sorted(found)


def workers_of(process: int) -> list[int]:
    """The workers that a program has started; helpers of multiprocessing are none."""
    return [
        each
        for each in members(process)
        if each != process and b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


def _child(job: dict[str, Any]) -> int:
    """Be the program; its exit status."""
    from benchmarks.faults import disturb

    os.setsid()
    for stream, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{job['said']}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(job["environment"])
    if job["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
    for name, given in job["disturbed"].items():
        getattr(disturb, name)(**given)
    return disturb.program(job["program"])(job["argv"])


def _fork(job: dict[str, Any]) -> int:
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        status = _child(job)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(status)


def _signal_worker(process: int, after: float, number: int) -> bool:
    """Send a signal to a worker, `after` seconds after the first is there; whether it was sent."""
    try:
        if not workers_of(process):
            return False
        time.sleep(after)
        for worker in workers_of(process):
            os.kill(worker, number)
            return True
    except OSError:  # one has ended amid this
        pass
    return False


def _wait(process: int, job: dict[str, Any]) -> dict[str, Any]:
    """How the program ended: its status, None if it had to be killed at its limit."""
    begun = time.monotonic()
    kill_at = None if job["kill_after"] is None else begun + job["kill_after"]
    signalled = job["worker"] is None
    status = None
    while time.monotonic() < begun + job["limit"]:
        ended, code = os.waitpid(process, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
            break
        if kill_at is not None and time.monotonic() >= kill_at:
            os.kill(process, signal.SIGKILL)
            kill_at = None
        if not signalled:
            signalled = _signal_worker(process, *job["worker"])
        time.sleep(0.005)
    seconds = time.monotonic() - begun
    until = time.monotonic() + _GRACE
    while status is not None and members(process) and time.monotonic() < until:
        time.sleep(0.02)
    left = len(members(process))
    if left:
        os.killpg(process, signal.SIGKILL)
        if status is None:
            os.waitpid(process, 0)
    told: dict[str, Any] = {
        "status": status,
        "seconds": seconds,
        "left": left,
        "signalled": signalled,
    }
    return {**told, "cpu_s": sum(os.times()[:4])}


def main() -> int:
    """Serve jobs until there is no more input."""
    if sys.argv[1:2] != ["--serve"]:
        print("a part of python -m benchmarks.faults")
        return 0
    from benchmarks.faults import disturb

    disturb.load(trainer="trainer" in sys.argv)
    gc.freeze()  # else each fork goes through all that was loaded, and copies it
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(_wait(_fork(job), job)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
