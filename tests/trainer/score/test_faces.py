"""Tracks that lie on disk in clips."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_tools.mfcc import SAMPLES_PER_FRAME
from data_tools.video.record import Row
from trainer.score.faces import StoredClip, _speech, stored_sound


def test_a_track_in_several_clips_is_one_sound(tmp_path: Path) -> None:
    audio = np.arange(5 * SAMPLES_PER_FRAME, dtype=np.int16)
    for name, first, last in (("a", 0, 2), ("b", 2, 5)):
        (tmp_path / name).mkdir()
        part = audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        soundfile.write(tmp_path / name / "audio.wav", part, 16000, subtype="PCM_16")
    read, samples = stored_sound([StoredClip(tmp_path / "a", 2), StoredClip(tmp_path / "b", 3)])(5)
    assert samples == len(audio)
    for first, count in ((0, samples), (1000, 900), (1280, 10), (100, 50)):
        np.testing.assert_array_equal(read(first, count), audio[first : first + count])


def test_speech_that_was_not_measured_is_not_taken_for_silence() -> None:
    row = Row("v", "clip", "000-00", 0.0, 2.0, 50, True, speech=0.0)
    assert _speech(row) == 0
    with pytest.raises(ValueError, match="000-00 was prepared without its share of speech"):
        _speech(replace(row, speech=None))
