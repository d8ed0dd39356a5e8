"""Which streams of a file are the picture and the sound, and what the file says of them (PyAV)."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import av

from data_tools.names import shown
from data_tools.video.clock import is_cover
from data_tools.video.sound import VideoError

NO_SUCH_STREAM = "no such audio stream"
WantedSound: TypeAlias = int | str | None  # a number from 0, a language, or the usual one

# Sound that is not what the lips say, or not it alone: commentaries, descriptions, dubbing.
_ASIDE = (
    av.stream.Disposition.comment
    | av.stream.Disposition.hearing_impaired
    | av.stream.Disposition.visual_impaired
    | av.stream.Disposition.dub
)


def choose_picture(container: Any, silent: bool = False) -> Any:
    """The stream of moving pictures.

    silent: the file need not have sound.

    Raises:
        VideoError: there is none, or no sound at all.
    """
    pictures = [stream for stream in container.streams.video if not is_cover(stream)]
    if not pictures or not (silent or container.streams.audio):
        missing = "audio" if pictures else "video"
        raise VideoError(f"no {missing} stream", f"the file has no {missing} stream")
    best = container.streams.best("video")
    return best if best in pictures else pictures[0]


def choose_sound(container: Any, picture: Any, wanted: WantedSound) -> Any:
    """The audio stream to hear: the one wanted, or the one that is meant for everybody.

    wanted: its number, or a language ("en", "eng", "en-GB"): of several streams of that language
        the one that is meant for everybody.

    Raises:
        VideoError: there is no such stream.
    """
    streams = list(container.streams.audio)
    if wanted is not None:
        fitting = streams[wanted:][:1] if isinstance(wanted, int) and wanted >= 0 else []
        if isinstance(wanted, str):
            language = language_of(wanted)
            fitting = [
                stream
                for stream in streams
                if language and language_of(stream.metadata.get("language", "")) == language
            ]
        if not fitting:
            known = "; ".join(describe(container, stream) for stream in streams)
            raise VideoError(NO_SUCH_STREAM, f"--audio-stream {wanted} is none of {known}")
        streams = fitting
    best = container.streams.best("audio", related=picture)
    if best not in streams:
        best = streams[0]
    plain = [stream for stream in streams if not stream.disposition & _ASIDE]
    if best in plain or not plain:
        return best
    return next((s for s in plain if s.disposition & av.stream.Disposition.default), plain[0])


def language_of(tag: str) -> str:
    """One name for all tags of a language: "en" for "eng", "en" and "en-GB"; "" for none."""
    import langcodes  # takes longer than opening a video, and few ask

    try:
        return langcodes.Language.get(tag).language or ""
    except ValueError:
        return ""


def _layout(layout: Any) -> str:
    return "mono" if layout.nb_channels == 1 else str(layout.name)


# Their durations count from 0 on, wherever the streams begin.
_FROM_ZERO = ("matroska,webm", "nut", "asf")


def promised_seconds(container: Any, picture: Any, sound: Any) -> float:
    """How many seconds a file says that picture and sound last together; 0 if it does not say."""
    form = container.format.name
    if form in ("mpegts", "mpeg"):
        return 0.0  # measured, by what there is, and wrongly where the clock restarts
    known = [seconds for stream in (picture, sound) if (seconds := _length(stream))]
    # That of the container is also that of streams that are not used.
    promised = max(known) if known else (container.duration or 0) / av.time_base
    if form in _FROM_ZERO:
        promised -= max(0, container.start_time or 0) / av.time_base
    if form == "avi" and picture.average_rate:
        # Of a file without its end the duration is estimated; the header still counts pictures.
        promised = max(promised, float(picture.frames / picture.average_rate))
    return max(0.0, promised)


def _length(stream: Any) -> float | None:
    """Seconds that a stream is said to last."""
    tag = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:  # Matroska's, and what was made from it
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    return None if stream.duration is None else float(stream.duration * stream.time_base)


def describe(container: Any, stream: Any) -> str:
    """Number, language, title, channels and purpose of an audio stream."""
    number = container.streams.audio.index(stream)
    title = shown(stream.metadata.get("title", ""))[:60]
    aside = stream.disposition & _ASIDE
    about = [
        shown(stream.metadata.get("language", ""))[:20],
        title and f'"{title}"',
        "" if stream.codec_context is None else _layout(stream.layout),
        aside.name if aside else "",
    ]
    return " ".join(filter(None, [str(number), f"({', '.join(filter(None, about))})"]))
