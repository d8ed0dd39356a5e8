"""Shards -> batches -> model -> checkpoints -> offsets. Takes from `data_tools` only what it knows
of videos, shards and sound.

    from trainer import measure_video
    for track in measure_video("talk.mp4"):
        print(track.offset_frames, track.meaning, track.trusted)

Names are loaded when they are first used: importing this package is instant and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from data_tools.interrupt import watch_start

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset
    from trainer.data.loader import Loader
    from trainer.data.sampler import TrainSampler
    from trainer.score.options import MeasureOptions
    from trainer.score.trust import TrackResult
    from trainer.score.video import measure_video

    __version__: str

__all__ = [
    "Dataset",
    "Loader",
    "MeasureOptions",
    "TrackResult",
    "TrainSampler",
    "__version__",
    "measure_video",
]

_HOMES = {
    "Dataset": "trainer.data.dataset",
    "Loader": "trainer.data.loader",
    "MeasureOptions": "trainer.score.options",
    "TrackResult": "trainer.score.trust",
    "TrainSampler": "trainer.data.sampler",
    "measure_video": "trainer.score.video",
}

watch_start()


if not TYPE_CHECKING:  # a type checker is to find names that are misspelt

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value = _version()
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("syncnet-trainer")
    except PackageNotFoundError:  # a checkout that nobody installed
        return "0+unknown"
