"""The training loop itself: whether its warm steps synchronise, and whether memory stays flat."""

import io
import linecache
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.gpu_suite.lab import Lab, watched
from benchmarks.processes import resident_mb
from trainer.config.settings import Config, Data, Model, Run, Train
from trainer.train import timing
from trainer.train.setup import Opened, open_run
from trainer.train.stop import StopRequest
from trainer.train.timing import StepLog
from trainer.train.trainer import Trainer

_WARM = 24  # steps before the watch begins: rows are first written after some
_WATCHED = 10
_PAIRINGS = ("independent", "paired", "multiway")


def sync(lab: Lab) -> None:
    """Ten warm steps of the loop under `torch.cuda.set_sync_debug_mode("error")`.

    Every pairing, in the precision of a GPU and in fp16, with a running average. Where a step
    synchronises, the steps are taken again in "warn" mode, which gives the places.
    """
    precisions = ("auto", "fp16") if lab.cuda else ("auto",)
    for pairing in _PAIRINGS:
        for precision in precisions:
            config = _config(lab, pairing, precision)
            try:
                _loop(lab, config, "error")
                found: dict[str, Any] = {"synchronises": False}
            except RuntimeError as error:
                if "synchroniz" not in f"{error} {error.__cause__}":
                    raise
                found = {"synchronises": True, "places": _places(lab, config)}
            finally:
                _set_mode(lab, "default")
            lab.note(f"{pairing}, {precision}", found)


def _config(lab: Lab, pairing: Any, precision: Any) -> Config:
    return Config(
        data=Data(shards=str(lab.small), pairing=pairing, run_frames=12, max_shift=7, val_clips=2),
        model=Model("small"),
        train=Train(
            batch_size=4 if lab.quick else 64,
            steps=_WARM + _WATCHED + 2,
            average=0.99,
            precision=precision,
            device=str(lab.device),
            val_every=1000,
        ),
    )


def _places(lab: Lab, config: Config) -> dict[str, int]:
    """Lines of code that synchronised in ten steps, and how often."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _loop(lab, config, "warn")
    places = Counter(
        f"{Path(each.filename).name}:{each.lineno} "
        f"{linecache.getline(each.filename, each.lineno).strip()}"[:160]
        for each in caught
        if "synchroniz" in str(each.message)
    )
    return dict(places.most_common(20))


def _set_mode(lab: Lab, mode: str) -> None:
    if lab.cuda:
        torch.cuda.set_sync_debug_mode(mode)


def _loop(lab: Lab, config: Config, mode: str) -> None:
    """The trainer's own loop, with the mode set for some steps; its last step is free again."""

    def tell(step: int) -> None:
        if step == _WARM:
            _set_mode(lab, mode)
        elif step == _WARM + _WATCHED:
            _set_mode(lab, "default")

    run_loop(lab, config, tell)


def run_loop(lab: Lab, config: Config, tell: Any) -> list[timing.StepRow]:
    """Train by `config`, telling of each step before it; returns its rows."""
    folder = lab.folder / f"run-{len(list(lab.folder.iterdir()))}"
    config = Config(
        config.data, config.model, config.loss, config.augment, config.train, Run(dir=str(folder))
    )
    quiet = Console(file=io.StringIO())
    with open_run(config, console=quiet) as opened:
        path = opened.folder / timing.STEPS
        log = StepLog(path, opened.device, opened.processes)
        try:
            seen: Opened = watched(opened, tell)
            Trainer(seen, log).run(StopRequest())
        finally:
            log.close()
        return timing.read_rows(path)


def memory(lab: Lab) -> None:
    """Memory of torch, of the whole GPU (DALI's too) and of the process, by step."""
    first, last = (4, 12) if lab.quick else (50, 300)
    between = (last - first) // 5 or 1
    points: list[dict[str, float]] = []

    def tell(step: int) -> None:
        if step >= first and (step - first) % between == 0:
            points.append({"step": step} | _memory(lab))
            lab.note("points", points)

    config = Config(
        data=Data(shards=str(lab.large), windows_per_clip=30, val_clips=2),
        model=Model(lab.setting.model),  # type: ignore[arg-type]
        train=Train(
            batch_size=8 if lab.quick else 128,
            steps=last + 1,
            device=str(lab.device),
            val_every=1000,
        ),
    )
    run_loop(lab, config, tell)
    for name in points[0]:
        if name != "step":
            lab.note(f"{name}_grown", round(points[-1][name] - points[0][name], 1))


def _memory(lab: Lab) -> dict[str, float]:
    """MB in use now."""
    found = {"process_mb": round(resident_mb(), 1)}
    if lab.cuda:
        free, total = torch.cuda.mem_get_info(lab.device)
        found |= {
            "torch_allocated_mb": round(torch.cuda.memory_allocated(lab.device) / 1e6, 1),
            "torch_reserved_mb": round(torch.cuda.memory_reserved(lab.device) / 1e6, 1),
            "gpu_used_mb": round((total - free) / 1e6, 1),
        }
    return found
