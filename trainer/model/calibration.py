"""How likely an offset is right, as a file of weights says it: measured on videos held out.

Version 2 is a logistic regression over what is known of an answer, for one way of scoring:

    p = sigmoid(sum of coefficient x term)
    terms: 1, ln clearness, ln(windows / 50), ln null_z

Files of version 1, which states no version, hold a rising curve over the clearness alone.
"""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.records import RecordError, decode_record

Mode: TypeAlias = Literal["centred", "masked", "parity"]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]

VERSION = 2
TERMS = ("one", "ln_clearness", "ln_length", "ln_null_z")
MIN_PROBABILITY = 0.8  # of version 1: wrong once in five is too often to mend by
MIN_WINDOWS = 21  # a second of video; fewer average too little
_LEAST = 0.1  # of clearness and null_z: below that there is nothing to tell
_LENGTH = 50  # windows
_MOST_POINTS = 10_000
_MOST_BINS = 100


@dataclass(frozen=True)
class Evidence:
    """What is known of an answer without knowing the truth.

    Attributes:
        clearness, null_z: of `trainer.score.scoring.Score`; nan counts as nothing to tell.
        windows: how many were scored.
    """

    clearness: float
    null_z: float
    windows: int

    def terms(self, windows: tuple[int, int]) -> NDArray[np.float64]:
        """(len(TERMS),) values of the terms.

        Args:
            windows: fewest and most that were measured. A longer track counts as one of the most:
                its clearness and null_z grow with its length, so that its chance still rises.
        """
        length = min(max(self.windows, windows[0]), windows[1])
        clear, chance = (
            max(value, _LEAST) if math.isfinite(value) else _LEAST
            for value in (self.clearness, self.null_z)
        )
        logarithms = math.log(clear), math.log(length / _LENGTH), math.log(chance)
        return np.array([1.0, *logarithms])


@dataclass(frozen=True)
class Calibration:
    """Version 1: how often offsets are right, by how clear their minimum is, in masked mode.

    Attributes:
        clearness: increasing values of `trainer.score.scoring.Score.clearness`.
        share_right: share 0..1 of the offsets of that clearness within one frame of the truth.
    """

    clearness: tuple[float, ...]
    share_right: tuple[float, ...]

    def __post_init__(self) -> None:
        clearness, share = np.array(self.clearness), np.array(self.share_right)
        if (
            clearness.shape != share.shape
            or not 0 < len(clearness) <= _MOST_POINTS
            or not np.isfinite(clearness).all()
            or not (np.diff(clearness) > 0).all()
            or not ((share >= 0) & (share <= 1)).all()
        ):
            raise ValueError(
                "it needs increasing clearness and as many shares in 0..1, "
                f"{_MOST_POINTS:,} at most"
            )

    @property
    def mode(self) -> Mode:
        """The way of scoring that it was measured for."""
        return "masked"

    @property
    def needed(self) -> float:
        """The chance from which on an answer is trusted."""
        return MIN_PROBABILITY

    @property
    def least_windows(self) -> int:
        """Windows below which none is trusted."""
        return MIN_WINDOWS

    def probability(self, clearness: float) -> float:
        """Chance that an offset of this clearness is right: between the points, straight lines."""
        return float(np.interp(clearness, self.clearness, self.share_right))

    def chance(self, evidence: Evidence) -> float:
        """Chance 0..1 that an answer is right within a frame."""
        return self.probability(evidence.clearness)

    def as_dict(self) -> dict[str, Any]:
        """As `decode_calibration` reads it."""
        return {"clearness": list(self.clearness), "share_right": list(self.share_right)}


@dataclass(frozen=True)
class Reliability:
    """Answers of about one stated chance, each judged without its own speaker.

    Attributes:
        stated: their mean chance.
        right: share of them that was right.
        answers: how many.
    """

    stated: Share
    right: Share
    answers: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class LogisticCalibration:
    """Version 2: a logistic regression, for one way of scoring.

    Attributes:
        mode: of scoring.
        coefficients: one for each of TERMS.
        windows: fewest and most windows that it was measured on.
        needed: the chance from which on an answer is trusted.
        least_windows: windows below which none is trusted.
        speakers: how many it was measured on.
        reliability: stated chances beside what came true.
        version: 2.
    """

    mode: Literal["centred", "masked"]
    coefficients: tuple[float, ...]
    windows: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]
    needed: Share
    least_windows: Annotated[int, Meta(ge=1, le=10**6)]
    speakers: Annotated[int, Meta(ge=1)] = 1
    reliability: tuple[Reliability, ...] = ()
    version: Literal[2] = 2

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(TERMS) or not np.isfinite(self.coefficients).all():
            raise ValueError(f"it needs {len(TERMS)} finite coefficients, of {', '.join(TERMS)}")
        if self.windows[0] > self.windows[1]:
            raise ValueError("its fewest windows are more than its most")
        if len(self.reliability) > _MOST_BINS:
            raise ValueError(f"its table of reliability has more than {_MOST_BINS} rows")

    def chance(self, evidence: Evidence) -> float:
        """Chance 0..1 that an answer is right within a frame."""
        return float(sigmoid(evidence.terms(self.windows) @ np.array(self.coefficients)))

    def as_dict(self) -> dict[str, Any]:
        """As `decode_calibration` reads it."""
        return asdict(self)


AnyCalibration: TypeAlias = Calibration | LogisticCalibration


@dataclass(frozen=True)
class _Version:
    version: int = 1


def decode_calibration(text: str) -> AnyCalibration:
    """A calibration from the JSON of `as_dict`.

    Raises:
        RecordError: it is none, or one of a version that is not known.
    """
    data = text.encode()
    version = decode_record(data, _Version, as_python=True).version
    if version not in (1, VERSION):
        raise RecordError(f"it is of version {version}, which this program does not know")
    if version == 1:
        return decode_record(data, Calibration, as_python=True)
    return decode_record(data, LogisticCalibration, as_python=True)


def sigmoid(values: Any) -> Any:
    """1 / (1 + exp(-x)), of any x without overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(values, np.float64) / 2))
