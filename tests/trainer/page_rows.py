"""Rows of tracks as `syncnet` makes them, made up: pages of them need no measuring."""

from __future__ import annotations

from typing import Any

from measured import track_result
from trainer.score.report import as_json
from trainer.score.trust import TrackResult

EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"


def made_row(offset: int = 3, video: str = "a.mp4", **more: Any) -> dict[str, Any]:
    """The row of a track of two seconds that can be trusted."""
    track = track_result(offset)
    return as_json([TrackResult(**{**vars(track), "video": video})])[0] | more


def jumping_row(video: str, seconds: float, **more: Any) -> dict[str, Any]:
    """The row of a track whose sound is 80 ms early, and from the middle on 240 ms late."""
    middle = seconds / 2
    parts = [(0.0, middle, 2.0), (middle, seconds, -6.0)]
    return made_row(
        -6,
        video,
        end_seconds=seconds,
        trusted=False,
        doubts="the offset changes over time, so that no one number holds",
        over_time=f"audio is 80 ms early to 0:0{middle:.0f}, then audio is 240 ms late",
        jumps=f"{middle:.1f} s: +2 to -6 frames",
        segments=[
            {
                "begin_seconds": begin,
                "end_seconds": end,
                "begin_offset_frames": offset,
                "end_offset_frames": offset,
                "sure": True,
            }
            for begin, end, offset in parts
        ],
        frame_confidence=[1.0] * round(25 * seconds - 4),
        **more,
    )
