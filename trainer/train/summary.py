"""The end of a run: the best weights evaluated, summary.json, the picture of its times."""

import os
import platform
from contextlib import ExitStack, nullcontext
from typing import Any

import torch

from data_tools.atomic import write_json
from data_tools.progress import progress
from data_tools.versions import versions
from trainer.model.syncnet import parameter_count
from trainer.train import checkpoint, display, timing
from trainer.train.saving import barred
from trainer.train.setup import Opened, open_validation
from trainer.train.stop import StopRequest
from trainer.train.timing import StepClock
from trainer.train.validate import Validation

Scores = dict[str, dict[str, float]]

_PACKAGES = ("syncnet-trainer", "torch", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "numpy")
_FILES = (
    ("best.pt", "best weights (K=5 accuracy)"),
    ("last.pt", "for --resume"),
    ("steps.jsonl", "every step's times"),
    ("timing.png", "their picture"),
    ("summary.json", "the figures above"),
    ("config.yaml", "for --config"),
)


class _Stopped(Exception):
    """A signal asked to leave in the midst of the evaluation."""


def finish(opened: Opened, scores: Scores, finished: bool, stop: StopRequest) -> dict[str, Any]:
    """Evaluate the best weights, write summary and plot, print where everything lies.

    Args:
        scores: of the last validation, by the name of the set.
        finished: whether all steps are done; if not, nothing is evaluated.

    Returns:
        What summary.json holds.
    """
    quarantined = len(barred(opened))
    opened.loader.close()
    if finished and not any(opened.processes.gather(bool(stop))):
        scores = scores | _evaluate(opened, stop)
    first, batch_size = opened.processes.first, opened.config.train.batch_size
    rows = timing.read_rows(opened.folder / timing.STEPS) if first else []
    summary: dict[str, Any] = {
        "finished": finished,
        "seconds": opened.seconds(),
        **timing.summarise(rows, batch_size),
        "quarantined_clips": quarantined,
        "parameters": parameter_count(opened.step.model),
        "world_size": opened.processes.world,
        "device": _device_name(opened.device),
        "versions": {"python": platform.python_version(), **versions(*_PACKAGES)},
    }
    if (origin := opened.step.origin) is not None:
        summary["init"] = {
            "weights": opened.config.model.init,
            "sha256": origin.sha256,
            "layers": len(origin.layers),
        }
    if opened.dataset.remote:
        each = opened.processes.gather(opened.fetched())
        summary["fetched_bytes"] = sum(one.bytes for one in each)
        summary["fetch_retries"] = sum(one.retries for one in each)
    for name, measures in scores.items():
        summary |= {f"{name}_{measure}": value for measure, value in measures.items()}
    if not first:
        return summary
    write_json(opened.folder / "summary.json", summary)
    timing.plot(rows, opened.folder / "timing.png")
    display.print_epochs(opened.console, timing.epoch_table(rows, batch_size))
    if scores:
        display.print_scores(opened.console, scores)
    _print_summary(opened, summary, stop)
    return summary


def _print_summary(opened: Opened, summary: dict[str, Any], stop: StopRequest) -> None:
    """What there is to say after the tables."""
    first, other = summary["first_step_wait_ms"], summary["other_step_wait_ms"]
    if first is not None and other is not None:
        opened.say(
            f"waiting for data, epochs >= 2: {first:.2f} ms in the first step, {other:.2f} ms "
            f"in the others; utilisation {summary['utilisation']:.1%} first steps included"
        )
    if quarantined := summary["quarantined_clips"]:
        opened.say(f"{quarantined} clips were left out: a frame could not be decoded (see above)")
    if opened.dataset.remote:
        opened.say(
            f"{summary['fetched_bytes'] / 1e6:,.1f} MB were fetched from where the shards lie, "
            f"{summary['fetch_retries']:,} requests tried again"
        )
    if stop or not summary["finished"]:
        what = "evaluation stopped" if summary["finished"] else "stopped"
        by = stop.signal or "a signal to another process"
        opened.say(f"{what} by {by}; go on with --resume {opened.folder}")
    opened.say(f"{summary['seconds']:.0f} s; in {opened.folder}:")
    for name, what in _FILES:
        if (opened.folder / name).exists():
            opened.say(f"  {name:13s} {what}")


def _evaluate(opened: Opened, stop: StopRequest) -> Scores:
    """Score the best weights on val, on test, and with swapped sound, which must be chance.

    Empty or cut short where the weights are no numbers, or if a signal asks to leave.
    """
    model, best = opened.step.model, opened.folder / checkpoint.BEST
    opened.processes.barrier()
    if best.exists():
        model.load_state_dict(checkpoint.weights(best, model))
    if not all(opened.processes.gather(checkpoint.finite(model.state_dict()))):
        opened.console.print("note: the weights are not finite, so they are not evaluated")
        return {}
    scores: Scores = {}
    with ExitStack() as stack:
        for name, validation in _validations(opened, stack).items():
            try:
                scores[name] = _score(opened, name, validation, stop)
                scores |= {f"{name}_{of}": found for of, found in validation.by_set.items()}
            except _Stopped:
                break
            validation.close()
    return scores


def _validations(opened: Opened, stack: ExitStack) -> dict[str, Validation]:
    """What the best weights are scored on; closed with `stack`."""

    def add(name: str, split: str, swapped: bool = False) -> None:
        validation = open_validation(
            opened.config, split, opened.processes, opened.console, opened.loader_options, swapped
        )
        if validation is not None:
            stack.callback(validation.close)
            validations[name] = validation

    validations: dict[str, Validation] = {}
    if opened.validation is None:
        return validations
    validations["val"] = opened.validation
    add("test", "test")
    control = "test" if "test" in validations else "val"
    if validations[control].clips > 1:
        add(f"{control}_swapped", control, swapped=True)
    return validations


def _score(
    opened: Opened, name: str, validation: Validation, stop: StopRequest
) -> dict[str, float]:
    """The figures of one set.

    Raises:
        _Stopped: this process is alone and was asked to leave.
    """
    shown = progress(f"evaluating {name}", validation.batches, "batches")
    with shown if opened.processes.first else nullcontext(_ignore) as advance:

        def on_batch(loss: float, times: object) -> None:
            advance(1)
            if stop and opened.processes.world == 1:
                raise _Stopped

        return validation.run(
            opened.step.model,
            opened.step.loss,
            opened.step.autocast,
            StepClock(opened.device),
            on_batch,
        )


def _ignore(count: int) -> None:
    pass


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {len(os.sched_getaffinity(0))} cores"
