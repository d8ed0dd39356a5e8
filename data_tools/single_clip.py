"""One clip of a shard by itself: of a remote one that is not here, its bytes alone are fetched."""

import io
import tarfile
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from data_tools.manifest import ShardError
from data_tools.mfcc import CEPSTRA
from data_tools.mirror import Mirror
from data_tools.shard_index import COLUMN_BYTES
from data_tools.shard_writer import content_hash
from data_tools.shards import Shard
from data_tools.tar_index import BLOCK, NPY_HEADER


def read_clip(
    shard: Shard, clip: int, frames: Iterable[int]
) -> tuple[list[bytes], NDArray[np.float32]]:
    """JPEGs of some frames of a clip, and its features.

    Args:
        clip: its number in the shard.
        frames: numbers of frames of it.

    Returns:
        the JPEGs, and (T, 13) float32, T being the clip's MFCC columns.

    Raises:
        RemoteError, OSError: the shard cannot be had.
        ShardError: it is not what its manifest says.
    """
    mirror = shard.mirror
    content = None
    if mirror is not None and not mirror.has(shard.tar.name):
        content = _fetched(shard, mirror, clip)
    if content is None:
        return [bytes(shard.jpeg(clip, frame)) for frame in frames], shard.mfcc(clip)
    features = content["mfcc.npy"][NPY_HEADER:]
    return (
        [content[f"{frame:05d}.jpg"] for frame in frames],
        np.frombuffer(features, np.float32).reshape(-1, CEPSTRA),
    )


def _fetched(shard: Shard, mirror: Mirror, clip: int) -> dict[str, bytes] | None:
    """The members of a clip by extension, compared with its hash; None: the server has no ranges.

    Raises:
        RemoteError: they cannot be had.
        ShardError: they are others.
    """
    name, record = shard.tar.name, shard.records[clip]
    # From the header of the features on; the JSON before them says what the statistics say.
    begin = BLOCK * (int(shard.clips["mfcc"][clip]) - 1)
    last = int(shard.first_frame[clip + 1]) - 1
    end = int(shard.offset[last]) + -(-int(shard.size[last]) // BLOCK) * BLOCK
    part = mirror.remote.read_part(name, begin, end)
    if part is None:
        return None
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(part + bytes(2 * BLOCK)), mode="r:") as archive:
            for info in archive:
                member = archive.extractfile(info)
                found[info.name.partition(".")[2]] = member.read() if member else b""
    except Exception:  # tarfile meets damage with errors of many kinds
        found = {}
    columns = len(found.get("mfcc.npy", b"")) - NPY_HEADER
    if content_hash(found.items()) != record.hash or columns != record.columns * COLUMN_BYTES:
        raise ShardError(
            f"{mirror.remote.file(name)} is not what its manifest says (another content of "
            f"{record.key}): a damaged or stale copy; put the set there anew"
        )
    return found
