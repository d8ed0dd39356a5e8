"""Synthetic speech: a timeline of articulation, and the sound of it.

`speak` draws what a talker does over time (lips, voicing, friction, pitch) on a 5 ms grid. Both the
picture (`face`) and the sound (`render_voice`) are made from that one timeline, which is what
makes lips and speech agree. See `python -m data_tools synth --help`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from data_tools.mfcc import SAMPLE_RATE, SAMPLES_PER_FRAME

STEP_S = 0.005
STEP_SAMPLES = int(SAMPLE_RATE * STEP_S)
STEPS_PER_FRAME = SAMPLES_PER_FRAME // STEP_SAMPLES

FloatArray = NDArray[np.float64]

_WINDOW = 4 * STEP_SAMPLES
_FFT = 512
_FREQUENCIES = np.fft.rfftfreq(_FFT, 1.0 / SAMPLE_RATE)

# (jaw opening 0..1, lip spread -1 rounded .. +1 spread); F1 follows the first, F2 the second.
_VOWELS = (
    (1.00, 0.10),  # a
    (0.80, 0.60),  # ae
    (0.55, 0.70),  # e
    (0.30, 1.00),  # i
    (0.62, -0.60),  # o
    (0.30, -1.00),  # u
    (0.48, 0.00),  # schwa
)
_ONSETS = ("none", "m", "b", "p", "f", "s", "sh", "t", "l")
_ONSET_SHARES = (0.10, 0.14, 0.13, 0.13, 0.08, 0.12, 0.08, 0.12, 0.10)
_CODAS = ("none", "m", "s", "t", "l")
_CODA_SHARES = (0.62, 0.12, 0.08, 0.08, 0.10)
# Below zero, so that smoothing with open neighbours still leaves the lips shut for a while.
_CLOSED = -0.22


@dataclass(frozen=True)
class Speech:
    """One talker's timeline; every array has shape (steps,), one value per 5 ms.

    opening: jaw and lip opening, 0 (lips shut) to about 1.
    spread: lip spread, -1 (rounded, narrow) to +1 (wide).
    teeth: how far clenched teeth show, 0..1 (fricatives).
    voicing: glottal amplitude, 0..1.
    noise: friction amplitude, 0..1.
    noise_hz: centre of the friction noise, Hz.
    f0: pitch relative to the speaker's own, around 1.
    """

    opening: FloatArray
    spread: FloatArray
    teeth: FloatArray
    voicing: FloatArray
    noise: FloatArray
    noise_hz: FloatArray
    f0: FloatArray

    def frames(self, start: int, count: int) -> FloatArray:
        """Lips at the middle of `count` video frames from frame `start` of the timeline.

        Returns (count, 3): opening, spread, teeth.
        """
        middle = (start + np.arange(count)) * STEPS_PER_FRAME + STEPS_PER_FRAME // 2
        return np.stack([self.opening[middle], self.spread[middle], self.teeth[middle]], axis=1)


def speak(rng: np.random.Generator, frames: int) -> Speech:
    """Draw a timeline of `frames` video frames (40 ms each) of running speech.

    It begins somewhere inside the speech: a random stretch is drawn and dropped first, so neither
    end of the timeline is tied to the start of a syllable.
    """
    steps = frames * STEPS_PER_FRAME
    dropped = int(rng.integers(200, 400))
    rows = _segments(rng, (steps + dropped) * STEP_S)
    lengths = np.maximum(1, np.rint(rows[:, 0] / STEP_S).astype(np.int64))
    # Over minutes the rounding adds up: the last sound lasts until the end.
    lengths[-1] += max(0, dropped + steps - int(lengths.sum()))
    tracks = np.repeat(rows[:, 1:], lengths, axis=0)
    # Lips move more slowly than the glottis starts and stops: that is the coarticulation.
    lips = gaussian_filter1d(tracks[:, :3], 5.0, axis=0)
    voicing = gaussian_filter1d(tracks[:, 3], 2.0)
    noise = gaussian_filter1d(tracks[:, 4], 1.2)
    noise_hz = gaussian_filter1d(tracks[:, 5], 1.2)
    f0 = gaussian_filter1d(tracks[:, 6], 12.0)
    cut = slice(dropped, dropped + steps)
    return Speech(
        opening=np.maximum(lips[cut, 0], 0.0),
        spread=lips[cut, 1],
        teeth=lips[cut, 2],
        voicing=voicing[cut],
        noise=noise[cut],
        noise_hz=noise_hz[cut],
        f0=f0[cut],
    )


def render_voice(rng: np.random.Generator, speech: Speech, start: int, frames: int) -> FloatArray:
    """Sound of `frames` video frames of `speech` from its frame `start`, in a random voice.

    The voice (pitch, formant scale, spectral slope), the microphone colour, the loudness and the
    background noise come from `rng`. The timeline must reach one frame past the cut on each side.

    Returns float64 (frames * 640,), 16 kHz, within -1..1.
    Raises ValueError when the timeline does not reach far enough.
    """
    first = (start - 1) * STEPS_PER_FRAME
    last = (start + frames + 1) * STEPS_PER_FRAME
    if first < 0 or last > speech.opening.size:
        raise ValueError("the timeline must reach one frame past the cut on each side")
    cut = slice(first, last)
    count = last - first
    pitch = float(np.exp(rng.uniform(np.log(90.0), np.log(230.0))))
    formant_scale = float(rng.uniform(0.88, 1.18))
    slope = float(rng.uniform(-3.0, 3.0))
    snr_db = float(rng.uniform(14.0, 35.0))
    level_db = float(rng.uniform(-30.0, -17.0))
    noise_slope = float(rng.uniform(-6.0, 0.0))

    source = _glottal_source(speech.f0[cut] * pitch, rng)
    friction = rng.standard_normal(count * STEP_SAMPLES)
    filtered = _stft(source) * _vocal_tract(speech, cut, formant_scale)
    filtered += _stft(friction) * _friction_envelope(speech, cut)
    filtered *= _tilt(slope)
    voice = _istft(filtered, count)[SAMPLES_PER_FRAME:-SAMPLES_PER_FRAME]

    hiss = _istft(_stft(rng.standard_normal(count * STEP_SAMPLES)) * _tilt(noise_slope), count)
    hiss = hiss[SAMPLES_PER_FRAME:-SAMPLES_PER_FRAME]
    voice /= np.sqrt(np.mean(voice**2)) + 1e-9
    hiss /= np.sqrt(np.mean(hiss**2)) + 1e-9
    sound = voice + hiss * 10.0 ** (-snr_db / 20.0)
    sound *= 10.0 ** (level_db / 20.0)
    return np.asarray(sound * min(1.0, 0.95 / (float(np.max(np.abs(sound))) + 1e-9)))


def _segments(rng: np.random.Generator, seconds: float) -> FloatArray:
    """Rows of (duration s, opening, spread, teeth, voicing, noise, noise Hz, f0) for `seconds`."""
    rate = float(rng.uniform(0.85, 1.2))
    rows: list[tuple[float, ...]] = []
    total = 0.0
    since_pause = int(rng.integers(0, 6))
    phrase_pitch = 1.1
    # The surplus keeps smoothing at the end of the timeline away from a missing neighbour.
    while total < seconds + 0.5:
        before = len(rows)
        stress = float(rng.uniform(0.7, 1.0))
        opening, spread = _VOWELS[int(rng.integers(len(_VOWELS)))]
        opening = opening * stress + float(rng.normal(0.0, 0.03))
        spread = spread * float(rng.uniform(0.8, 1.0))
        f0 = phrase_pitch * (0.88 + 0.25 * stress) * float(rng.uniform(0.95, 1.05))
        phrase_pitch = max(0.85, phrase_pitch - 0.03)
        onset = _ONSETS[int(rng.choice(len(_ONSETS), p=_ONSET_SHARES))]
        coda = _CODAS[int(rng.choice(len(_CODAS), p=_CODA_SHARES))]
        rows += _consonant(rng, onset, opening, spread, f0)
        duration = float(np.clip(rng.lognormal(np.log(0.125), 0.38), 0.06, 0.30))
        rows.append((duration, opening, spread, 0.0, stress, 0.0, 4000.0, f0))
        rows += _consonant(rng, coda, opening, spread, f0)
        since_pause += 1
        if since_pause >= 3 and rng.random() < 0.18:
            parted = 0.10 if rng.random() < 0.3 else _CLOSED
            pause = float(rng.uniform(0.10, 0.34))
            rows.append((pause * rate, parted, 0.0, 0.0, 0.0, 0.0, 4000.0, f0))
            since_pause = 0
            phrase_pitch = float(rng.uniform(1.0, 1.2))
        total += sum(row[0] for row in rows[before:]) / rate
    segments = np.array(rows, dtype=np.float64)
    segments[:, 0] /= rate
    return segments


def _consonant(
    rng: np.random.Generator, name: str, opening: float, spread: float, f0: float
) -> list[tuple[float, ...]]:
    """Segments of one consonant beside a vowel of that `opening` and `spread`."""
    hold = float(rng.uniform(0.06, 0.11))
    half = 0.5 * spread
    if name == "m":
        return [(hold, _CLOSED, half, 0.0, 0.55, 0.0, 4000.0, f0)]
    if name == "b":
        return [(hold, _CLOSED, half, 0.0, 0.3, 0.0, 4000.0, f0)]
    if name == "p":
        return [
            (hold, _CLOSED, half, 0.0, 0.0, 0.0, 1500.0, f0),
            (0.015, 0.5 * opening, spread, 0.0, 0.0, 0.5, 1500.0, f0),
            (0.025, opening, spread, 0.0, 0.1, 0.12, 1800.0, f0),
        ]
    if name == "f":
        return [(hold, 0.02, 0.3, 0.3, 0.0, 0.2, 4500.0, f0)]
    if name == "s":
        return [(hold * 1.2, 0.14, 0.7, 1.0, 0.0, 0.45, 6000.0, f0)]
    if name == "sh":
        return [(hold * 1.2, 0.16, -0.7, 0.9, 0.0, 0.5, 3000.0, f0)]
    if name == "t":
        return [
            (hold * 0.7, 0.22, half, 0.3, 0.0, 0.0, 4500.0, f0),
            (0.02, 0.3, spread, 0.3, 0.0, 0.5, 4500.0, f0),
        ]
    if name == "l":
        return [(hold * 0.8, 0.28, half, 0.0, 0.6, 0.0, 4000.0, f0)]
    return []


def _glottal_source(f0: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Band-limited pulse train at `f0` Hz per step; (steps * 80,) with unit-sized harmonics."""
    phase_step = np.interp(
        np.arange(f0.size * STEP_SAMPLES) / STEP_SAMPLES, np.arange(f0.size), f0 / SAMPLE_RATE
    )
    # One harmonic count for the whole clip: a count that changed would click.
    harmonics = int(7600.0 // float(f0.max()))
    phase = np.pi * (np.cumsum(phase_step) + float(rng.uniform(0.0, 1.0)))
    bottom = np.sin(phase)
    near = np.abs(bottom) < 1e-6
    bottom[near] = 1.0
    pulses = np.sin((2 * harmonics + 1) * phase) / bottom
    pulses[near] = 2 * harmonics + 1
    return (pulses - 1.0) * 0.08


def _vocal_tract(speech: Speech, cut: slice, formant_scale: float) -> FloatArray:
    """Magnitude response (steps, bins) of the voiced sound, with its amplitude."""
    opening = speech.opening[cut, None]
    spread = speech.spread[cut, None]
    f1 = (270.0 + 560.0 * opening) * formant_scale
    f2 = (1400.0 + np.where(spread > 0, 850.0, 600.0) * spread) * formant_scale
    response = np.zeros((opening.shape[0], _FREQUENCIES.size))
    for centre, width, gain in (
        (f1, 90.0, 1.0),
        (f2, 130.0, 0.6),
        (np.float64(2700.0 * formant_scale), 200.0, 0.3),
        (np.float64(3700.0 * formant_scale), 300.0, 0.15),
    ):
        response += gain / (1.0 + ((_FREQUENCIES - centre) / width) ** 2)
    response += 0.01
    # Shut lips muffle: what is left of m and b is a low murmur.
    response /= 1.0 + (_FREQUENCIES / (350.0 + 6000.0 * opening)) ** 2
    return response * speech.voicing[cut, None] * (0.25 + 0.75 * opening)


def _friction_envelope(speech: Speech, cut: slice) -> FloatArray:
    """Magnitude response (steps, bins) of the friction noise, with its amplitude."""
    centre = speech.noise_hz[cut, None]
    shape = np.exp(-0.5 * ((_FREQUENCIES - centre) / (0.28 * centre + 300.0)) ** 2)
    return shape * speech.noise[cut, None] * 0.12


def _tilt(db_per_octave: float) -> FloatArray:
    """Spectral tilt about 1 kHz, held flat below 125 Hz; (bins,) magnitudes."""
    octaves = np.log2(np.maximum(_FREQUENCIES, 125.0) / 1000.0)
    return np.asarray(10.0 ** (db_per_octave * octaves / 20.0))


def _stft(signal: FloatArray) -> NDArray[np.complex128]:
    """Short-time spectra, one per 5 ms step (centred on it); (steps, bins)."""
    half = _WINDOW // 2
    padded = np.pad(signal, (half, half))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::STEP_SAMPLES]
    steps = signal.size // STEP_SAMPLES
    return np.fft.rfft(windows[:steps] * np.hanning(_WINDOW + 1)[:-1], _FFT, axis=1)


def _istft(spectra: NDArray[np.complex128], steps: int) -> FloatArray:
    """Overlap-add of `_stft` spectra; (steps * 80,). The analysis windows already sum to two."""
    # The centre is moved off zero so that the filter's two-sided response does not wrap.
    spare = (_FFT - _WINDOW) // 2
    blocks = np.roll(np.fft.irfft(spectra, _FFT, axis=1), spare, axis=1)
    per_block = -(-_FFT // STEP_SAMPLES)
    blocks = np.pad(blocks, ((0, 0), (0, per_block * STEP_SAMPLES - _FFT)))
    pieces = blocks.reshape(steps, per_block, STEP_SAMPLES)
    out = np.zeros((steps + per_block, STEP_SAMPLES))
    for piece in range(per_block):
        out[piece : piece + steps] += pieces[:, piece]
    lead = _WINDOW // 2 + spare
    return out.reshape(-1)[lead : lead + steps * STEP_SAMPLES] / 2.0
