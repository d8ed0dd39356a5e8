"""Shot boundaries, picture by picture."""

from __future__ import annotations

import numpy as np

from data_tools.video.shots import Cuts
from videos import head


def test_a_cut_is_found_where_it_is_and_nowhere_else():
    one, other = head(1, 40, 64)[0], head(7, 40, 64)[0]
    rng = np.random.default_rng(0)
    room = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8) // 4
    film = np.concatenate([one, 255 - other // 2, one // 2 + room])
    cuts = Cuts()
    assert [k for k, picture in enumerate(film) if cuts.begins_shot(k, picture)] == [40, 80]


def test_two_cuts_in_a_row_are_both_found():
    film = [np.full((64, 64, 3), level, np.uint8) for level in [10] * 5 + [250] + [10] * 5]
    cuts = Cuts()
    assert [k for k, picture in enumerate(film) if cuts.begins_shot(k, picture)] == [5, 6]
