"""The ways to compute a step on a CPU: they are the same step."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import cpu_step
from benchmarks.cpu_step import CPU, RECIPES, WAYS, Recipe, batch, step_of
from benchmarks.result import machine
from trainer.train.timing import StepClock

SMALL = [replace(recipe, batch_size=2) for recipe in list(RECIPES.values())[1:]]


@pytest.mark.parametrize("recipe", SMALL)
def test_every_way_gives_the_loss_of_the_step_as_it_is(recipe: Recipe) -> None:
    data = batch(recipe)
    losses: dict[str, list[float]] = {}
    for name, way in {**WAYS, "as it is": None}.items():
        step = step_of(recipe, way)
        losses[name] = [float(step(data, number, StepClock(CPU))) for number in range(2)]
    first, second = losses["as it is"]
    for one, other in losses.values():
        assert one == pytest.approx(first, rel=1e-4)
        # behind AdamW's first step, whose size heeds the sign of each gradient alone, however small
        assert other == pytest.approx(second, rel=2e-2)


def test_the_floor_is_the_multiplications_at_the_rate_of_a_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only: Any = {"small": SMALL[1]}
    monkeypatch.setattr(cpu_step, "RECIPES", only)
    rows = cpu_step.measure(1, quick=True)
    assert [row["way"] for row in rows] == list(cpu_step.ways())
    first = rows[0]
    assert first["times_published"] == 1
    assert first["floor_ms"] == pytest.approx(
        1e3 * first["gflop"] / first["product_gflop_per_s"], rel=0.05, abs=0.02
    )
    result = {"rows": rows, "bf16": False, "repetitions": 1, "machine": machine()}
    assert cpu_step.readme(result).count("| small |") == len(rows)
