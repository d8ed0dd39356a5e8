"""What is kept, and the words about what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_tools.video.options import PrepareOptions
from data_tools.video.record import Row
from data_tools.video.verdicts import clip_fault, sum_up, track_fault

OPTIONS = PrepareOptions(min_sharpness=20, min_speech=0.5)
TRACK = Row("v", "track", "track 0", 0.0, 3.0, 75, False, "", "", 0.9, 80.0, 30.0)
CLIP = replace(TRACK, level="clip", item="000-00", speech=0.7)


@pytest.mark.parametrize(
    ("changes", "with_sound", "fault"),
    [
        ({}, 75, ("", "")),
        ({}, 50, ("", "")),
        (
            {},
            49,
            ("track too short", "track of 75 frames, of which 49 have sound, < 50 (--min-frames)"),
        ),
        (
            {},
            -9,
            ("track too short", "track of 75 frames, of which 0 have sound, < 50 (--min-frames)"),
        ),
        ({"frames": 49}, 49, ("track too short", "track of 49 frames < 50 (--min-frames)")),
        ({"face_size": 40.0}, 75, ("", "")),
        ({"face_size": 39.9}, 75, ("face too small", "face of 40 px < 40 (--min-face)")),
        (
            {"confidence": 0.79},
            75,
            ("face uncertain", "confidence 0.79 < 0.8 (--min-confidence)"),
        ),
    ],
)
def test_tracks(changes: dict[str, float], with_sound: int, fault: tuple[str, str]) -> None:
    assert track_fault(replace(TRACK, **changes), with_sound, OPTIONS) == fault


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ("", "")),
        ({"sharpness": 20.0, "speech": 0.5}, ("", "")),
        ({"sharpness": 19.9}, ("blurred", "19.9 < 20 (--min-sharpness)")),
        ({"sharpness": None}, ("blurred", "None < 20 (--min-sharpness)")),
        ({"speech": None}, ("little speech", "speech not measured < 50% (--min-speech)")),
        ({"speech": 0.4}, ("little speech", "speech in 40% < 50% (--min-speech)")),
    ],
)
def test_clips(changes: dict[str, float], fault: tuple[str, str]) -> None:
    assert clip_fault(replace(CLIP, **changes), OPTIONS) == fault


def test_what_no_track_was_good_for_is_summed_up() -> None:
    assert sum_up([], OPTIONS) == ("no face", "no face found")
    short = "track of {} frames < 50 (--min-frames)"
    rows = [
        replace(TRACK, reason="face too small", face_size=20.0),
        replace(TRACK, reason="track too short", frames=10, detail=short.format(10)),
        replace(TRACK, reason="track too short", frames=30, detail=short.format(30)),
        CLIP,
    ]
    assert sum_up(rows, OPTIONS) == (
        "no usable face",
        "2 x track too short (track of 30 frames < 50), 1 x face too small "
        "(largest face 20 px < 40)",
    )
