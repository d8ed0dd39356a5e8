"""Shot boundaries, picture by picture."""

from __future__ import annotations

import cv2
import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detectors import ContentDetector

from data_tools.video.shots import Cuts
from videos import head


def test_a_cut_is_found_where_it_is_and_nowhere_else():
    one, other = head(1, 40, 64)[0], head(7, 40, 64)[0]
    rng = np.random.default_rng(0)
    room = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8) // 4
    film = np.concatenate([one, 255 - other // 2, one // 2 + room])
    cuts = Cuts()
    assert [k for k, picture in enumerate(film) if cuts.begins_shot(picture)] == [40, 80]


def test_two_cuts_in_a_row_are_both_found():
    film = [np.full((64, 64, 3), level, np.uint8) for level in [10] * 5 + [250] + [10] * 5]
    cuts = Cuts()
    assert [k for k, picture in enumerate(film) if cuts.begins_shot(picture)] == [5, 6]


def test_scores_are_those_of_pyscenedetect():
    """Its own sums take six times as long, so that ours are not its; to the last bit they agree."""
    film = np.concatenate([head(3, 20, 64)[0], 255 - head(5, 10, 64)[0]])
    own, reference = Cuts(), ContentDetector(min_scene_len=0)
    for index, picture in enumerate(film):
        own.begins_shot(picture)
        reference.process_frame(
            FrameTimecode(index, 25.0), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        )
        assert own._detector._frame_score == reference._frame_score


def test_a_video_that_goes_on_in_another_shape_is_one_shot():
    frames = head(1, 6)[0]
    cuts = Cuts()
    seen = [cuts.begins_shot(frame) for frame in frames[:3]]
    seen += [cuts.begins_shot(cv2.resize(frame, (80, 64))) for frame in frames[3:]]
    assert not any(seen)
    assert cuts.begins_shot(255 - cv2.resize(frames[5], (77, 64)))
