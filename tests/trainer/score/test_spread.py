"""Where the offsets of a set lie, told from chance."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.score.clip_scores import ClipScore
from trainer.score.spread import CLEAR, Spread, find_spread


def planted(right: list[int], wrong: int, seed: int = 0, deviation: float = 5.0) -> list[ClipScore]:
    """Clips with these offsets, and so many that say what chance says; all as clear."""
    rng = np.random.default_rng(seed)

    def chance(count: int) -> list[int]:
        return np.clip(np.rint(rng.normal(0, deviation, count)), -15, 15).astype(int).tolist()

    offsets = right + chance(wrong)
    others = chance(len(offsets))
    return [
        ClipScore(str(n), 26, 0.0, offset, 0.4, other, 0.4)
        for n, (offset, other) in enumerate(zip(offsets, others, strict=True))
    ]


# LRW-AR by the one-speaker network (UNSEEN: -3 12 %, -2 20 %, -1 20 %, 0 17 %, +1 5 %, unsure 26 %)
LRW_AR = [-4] * 10 + [-3] * 230 + [-2] * 390 + [-1] * 390 + [0] * 330 + [1] * 95


def test_the_spread_of_lrw_ar_is_found_amid_its_chance() -> None:
    spread = find_spread(planted(LRW_AR, 550))
    assert (spread.low, spread.high) == (-4, 1)
    assert spread.clear == len(LRW_AR) + 550 and spread.tells
    assert spread.wrong == pytest.approx(550 * 0.45 / (len(LRW_AR) + 550 * 0.45), abs=0.05)
    words = spread.in_words()
    assert "-2 (2" in words and "-160 to +40 ms" in words
    plain = spread.as_dict()["offsets"]
    assert plain["-2"]["ms"] == -80 and plain["-2"]["clips"] > 390


@settings(max_examples=50, deadline=None)
@example(0, 3, 171)  # densest at the edge of a plateau, by accident
@example(-2, 3, 2)
@given(st.integers(-8, 8), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_planted_offsets_are_in_the_range_and_far_ones_are_not(
    middle: int, width: int, seed: int
) -> None:
    right = [middle + n % (2 * width + 1) - width for n in range(400)]
    spread = find_spread(planted(right, 200, seed))
    assert middle - width - 3 <= spread.low <= middle - width
    assert middle + width <= spread.high <= middle + width + 3
    assert spread.believes(middle, 0.4)
    assert not spread.believes(middle, CLEAR)
    assert not spread.believes(-14 if middle > 0 else 14, 0.4)


def test_a_set_in_sync_has_a_narrow_range() -> None:
    spread = find_spread(planted([0] * 290 + [1] * 5 + [-1] * 5, 0))
    assert (spread.low, spread.high) == (-2, 2)  # next to what was seen
    assert spread.wrong < 0.01


def test_without_chance_what_is_clear_is_believed() -> None:
    spread = find_spread([ClipScore("a", 40, 0.0, 6, 0.4)])
    assert spread.believes(6, 0.4) and spread.sure == CLEAR
    assert find_spread([]).in_words() == "no offset is clear"
    assert find_spread([]).as_dict()["offsets"] == {}


def test_what_lies_at_the_edge_of_the_search_is_never_believed() -> None:
    spread = Spread(0.15, (0,) * 30 + (100,), (0.0,) * 31, 13, 15, 0.5)
    assert spread.believes(14, 0.2) and not spread.believes(15, 0.99)
