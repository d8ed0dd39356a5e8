"""Which clips of shards are good enough, by what `prepare` measured and how they were scored.

The shards stay as they are: the outcome is a `keep.csv`. What is known of a clip stands in the
report beside the shards; whether it is in sync, in the keep.csv of `trainer.refine --score-only`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from data_tools.atomic import atomic_path
from data_tools.keep import KEEP, POOR, Row
from data_tools.manifest import ClipRecord, ShardError, read_manifest, read_stats
from data_tools.mfcc import FPS
from data_tools.mirror import Mirror
from data_tools.records import RecordError, number, read_table
from data_tools.remote import RemoteMissing

_Measure = Annotated[float, Meta(ge=0, le=1e9)]
_Share = Annotated[float, Meta(ge=0, le=1)]
NOT_SCORED = "not scored"  # among what removes clips: scores are given, but none of this one
_NEEDED = ("video", "level", "item", "kept")  # columns of report.csv

# As LatentSync's StableSyncNet filters its training set: clips of 5 to 10 s, sharp, in sync. The
# paper's measure of sharpness is a network's; ours is the Laplacian's variance, blurred below 20.
RECIPES: dict[str, dict[str, float]] = {
    "stablesyncnet": {"min_seconds": 5.0, "max_seconds": 10.0, "min_sharpness": 20.0},
}


@dataclass(frozen=True)
class QualityOptions:
    """What a clip must have. 0 asks for nothing.

    Attributes:
        min_seconds: Shorter clips are left out.
        max_seconds: Longer clips are left out (0: none).
        min_face: Longer side of the face in the video, pixels.
        min_confidence: The face detector's, 0..1.
        min_sharpness: Variance of the crop's Laplacian; below 20 is blurred.
        min_speech: Share of the sound that is speech, 0..1.
        min_score: The score in --scores, as trainer.refine gives it.
    """

    min_seconds: _Measure = 0.0
    max_seconds: _Measure = 0.0
    min_face: _Measure = 0.0
    min_confidence: _Share = 0.0
    min_sharpness: _Measure = 0.0
    min_speech: _Share = 0.0
    min_score: _Measure = 0.0


def fetch_reports(mirror: Mirror) -> None:
    """Have what `read_measures` and `judge` read of a remote set in its copy: no tar is fetched.

    Raises:
        RemoteError, ShardError: it cannot be had, or is not what the manifest says.
    """
    mirror.fetch_small(mirror.listed)
    for name in mirror.remote.names("report*.csv"):
        try:
            content = mirror.remote.read(name)
        except RemoteMissing:  # `read_measures` says so
            continue
        with atomic_path(mirror.folder / name) as partial:
            partial.write_bytes(content)


Measures = Mapping[str, float]  # of a clip, by the report's column


def read_measures(shards: Path) -> dict[str, Measures]:
    """What the report beside the shards says of each clip, by its name "<video>/<clip>".

    Raises:
        ShardError: there is no report: the shards were not made by `prepare --shards`.
        RecordError: one is damaged, or of something else.
    """
    reports = sorted(shards.glob("report*.csv"))
    if not reports:
        raise ShardError(f"{shards} holds no report.csv: `prepare --shards` writes it")
    found: dict[str, Measures] = {}
    for report in reports:
        columns: list[str] = []
        for where, fields in read_table(report, most=None):
            if not columns:
                columns = fields
                if missing := [name for name in _NEEDED if name not in columns]:
                    raise RecordError(
                        f"{where}: no report of `prepare`: its head lacks {', '.join(missing)}"
                    )
                continue
            row = dict(zip(columns, fields, strict=True))
            if row["level"] != "clip" or row["kept"] != "True":
                continue
            known = {name: number(text) for name, text in row.items() if text}
            measures = {name: value for name, value in known.items() if value is not None}
            found[f"{row['video']}/{row['item']}"] = measures
    return found


def judge(
    shards: Path, options: QualityOptions, scores: Mapping[str, Row] | None = None
) -> tuple[dict[str, Row], dict[str, Counter[str]]]:
    """A row of keep.csv for each clip, and how many clips of each split a rule removes.

    A clip that several rules remove is counted by the first, in the order of the options. Clips
    that `scores` rejects stay rejected, for its reason; where scores are given, a clip without a
    row there (of another split than was scored) has none in the outcome: it is NOT_SCORED.

    Raises:
        ShardError: the shards are damaged, or have no report, or it does not say of a clip how
            much of it is speech, though that is asked for.
        RecordError: as `read_measures`.
    """
    measures = read_measures(shards)
    if options.min_speech:
        _check_speech(shards, measures)
    rows: dict[str, Row] = {}
    removed: dict[str, Counter[str]] = {}
    for split, record in _clips(shards):
        counts = removed.setdefault(split, Counter())
        own = scores.get(record.key) if scores is not None else Row(KEEP)
        if own is None:
            counts[NOT_SCORED] += 1
            continue
        if own.used:
            rule, words = fault(record, measures.get(record.clip, {}), own.score, options)
            if rule:
                own = replace(own, verdict=POOR, reason=words)
        else:
            rule = own.verdict
        counts[rule or KEEP] += 1
        rows[record.key] = own
    return rows, removed


def fault(
    record: ClipRecord, measures: Measures, score: float | None, options: QualityOptions
) -> tuple[str, str]:
    """Why a clip is not good enough: the rule, and in words; or two empty ones.

    What was not measured (of pictures that were taken whole, the face) is no reason, but a score
    that is asked for and not there is: nothing says that the clip is in sync.
    """
    seconds = record.frames / FPS
    if options.max_seconds and seconds > options.max_seconds:
        return "max_seconds", f"{seconds:g} s > {options.max_seconds:g}"
    for rule, value in (
        ("min_seconds", seconds),
        ("min_face", measures.get("face_size")),
        ("min_confidence", measures.get("confidence")),
        ("min_sharpness", measures.get("sharpness")),
        ("min_speech", measures.get("speech")),
        ("min_score", score),
    ):
        least = getattr(options, rule)
        if least and value is not None and value < least:
            return rule, f"{rule.removeprefix('min_')} {value:g} < {least:g}"
    if options.min_score and score is None:
        return "min_score", "no score"
    return "", ""


def _check_speech(shards: Path, measures: Mapping[str, Measures]) -> None:
    """Refuse to judge by the share of speech where it was not measured: all clips would pass."""
    without = sum("speech" not in known for known in measures.values())
    if without:
        raise ShardError(
            f"the report of {shards} has no share of speech for {without:,} of {len(measures):,} "
            "clips (--no-speech leaves it out); leave --min-speech away, or prepare the videos "
            "anew without --no-speech"
        )


def _clips(shards: Path) -> Iterator[tuple[str, ClipRecord]]:
    for entry in read_manifest(shards).shards:
        for record in read_stats(shards / entry.name).clips:
            yield entry.split, record
