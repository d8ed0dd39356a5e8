"""What of a video could not be used, in words, and whether too little is left to trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.video.decode import Video
from data_tools.video.sound import Sound

ENOUGH = 0.9  # share of the pictures, and of the sound, that an answer has to rest on

_EARLY = 12  # pictures: encoders' priming takes one or two
_PICTURES, _SOUND, _RECORDING = "pictures", "sound", "recording"
_CLIPPED = 0.01  # share of the sound; loud music that was encoded passes full scale now and then


@dataclass(frozen=True)
class _Loss:
    """Something that was met, or promised, and not used."""

    what: str  # of pictures, sound or the whole recording
    share: float  # of it
    words: str


def notes(video: Video, sound: Sound) -> list[str]:
    """What happened to a video, read to its end, that its user should know."""
    return [*_circumstances(video, sound), *(loss.words for loss in _losses(video, sound))]


def doubts(video: Video, sound: Sound) -> list[str]:
    """Why an answer cannot be trusted that rests on what could be used; empty if it can.

    A face that comes and goes, sound that begins late and pictures that stand still are no reason:
    what was found of them is whole.
    """
    reasons = []
    losses = list(_losses(video, sound))
    for what in (_RECORDING, _PICTURES, _SOUND):
        own = [loss for loss in losses if loss.what == what]
        left = max(0.0, 1 - sum(loss.share for loss in own))
        if left < ENOUGH:
            words = "; ".join(loss.words for loss in own)
            # rounded down, so that what is below the bound does not read as the bound
            reasons.append(f"only {int(100 * left)} % of the {what} could be used: {words}")
    return reasons


def _circumstances(video: Video, sound: Sound) -> Iterator[str]:
    if video.choice:
        yield video.choice
    if video.hdr:
        yield video.hdr
    if video.interlaced:
        yield f"{video.interlaced} interlaced pictures were deinterlaced"
    for count in sound.centres():
        yield f"of {count} channels the centre alone is used, where speech is"
    for name, number in sound.stand_ins().items():
        which = f"{number} ({name})" if name != "NONE" else str(number)
        yield f"the channels cancel each other when mixed, so channel {which} alone is used"
    if video.restarts:
        when = ", ".join(f"{seconds:.1f} s" for seconds in video.restarts[:5])
        more = ", ..." if len(video.restarts) > 5 else ""
        yield f"the clock restarts at {when}{more}; what follows is read as one more shot"
    first, end = _heard(video, sound)
    if first > 1:
        yield f"sound begins {first / FPS:.2f} s after the picture"
    if first < -_EARLY:
        yield f"sound begins {-first / FPS:.2f} s before the first picture that can be shown"
    if end < video.end - 1:
        yield f"sound ends {(video.end - end) / FPS:.2f} s before the picture"
    still = sum(last - begin for begin, last in video.stills)
    if still:
        yield f"the picture stands still for {still / FPS:.1f} s, which are left out"


def _losses(video: Video, sound: Sound) -> Iterator[_Loss]:
    first, end = _heard(video, sound)
    read = (max(video.end, end) - min(0, first)) / FPS
    if video.unread > 0:
        words = f"the file is damaged, and {100 * video.unread:.0f} % of it could not be read"
        yield _Loss(_RECORDING, video.unread, words)
    elif video.promised and read < ENOUGH * video.promised:
        yield _Loss(
            _RECORDING,
            1 - read / video.promised,
            f"the file says that it lasts {video.promised:.1f} s, but ends after {read:.1f} s",
        )
    unseen = video.undecodable - video.unheard
    pictures = max(1, video.decoded + unseen)
    if unseen:
        yield _Loss(_PICTURES, unseen / pictures, f"{unseen} damaged packets skipped")
    if video.backwards:
        yield _Loss(
            _PICTURES,
            video.backwards / pictures,
            f"{video.backwards} pictures left out whose time runs backwards",
        )
    # A packet that could not be decoded is taken to be as long as the others. The gap that it
    # leaves is filled, so it is not counted twice.
    each = sound.length / max(1, video.packets_heard)
    whole = max(1.0, sound.length + sound.cut)
    if video.unheard:
        missing = max(0.0, video.unheard * each - sound.filled)
        yield _Loss(
            _SOUND, missing / (whole + missing), f"{video.unheard} damaged packets of sound skipped"
        )
    for samples, words in (
        (sound.filled, "missing in the sound are silence"),
        (sound.cut, "of doubled sound left out"),
        (sound.not_finite, "of the sound are no numbers (NaN or infinite), taken as silence"),
    ):
        if samples:
            seconds = samples / SAMPLE_RATE
            length = f"{seconds:.2f} s" if seconds >= 0.01 else "less than 0.01 s"
            yield _Loss(_SOUND, samples / whole, f"{length} {words}")
    if sound.clipped > _CLIPPED * whole:
        share = sound.clipped / whole
        yield _Loss(
            _SOUND, share, f"{100 * share:.0f} % of the sound is louder than full scale and clipped"
        )


def _heard(video: Video, sound: Sound) -> tuple[int, int]:
    assert video.origin is not None
    return sound.span(video.origin)
