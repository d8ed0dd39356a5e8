"""Tracking: matching, gaps, cuts, and boxes that do not depend on how the video is cut up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_tools.video.faces import Face
from data_tools.video.tracks import MARGIN, MAX_GAP, Track, Tracker, iou, match


def face(x: float, y: float = 0.0, side: float = 10.0) -> Face:
    return Face((x, y, x + side, y + side), 0.9)


def test_iou_of_known_boxes():
    assert iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == 1 / 3
    assert iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0


boxes = st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(one=boxes, other=boxes)
def test_iou_is_symmetric_and_between_0_and_1(one, other):
    assert 0 <= iou(one, other) <= 1 + 1e-9
    assert iou(one, other) == iou(other, one)


@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6))
def test_match_pairs_each_face_once(ones, others):
    pairs = match([Face(b, 1) for b in ones], [Face(b, 1) for b in others])
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)


def test_the_larger_overlap_wins():
    assert match([face(0), face(2)], [face(3)]) == [(1, 0)]


def test_two_faces_are_two_tracks():
    tracker = Tracker()
    for index in range(0, 30, 5):
        tracker.update(index, 0, [face(index / 5), face(100 - index / 5)])
    assert [(t.first, t.last, len(t.seen)) for t in tracker.tracks] == [(0, 25, 6)] * 2


def test_a_gap_is_bridged_and_a_longer_one_is_not():
    for gap, tracks in ((MAX_GAP, 1), (MAX_GAP + 1, 2)):
        tracker = Tracker()
        for index in range(10):
            tracker.update(index, 0, [face(0)])
        for index in range(10, 10 + gap):
            tracker.update(index, 0, [])
        tracker.update(10 + gap, 0, [face(0)])
        assert len(tracker.tracks) == tracks, gap


def test_no_track_crosses_a_cut():
    tracker = Tracker()
    tracker.update(0, 0, [face(0)])
    tracker.end_shot()
    tracker.update(1, 1, [face(0)])
    assert [track.shot for track in tracker.tracks] == [0, 1]
    assert tracker.tracks[0].final == 1


def test_boxes_are_interpolated():
    track = Track(0, 0, [0, 10, 20, 30, 40], [face(x) for x in (0.0, 10.0, 20.0, 30.0, 40.0)])
    middle = track.boxes(15, 26)
    assert np.allclose(middle[:, 0], np.arange(15, 26))
    assert np.allclose(middle[:, 2] - middle[:, 0], 10)


def test_one_wrong_detection_does_not_shake_the_crop():
    faces = [face(50.0) for _ in range(60)]
    faces[30] = face(58.0, side=14)
    track = Track(0, 0, list(range(60)), faces, closed=True)
    assert np.allclose(track.boxes(0, 60)[:, 0], 50)


@given(
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=25),
    cuts=st.lists(st.integers(1, 60), max_size=4),
    seed=st.integers(0, 99),
)
def test_boxes_do_not_depend_on_how_the_range_is_cut(steps, cuts, seed):
    seen = np.concatenate([[3], 3 + np.cumsum(steps)]).tolist()
    rng = np.random.default_rng(seed)
    faces = [face(float(x), float(y)) for x, y in rng.uniform(0, 99, (len(seen), 2))]
    track = Track(0, 0, seen, faces, closed=True)
    whole = track.boxes(track.first, track.final)
    edges = sorted({track.first, track.final, *(c for c in cuts if track.first < c < track.final)})
    parts = [track.boxes(a, b) for a, b in pairwise(edges)]
    assert np.allclose(np.concatenate(parts), whole)
    # And what is called final stays: later detections change none of it.
    short = Track(0, 0, seen[:-1], faces[:-1])
    if seen[:-1] and short.final > short.first:
        early = short.boxes(short.first, short.final)
        assert np.allclose(early, whole[: len(early)])
    assert MARGIN == 9
