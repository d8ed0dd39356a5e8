"""The loaders that are compared: each gives the same batches, epoch by epoch, in its own way.

A batch is (frames, mfcc): (B, 5, H, W, C) uint8 RGB or gray and (B, 20, 13) float32, on the CPU or
on the GPU asked for. `LOADERS` says of each what it is and how it was set; peers have the settings
that their documentation recommends for speed. Those with an index take the very samples of ours;
webdataset, DALI's reader and LitData shuffle windows that were fixed when their files were written.

Each loader is a module of this package with a function `open_epochs(source, settings)`, which is
imported when the loader is opened: peers need not be installed.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.sources import PARTS, Source
from data_tools.errors import MissingPackage, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.loaders.batches import Epochs, Settings


@dataclass(frozen=True)
class Kind:
    """A loader that can be opened.

    Attributes:
        what: for the table.
        module: of this package; holds `open_epochs(source, settings, **options)`.
        needs: a package that must be installed.
        options: for `open_epochs`.
    """

    what: str
    module: str
    needs: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Its module, imported with all that it needs."""
        return import_module(f"benchmarks.loaders.{self.module}")

    def missing(self) -> str | None:
        """Why it cannot be opened here; None if it can."""
        if self.needs is None:
            return None
        if find_spec(self.needs.split(".")[0]) is None:
            return f"{self.needs} is not installed: pip install -c constraints.txt -e '.[bench]'"
        reason: str | None = getattr(self.load(), "missing", lambda: None)()
        return reason

    def open(self, source: Source, settings: "Settings") -> AbstractContextManager["Epochs"]:
        """A context that holds `Epochs`."""
        opened: AbstractContextManager[Epochs] = self.load().open_epochs(
            source, settings, **self.options
        )
        return opened


_SMALL = {"persistent": True, "parts": PARTS}
_ENDLESS = _SMALL | {"endless": True, "one_a_core": True}

LOADERS: dict[str, Kind] = {
    "torch-seed": Kind(
        "torch DataLoader as the seed (below) had it: a JPEG a frame, more workers than batches",
        "torch_files",
        options={"persistent": False},
    ),
    "torch-persistent": Kind(
        "the same, persistent_workers=True", "torch_files", options={"persistent": True}
    ),
    "torch-small": Kind(
        "the same, persistent, 1/8 of a batch per worker", "torch_files", options=_SMALL
    ),
    "torch-endless": Kind(
        "the same files, 1/8 of a batch per worker, one endless iterator, a worker a core",
        "torch_files",
        options=_ENDLESS,
    ),
    "torch-shards": Kind(
        "torch DataLoader on our mmapped shards, simplejpeg into 1/8 of a batch, endless",
        "torch_shards",
        options=_ENDLESS,
    ),
    "webdataset": Kind(
        "webdataset, resampled and endless, WebLoader with a worker a core, simplejpeg",
        "webdataset",
        "webdataset",
    ),
    "dali-reader": Kind(
        "DALI's webdataset reader, a thread a core, fn.stack, DALIGenericIterator",
        "dali_reader",
        "nvidia.dali",
    ),
    "spdl": Kind(
        "SPDL on our sampler and shards, its load_image_batch in a thread a core",
        "spdl_images",
        "spdl.io",
    ),
    "spdl-simplejpeg": Kind(
        "SPDL on our sampler and shards, simplejpeg in a thread a core into the batch's rows",
        "spdl_simplejpeg",
        "spdl.io",
    ),
    "litdata": Kind(
        "LitData, optimised chunks, a persistent worker a core, simplejpeg", "litdata", "litdata"
    ),
    "ours": Kind(
        "mmapped shards, libjpeg-turbo in a thread a core into the batch's rows, a feeder thread",
        "ours",
    ),
    "ours-cached": Kind("the same with a full cache of decoded frames", "ours_cached"),
    "copy": Kind("ceiling: copying a batch in memory", "copy"),
    "replay": Kind("ceiling: the same batches again and again", "replay"),
}
CEILINGS = ("copy", "replay")


def runnable(names: Iterable[str], console: "Console") -> list[str]:
    """Those of `names` that can run here; of the others the reason is printed.

    Raises:
        UsageError: there is none of that name, or none is left.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        kind(name)
    left = []
    for name in names:
        if reason := LOADERS[name].missing():
            console.print(f"skipped {name}: {reason}", soft_wrap=True, markup=False)
        else:
            left.append(name)
    if not left:
        raise UsageError("no loader that can run here was asked for")
    return left


def kind(name: str) -> Kind:
    """The loader of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in LOADERS:
        raise UsageError(f"no loader {name!r}; there are {', '.join(LOADERS)}")
    return LOADERS[name]


def open_by_name(
    name: str, source: Source, settings: "Settings"
) -> AbstractContextManager["Epochs"]:
    """Open a loader.

    Raises:
        UsageError: there is none of that name.
        MissingPackage: what it needs is not installed.
    """
    if reason := kind(name).missing():
        raise MissingPackage(f"{name}: {reason}")
    return LOADERS[name].open(source, settings)
