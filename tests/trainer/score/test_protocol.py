"""The papers' table, and random pairs: thresholds that no clip chose for itself."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from embedded import RECORD, embeddings
from trainer.score.evaluation import (
    CONTEXTS,
    ClipMeasurement,
    EvaluationOptions,
    measure_clip,
)
from trainer.score.intervals import Figure, Sources, summarise
from trainer.score.protocol import (
    PUBLISHED,
    by_threshold,
    protocol_table,
    random_table,
    summarise_protocol,
)
from trainer.score.random_pairs import FRAMES, random_pairs

OPTIONS = EvaluationOptions(protocol="lrs2", resamples=20)


def clip(noise: float, source: str, seed: int) -> ClipMeasurement:
    lips, sound = embeddings(0, 60, noise, seed)
    found = measure_clip(replace(RECORD, source=source), lips, sound, OPTIONS, 100)
    return replace(found, random=random_pairs(lips, sound, 3, 1000, (seed,)))


def pairs(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 2)


def test_a_threshold_is_chosen_on_the_other_sources() -> None:
    # The best threshold for "a" alone, 1..2, takes everything of "b" for genuine, and that for
    # "b", 0.1..0.2, nothing of "a".
    clips = [pairs((1.0, 2.0), (1.0, 2.0)), pairs((0.1, 0.2))]
    two = by_threshold(clips, Sources.of(["a", "b"], 10, 0))
    assert two.value == pytest.approx(3 / 6)  # of each pair one of both
    # Within one source nothing is left to choose it by.
    assert by_threshold(clips, Sources.of(["a", "a"], 10, 0)) == Figure(None, None, None)
    # A third like the first: "a" and "c" are right, "b" still is not.
    three = by_threshold([*clips, clips[0]], Sources.of(["a", "b", "c"], 10, 0))
    assert three.value == pytest.approx((4 + 1 + 4) / 10)


def test_a_good_network_is_sure_and_a_deaf_one_is_at_chance() -> None:
    good = summarise_protocol([clip(0.1, f"s{i}", i) for i in range(4)], OPTIONS)
    assert list(good.random_pairs) == [f"n{frames}" for frames in FRAMES]
    for found in good.random_pairs.values():
        assert found.nearer == Figure(1.0, 1.0, 1.0)
        assert found.threshold.value is not None and found.threshold.value > 0.999
    deaf = []
    for seed in range(12):
        lips, sound = embeddings(0, 60, 0.1, seed)
        drawn = random_pairs(lips, sound.roll(30, 0), 3, 1000, (seed,))
        deaf.append(replace(clip(0.1, f"s{seed}", seed), random=drawn))
    for found in summarise_protocol(deaf, OPTIONS).random_pairs.values():
        assert found.nearer.value == pytest.approx(0.5, abs=0.1)
        assert found.threshold.value == pytest.approx(0.5, abs=0.1)


def test_a_draw_counts_half() -> None:
    one = replace(clip(0.1, "a", 0), random=tuple(pairs((1.0, 1.0), (1.0, 2.0)) for _ in FRAMES))
    found = summarise_protocol([one], OPTIONS).random_pairs["n16"]
    assert found.nearer.value == 0.75 and found.pairs == 2


def test_the_tables_hold_the_published_rows_and_the_measured_ones() -> None:
    measured = [clip(0.1, f"{name}/1", i) for i, name in enumerate("ab")]
    evaluation, found = summarise(measured, OPTIONS), summarise_protocol(measured, OPTIONS)
    console = Console(width=200, record=True)
    console.print(protocol_table(evaluation, "ours"))
    console.print(random_table(found))
    text = console.export_text()
    for row in PUBLISHED:
        assert len(row.percent) == len(CONTEXTS)
        line = next(line for line in text.splitlines() if row.network in line)
        assert "LRS2" in line and all(f"{value:.1f}" in line for value in row.percent)
    assert "(100-100)" in text and "2 clips of 2 sources" in text and "16 frames" in text
    values = found.as_dict()
    assert values["name"] == "lrs2" and "sets differ" in values["note"]
    assert values["published"][2]["percent"][0] == 92.8


def test_intervals_are_by_speaker_if_a_pattern_says_who_speaks() -> None:
    measured = [clip(0.1, source, i) for i, source in enumerate(("a/1", "a/2", "b/1"))]
    assert summarise(measured, OPTIONS).sources == 3
    assert summarise(measured, replace(OPTIONS, speakers="^[^/]+")).sources == 2
