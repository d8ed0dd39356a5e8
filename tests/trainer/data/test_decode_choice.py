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


@pytest.mark.parametrize(("gpu", "cpu", "faster"), [(0.1, 0.2, "gpu"), (0.2, 0.1, "cpu")])
def test_the_decoder_of_more_samples_a_second_is_taken(gpu: float, cpu: float, faster: str) -> None:
    clock = Clock()
    rates = measure(lambda decoder: clock.loader(decoder, {"gpu": gpu, "cpu": cpu}[decoder]), clock)
    assert (rates.gpu, rates.cpu) == (pytest.approx(10 / gpu), pytest.approx(10 / cpu))
    assert rates.faster == faster
    # The first one reads the files.
    assert [loader.decoder for loader in clock.opened] == ["gpu", "gpu", "cpu"]
    assert {loader.batches for loader in clock.opened} == {WARM_UP + BATCHES}
    assert all(loader.closed for loader in clock.opened)


def test_a_slow_decoder_is_not_measured_for_long() -> None:
    clock = Clock()
    rates = measure(lambda decoder: clock.loader(decoder, SECONDS), clock)
    assert rates.cpu == pytest.approx(10 / SECONDS)
    assert clock.opened[-1].batches == WARM_UP + 2


def test_the_line_names_both_rates_and_what_was_taken() -> None:
    line = Rates(gpu=4000.4, cpu=12000).in_words()
    assert "on the CPU" in line and "4,000" in line and "12,000" in line
    assert Rates(gpu=1, cpu=1).faster == "gpu"
