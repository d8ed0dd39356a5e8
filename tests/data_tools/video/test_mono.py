"""Sound as people hear it: channels that cancel, weights, floats that are no numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.mfcc import SAMPLE_RATE
from data_tools.video.mono import Mixer
from data_tools.video.sound import Sound

SECONDS = 4
LENGTH = SECONDS * SAMPLE_RATE


def voice(seed: int = 0) -> NDArray[np.float64]:
    """Noise of changing loudness, below a tenth of full scale."""
    rng = np.random.default_rng(seed)
    loudness = 0.02 * (1 + np.sin(np.arange(LENGTH) * 2e-3))
    low = np.convolve(rng.normal(0, 1, LENGTH), np.ones(16) / 4, "same")
    return np.clip(low * loudness, -0.1, 0.1)


def heard(
    channels: NDArray[Any], layout: str, folder: Path, form: str = "flt", rate: int = SAMPLE_RATE
) -> tuple[NDArray[np.int16], Sound]:
    """What `Sound` gives of (channels, samples) in full scale, and itself."""
    sound = Sound(folder / f"{layout}.raw")
    mixer: Mixer | None = None
    for begin in range(0, channels.shape[1], 1024):
        part = channels[:, begin : begin + 1024].T.reshape(1, -1)
        if form == "s16":
            part = np.rint(part * 32768)
        dtype = {"flt": np.float32, "dbl": np.float64, "s16": np.int16}[form]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part, dtype), form, layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        mixer = mixer or Mixer(frame, exact=True)
        for samples, time in mixer.resample(frame):
            sound.append(samples, time, mixer.channels)
    assert mixer is not None
    for samples, time in mixer.resample(None):
        sound.append(samples, time, mixer.channels)
    sound.not_finite, sound.clipped = mixer.not_finite, mixer.clipped
    sound.close()
    length = channels.shape[1] * SAMPLE_RATE // rate
    return sound.samples(0, length, Fraction(0)), sound


def likeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Correlation, 1 for the same sound at any level."""
    return float(np.corrcoef(one[500:-500], other[500:-500])[0, 1])


CANCELLED = {
    "inverted": lambda v, n: [v, -v],
    "inverted, not as loud": lambda v, n: [v, -0.9 * v],
    "inverted, each with its own noise": lambda v, n: [v + 0.1 * n, -v + 0.1 * voice(2)],
    "inverted, a constant added": lambda v, n: [v + 0.2, -v],
    "inverted for a fifth of the time": lambda v, n: [
        v,
        np.where(np.arange(LENGTH) < 0.6 * LENGTH, v, -v),
    ],
}


@pytest.mark.parametrize("channels", CANCELLED.values(), ids=CANCELLED)
def test_of_channels_that_cancel_one_is_heard(channels, tmp_path):
    made = np.array(channels(voice(), voice(1)))
    samples, sound = heard(made, "stereo", tmp_path)
    (name,) = sound.stand_ins()
    # All of it is of one channel, so that it clicks nowhere.
    one = np.rint(made[{"FL": 0, "FR": 1}[name]] * 32768)
    assert np.abs(samples - one).max() <= 1


KEPT = {
    "the same": lambda v, n: [v, v],
    "on one side": lambda v, n: [v, 0 * v],
    "unrelated": lambda v, n: [v, n],
    "wide": lambda v, n: [v + n, v - n],
    "silent": lambda v, n: [0 * v, 0 * v],
    "cancelled for a moment": lambda v, n: [
        v,
        np.where(np.arange(LENGTH) < 0.98 * LENGTH, v, -v),
    ],
}


@pytest.mark.parametrize("channels", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("form", ["flt", "s16"])
def test_two_channels_are_mixed_as_before(channels, form, tmp_path):
    made = np.array(channels(voice(), voice(1)))
    samples, sound = heard(made, "stereo", tmp_path, form)
    assert sound.stand_ins() == {}
    assert np.abs(samples - made.mean(axis=0) * 32768).max() <= 1.5


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("form", ["flt", "fltp", "s16", "s16p", "dbl"])
def test_the_mix_and_the_channels_are_those_of_ffmpeg_to_the_bit(form, rate):
    levels = np.random.default_rng(rate).normal(0, 0.5, (2, rate)).astype(np.float32)
    levels[:, 100:103] = [[3.0, -3.0, 1.0], [3.0, 3.0, -1.0]]  # beyond full scale
    stored = np.rint(levels.clip(-1, 1) * 32767).astype(np.int16) if "s16" in form else levels
    stored = stored.astype(np.float64) if form == "dbl" else stored
    packed = stored if form.endswith("p") else np.ascontiguousarray(stored.T.reshape(1, -1))

    def frame() -> Any:
        made = av.AudioFrame.from_ndarray(packed, form, "stereo")
        made.sample_rate, made.pts, made.time_base = rate, 0, Fraction(1, rate)
        return made

    def resampled(layout: str) -> NDArray[np.int16]:
        resampler = av.AudioResampler("s16", layout, SAMPLE_RATE)
        parts = [*resampler.resample(frame()), *resampler.resample(None)]
        count = 1 if layout == "mono" else 2
        return np.concatenate([part.to_ndarray().reshape(-1, count) for part in parts])

    mixer = Mixer(frame(), exact=False)
    chunks = [*mixer.resample(frame()), *mixer.resample(None)]
    expected = np.hstack((resampled("mono"), resampled("stereo")))
    assert np.array_equal(np.concatenate([samples for samples, _ in chunks]), expected)


@pytest.mark.parametrize(
    ("layout", "channel", "stands_in"),
    [
        ("5.1", 2, False),  # the centre
        ("5.1", 4, False),
        ("2.1", 2, True),  # what FFmpeg calls any three channels, and takes for a subwoofer
        ("3 channels", 2, True),
        ("6 channels", 3, True),
        ("ambisonic 1", 0, False),  # FFmpeg knows no weights for it
        ("mono", 0, False),
    ],
)
def test_a_voice_in_any_one_channel_is_heard(layout, channel, stands_in, tmp_path):
    made = np.zeros((av.AudioLayout(layout).nb_channels, 3 * LENGTH))
    made[channel] = np.interp(np.arange(3 * LENGTH) / 3, np.arange(LENGTH), voice())
    samples, sound = heard(made, layout, tmp_path, rate=48000)
    assert list(sound.stand_ins().values()) == [channel + 1] * stands_in
    assert likeness(samples, made[channel, ::3]) > 0.95
    assert np.abs(samples).max() > 0.1 * np.abs(made).max() * 32768


def test_front_channels_of_5_1_that_cancel(tmp_path):
    made = np.zeros((6, LENGTH))
    made[0], made[1] = voice(), -voice()
    samples, sound = heard(made, "5.1", tmp_path)
    assert set(sound.stand_ins()) <= {"FL", "FR"} and len(sound.stand_ins()) == 1
    assert abs(likeness(samples, made[0])) > 0.99


@pytest.mark.parametrize(
    ("centre", "sides", "taken"),
    [
        (1.0, 1.0, True),  # speech in the middle of music
        (0.3, 1.0, True),
        (0.02, 1.0, False),  # a leak
        (0.0, 1.0, False),
    ],
)
@pytest.mark.parametrize("layout", ["5.1", "3.0", "7.1"])
def test_the_centre_of_surround_comes_first(layout, centre, sides, taken, tmp_path):
    made = np.zeros((av.AudioLayout(layout).nb_channels, LENGTH))
    made[0], made[1], made[2] = sides * voice(1), sides * voice(1), centre * voice()
    samples, sound = heard(made, layout, tmp_path)
    assert sound.centres() == [len(made)] * taken and sound.stand_ins() == {}
    assert abs(likeness(samples, voice(0 if taken else 1))) > 0.98


def test_a_centre_that_speaks_now_and_then_is_taken_throughout(tmp_path):
    made = np.zeros((6, LENGTH))
    made[0], made[1] = voice(1), voice(2)
    made[2, : LENGTH // 4] = voice()[: LENGTH // 4]
    samples, sound = heard(made, "5.1", tmp_path)
    assert sound.centres() == [6] and not samples[LENGTH // 2 :].any()


def test_layouts_that_change_are_judged_apart(tmp_path):
    """A stereo part that cancels itself between mono parts."""
    sound = Sound(tmp_path / "s.raw")
    one = (voice() * 32768).astype(np.int16)
    pair = np.column_stack((np.zeros_like(one), one, -one))
    sound.append(one, Fraction(0))
    sound.append(pair, Fraction(SECONDS), ("FL", "FR"))
    sound.append(pair[:100], Fraction(2 * SECONDS) + Fraction(1, 2), ("FL", "FR"))
    sound.append(one, None)
    sound.close()
    assert sound.stand_ins() == {"FL": 1}
    gap = SAMPLE_RATE // 2
    whole = np.concatenate([one, one, np.zeros(gap, np.int16), one[:100], one])
    assert sound.length == len(whole) and sound.filled == gap
    for first, count in ((0, len(whole)), (LENGTH - 10, 20), (2 * LENGTH + gap - 5, 200)):
        found = sound.samples(first, count, Fraction(0))
        assert np.array_equal(found, whole[first : first + count])


@pytest.mark.parametrize("form", ["flt", "dbl"])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_what_is_no_number_is_silence_and_counted(form, layout, tmp_path):
    count = av.AudioLayout(layout).nb_channels
    whole = np.tile(voice(), (count, 1))
    broken = whole.copy()
    places = np.arange(1000, 1300)
    broken[0, places] = np.tile([np.nan, np.inf, -np.inf], 100)
    if form == "dbl":
        broken[0, 1300] = 1e200
    samples, sound = heard(broken, layout, tmp_path, form)
    assert sound.not_finite == 300 + (form == "dbl")
    silent = broken.copy()
    silent[:, places] = whole[:, places]
    silent[0, 1000:1301] = 0 if form == "dbl" else np.append(np.zeros(300), whole[0, 1300])
    assert np.abs(samples - silent.mean(axis=0) * 32768).max() <= 1


def test_what_is_louder_than_full_scale_is_clipped_and_counted(tmp_path):
    loud = 100 * voice()[None]
    samples, sound = heard(loud, "mono", tmp_path)
    assert sound.clipped == (np.abs(loud.astype(np.float32)) > 1).sum()
    expected = np.clip(np.rint(loud[0] * 32768), -32768, 32767)
    assert np.abs(samples - expected).max() <= 1


@pytest.mark.parametrize(("form", "layout"), [("s16", "stereo"), ("s16", "mono"), ("fltp", "5.1")])
def test_packets_that_are_joined_sound_as_they_do_one_by_one(form, layout):
    """Times in another unit keep packets apart; a gap ends what is joined, and keeps its time."""
    rng = np.random.default_rng(3)
    count = av.AudioLayout(layout).nb_channels
    begins = [*range(0, 60 * 1024, 1024), *range(70 * 1024, 90 * 1024, 1024)]
    parts = [rng.normal(0, 0.1, (count, 1024)) for _ in begins]

    def run(ticks: int) -> tuple[int, NDArray[np.int16], list[tuple[int, float]]]:
        mixer, chunks, times = None, [], []
        for begin, part in zip(begins, parts, strict=True):
            planar = part.astype(np.float32)
            if form == "s16":
                planar = np.rint(part.T.reshape(1, -1) * 32768).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planar), form, layout)
            frame.sample_rate, frame.pts = 44_100, begin * ticks
            frame.time_base = Fraction(1, 44_100 * ticks)
            mixer = mixer or Mixer(frame, exact=False)
            chunks += list(mixer.resample(frame))
        assert mixer is not None
        chunks += list(mixer.resample(None))
        first = 0
        for samples, time in chunks:
            times.append((first, float(time or 0)))
            first += len(samples)
        return len(chunks), np.concatenate([samples for samples, _ in chunks]), times

    few, joined, starts = run(1)
    many, apart, each = run(10)
    assert few < many / 5
    assert np.array_equal(joined, apart)
    known = dict(each)
    after = [(first, time) for first, time in starts if time > 70 * 1024 / 44_100]
    assert after, "no chunk begins behind the gap"
    for first, time in starts:
        if first in known:
            assert abs(time - known[first]) < 1e-3
