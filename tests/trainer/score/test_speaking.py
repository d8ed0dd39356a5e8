"""Who of several faces speaks, from made-up fits."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from measured import track_result
from trainer.score.offset_path import TAU, OffsetPath, Segment
from trainer.score.report import row, speaker_lines
from trainer.score.speaking import columns, in_words, overlapping, tell_speakers
from trainer.score.trust import TrackResult

FRAMES = 200  # 8 s


def fits(
    speaks: NDArray[np.floating] | float, seed: int, offset: NDArray[np.int64] | int = 3
) -> NDArray[np.float32]:
    """(FRAMES, 31) fits of a face that follows the sound where it `speaks`."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (FRAMES + 5, 31))
    # neighbouring windows share frames: TAU of them say as much as one
    fits_KS = sum(noise[k : FRAMES + k] for k in range(6)) / np.sqrt(TAU)
    at = 15 - np.broadcast_to(offset, FRAMES)
    fits_KS[np.arange(FRAMES), at] += 1.2 * np.broadcast_to(speaks, FRAMES)
    fits_KS[:3, 18:] = np.nan
    return np.asarray(fits_KS + 5 * rng.random(), np.float32)


def face(
    name: str, fits_KS: NDArray[np.float32], start: float = 0.0, path: OffsetPath | None = None
) -> TrackResult:
    track = track_result(3)
    score = dataclasses.replace(track.score, fits_KS=fits_KS, path=path)
    end = start + (len(fits_KS) + 4) / 25
    return dataclasses.replace(track, track=name, start_seconds=start, end_seconds=end, score=score)


def roles(tracks: list[TrackResult]) -> list[str]:
    return [track.speaking.role if track.speaking else "" for track in tracks]


@pytest.mark.parametrize("seed", range(5))
def test_the_one_whose_lips_follow_speaks(seed: int) -> None:
    scale = np.float32(0.01)  # of a face that hardly moves
    told = tell_speakers(
        [face("000", scale * fits(False, seed)), face("001", fits(True, 9 + seed))]
    )
    assert roles(told) == ["listens", "speaks"]
    listener, speaker = told
    assert speaker.speaking is not None and listener.speaking is not None
    assert speaker.speaking.share > 0.9 > 0.1 > listener.speaking.share
    assert (speaker.speaking.rank, listener.speaking.rank) == (1, 2)
    # a listener's offset is not followed, by --fix or --strict
    assert speaker.trusted and not listener.trusted
    assert "another face on screen speaks" in str(listener.doubts[0])
    assert told[0].score.fits_KS is None and told[1].score.fits_KS is None
    assert row(speaker)["speaker"] == "speaks" and row(speaker)["speaking_rank"] == 1
    share = round(100 * speaker.speaking.share)
    assert speaker_lines(told) == [
        f"a.mp4: who speaks: 001 speaks (best fit {share} % of the time), 000 listens"
    ]


def test_two_who_take_turns_both_speak() -> None:
    first = np.arange(FRAMES) < FRAMES // 2
    told = tell_speakers([face("a", fits(1.4 * first, 1)), face("b", fits(1.4 * ~first, 2))])
    assert roles(told) == ["speaks", "speaks"]
    # what is not clear enough is not taken for listening
    faint = tell_speakers([face("a", fits(0.8 * first, 1)), face("b", fits(1.4 * ~first, 2))])
    assert roles(faint) == ["not sure", "speaks"]
    assert all(0.35 < track.speaking.share < 0.65 for track in told if track.speaking)


def test_two_who_speak_at_once_both_speak() -> None:
    assert roles(tell_speakers([face("a", fits(True, 1)), face("b", fits(True, 2))])) == [
        "speaks", "speaks",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_of_a_voice_from_elsewhere_nobody_is_sure(seed: int) -> None:
    told = tell_speakers([face("a", fits(False, seed)), face("b", fits(False, 50 + seed))])
    assert roles(told) == ["not sure", "not sure"] and all(track.trusted for track in told)


def test_a_face_alone_is_not_judged() -> None:
    told = tell_speakers([face("a", fits(True, 1)), face("b", fits(False, 2), start=7.5)])
    assert roles(told) == ["", ""] and in_words(told) == "" and speaker_lines(told) == []
    assert set(columns(told[0]).values()) == {None}
    assert tell_speakers([]) == []


def test_only_the_time_together_counts() -> None:
    """b speaks alone first, and then listens to a."""
    begin = np.arange(FRAMES) < 50
    told = tell_speakers([face("a", fits(True, 1), start=2.0), face("b", fits(begin, 2))])
    assert roles(told) == ["speaks", "listens"]


def test_who_listens_for_a_short_while_is_still_trusted() -> None:
    alone = np.arange(FRAMES) < 110
    told = tell_speakers([face("a", fits(1.5, 1), start=4.4), face("b", fits(alone, 2))])
    assert roles(told) == ["speaks", "listens"]
    assert told[1].trusted and told[1].speaking is not None
    assert told[1].speaking.together == pytest.approx(0.45, abs=0.02)


def test_the_sound_is_followed_where_it_jumps() -> None:
    offset = np.where(np.arange(FRAMES) < 100, 3, -8)
    path = OffsetPath((Segment(0, 100, 3, 3, 9.0), Segment(100, FRAMES, -8, -8, 9.0)))
    told = tell_speakers(
        [face("a", fits(False, 1, offset)), face("b", fits(True, 2, offset), path=path)]
    )
    assert roles(told) == ["listens", "speaks"]
    assert told[1].speaking is not None and told[1].speaking.share > 0.9


def test_three_faces_and_another_scene() -> None:
    told = tell_speakers(
        [
            face("a", fits(False, 1)),
            face("b", fits(True, 2)),
            face("c", fits(False, 3)),
            face("d", fits(True, 4), start=20.0),
            face("e", fits(False, 5), start=20.0),
        ]
    )
    assert roles(told) == ["listens", "speaks", "listens", "speaks", "listens"]


def test_spans_overlap_by_a_second_or_more() -> None:
    assert overlapping([(0, 2), (1, 5), (4.5, 9)]) == [True, True, False]
    assert overlapping([(0, 9)]) == [False]
