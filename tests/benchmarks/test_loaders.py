"""Every loader that is compared gives the same kind of batch, and most the very same samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from rich.console import Console

from benchmarks.loaders import LOADERS, open_by_name, runnable
from benchmarks.loaders.batches import Settings
from benchmarks.processes import isolated
from benchmarks.sources import Source, seed_bins
from data_tools.errors import MissingPackage

BATCH, STEPS = 8, 3
INDEXED = [
    "torch-seed",
    "torch-persistent",
    "torch-small",
    "torch-endless",
    "torch-shards",
    "spdl-simplejpeg",
    "ours",
    "ours-cached",
    "copy",
]
SHUFFLED = ["webdataset", "dali-reader", "litdata"]


@pytest.fixture(scope="module")
def source(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(shards_folder, tmp_path_factory.mktemp("made"), BATCH, STEPS)


def read(name: str, source: Source, epochs: int) -> list[list[tuple[Any, Any]]]:
    """Frames and MFCC of some epochs as arrays (runs in a process of its own)."""
    with open_by_name(name, source, Settings(workers=2, cores=2)) as loader:
        return [
            [(frames.numpy().copy(), mfcc.numpy().copy()) for frames, mfcc in loader()]
            for _ in range(epochs)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", INDEXED)
def test_loaders_with_an_index_give_the_samplers_batches(name: str, source: Source) -> None:
    if reason := LOADERS[name].missing():
        pytest.skip(reason)
    epochs, _ = isolated(read, name, source, 2)
    assert [len(epoch) for epoch in epochs] == [STEPS, STEPS]
    height, width, channels = source.frame_shape
    for step, (frames, mfcc) in enumerate(batch for epoch in epochs for batch in epoch):
        runs = source.sampler.batch(step if name != "copy" else step % STEPS)
        assert frames.shape == (BATCH, 5, height, width, channels) and frames.dtype == np.uint8
        np.testing.assert_array_equal(mfcc, source.dataset.mfcc(runs, 5, 20))
        jpegs = source.dataset.jpegs(runs, 5)
        expected = _decoded(jpegs, channels).reshape(frames.shape)
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHUFFLED)
def test_loaders_that_shuffle_give_windows_of_the_same_epoch(name: str, source: Source) -> None:
    if reason := LOADERS[name].missing():
        pytest.skip(reason)
    epochs, _ = isolated(read, name, source, 2)
    height, width, channels = source.frame_shape
    known = {window["mfcc"].tobytes(): window for window in source.epoch_windows()}
    for epoch in epochs:
        assert len(epoch) == STEPS
        for frames, mfcc in epoch:
            assert frames.shape == (BATCH, 5, height, width, channels)
            assert frames.dtype == np.uint8 and mfcc.dtype == np.float32
            for row, sound in zip(frames, mfcc, strict=True):
                window = known[np.ascontiguousarray(sound).tobytes()]
                jpegs = [np.frombuffer(window[str(i)], np.uint8) for i in range(5)]
                np.testing.assert_array_equal(row, _decoded(jpegs, channels))


def _decoded(jpegs: list[Any], channels: int) -> Any:
    import simplejpeg

    colour = "RGB" if channels == 3 else "GRAY"
    return np.stack([simplejpeg.decode_jpeg(jpeg, colour) for jpeg in jpegs])


def test_the_seeds_bins_are_windows_of_the_features() -> None:
    mfcc = np.arange(13 * 41, dtype=np.float32).reshape(41, 13)
    bins = seed_bins(mfcc)
    assert bins.shape == (6, 1, 13, 20)
    np.testing.assert_array_equal(bins[5, 0], mfcc[20:40].T)


def test_an_unknown_loader_is_named(source: Source) -> None:
    with pytest.raises(ValueError, match="no loader 'fast'; there are torch-seed"):
        open_by_name("fast", source, Settings())


def test_a_missing_peer_says_how_to_install_it(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.loaders.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"litdata is not installed: pip install .*\[bench\]"):
        open_by_name("litdata", source, Settings())


def test_a_skipped_peer_is_told_with_the_whole_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.loaders.find_spec", lambda name: None)
    assert runnable(["litdata", "ours"], Console()) == ["ours"]
    assert "-e '.[bench]'" in capsys.readouterr().out


def test_spdl_without_ffmpeg_is_missing() -> None:
    pytest.importorskip("spdl.io", reason="spdl is not installed")
    import spdl.io

    jpeg = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))

    try:
        spdl.io.load_image_batch([jpeg], width=8, height=8)
        works = True
    except RuntimeError:
        works = False
    assert (LOADERS["spdl"].missing() is None) == works


def test_half_made_forms_are_not_taken_for_whole_ones(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Source(source.shards, tmp_path, BATCH, STEPS)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr("benchmarks.sources.seed_bins", fail)
        with pytest.raises(OSError, match="disk full"):
            elsewhere.files()
    assert not list(tmp_path.iterdir())
    assert len(list(elsewhere.files().iterdir())) == len(elsewhere.dataset)
