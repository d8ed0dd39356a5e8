"""What was found about a face track, and whether to trust it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from data_tools.errors import UserError
from data_tools.mfcc import FPS, WINDOW_FRAMES
from data_tools.video.record import FacePlace
from trainer.model.calibration import MIN_PROBABILITY, MIN_WINDOWS, AnyCalibration, Mode
from trainer.score.scoring import REACH, Score, in_words

MIN_SPEECH = 0.1  # share of the sound
# Without a calibration: of random curves of 31 shifts the smallest value rarely lies 3 deviations
# below the others' mean.
MIN_CLEARNESS = 3.0


class SyncError(UserError):
    """A video whose sync cannot be measured or mended; says why in one sentence."""


@dataclass(frozen=True)
class Doubt:
    """A reason not to trust an offset.

    Attributes:
        words: with the figures of this track: "too short (20 frames)".
        reason: the same for every track that it concerns: "too short (fewer than 25 frames)"; by
            default `words`.
        of_one_number: it speaks against one offset for the whole track, not against its path.
    """

    words: str
    reason: str = ""
    of_one_number: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", self.reason or self.words)

    def __str__(self) -> str:
        return self.words


Role: TypeAlias = Literal["speaks", "listens", "not sure"]


@dataclass(frozen=True)
class Speaking:
    """Whether a face speaks while others are on screen (`trainer.score.speaking`).

    Attributes:
        share: of its windows with others on screen, those in which it fits the sound best, 0..1.
        role: what is certain of it, in those.
        together: share of all of its windows that have others on screen, 0..1.
        rank: among the faces of the video that were on screen with others, 1: speaks most.
    """

    share: float
    role: Role
    together: float = 1.0
    rank: int = 0


@dataclass(frozen=True)
class TrackResult:
    """What was found about one face track.

    Attributes:
        video: its file, as it was given.
        track: name of the track; "" for a prepared crop.
        start_seconds, end_seconds: where it lies in the video.
        speech: share of the sound that is speech, 0..1.
        score: its offset and what led to it, curves included.
        probability: chance that the offset is right within a frame, 0..1; None without a
            calibration.
        doubts: why not to trust it; empty if there is no reason.
        notes: what happened to the video that its user should know, in words.
        face: where its face is in one of its pictures; None where the picture is the face.
        speaking: whether it is this face that speaks; None where no other was on screen.
    """

    video: str
    track: str
    start_seconds: float
    end_seconds: float
    speech: float
    score: Score
    probability: float | None = None
    doubts: tuple[Doubt, ...] = ()
    notes: tuple[str, ...] = ()
    face: FacePlace | None = None
    speaking: Speaking | None = None

    @property
    def offset_frames(self) -> int:
        """Frames of 40 ms by which the sound is off; positive: it is early and has to be delayed.

        The best guess where `trusted` is false.
        """
        return self.score.offset

    @property
    def offset_ms(self) -> int:
        """The same in milliseconds."""
        return 1000 * self.score.offset // FPS

    @property
    def meaning(self) -> str:
        """The same in words: "audio is 120 ms early; delay it by 120 ms"."""
        return in_words(self.score.offset)

    @property
    def confidence(self) -> float:
        """Median of the mean distances over all shifts less the smallest (LSE-C)."""
        return self.score.confidence

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the offset."""
        return not self.doubts

    @property
    def followed(self) -> bool:
        """Whether its offset changes, and nothing speaks against how."""
        changes = self.score.path is not None and self.score.path.changes
        return changes and all(doubt.of_one_number for doubt in self.doubts)

    @property
    def windows(self) -> int:
        """Five-frame windows that were scored."""
        return len(self.score.frames_K)


def chance_right(score: Score, calibration: AnyCalibration | None, mode: Mode) -> float | None:
    """Chance that the offset is right within a frame, 0..1; None where that was not measured.

    A calibration holds for its own mode over +-15 frames alone.
    """
    if calibration is None or mode != calibration.mode or score.reach != REACH:
        return None
    return calibration.chance(score.evidence)


def doubts_about(
    score: Score,
    speech: float,
    probability: float | None,
    calibration: AnyCalibration | None = None,
) -> tuple[Doubt, ...]:
    """Why not to trust the offset of a track; empty if there is no reason.

    Args:
        speech: share of the sound that is speech.
        probability: as `chance_right` gives it.
        calibration: that gave it, and says what is needed.
    """
    windows = len(score.frames_K)
    measured = calibration if probability is not None else None
    least = measured.least_windows if measured else MIN_WINDOWS
    least_chance = measured.needed if measured else MIN_PROBABILITY
    doubts = []
    if windows < least:
        doubts.append(
            Doubt(
                f"too short ({windows + WINDOW_FRAMES - 1} frames)",
                f"too short (fewer than {least + WINDOW_FRAMES - 1} frames)",
            )
        )
    if speech < MIN_SPEECH:
        doubts.append(
            Doubt(
                f"hardly any speech ({percent(speech)} of the sound)",
                f"hardly any speech (less than {percent(MIN_SPEECH)} of the sound)",
            )
        )
    if probability is None and score.clearness < MIN_CLEARNESS:
        deviations = int(10 * score.clearness) / 10  # rounded down, as percentages are
        doubts.append(
            Doubt(
                f"no clear minimum ({deviations} deviations, below the {MIN_CLEARNESS:g} needed)",
                f"no clear minimum (fewer than the {MIN_CLEARNESS:g} deviations needed)",
                of_one_number=True,
            )
        )
    if probability is not None and probability < least_chance:
        needed = percent(least_chance)
        doubts.append(
            Doubt(
                f"no clear minimum (chance of being right: {percent(probability)}, below the "
                f"{needed} needed)",
                f"no clear minimum (a chance of being right below the {needed} needed)",
                of_one_number=True,
            )
        )
    if score.path is not None and score.path.changes:
        words = "the offset changes over time, so that no one number holds"
        doubts.append(Doubt(words, of_one_number=True))
    # At the edge the best shift may lie beyond it.
    if abs(score.offset) >= max(1, score.reach - 1):
        words = "the minimum lies at the edge of the search: try a larger --max-shift"
        doubts.append(Doubt(words, of_one_number=True))
    return tuple(doubts)


def percent(share: float) -> str:
    """A share as "79 %", rounded down, so that what is below a bound does not read as the bound."""
    return f"{int(100 * share + 1e-6)} %"


def judge_track(
    video: str,
    track: str,
    span: tuple[float, float],
    speech: float,
    score: Score,
    calibration: AnyCalibration | None,
    mode: Mode,
) -> TrackResult:
    """The result of one track: its score, how likely that is right, and why not to trust it.

    Args:
        span: where it begins and ends, seconds of the video.
        speech: share of its sound that is speech.
        calibration: of the weights.
        mode: in which it was scored.
    """
    probability = chance_right(score, calibration, mode)
    doubts = doubts_about(score, speech, probability, calibration)
    return TrackResult(video, track, *span, speech, score, probability, doubts)
