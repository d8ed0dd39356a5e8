"""Speech against silence and noise."""

from __future__ import annotations

import numpy as np
import torch

from data_tools.video.speech import speech_share
from videos import head


def test_a_voice_is_speech_and_noise_is_not():
    threads = torch.get_num_threads()
    voice = head(1, 75, 64)[1]
    rng = np.random.default_rng(0)
    assert speech_share(voice) > 0.6
    assert speech_share(rng.integers(-3000, 3000, 48000).astype(np.int16)) < 0.05
    assert speech_share(np.zeros(48000, np.int16)) == 0
    assert speech_share(np.zeros(0, np.int16)) == 0
    assert torch.get_num_threads() == threads
