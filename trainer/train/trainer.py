"""The training loop: `train(config)` opens a run, takes its steps, and closes it with a summary."""

import gc
import math
import time
from functools import partial
from typing import Any

from rich.console import Console

from trainer.config.settings import Config, Options
from trainer.train import display, timing
from trainer.train.ending import check_loss, end
from trainer.train.overfit import overfit
from trainer.train.saving import Saver
from trainer.train.setup import Opened, open_run
from trainer.train.stop import Agreement, StopRequest, stop_requests
from trainer.train.summary import Scores, finish
from trainer.train.timing import StepClock, StepLog, StepTimes

# How often the guard is asked; it looks more often.
GUARD_STEPS = 50


def train(
    config: Config, options: Options | None = None, console: Console | None = None
) -> dict[str, Any]:
    """Train, validate, evaluate; returns what is written to summary.json.

    Under torchrun every process calls it.

    Raises:
        UsageError: settings that no run could use.
        RecordError, LoaderError, CheckpointError: bad data; the message says what to do.
        NotLearning: the loss or the weights are no numbers any more, the guard was told to stop
            such a run, or --overfit failed.
        InUse: another process is writing to run.dir.
        Elsewhere: any of these, on the first process.
        Lost: another process is gone.
    """
    with open_run(config, options, console) as opened:
        opened.processes.together(
            partial(timing.cut_rows, opened.folder / timing.STEPS, opened.start)
        )
        steps = StepLog(opened.folder / timing.STEPS, opened.device, opened.processes)
        # What exists now lives as long as the run: keep the collector from walking it again.
        gc.collect()
        gc.freeze()
        try:
            with stop_requests() as stop:
                if opened.options.overfit:
                    return overfit(opened, stop).as_dict()
                trainer = Trainer(opened, steps)
                finished = trainer.run(stop)
                opened.processes.together(steps.check)
                return finish(opened, trainer.scores, finished, stop)
        finally:
            steps.close()


class Trainer:
    """Takes the steps of an open run that are left.

    Attributes:
        scores: what the last validation found, by the name of the set.
        best: largest K=5 accuracy of all validations, 0..1; -1 before the first.
    """

    def __init__(self, opened: Opened, steps: StepLog) -> None:
        self.opened = opened
        self.scores: Scores = {}
        self.best = opened.best
        self._steps = steps
        self._clock = StepClock(opened.device)
        self._saver = Saver(opened)
        self._saved = time.monotonic()

    def run(self, stop: StopRequest) -> bool:
        """All steps that are left; False if stopped before the last.

        Raises:
            NotLearning: see `train`.
            OSError: a checkpoint cannot be written.
        """
        opened, clock = self.opened, self._clock
        agreement = Agreement(opened.processes)
        per_epoch = opened.sampler.steps_per_epoch
        self._saved = time.monotonic()
        with display.Display(
            opened.console, opened.total, opened.start, opened.config.train.batch_size
        ) as shown:
            for step in range(opened.start, opened.total):
                epoch = step // per_epoch + 1
                clock.begin()
                loss = opened.step.take(opened.loader, step, clock)
                rows = self._steps.add(epoch, step, "train", loss, clock.end())
                self._check_rows(rows)
                shown.step(epoch, rows[-1] if rows else None)
                # Each duty is asked on its own: none may hide another.
                due = self._validation_due(step)
                scores = self._validate(epoch, step) if due else None
                ended = None
                if due or (step + 1) % GUARD_STEPS == 0:
                    ended = self._check_guard(step, scores)
                # After what takes long, so that a request made meanwhile is heard at this step.
                interrupted = agreement.ask(bool(stop) or self._steps.failure is not None)
                if due or ended or interrupted or self._save_due(step):
                    self._save(step + 1, due and self._is_best(scores))
                if ended:
                    end(opened, ended)
                if interrupted:
                    return step + 1 == opened.total
        return True

    def _validation_due(self, step: int) -> bool:
        """Whether an epoch ends with this step that is to be validated; the last one is."""
        if step + 1 == self.opened.total:
            return True
        epochs, rest = divmod(step + 1, self.opened.sampler.steps_per_epoch)
        return rest == 0 and epochs % self.opened.config.train.val_every == 0

    def _save_due(self, step: int) -> bool:
        run = self.opened.config.run
        if run.save_steps and (step + 1) % run.save_steps == 0:
            return True
        late = time.monotonic() - self._saved > 60 * run.save_minutes
        if self.opened.processes.world == 1:
            return late
        # All must save at one step, so the first process's clock decides, at the ends of epochs.
        ends = (step + 1) % self.opened.sampler.steps_per_epoch == 0
        return ends and bool(self.opened.processes.gather(late)[0])

    def _save(self, step: int, best: bool) -> None:
        """Save the state in which `step` is the next to do, all rows before it written."""
        self._check_rows(self._steps.flush())
        self._saver.save(step, self.best, best)
        self._saved = time.monotonic()
        self._clock.interrupt()

    def _check_rows(self, rows: list[dict[str, Any]]) -> None:
        """Tell the trackers of steps whose rows are complete; end the run if it has blown up."""
        for row in rows:
            check_loss(self.opened, row["step"], row["loss"])
            if row["phase"] == "train":
                figures = {k: v for k, v in row.items() if k.endswith("_ms") or k == "loss"}
                if self.opened.dataset.remote:
                    fetched = self.opened.fetched()
                    figures |= {"fetched_bytes": fetched.bytes, "fetch_retries": fetched.retries}
                self.opened.tracker.log(row["step"], {f"train/{k}": v for k, v in figures.items()})

    def _validate(self, epoch: int, step: int) -> dict[str, float] | None:
        """What the validation found; None where there is nothing to validate with."""
        opened = self.opened
        self._check_rows(self._steps.flush())
        if opened.validation is None:
            return None

        def on_batch(loss: float, times: StepTimes) -> None:
            self._steps.add_now(epoch, step, "val", loss, times)

        scores = opened.validation.run(
            opened.step.inference_model,
            opened.step.loss,
            opened.step.autocast,
            self._clock,
            on_batch,
        )
        by_set = {f"val_{name}": found for name, found in opened.validation.by_set.items()}
        self.scores |= {"val": scores, **by_set}
        for name, found in {"val": scores, **by_set}.items():
            opened.tracker.log(step, {f"{name}/{key}": value for key, value in found.items()})
        opened.say(
            f"epoch {epoch}: val loss {scores['loss']:.4f}, within +-1 frame: K=5 "
            f"{scores['accuracy_k5']:.1%}, K=15 {scores['accuracy_k15']:.1%}, AUC "
            f"{scores['auc']:.4f}, distance {scores['genuine_distance']:.2f} genuine, "
            f"{scores['false_distance']:.2f} false"
        )
        for name, found in opened.validation.by_set.items():
            opened.say(
                f"  {name}: val loss {found['loss']:.4f}, within +-1 frame: K=5 "
                f"{found['accuracy_k5']:.1%}, K=15 {found['accuracy_k15']:.1%}, AUC "
                f"{found['auc']:.4f}"
            )
        return scores

    def _is_best(self, scores: dict[str, float] | None) -> bool:
        """Whether a validation found the best weights so far; the latest are, where there is none.

        K=5 is the accuracy that saturates last.
        """
        if scores is None:
            return True
        better = math.isfinite(scores["loss"]) and scores["accuracy_k5"] > self.best
        if better:
            self.best = scores["accuracy_k5"]
        return better

    def _check_guard(self, step: int, scores: dict[str, float] | None) -> str | None:
        """Say what the guard has to say; returns it instead if it was told to end such a run.

        Raises:
            NotLearning: the run has blown up.
        """
        opened = self.opened
        if opened.options.guard == "off":
            return None
        opened.tracker.log(step, opened.guard.figures())
        verdict = opened.guard.verdict(step, scores)
        # the first process speaks for all, so that all end together
        words, blown_up = opened.processes.gather((verdict, opened.guard.blown_up))[0]
        if words is None:
            return None
        words = f"step {step + 1}: {words}"
        if blown_up:
            end(opened, words)
        if opened.options.guard == "stop":
            return str(words)
        opened.console.print(f"[bold red]guard[/], {words}", soft_wrap=True)
        return None
