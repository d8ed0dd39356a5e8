"""Whether a copy of a video holds what was sent to it, each packet at its time (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.names import shown
from data_tools.video.containers import open_container
from data_tools.video.packets import StreamPackets, kind_of, pixel_aspect, read_packets, time_code

_ROUNDING = 0.003  # seconds: Matroska counts milliseconds
_CUT = 0.02  # seconds: where an edit list cuts sound, Vorbis begins up to a packet from its place
_SHAPE = 0.004  # of an aspect: whole pixels and short fractions round it; FFmpeg allows as much
_SLACK = 1.0  # seconds that edit lists, priming and last packets may add to a length


def difference(copy: Path, form: str, sent: list[StreamPackets], seconds: Fraction) -> str:
    """How a copy differs from what was sent to it, in words; empty if it does not.

    Args:
        form: of the copy, as FFmpeg calls it: mp4, mov, matroska.
        sent: of each stream.
        seconds: by which the sound was moved.
    """
    there, lasts = read_packets(copy)
    # In MP4 and MOV sound before the picture is there, but an edit list hides it.
    whole = read_packets(copy, ignore_editlist="1")[0] if form in ("mp4", "mov") else there
    return (
        _missing_streams(sent, there)
        or _misplaced(sent, there, whole)
        or _wrong_length(there, lasts, abs(seconds) + _SLACK)
    )


def reshaped(copy: Path, sent: list[StreamPackets]) -> str:
    """How the shape of a copy's pictures differs from what was sent, in words; empty if not."""
    with open_container(copy) as made:
        now = [pixel_aspect(stream) for stream in made.streams if kind_of(stream) == "video"]
    before = [stream.aspect for stream in sent if stream.kind == "video"]
    for was, would in zip(before, now, strict=False):  # a missing stream is seen elsewhere
        if abs(would / was - 1) > _SHAPE:
            these, those = (f"{a.numerator}:{a.denominator}" for a in (would, was))
            return f"its picture would have another shape (pixels of {these}, not {those})"
    return ""


def lost(source: Path, copy: Path) -> list[str]:
    """What a container says of the whole and its copy does not, in words: time code, chapters."""
    with open_container(source) as given, open_container(copy) as made:
        words = []
        if (code := time_code(given)) and time_code(made) != code:
            words.append(f"the time code {shown(code)} is lost")
        before, now = (len(container.chapters()) for container in (given, made))
        if now < before:
            words.append(f"{before - now} of {before} chapters are lost")
    return words


def _missing_streams(sent: list[StreamPackets], there: list[StreamPackets]) -> str:
    for kind in ("video", "audio", "cover", "subtitle", "attachment"):
        # A stream without a packet is none in some containers.
        wanted = sum(
            stream.kind == kind and (stream.packets > 0 or kind == "attachment") for stream in sent
        )
        if (count := sum(stream.kind == kind for stream in there)) < wanted:
            return f"the copy would have {count} of {wanted} {kind} streams"
    return ""


def _misplaced(
    sent: list[StreamPackets], there: list[StreamPackets], whole: list[StreamPackets]
) -> str:
    """What is wrong with the packets of picture and sound.

    whole: the copy's streams without its edit list.
    """
    later: float | None = None  # all of the copy may be: in Matroska nothing lies before zero
    for kind, words in (("video", "pictures"), ("audio", "packets of sound")):
        matching = zip(*(_with_packets(s, kind) for s in (sent, there, whole)), strict=True)
        for before, now, complete in matching:
            same = complete.packets == before.packets
            if not same and complete.size != before.size:
                if complete.packets > before.packets:
                    return f"the copy would have {complete.size} of {before.size} bytes of {kind}"
                return f"the copy would have {complete.packets} of {before.packets} {words}"
            if kind == "video" and now.unseen > before.unseen:
                return f"{now.unseen - before.unseen} of the copy's {words} would not be shown"
            due, cut = _expected(before, now, same)
            begins = np.asarray(now.begins)
            if later is None:
                later = float(begins[0] - due[0])
            rounding = _CUT if kind == "audio" and now.unseen else _ROUNDING
            if not same:
                rounding += _longest(before) + _longest(now)
            off = np.abs(begins - due - later)[np.asarray(now.shown) != 0].max(initial=0)
            if off > rounding:
                return f"the copy's {words} would be {off:.3f} s away from where they belong"
            if cut + later > rounding:
                return f"the copy's {words} would be missing up to {cut + later:.3f} s"
    return ""


def _with_packets(streams: list[StreamPackets], kind: str) -> Iterator[StreamPackets]:
    return (stream for stream in streams if stream.kind == kind and stream.packets)


def _wrong_length(there: list[StreamPackets], lasts: float, spare: float) -> str:
    """Whether a copy begins and ends elsewhere than its packets say.

    lasts: seconds, as the container says; spare: seconds by which it may be wrong.
    """
    shown = [stream for stream in there if any(stream.shown)]
    start = min(min(compress(stream.begins, stream.shown)) for stream in shown)
    if not -_SLACK <= start <= spare:
        return f"the copy would begin at {start:.1f} s"
    end = max(max(compress(stream.ends, stream.shown)) for stream in shown)
    # MP4 says how long its packets are decoded, which is less where the last picture stands long.
    decoding = min(end, max(stream.decoding for stream in shown))
    least, most = (time - max(0.0, start) for time in (decoding, end))
    if not least - spare <= lasts <= most + spare:
        return f"the copy would last {lasts:.1f} s instead of {end:.1f} s"
    return ""


def _expected(
    sent: StreamPackets, there: StreamPackets, same: bool
) -> tuple[NDArray[np.float64], float]:
    """When each packet found was sent to be; and when what lies before all presented ones ended.

    An edit list may leave out the first packets, so both are counted from the end: in packets if
    they are the same, in bytes if the container makes packets of another length (of PCM).
    """
    places = [
        -np.cumsum(np.ones(len(stream.sizes)) if same else np.asarray(stream.sizes)[::-1])[::-1]
        for stream in (sent, there)
    ]
    wanted = np.interp(places[1], places[0], np.asarray(sent.begins))
    first = places[1][np.asarray(there.shown) != 0].min(initial=0)
    lost = (places[0] < first) & (np.asarray(sent.shown) != 0)
    return wanted, np.asarray(sent.ends)[lost].max(initial=-np.inf)


def _longest(stream: StreamPackets) -> float:
    return float((np.asarray(stream.ends) - np.asarray(stream.begins)).max())
