"""From decoded sound to 16 kHz: the mix to mono and every channel beside it (PyAV).

FFmpeg's mix is what people hear from one loudspeaker: the mean of two channels; of 5.1 the centre
weighs most and the subwoofer nothing. Channels that cancel each other (a microphone with its wires
exchanged) vanish from it, as do those to which FFmpeg gives no weight. In surround sound what is
said comes from the centre, music and noise from around. So the channels are kept beside the mix,
until it is known whether one of them has to stand in for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import SAMPLE_RATE

MOST_CHANNELS = 16  # kept beside the mix: it bounds the disk, 32 kB a second each

_HUGE = 1e30  # of a float sample; larger ones overflow in single precision
_PLANES = 8  # PyAV reads beyond the end of a frame with as many
_JOINED = 1 << 14  # samples handed over at once: a call costs more than a packet's samples
_FAINT = 0.16  # -8 dB
_FAINT_SHARE = 0.1  # of the seconds with sound
_HEARD = 33.0**2  # -60 dB of full scale
_CENTRE = "FC"
# The centre speaks in seconds in which it is heard and no fainter than this beside the loudest of
# the others, in energy: -12 dB. A leak of sound that is meant for the sides is fainter.
_BESIDE = 0.06
_SPEAKS_SHARE = 0.1  # of the seconds with sound: in films there is more music than speech


class Mixer:
    """Resamples frames of one format to 16 kHz.

    exact: they were stored as they are, so that samples may be anything; encoders take numbers.

    Attributes:
        channels: names of the channels kept beside the mix; none for mono.
        not_finite: samples of 16 kHz that were NaN, infinite or beyond all measure.
        clipped: samples of 16 kHz beyond full scale, in any channel.
    """

    def __init__(self, frame: Any, exact: bool) -> None:
        names = [channel.name for channel in frame.layout.channels]
        self.channels = tuple(names[:MOST_CHANNELS]) if len(names) > 1 else ()
        self.not_finite = self.clipped = 0.0
        self._count = len(names)
        # The mix of two is their mean, to the bit as FFmpeg mixes them before it resamples, if they
        # are floats, as decoders of AAC, MP3, Opus and Vorbis give: one of two resamplings less.
        # (Beyond 65,536 times full scale FFmpeg's own numbers run over; the mean's are cut off.)
        self._mean = frame.layout.name == "stereo" and frame.format.name in ("flt", "fltp")
        self._mono: Any = None if self._mean else av.AudioResampler("s16", "mono", SAMPLE_RATE)
        self._each: Any = None
        if self.channels:
            samples = "fltp" if self._mean else "s16"
            self._each = av.AudioResampler(samples, frame.layout, SAMPLE_RATE)
        self._float = exact and frame.format.name in ("flt", "fltp", "dbl", "dblp")
        self._joins = not self._float and self._count < _PLANES
        self._waiting: Any = None  # AudioFifo of frames that follow each other without a gap
        self._begins = self._due = 0  # pts of the first of them, and of what may be joined next
        self._packed: Any = None
        if self._float and frame.format.is_planar and self._count >= _PLANES:
            self._packed = av.AudioResampler(frame.format.packed, frame.layout, frame.sample_rate)

    def resample(self, frame: Any) -> Iterator[tuple[NDArray[np.int16], Fraction | None]]:
        """What can be said by now, and when it is heard (seconds); None ends the sound.

        Yields:
            (samples, 1 + channels) int16, the mix first; (samples, 1) for mono.
        """
        for joined in self._join(frame) if self._joins else [frame]:
            whole = joined is None or self._packed is None
            for part in [joined] if whole else self._packed.resample(joined):
                yield from self._resampled(part if part is None else self._checked(part))

    def _join(self, frame: Any) -> Iterator[Any]:
        """The same sound in longer frames; of frames that begin just when the former one ends."""
        exact = frame is not None and _counts_samples(frame)
        if self._waiting is not None and not (exact and frame.pts == self._due):
            yield self._taken()
        if not exact:
            yield frame
            return
        if self._waiting is None:
            self._waiting, self._begins = av.AudioFifo(), frame.pts
        self._due = frame.pts + frame.samples
        frame.pts = None  # the queue counts from 0 and takes no other times
        self._waiting.write(frame)
        if self._due - self._begins >= _JOINED:
            yield self._taken()

    def _taken(self) -> Any:
        joined, self._waiting = self._waiting.read(), None
        joined.pts = self._begins
        return joined

    def _resampled(self, frame: Any) -> Iterator[tuple[NDArray[np.int16], Fraction | None]]:
        if self._each is None:
            for resampled in self._mono.resample(frame):
                yield _samples(resampled, 1), _time(resampled)
            return
        channels = self._each.resample(frame)
        if self._mean:
            for pair in channels:
                yield _mixed_pair(pair), _time(pair)
            return
        for beside, mix in zip(channels, self._mixes(frame, channels), strict=True):
            each = _samples(beside, self._count)[:, :MOST_CHANNELS]
            yield np.hstack((mix, each)), _time(beside)

    def _mixes(self, frame: Any, channels: Sequence[Any]) -> list[NDArray[np.int16]]:
        if self._mono is not None:
            try:
                return [_samples(mix, 1) for mix in self._mono.resample(frame)]
            except av.error.FFmpegError:
                self._mono = None  # it knows no weights for this layout, ambisonics for one
        arrays = (_samples(part, self._count) for part in channels)
        return [np.rint(array.mean(axis=1, keepdims=True)).astype(np.int16) for array in arrays]

    def _checked(self, frame: Any) -> Any:
        """`frame`, with silence where its samples are no numbers."""
        if not self._float:
            return frame
        array: NDArray[Any] = frame.to_ndarray()
        if array.size == 0 or np.abs(array).max() <= 1:
            return frame
        levels = np.abs(array.T if frame.format.is_planar else array.reshape(-1, self._count))
        wrong = ~(levels < _HUGE)
        each = SAMPLE_RATE / frame.sample_rate
        self.clipped += each * int(((levels > 1) & ~wrong).any(axis=1).sum())
        if not wrong.any():
            return frame
        self.not_finite += each * int(wrong.any(axis=1).sum())
        clean = av.AudioFrame.from_ndarray(
            np.where(np.abs(array) < _HUGE, array, 0).astype(array.dtype),
            frame.format.name,
            frame.layout,
        )
        clean.sample_rate, clean.time_base, clean.pts = (
            frame.sample_rate,
            frame.time_base,
            frame.pts,
        )
        return clean


class Levels:
    """How loud the mix is beside the channels that it is made of, second by second."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels = channels
        self._energy = np.zeros(len(channels))
        self._second: list[NDArray[np.int16]] = []
        self._count = 0  # samples in it
        self._heard = self._faint = self._spoken = 0  # seconds
        self._known: tuple[int, int, int, NDArray[np.float64]] | None = None  # what `_sums` gave

    def add(self, samples: NDArray[np.int16]) -> None:
        """samples: (n, 1 + channels), the mix first."""
        self._known = None
        while self._channels and len(samples):
            part = samples[: SAMPLE_RATE - self._count]
            samples = samples[len(part) :]
            self._second.append(part)
            self._count += len(part)
            if self._count == SAMPLE_RATE:
                self._heard, self._faint, self._spoken, self._energy = self._sums()
                self._second.clear()
                self._count, self._known = 0, None

    def chosen(self) -> int | None:
        """The channel, from 0, that is taken instead of the mix; None: the mix."""
        centre = self.centre()
        return self.stand_in() if centre is None else centre

    def centre(self) -> int | None:
        """The centre of surround sound, from 0, if anything is said there; or None."""
        if len(self._channels) < 3 or _CENTRE not in self._channels:
            return None
        heard, _, spoken, _ = self._sums()
        speaks = heard and spoken >= _SPEAKS_SHARE * heard
        return self._channels.index(_CENTRE) if speaks else None

    def stand_in(self) -> int | None:
        """The channel, from 0, that has to be taken for the mix, which lacks the sound; or None.

        In a second the mix lacks it if it is 8 dB below what channels that have nothing to do with
        each other would leave; in a recording, if it does so in more than a tenth of the seconds in
        which there is sound. Speech mixed from the wide stereo of music stays far above that; two
        microphones out of phase come below it, though each adds its own noise.
        """
        heard, faint, _, energy = self._sums()
        if not heard or faint <= _FAINT_SHARE * heard:
            return None
        # A subwoofer has no speech; but the third channel of any three may be called one.
        deep = ["LFE" in name for name in self._channels]
        return int(np.argmax(np.where(deep, 0.01 * energy, energy)))

    def _sums(self) -> tuple[int, int, int, NDArray[np.float64]]:
        """Seconds with sound, of a faint mix, with a centre that speaks; energy of each channel."""
        if self._known is None:
            heard, faint, spoken, energy = self._heard, self._faint, self._spoken, self._energy
            if self._count:
                last = self._judged()
                heard, faint, spoken = heard + last[0], faint + last[1], spoken + last[2]
                energy = energy + last[3]
            self._known = heard, faint, spoken, energy
        return self._known

    def _judged(self) -> tuple[int, int, int, NDArray[np.float64]]:
        # Variances: a constant added to a channel is not heard.
        # From sums, which are of whole numbers and exact: an eighth of the time of `var`.
        # Each channel is laid out in a row of its own first: a fifth of the time.
        levels = np.concatenate(self._second).T.astype(np.float64, order="C")
        count, sums = levels.shape[1], levels.sum(axis=1)
        mix, *each = (np.einsum("ij,ij->i", levels, levels) - sums * sums / count) / count
        heard = max(each) > _HEARD
        faint = heard and mix < _FAINT * sum(each) / len(each) ** 2
        spoken = False
        if _CENTRE in self._channels:
            own = each[self._channels.index(_CENTRE)]
            spoken = own > _HEARD and own >= _BESIDE * max(each)
        return int(heard), int(faint), int(spoken), np.array(each)


def _counts_samples(frame: Any) -> bool:
    """Whether a frame's time is a number of samples."""
    unit = frame.time_base  # made anew at every look
    return bool(
        frame.pts is not None and unit.numerator == 1 and unit.denominator == frame.sample_rate
    )


def _samples(frame: Any, channels: int) -> NDArray[np.int16]:
    # A tenth of the time of to_ndarray.
    stored = np.frombuffer(frame.planes[0], np.int16, frame.samples * channels)
    return stored.reshape(-1, channels)


def _mixed_pair(frame: Any) -> NDArray[np.int16]:
    """(samples, 3) of a frame of two planes of floats: their mean and each of them."""
    levels = np.empty((3, frame.samples), np.float32)
    for row, plane in zip(levels[1:], frame.planes, strict=True):
        row[:] = np.frombuffer(plane, np.float32, frame.samples)
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged packet may hold anything
        levels *= 32768
        np.add(levels[1], levels[2], out=levels[0])
        levels[0] *= 0.5
    levels.clip(-32768, 32767, out=levels)
    if np.isnan(levels).any():
        np.nan_to_num(levels, copy=False)
    np.rint(levels, out=levels)
    return levels.astype(np.int16).T


def _time(frame: Any) -> Fraction | None:
    return None if frame.pts is None else Fraction(frame.pts) * frame.time_base
