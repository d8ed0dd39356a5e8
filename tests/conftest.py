"""Fixtures that several test modules share: clips, shards, real recordings."""

from __future__ import annotations

import os

# Test processes side by side (pytest -n) have one thread each, or they spin on each other's cores.
# It is read when torch is loaded, so it stands before everything else.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import simplejpeg
import soundfile

from data_tools.mfcc import SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import synthesize

MakeClip = Callable[..., Path]

# A commit passes or fails alike everywhere: no test fails by a slow machine, nor by examples
# that were never drawn before. Those are looked for with `--hypothesis-profile explore`.
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.register_profile("same everywhere", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same everywhere")


def pytest_configure(config: pytest.Config) -> None:
    """Let the order below hold: pytest-xdist would begin with the files of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end no process waits long for another's file."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def times_drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of the pictures that runs leave of their times only a process's first is drawn.

    One takes as long as a small training (1.3 s of CPU). The others are copies of it, put where
    the run wants them; tests/trainer/train/test_timing.py draws pictures of its own.
    """
    summary = sys.modules.get("trainer.train.summary")
    if summary is None:  # no test that was collected trains
        yield
        return
    honest, first = summary.timing.plot, tmp_path_factory.mktemp("times") / "timing.png"

    def plot(rows: object, picture: Path) -> None:
        if not first.exists():
            honest(rows, first)
        shutil.copyfile(first, picture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary.timing, "plot", plot)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_precision() -> Iterator[None]:
    """Within a test's process a CPU computes in float32, whatever it could do.

    So figures are the same on every machine; tests of bfloat16 ask for it. Commands in processes
    of their own do as the machine does.
    """
    device = sys.modules.get("trainer.model.device")
    with pytest.MonkeyPatch.context() as patch:
        if device is not None:
            patch.setattr(device, "_cpu_has_bf16", lambda: False)
        yield


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real recordings; a test that asks for it is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "real"
    folder = Path(os.environ.get("REAL_CLIPS", beside))
    if not folder.is_dir():
        pytest.skip("no real recordings: set REAL_CLIPS to their folder")
    return folder


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve synthetic clips of two seconds, 64x64. Not to be written to."""
    out = tmp_path_factory.mktemp("clips") / "synthetic"
    synthesize(out, clips=12, seed=0, size=64, seconds=2.0, workers=1)
    return out


@pytest.fixture(scope="session")
def shards_folder(clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve clips packed 60:20:20. Not to be written to."""
    out = tmp_path_factory.mktemp("shards") / "packed"
    pack(clips_folder, out, PackOptions(ratios=(60, 20, 20)))
    return out


@pytest.fixture(scope="session")
def many_shards(clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in smaller shards: two of train, one each of val and test. Not to be written to."""
    out = tmp_path_factory.mktemp("many") / "packed"
    pack(clips_folder, out, PackOptions(ratios=(60, 20, 20), shard_mb=1))
    return out


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """A function make_clip(folder, frames=30, size=32, seed=0) that writes a clip of noise."""

    def write(folder: Path, frames: int = 30, size: int = 32, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        (folder / "frames").mkdir(parents=True)
        for number in range(frames):
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            jpeg = simplejpeg.encode_jpeg(pixels, 90, "RGB", "420")
            (folder / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
        audio = rng.integers(-8000, 8000, frames * SAMPLES_PER_FRAME, dtype=np.int16)
        soundfile.write(folder / "audio.wav", audio, SAMPLE_RATE, subtype="PCM_16")
        return folder

    return write


class SmallDisks:
    """Disks of a few megabytes, of memory: SmallDisks()(9_000_000) is the folder of one."""

    def __init__(self, below: Path) -> None:
        self._below = below
        self.folders: list[Path] = []

    def __call__(self, size: int) -> Path:
        """Mount one; the test is skipped where that is not allowed."""
        folder = self._below / f"disk-{len(self.folders)}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            done = subprocess.run(mount, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no small disk: there is no mount command")
        if done.returncode:
            pytest.skip(f"no small disk may be mounted here: {done.stderr.strip()}")
        self.folders.append(folder)
        return folder

    def grow(self, folder: Path, size: int) -> None:
        """Make it larger."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisks]:
    """A function that mounts a disk of so many bytes, which are taken away afterwards."""
    disks = SmallDisks(tmp_path)
    yield disks
    for folder in disks.folders:
        subprocess.run(["umount", str(folder)], check=True)
