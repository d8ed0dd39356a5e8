"""What a run of `prepare` says at its end: what was kept, what was not, and what to do about it."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from data_tools.report import Tally

_REMEDIES = {
    "no audio stream": "SyncNet needs picture and sound in one file; give videos with sound",
    "no video stream": "give videos, not sound files",
    "no face": "is a face to be seen? Small ones need a larger --detect-size (default 320)",
    "track too short": "faces are seen too briefly; lower --min-frames, or give longer shots",
    "face too small": "lower --min-face, or give videos of a higher resolution",
    "face uncertain": "lower --min-confidence after a look at the faces with --montage",
    "not a readable video": "can another player open it? It may be damaged or no video",
    "no sound": "the sound lies outside of the picture; see the report",
    "name taken": "rename one of the two",
    "same file": "give each video once",
    "unknown codec": "convert it with a program that plays it, or leave it out",
    "no such audio stream": "leave --audio-stream away, or prepare these videos apart",
    "stalled": "if the disk is that slow, raise --stall-limit",
    "process died": "not enough memory? try fewer --workers",
    "box outside": "--box is in pixels of the picture; give one that lies in all of them",
    "blurred": "lower --min-sharpness",
    "little speech": "lower --min-speech",
}


def summarise(counted: Tally, console: Console) -> None:
    """Print what was kept, and a table of what was not, by reason."""
    console.print(
        f"{counted.videos} videos, {duration(counted.seconds)}: "
        f"{counted.clips} clips, {duration(counted.clip_seconds)}"
    )
    counts = counted.reasons()
    if counts:
        table = Table(title="not kept", title_justify="left")
        for heading in ("level", "reason", "count", "for example"):
            table.add_column(heading, justify="right" if heading == "count" else "left")
        for level, reasons in counts.items():
            for reason, count in reasons.items():
                example = counted.examples[level, reason]
                words = " ".join(filter(None, (example.video, example.item)))
                table.add_row(level, reason, str(count), f"{words}: {example.detail}")
        console.print(table)


def remedy(counted: Tally) -> str:
    """Why no clip was kept, most of all, and what to do about it."""
    own = [level for level in ("track", "clip") if level in counted.counts]
    reasons: Counter[str] = Counter()
    for level in own or counted.counts:
        reasons += counted.counts[level]
    del reasons[""]
    if not reasons:
        return "see the report"
    reason = reasons.most_common(1)[0][0]
    levels = (level for level in own or counted.counts if (level, reason) in counted.examples)
    example = counted.examples[next(levels), reason].detail
    return f"most often {reason} ({example}); {_REMEDIES.get(reason, 'see the report')}"


def duration(seconds: float) -> str:
    """A length of time in words: "41.0 s", "12 min 3 s", "5 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
