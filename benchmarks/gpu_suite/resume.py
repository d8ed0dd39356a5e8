"""A training that is killed and resumed, against one that is not: do the losses come back?"""

import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu_suite.lab import Lab
from trainer.train import checkpoint, timing


def resume(lab: Lab) -> None:
    """`python -m trainer.run` twice at once; one is killed (SIGKILL) and resumed.

    On a GPU as it is, and beside it with train.deterministic, which a CPU is anyway.
    """
    lab.note("steps", steps := 24 if lab.quick else 400)
    with ThreadPoolExecutor(1) as pool:
        more = ("--train.deterministic", "true")
        same = pool.submit(_resumed, lab, "same-", steps, *more) if lab.cuda else None
        for name, value in _resumed(lab, "", steps).items():
            lab.note(name, value)
        if same is not None:
            lab.note("deterministic", _told(same))


def _told(found: Future[dict[str, Any]]) -> dict[str, Any]:
    """Figures, or why there are none: those of the other way are kept all the same."""
    try:
        return found.result()
    except Exception as error:
        return {"error": str(error)[:800]}


def _resumed(lab: Lab, prefix: str, steps: int, *more: str) -> dict[str, Any]:
    whole, killed = lab.folder / f"{prefix}whole", lab.folder / f"{prefix}killed"
    uncut, cut = _start(lab, whole, steps, *more), _start(lab, killed, steps, *more)
    try:
        at = _kill_when_saved(lab, cut, killed)
        _wait(lab, uncut, whole)
        _wait(lab, _start(lab, killed, steps, *more, "--resume", "auto"), killed)
    finally:
        for process in (uncut, cut):
            if process.poll() is None:
                process.kill()
    return {"killed_after_row": at} | compared(whole, killed, at)


def _start(lab: Lab, folder: Path, steps: int, *more: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "trainer.run", "--data.shards", str(lab.small)]
    if "--train.deterministic" not in more:
        words += ["--data.decode_device", lab.decoder]
    words += ["--model.name", "small", "--train.device", lab.setting.device]
    words += ["--train.batch_size", "8" if lab.quick else "64", "--train.steps", str(steps)]
    words += ["--run.save_steps", str(steps // 4), "--data.val_clips", "1", "--guard", "off"]
    words += ["--data.val_runs", "1", "--train.val_every", "100000", "--run.dir", str(folder)]
    with (lab.folder / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen([*words, *more], stdout=log, stderr=subprocess.STDOUT)


def _kill_when_saved(lab: Lab, process: "subprocess.Popen[bytes]", folder: Path) -> int:
    """Kill it once it has gone on after its first checkpoint; returns its last row's step.

    Raises:
        RuntimeError: it ended before, or time ran out.
    """
    rows, saved = folder / timing.STEPS, folder / checkpoint.LAST
    at_save = -1
    while lab.left() > 0:
        if process.poll() is not None:
            raise RuntimeError(f"it ended before it could be killed: {_log(lab, folder)}")
        if saved.exists():
            done = rows.read_bytes().count(b"\n")
            at_save = done if at_save < 0 else at_save
            if done > at_save:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return timing.read_rows(rows)[-1].step
        time.sleep(0.005)
    raise RuntimeError("no time was left to kill it")


def _wait(lab: Lab, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait for its end.

    Raises:
        RuntimeError: it failed.
    """
    try:
        status = process.wait(max(1.0, lab.left()))
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"its time was up: {_log(lab, folder)}") from None
    if status:
        raise RuntimeError(f"it ended with {status}: {_log(lab, folder)}")


def _log(lab: Lab, folder: Path) -> str:
    text = (lab.folder / f"{folder.name}.log").read_text(errors="replace")[-800:]
    return text.replace(str(lab.folder), "...")


def compared(whole: Path, killed: Path, at: int) -> dict[str, Any]:
    """Losses of two runs, step by step: equal ones, and the largest difference, relative.

    Up to the kill both are runs of the same settings that nothing happened to: what they differ by
    there is what the device's arithmetic leaves open.
    """
    a, b = ([row.loss for row in timing.read_rows(run / timing.STEPS) if row.phase == "train"]
            for run in (whole, killed))  # fmt: skip
    differences = [
        abs(x - y) / max(abs(x), 1e-12) for x, y in zip(a, b, strict=False) if x and y is not None
    ]
    before, after = differences[: at + 1], differences[at + 1 :]
    return {
        "rows": [len(a), len(b)],
        "equal": sum(x == y for x, y in zip(a, b, strict=False)),
        "largest_difference_before": max(before, default=0.0),
        "largest_difference_after": max(after, default=0.0),
    }
