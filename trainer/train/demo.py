"""The shards of a run: those given, packed from clips, or a synthetic demonstration set."""

import os
from functools import partial
from pathlib import Path

from rich.console import Console

from data_tools.manifest import MANIFEST, ShardError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.verifying import verify
from trainer.config.settings import Data, Options
from trainer.train.distributed import Processes

# Small heads, enough of them that unseen ones are recognised.
DEMO_CLIPS, DEMO_SIZE, DEMO_SECONDS = 320, 64, 3.0


def make_shards(
    data: Data, folder: Path, options: Options, processes: Processes, console: Console
) -> tuple[Path, ...]:
    """The folder of each set, its shards made first from clips or as demonstration if need be.

    Args:
        folder: of the run, for shards packed from clips unless data.shards names another.

    Raises:
        ShardError: what was packed is faulty.
        ClipError: no clip can be used.
    """
    shards = data.folders or (folder / "shards",)
    if options.demo:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncnet-trainer"
        cache /= f"demo-{DEMO_CLIPS}x{DEMO_SECONDS:g}s-{DEMO_SIZE}"
        processes.together(partial(_make_demo, cache, console))
        return (cache / "shards",)
    if data.clips:
        processes.together(partial(_pack, Path(data.clips), shards[0], PackOptions(), console))
    return shards


def _make_demo(cache: Path, console: Console) -> None:
    """Make and pack the synthetic talking heads, unless an earlier run has."""
    clips = cache / "clips"
    console.print(
        f"no data given: a demonstration on {DEMO_CLIPS} synthetic talking heads "
        f"(cached in {cache}); your own: --data.shards DIR, see --help",
        highlight=False,
        soft_wrap=True,
    )
    if not (clips / "truth.csv").exists():
        cache.mkdir(parents=True, exist_ok=True)
        from data_tools.synth.clips import synthesize  # scipy's filters: slow to import

        synthesize(clips, DEMO_CLIPS, seed=0, size=DEMO_SIZE, seconds=DEMO_SECONDS)
    _pack(clips, cache / "shards", PackOptions(gray=True, size=DEMO_SIZE), console)


def _pack(clips: Path, shards: Path, options: PackOptions, console: Console) -> None:
    workers = len(os.sched_getaffinity(0))
    fresh = not (shards / MANIFEST).exists()
    manifest = pack(clips, shards, options, workers)
    if fresh and (faults := verify(shards, workers)):
        raise ShardError("\n".join(faults))
    dropped = manifest.dropped
    if dropped:
        console.print(
            f"{len(dropped)} of {manifest.clips_found} clips left out, for example "
            f"{dropped[0].clip}: {dropped[0].reason} ({dropped[0].detail}); all in "
            f"{shards / 'manifest.json'}",
            highlight=False,
            soft_wrap=True,
        )
