"""Several sets in one training: what is used of each, what is refused, and that nothing is lost."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from data_tools.errors import UsageError
from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, Row, write_keep
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import open_shards
from data_tools.synth.clips import synthesize
from runs import TINY, Forking, Job, losses, train_rows
from tests.conftest import MakeClip
from trainer.config.settings import Config, Data, Train
from trainer.data.dataset import Dataset
from trainer.run import main
from trainer.train import checkpoint, timing
from trainer.train.sets import announce_sets, make_sampler, open_dataset


@pytest.fixture(scope="module")
def short_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of 30 frames, of the same names as those of `shards_folder`; none for testing."""
    folder = tmp_path_factory.mktemp("short")
    synthesize(folder / "clips", clips=8, seed=1, size=64, seconds=1.2, workers=1)
    pack(folder / "clips", folder / "shards", PackOptions(ratios=(75, 25, 0)))
    return folder / "shards"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of the times takes longer than the steps."""
    monkeypatch.setattr(timing, "plot", lambda rows, picture: None)


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    with Forking(tmp_path_factory.mktemp("said")) as made:
        yield made


def mixed(one: Path, other: Path, run: Path, *more: str) -> list[str]:
    sets = ["--data.shards", str(one), str(other), "--data.weights", "0.5", "0.5"]
    return [*sets, "--run.dir", str(run), *TINY, "--data.pairing", "multiway",
            "--data.run_frames", "20", "--augment.noise", "0.2", *more]  # fmt: skip


def test_clips_are_numbered_through_all_sets(shards_folder: Path, short_set: Path) -> None:
    dataset = Dataset([shards_folder, short_set], "train")
    one, other = (Dataset(folder, "train") for folder in (shards_folder, short_set))
    assert dataset.keys == one.keys + other.keys
    assert dataset.sets.tolist() == [0] * len(one) + [1] * len(other)
    assert dataset.windows.tolist() == [*one.windows, *other.windows]
    # the names of clips collide, those in reports do not
    assert set(one.keys) & set(other.keys)
    reported = [dataset.name(clip) for clip in range(len(dataset))]
    assert len(set(reported)) == len(dataset)
    assert reported[0] == f"1/{one.keys[0]}" and reported[-1] == f"2/{other.keys[-1]}"
    assert one.name(0) == one.keys[0]
    assert str(short_set) in dataset.frame_name(len(one), 3)


def test_each_set_has_a_manifest_of_its_own(
    shards_folder: Path, short_set: Path, tmp_path: Path
) -> None:
    keys = Dataset(short_set, "train").keys
    write_keep(tmp_path / "keep.csv", {
        keys[0]: Row(KEEP), keys[1]: Row(REALIGN, offset=4), keys[2]: Row(NO_MINIMUM),
    })  # fmt: skip
    shards = (str(shards_folder), str(short_set))
    data = Data(shards=shards, manifest=("none", str(tmp_path / "keep.csv")))
    console = Console(record=True, width=200, file=io.StringIO())
    dataset = open_dataset(Config(data=data), console)
    one = Dataset(shards_folder, "train")
    assert dataset.windows[: len(one)].tolist() == one.windows.tolist()
    other = Dataset(short_set, "train", {keys[0]: 0, keys[1]: 4})
    assert dataset.windows[len(one) :].tolist() == other.windows.tolist()
    assert (other.windows > 0).sum() == 2
    assert f"manifest of set 2: 2 of {len(keys)} training clips used" in console.export_text()


def test_what_is_used_of_each_set_is_said(
    shards_folder: Path, make_clip: MakeClip, tmp_path: Path
) -> None:
    for number in range(10):
        frames = 12 if number < 4 else 30
        make_clip(tmp_path / "clips" / f"c{number}", frames, 64, seed=number)
    pack(tmp_path / "clips", tmp_path / "shards", PackOptions(ratios=(100, 0, 0)))
    data = Data(
        shards=(str(shards_folder), str(tmp_path / "shards")),
        weights=(3.0, 1.0),
        pairing="multiway",
        run_frames=20,
    )
    config = Config(data=data, train=Train(batch_size=8))
    console = Console(record=True, width=200, file=io.StringIO())
    dataset = open_dataset(config, console)
    announce_sets(config, dataset, make_sampler(config, dataset), console)
    said = console.export_text()
    own = len(Dataset(shards_folder, "train"))
    rounds = 0.25 * (own + 6) / 6
    assert f"set 1, {shards_folder}: {own} clips, 75.0% of the samples" in said
    assert f"6 clips, 25.0% of the samples, gone through {rounds:.2f} times an epoch" in said
    assert "note: 4 clips of set 2 are too short (under 20 frames) and are not used" in said
    assert "of set 1 are too short" not in said


def test_blocks_that_are_smaller_than_a_shard_are_told_of(shards_folder: Path) -> None:
    said = []
    for gb in (0.5e-3, 1.0):
        data = Data(shards=str(shards_folder), order="blocks", block_gb=gb, nodes=2)
        config = Config(data=data, train=Train(batch_size=8))
        console = Console(record=True, width=300, file=io.StringIO())
        dataset = open_dataset(config, console)
        announce_sets(config, dataset, make_sampler(config, dataset), console)
        said.append(console.export_text())
    few, enough = (re.search(r"note: a block holds .*", each) for each in said)
    assert few is not None and enough is None
    assert "train-000000.tar has 7: shards are fetched whole" in few[0]
    advised = re.search(r"--data.block_gb (\S+) or more", few[0])
    assert advised is not None
    config = replace(config, data=replace(data, block_gb=float(advised[1])))
    assert make_sampler(config, dataset).block_clips >= 7


def test_sets_of_other_pictures_are_refused_in_one_sentence(
    shards_folder: Path,
    make_clip: MakeClip,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(10):
        make_clip(tmp_path / "clips" / f"c{number}", size=32, seed=number)
    pack(tmp_path / "clips", tmp_path / "small", PackOptions(ratios=(60, 20, 20)))
    assert main(mixed(shards_folder, tmp_path / "small", tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert f"{shards_folder} holds frames of 64x64 colour, but {tmp_path / 'small'}" in said
    assert "of 32x32 colour; pack both alike" in said and said.count("\n") == 1


def test_what_one_set_measures_no_other_may_train_on(
    clips_folder: Path, shards_folder: Path, tmp_path: Path
) -> None:
    """The same clips twice: split otherwise, copied, and named twice."""
    pack(clips_folder, tmp_path / "other", PackOptions(ratios=(60, 20, 20), seed=1))
    copy = shutil.copytree(shards_folder, tmp_path / "copy")
    console = Console(record=True, width=300, file=io.StringIO())

    def opened(*folders: Path, **more: Any) -> Dataset:
        data = Data(shards=tuple(map(str, folders)), **more)
        return open_dataset(Config(data=data), console)

    with pytest.raises(UsageError, match=r"training clip\(s\) of other sets are (val|test) clips"):
        opened(shards_folder, tmp_path / "other")
    with pytest.raises(UsageError, match=r"names .* twice"):
        opened(shards_folder, tmp_path / "copy" / ".." / "copy", copy)
    own = len(opened(shards_folder, copy)) // 2
    assert f"note: {own} training clip(s) of {copy} are in a set before it" in console.export_text()
    # what a keep.csv leaves out is not trained on
    measured = {
        each
        for folder in (shards_folder, tmp_path / "other")
        for split in ("val", "test")
        for shard in open_shards(folder, split)
        for each in shard.hashes
    }
    keeps = []
    for folder in (shards_folder, tmp_path / "other"):
        (shard,) = open_shards(folder, "train")
        rows = {
            key: Row(NO_MINIMUM if each in measured else KEEP)
            for key, each in zip(shard.keys, shard.hashes, strict=True)
        }
        write_keep(tmp_path / f"{folder.name}.csv", rows)
        keeps.append(str(tmp_path / f"{folder.name}.csv"))
    dataset = opened(shards_folder, tmp_path / "other", manifest=tuple(keeps))
    assert 0 < dataset.used.sum() < len(dataset)


@pytest.mark.slow
def test_a_killed_run_over_two_sets_goes_on_to_the_same_losses(
    forking: Forking, shards_folder: Path, short_set: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = ["--train.epochs", "5", "--train.batch_size", "4", "--data.windows_per_clip", "2"]
    argv = mixed(shards_folder, short_set, killed, *more, "--run.save_steps", "5")
    argv += ["--resume", "auto"]
    done = forking.run(
        Job(mixed(shards_folder, short_set, whole, *more)),
        Job(argv, "SIGKILL", ("step", 12)),
        Job(argv),
    )
    assert [one.status for one in done] == [0, -signal.SIGKILL, 0], done
    assert "resumed at step 10 " in done[2].out
    assert losses(whole) == losses(killed)
    train = sum(len(Dataset(folder, "train")) for folder in (shards_folder, short_set))
    assert len(losses(whole)) == 5 * (2 * train // 4)
    # the sets are validated together and each, where they have clips
    summary = json.loads((killed / "summary.json").read_text())
    clips = [len(Dataset(folder, "val")) for folder in (shards_folder, short_set)]
    measured = [summary[f"{name}_clips"] for name in ("val", "val_set1", "val_set2")]
    assert measured == [sum(clips), *clips]
    one, other, both = (summary[f"{name}_loss"] for name in ("val_set1", "val_set2", "val"))
    assert both == pytest.approx((one * clips[0] + other * clips[1]) / sum(clips))
    assert summary["test_clips"] == summary["test_set1_clips"] > 0
    assert "test_set2_clips" not in summary and "val_swapped_set1_clips" not in summary
    assert f"no clip in the test split of {short_set}" in done[2].out
    assert "val_set2" in done[2].out

    # another number of sets, or other weights, is another order of samples
    saved = str(killed / "last.pt")
    for words, said in (
        (
            ["--data.shards", str(shards_folder), "--data.weights", "1"],
            "was trained on 2 set(s) of data.shards, not 1",
        ),
        (["--data.weights", "1", "2"], "with data.weights 0.5 0.5, not 1.0 2.0"),
    ):
        refused = forking.run(Job(["--resume", saved, *words, "--run.dir", str(tmp_path / "x")]))[0]
        assert refused.status == 2 and said in refused.err, refused.err
        assert refused.err.count("\n") == 1
    again = ["--resume", saved, "--data.weights", "1", "1", "--train.epochs", "6"]
    assert forking.run(Job(again))[0].status == 0
    assert len(train_rows(killed)) == 6 * (2 * train // 4)


@pytest.mark.slow
def test_a_bad_clip_of_one_set_is_barred_there_alone(
    shards_folder: Path, short_set: Path, tmp_path: Path
) -> None:
    """Of two clips of one name the one that can be decoded stays in."""
    copy = shutil.copytree(short_set, tmp_path / "copy")
    (tar,) = copy.glob("train-*.tar")
    with tarfile.open(tar) as archive:
        key = next(
            k for k in Dataset(copy, "train").keys if k in Dataset(shards_folder, "train").keys
        )
        victims = [m for m in archive if m.name.startswith(f"{key}.") and m.name.endswith(".jpg")]
    with open(tar, "r+b") as stream:
        for victim in victims:
            stream.seek(victim.offset_data)
            stream.write(bytes(victim.size))
    run = tmp_path / "run"
    more = ["--train.epochs", "2", "--train.batch_size", "4"]
    assert main(mixed(shards_folder, copy, run, *more)) == 0
    assert list(checkpoint.load(run / "last.pt")["quarantine"]) == [f"2/{key}"]
    assert (
        main(mixed(shards_folder, copy, run, *more, "--train.epochs", "3", "--resume", "auto")) == 0
    )
    assert np.isfinite([loss for loss in losses(run) if loss is not None]).all()
    assert list(checkpoint.load(run / "last.pt")["quarantine"]) == [f"2/{key}"]
