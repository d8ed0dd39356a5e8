"""Whether the pictures of the shards are the crops that the weights were, or will be, taken for."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from data_tools.errors import UserError
from data_tools.manifest import read_manifest
from data_tools.records import RecordError
from trainer.config.settings import Config
from trainer.model.weights import Crop, find_weights, read_crop


def crop_notes(config: Config) -> Iterator[str]:
    """A line for each set of shards whose pictures are other crops than is expected of them.

    A network can be trained on any crop; but `syncnet` takes the face for the preset syncnet and
    the mouth for the others, and weights to start from know one crop alone, which they may say.
    Shards of before 2026, and of clips made otherwise, do not say what they hold; nothing is said
    of them.
    """
    taken = "face" if config.model.name == "syncnet" else "mouth"  # by syncnet
    told = _crop_of_init(config)
    learnt = told or taken
    for folder in config.data.folders:
        try:
            crop = read_manifest(folder).crop
        except (RecordError, OSError):
            continue  # what reads the shards says what is wrong with them
        if crop is None:
            continue
        if config.model.init is not None and crop != learnt:
            knows = "knows" if told else "is taken to know"
            yield (
                f"note: {folder} holds {crop} crops; model.init {knows} {learnt} crops, "
                "and begins almost anew on others"
            )
        elif crop != taken:
            remedy = "--prepared" if crop == "whole" else f"--crop {crop}"
            yield (
                f"note: {folder} holds {crop} crops, and syncnet takes {taken} crops for "
                f"{config.model.name}: measure with {remedy}"
            )


def crop_of(folders: Iterable[Path]) -> Crop | None:
    """The crop that all of the shards hold; None: they differ, or one does not say.

    Raises:
        ShardError: a manifest is missing or damaged.
    """
    crops = {read_manifest(folder).crop for folder in folders}
    return crops.pop() if len(crops) == 1 else None


def measured_notes(weights: Path, folders: Iterable[Path]) -> Iterator[str]:
    """A line for each set of shards with other crops than these weights were trained on.

    Nothing is said where the weights or the shards do not say.

    Raises:
        WeightsError: the weights are missing or damaged.
        ShardError: a manifest is missing or damaged.
    """
    learnt = read_crop(weights)
    for folder in folders if learnt else ():
        crop = read_manifest(folder).crop
        if crop not in (None, learnt):
            yield (
                f"note: {folder} holds {crop} crops; {weights} was trained on {learnt} crops, "
                "and tells little of others"
            )


def _crop_of_init(config: Config) -> Crop | None:
    """The crop that the weights to start from were trained on, if they say so."""
    if config.model.init is None:
        return None
    try:
        return read_crop(find_weights(config.model.init))
    except UserError:
        return None  # what loads the weights says what is wrong with them
