"""Tracks that lie on disk in clips."""

from pathlib import Path

import numpy as np
import soundfile

from data_tools.mfcc import SAMPLES_PER_FRAME
from trainer.score.faces import StoredClip, stored_sound


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
