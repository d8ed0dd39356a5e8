"""Sound that lies in a file of its own beside a silent video: `x.wav` beside `x.mp4`."""

from __future__ import annotations

from pathlib import Path

SOUND_SUFFIXES = (".wav", ".flac", ".m4a", ".mp3", ".aac", ".ogg", ".opus")


def sound_beside(path: Path) -> Path | None:
    """The file with the sound of a video; None: there is none.

    It is called as the video, or, as in MEAD, lies in the folder audio/ beside the video's
    video/<view>/.
    """
    stems = [path.with_suffix("")]
    parts = path.parts
    places = [place for place, part in enumerate(parts[:-2]) if part == "video"]
    if places:
        last = places[-1]
        stems.append(Path(*parts[:last], "audio", *parts[last + 2 :]).with_suffix(""))
    for stem in stems:
        for suffix in SOUND_SUFFIXES:
            file = stem.with_name(stem.name + suffix)
            if file.is_file() and file != path:
                return file
    return None
