"""Shards -> batches -> model -> checkpoints -> offsets. Takes from `data_tools` only what it knows
of videos, shards and sound.

    from trainer import measure_video
    for track in measure_video("talk.mp4"):
        print(track.offset_frames, track.meaning, track.trusted)

Names are loaded when they are first used: importing this package is instant and loads no torch.
"""

from typing import TYPE_CHECKING

from data_tools.lazy import load_on_use
from data_tools.start import start_program

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

start_program()


if not TYPE_CHECKING:  # a type checker is to find names that are misspelt
    __getattr__ = load_on_use(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
