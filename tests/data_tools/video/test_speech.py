"""Speech against silence and noise."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import silero_vad

from data_tools.video.speech import speech_share
from videos import head


def test_a_voice_is_speech_and_noise_is_not():
    voice = head(1, 75, 64)[1]
    rng = np.random.default_rng(0)
    assert speech_share(voice) > 0.6
    assert speech_share(rng.integers(-3000, 3000, 48000).astype(np.int16)) < 0.05
    assert speech_share(np.zeros(48000, np.int16)) == 0
    assert speech_share(np.zeros(0, np.int16)) == 0


@pytest.mark.parametrize("samples", [1, 512, 19_200, 600 * 512 + 7])
def test_the_share_is_that_of_the_packages_own_code(samples):
    audio = np.resize(head(1, 75, 64)[1], samples)
    model = silero_vad.load_silero_vad(onnx=True, sequence=True)
    expected = model.audio_forward(audio.astype(np.float32) / 32768) > 0.5
    assert speech_share(audio) == float(expected.mean())


def test_neither_sound_nor_tar_loads_torch():
    """It would cost every process of `prepare` two seconds and 200 MB."""
    code = (
        "import sys; import numpy as np; import data_tools.sharding; "
        "from data_tools.video.speech import speech_share; "
        "speech_share(np.zeros(600, np.int16)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
