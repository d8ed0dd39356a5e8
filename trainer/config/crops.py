"""Whether the pictures of the shards are the crops that the weights were, or will be, taken for."""

from collections.abc import Iterator
from pathlib import Path

from data_tools.manifest import read_manifest
from data_tools.records import RecordError
from trainer.config.settings import Config, several


def crop_notes(config: Config) -> Iterator[str]:
    """A line for each set of shards whose pictures are other crops than is expected of them.

    A network can be trained on any crop; but `syncnet` takes the face for the preset syncnet and
    the mouth for the others, and weights to start from know one crop alone. Shards of before 2026,
    and of clips made otherwise, do not say what they hold; nothing is said of them.
    """
    expected = "face" if config.model.name == "syncnet" else "mouth"
    for folder in several(config.data.shards):
        try:
            crop = read_manifest(Path(folder)).crop
        except (RecordError, OSError):
            continue  # what reads the shards says what is wrong with them
        if crop is None or crop == expected:
            continue
        if config.model.init is not None:
            yield (
                f"note: {folder} holds {crop} crops; model.init is taken to know {expected} crops, "
                "and begins almost anew on others"
            )
        else:
            remedy = "--prepared" if crop == "whole" else f"--crop {crop}"
            yield (
                f"note: {folder} holds {crop} crops, and syncnet takes {expected} crops for "
                f"{config.model.name}: measure with {remedy}"
            )
