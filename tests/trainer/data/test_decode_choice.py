"""Which decoder is taken, with loaders and a clock that a test sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainer.data.decode_choice import BATCHES, SECONDS, WARM_UP, Rates, measure


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.opened: list[Any] = []

    def __call__(self) -> float:
        return self.now

    def loader(self, decoder: str, seconds: float) -> Any:
        """A loader of batches of 10 samples that take so long, the first ones longer."""
        clock = self

        class Batch:
            segments = np.zeros(10)

        class Loader:
            def __init__(self) -> None:
                self.decoder, self.batches, self.closed = decoder, 0, False
                clock.opened.append(self)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                self.closed = True

            def __next__(self) -> Batch:
                self.batches += 1
                clock.now += 100.0 if self.batches <= WARM_UP else seconds
                return Batch()

        return Loader()

    def step(self, seconds: float) -> Any:
        """Of a training, that takes so long."""

        def run(batch: Any) -> None:
            self.now += seconds

        return run


@pytest.mark.parametrize(
    ("gpu", "cpu", "step", "faster"),
    [
        (0.1, 0.2, 0.05, "gpu"),
        (0.2, 0.1, 0.05, "cpu"),
        # decodes more alone, but takes the GPU from the step
        (0.1, 0.15, 0.1, "cpu"),
        (0.1, 0.3, 0.1, "gpu"),
    ],
)
def test_the_decoder_behind_which_training_is_faster_is_taken(
    gpu: float, cpu: float, step: float, faster: str
) -> None:
    clock = Clock()
    seconds = {"gpu": gpu, "cpu": cpu}
    rates = measure(
        lambda decoder: clock.loader(decoder, seconds[decoder]), clock.step(step), clock
    )
    assert rates == Rates(
        gpu=pytest.approx(10 / gpu), cpu=pytest.approx(10 / cpu), step=pytest.approx(10 / step)
    )
    assert rates.faster == faster
    # The first one reads the files.
    assert [loader.decoder for loader in clock.opened] == ["gpu", "gpu", "cpu"]
    assert {loader.batches for loader in clock.opened} == {WARM_UP + BATCHES}
    assert all(loader.closed for loader in clock.opened)


def test_a_slow_decoder_is_not_measured_for_long() -> None:
    clock = Clock()
    rates = measure(lambda decoder: clock.loader(decoder, SECONDS), clock.step(1.0), clock)
    assert rates.cpu == pytest.approx(10 / SECONDS)
    assert clock.opened[-1].batches == WARM_UP + 2


def test_what_was_measured_on_an_h200_follows_the_rule() -> None:
    rates = Rates(gpu=7910, cpu=5822, step=8740)
    assert rates.together("gpu") == pytest.approx(4175, rel=0.01)  # measured so
    assert rates.together("cpu") == pytest.approx(5464, rel=0.07)
    assert rates.faster == "cpu"


def test_the_line_names_all_rates_and_what_was_taken() -> None:
    line = Rates(gpu=4000.4, cpu=12000, step=6000).in_words()
    assert "on the CPU" in line
    assert all(figure in line for figure in ("4,000", "12,000", "6,000", "2,400"))
    assert Rates(gpu=2, cpu=1, step=2).faster == "gpu"
