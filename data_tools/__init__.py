"""Video and clips -> shards. Knows files, faces, audio and tar; imports nothing of `trainer`.

    from data_tools import PackOptions, open_shards, pack, verify

    pack(Path("clips"), Path("shards"), PackOptions(size=96))
    assert not verify(Path("shards"))

Each name is loaded when it is first used: importing this package alone loads no library. Modules
are named otherwise than what is found here (`data_tools.packing` holds `pack`), so that a name
always means one thing.
"""

from typing import TYPE_CHECKING

from data_tools.lazy import load_on_use
from data_tools.start import start_program

if TYPE_CHECKING:
    from data_tools.clip_data import ClipData, load_clip
    from data_tools.clips import SPLITS, Clip, ClipError, find_clips
    from data_tools.errors import MissingPackage, UsageError, UserError
    from data_tools.keep import read_keep, write_keep
    from data_tools.manifest import ClipRecord, Manifest, ShardError, read_manifest
    from data_tools.packing import pack
    from data_tools.plan import PackOptions
    from data_tools.shards import Shard, open_shards
    from data_tools.synth.clips import synthesize
    from data_tools.verifying import verify

    __version__: str

__all__ = [
    "SPLITS",
    "Clip",
    "ClipData",
    "ClipError",
    "ClipRecord",
    "Manifest",
    "MissingPackage",
    "PackOptions",
    "Shard",
    "ShardError",
    "UsageError",
    "UserError",
    "__version__",
    "find_clips",
    "load_clip",
    "open_shards",
    "pack",
    "read_keep",
    "read_manifest",
    "synthesize",
    "verify",
    "write_keep",
]

_NAMES = {
    "clip_data": ("ClipData", "load_clip"),
    "clips": ("SPLITS", "Clip", "ClipError", "find_clips"),
    "errors": ("MissingPackage", "UsageError", "UserError"),
    "keep": ("read_keep", "write_keep"),
    "manifest": ("ClipRecord", "Manifest", "ShardError", "read_manifest"),
    "packing": ("pack",),
    "plan": ("PackOptions",),
    "shards": ("Shard", "open_shards"),
    "synth.clips": ("synthesize",),
    "verifying": ("verify",),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}

start_program()


if not TYPE_CHECKING:  # or a name misspelt would pass for one of any type
    __getattr__ = load_on_use(globals(), _MODULE_OF)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
