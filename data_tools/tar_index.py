"""The members of a shard's tar, and the index of them that DALI reads (v1.2, as wds2idx writes)."""

import errno
import tarfile
from pathlib import Path
from typing import NamedTuple

from data_tools.manifest import ShardError

BLOCK = 512  # of a tar: a member's header, and what its content is filled up to
NPY_HEADER = 128  # bytes np.save puts before a (T, 13) float32 array


class Member(NamedTuple):
    """A tar member as the v1.2 index lists it."""

    extension: str
    offset: int
    size: int
    name: str


def index_tar(tar: Path) -> list[list[Member]]:
    """The members of a tar by sample, offsets being those of the data, as wds2idx lists them.

    Raises:
        ShardError: the tar is truncated or no tar.
    """
    samples: list[list[Member]] = []
    last = None
    try:
        length = tar.stat().st_size
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                if (
                    not 0 <= info.size <= length - info.offset_data
                ):  # tarfile goes back and for ever
                    raise ShardError(f"{tar} is damaged: {info.name!r} says {info.size} bytes")
                if not info.isreg():
                    continue
                key, _, extension = info.name.partition(".")
                if key != last:
                    samples.append([])
                    last = key
                samples[-1].append(Member(extension, info.offset_data, info.size, info.name))
    except (ShardError, FileNotFoundError):
        raise
    except Exception as error:  # tarfile meets damage with errors of many kinds
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ShardError(f"{tar} cannot be read as a tar: {error}") from None
    return samples


def format_idx(samples: list[list[Member]]) -> str:
    """The text of a v1.2 index."""
    lines = [f"v1.2 {len(samples)}"]
    lines += [" ".join(f"{m.extension} {m.offset} {m.size} {m.name}" for m in s) for s in samples]
    return "\n".join(lines) + "\n"
