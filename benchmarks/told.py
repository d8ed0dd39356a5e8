"""What is told of changes that were planted in takes, counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.mended import Mends
from data_tools.mfcc import FPS
from trainer.score.over_time import jumps
from trainer.score.trust import TrackResult

PPM = (1000, 2000, 5000, 8000)  # 1000: 23.976 against 24 frames a second
WITHIN_SECONDS, NEAR_SECONDS, WITHIN_FRAMES, WITHIN_DRIFT = 0.5, 1.0, 1.5, 0.1


@dataclass(frozen=True)
class Drift:
    """A drift that was planted in a take.

    Attributes:
        take: its name.
        ppm: by how much the sound's clock runs wrong.
        found: what was told of it; 0: nothing.
        seconds: length of the take.
    """

    take: str
    ppm: int
    found: float
    seconds: float

    @property
    def truth(self) -> float:
        """Millionths of the picture's time by which the offset grows; `ppm` are of the sound's."""
        return self.ppm / (1 + self.ppm / 1e6)


@dataclass
class Tally:
    """What was found in one group.

    Attributes:
        planted, hits, found: jumps; all changes said of those tracks are `found`.
        near: jumps of the right size within a second.
        paused: jumps of the right size within half a second of the pause that they lie in, if they
            lie in one: while nobody speaks an offset has no meaning, and so its change no moment.
        ranges: of jumps of the right size within a second: whether what is told of when they surely
            are holds the moment, and how many seconds that is wide.
        moments: seconds by which hits are off.
        constant, changed: tracks without a change, and those said to have one.
        drifts: that were planted.
        mends: what --fix made of jumps, drifts and both together.
    """

    planted: int = 0
    hits: int = 0
    near: int = 0
    paused: int = 0
    found: int = 0
    ranges: list[tuple[bool, float]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    constant: int = 0
    changed: int = 0
    drifts: list[Drift] = field(default_factory=list)
    mends: dict[str, Mends] = field(default_factory=dict)

    def jump(
        self,
        track: TrackResult,
        moment: float,
        frames: int,
        silent: tuple[float, float] | None = None,
    ) -> None:
        """Count what was said of a track with one jump.

        Args:
            silent: between which seconds nobody speaks around it; None: somebody does.
        """
        said = [
            jump
            for jump in jumps(track)
            if abs(jump.to_frames - jump.from_frames - frames) <= WITHIN_FRAMES
        ]
        begin, end = silent or (moment, moment)
        self.paused += any(
            begin - WITHIN_SECONDS <= jump.seconds <= end + WITHIN_SECONDS for jump in said
        )
        for jump in sorted(said, key=lambda jump: abs(jump.seconds - moment))[:1]:
            if abs(jump.seconds - moment) <= NEAR_SECONDS:
                earliest, latest = jump.between
                holds = earliest - 0.5 / FPS <= moment <= latest + 0.5 / FPS
                self.ranges.append((holds, latest - earliest))
        off = [abs(jump.seconds - moment) for jump in said]
        off = [one for one in off if one <= NEAR_SECONDS]
        self.planted += 1
        self.near += bool(off)
        off = [one for one in off if one <= WITHIN_SECONDS]
        self.hits += bool(off)
        self.moments += [min(off)] if off else []
        self.found += len(jumps(track)) + (told_ppm(track) != 0)

    def none(self, track: TrackResult) -> None:
        """Count what was said of a track without a change."""
        self.constant += 1
        self.changed += bool(jumps(track)) or told_ppm(track) != 0

    def figures(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "jumps": self.planted,
            "recall": _share(self.hits, self.planted),
            "within_a_second": _share(self.near, self.planted),
            "beside_the_pause": _share(self.paused, self.planted),
            "precision_beside_the_pause": _share(self.paused, self.found),
            "precision": _share(self.hits, self.found),
            "in_the_range_told": _share(sum(holds for holds, _ in self.ranges), len(self.ranges)),
            "median_range_seconds": (
                _rounded(np.median([wide for _, wide in self.ranges])) if self.ranges else None
            ),
            "median_seconds_off": _rounded(np.median(self.moments)) if self.moments else None,
            "constant": self.constant,
            "false_changes": _share(self.changed, self.constant),
            "drifts": {
                str(ppm): _drift_figures(
                    [one for one in self.drifts if abs(one.ppm) == ppm], self.drifts
                )
                for ppm in PPM
                if any(abs(one.ppm) == ppm for one in self.drifts)
            },
            "mended": {kind: mends.figures() for kind, mends in self.mends.items()},
        }


def told_ppm(track: TrackResult) -> float:
    """The drift that is told of a track, ppm; 0: none."""
    path = track.score.path
    assert path is not None
    return float(path.drift_ppm)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def _drift_figures(drifts: Sequence[Drift], planted: Sequence[Drift]) -> dict[str, Any]:
    """Of drifts of one rate.

    planted: of all rates, by which it is known how the takes drift by themselves.
    """
    off = [abs(drift.found / drift.truth - 1) for drift in drifts]
    own = [_own_ppm(drift, planted) for drift in drifts]
    beside = [
        abs((drift.found - ppm) / drift.truth - 1) if drift.found else 1.0
        for drift, ppm in zip(drifts, own, strict=True)
    ]
    return {
        "tracks": len(drifts),
        "within_a_tenth": _share(sum(one <= WITHIN_DRIFT for one in off), len(drifts)),
        "within_a_tenth_beside_own": _share(
            sum(one <= WITHIN_DRIFT for one in beside), len(drifts)
        ),
        "not_told": sum(drift.found == 0 for drift in drifts),
        "median_off": _rounded(np.median(off)),
        "median_off_beside_own": _rounded(np.median(beside)),
        "own_ppm": [round(ppm) for ppm in own],
        "found_ppm": [[drift.ppm, round(drift.found), round(drift.seconds, 1)] for drift in drifts],
    }


def _own_ppm(drift: Drift, planted: Sequence[Drift]) -> float:
    """How a take drifts by itself, by what was found of the other drifts planted in it."""
    others = [
        one.found - one.truth
        for one in planted
        if one.take == drift.take and one.ppm != drift.ppm and one.found
    ]
    return float(np.mean(others)) if others else 0.0
