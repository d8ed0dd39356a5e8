"""`python -m trainer.refine`: its files, its trainings, and what stops it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.__main__ import main as data_tools
from data_tools.keep import FAR, KEEP, NO_MINIMUM, REALIGN, UNREADABLE, read_keep
from data_tools.lock import locked
from data_tools.packing import pack
from data_tools.plan import PackOptions
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments
from trainer.model.syncnet import SyncNet
from trainer.model.weights import default_weights
from trainer.refine import main
from trainer.run import main as train
from trainer.score import clip_scores as module
from trainer.score.clip_distances import Embedded
from trainer.train import checkpoint, rounds, timing

real_pass = module.embed_clips


def test_score_only_writes_what_training_reads(
    shards_folder: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def perfect(dataset: Dataset, model: SyncNet, *args: Any, **options: Any) -> Iterator[Any]:
        """A perfect network on shards whose third clip is early by 6 and fifth is dubbed."""
        for one in real_pass(dataset, model, *args, **options):
            lips = one.sound_KD
            if one.clip == 2:
                lips = lips.roll(6, 0)
            if one.clip == 4:
                lips = lips[torch.randperm(len(lips), generator=torch.Generator().manual_seed(0))]
            yield Embedded(one.clip, lips, one.sound_KD)

    monkeypatch.setattr(module, "embed_clips", perfect)
    args = ["--data.shards", str(shards_folder), "--weights", str(weights), "--score-only"]
    args += ["--out", str(tmp_path), "--threads", "1", "--realign"]
    (tmp_path / ".scores.png.partial-1").touch()  # of one that was killed
    assert main(args) == 0
    assert not list(tmp_path.glob(".*.partial-*"))
    keys = Dataset(shards_folder, "train").keys
    rows = read_keep(tmp_path / "keep.csv")
    assert sorted(rows) == sorted(keys)
    assert rows[keys[2]].verdict == REALIGN
    # window k of the lips shows what was heard at k - 6: the sound is early
    assert rows[keys[2]].offset == 6 and rows[keys[2]].audio_shift == -6
    assert rows[keys[4]].verdict in (NO_MINIMUM, FAR) and rows[keys[4]].reason
    assert all(rows[key].verdict == KEEP for at, key in enumerate(keys) if at not in (2, 4))
    assert (tmp_path / "scores.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "keep.csv" in shown and f"{len(keys) - 2} keep, 1 realign, 1 " in shown
    assert "rejected: 1 " in shown and "this set lies at" in shown
    said = json.loads((tmp_path / "refine.json").read_text())["rounds"][0]
    assert said["spread"]["offsets"]["+6"] == {
        "ms": 240, "clips": 1, "share": round(1 / said["spread"]["clear"], 4)
    }  # fmt: skip
    assert sum(said["rejected"].values()) == 1 and said["changes"] is None
    assert main([*args, "--threshold", "9"]) == 1
    assert "no clip would be kept" in capsys.readouterr().err


def off_by(planted: list[int]) -> Any:
    """The pass of a perfect network over clips whose sound is early by so many frames, in turn."""

    def perfect(dataset: Dataset, model: SyncNet, *args: Any, **options: Any) -> Iterator[Any]:
        for one in real_pass(dataset, model, *args, **options):
            lips = one.sound_KD.roll(planted[one.clip % len(planted)], 0)
            yield Embedded(one.clip, lips, one.sound_KD)

    return perfect


PLANTED = [-3, -2, -1, 0, 1, -1, -2]


def test_planted_offsets_of_synthetic_heads_are_found_and_mended(
    shards_folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "embed_clips", off_by(PLANTED))
    args = ["--data.shards", str(shards_folder), "--weights", str(weights), "--score-only"]
    assert main([*args, "--out", str(tmp_path), "--threads", "1", "--realign"]) == 0
    whole, rows = Dataset(shards_folder, "train"), read_keep(tmp_path / "keep.csv")
    found = [rows[key].offset for key in whole.keys]
    assert found == [PLANTED[at % len(PLANTED)] for at in range(len(found))]
    # every one is moved, a single frame included
    assert [rows[key].audio_shift for key in whole.keys] == [-(offset or 0) for offset in found]
    assert {row.verdict for row in rows.values()} == {KEEP, REALIGN}
    mended = Dataset(shards_folder, "train", {key: -row.audio_shift for key, row in rows.items()})
    one = np.array([0])
    first = Segments(one, one * 0, one, one * 0, one + 1)
    moved = Segments(one, one * 0, one, one * 0 + 3, one + 1)
    # the first clip's sound is late by three: its first picture goes with what is heard then
    assert np.array_equal(mended.mfcc(first, 5, 20), whole.mfcc(moved, 5, 20))


def test_broken_clips_get_a_row(shards_folder: Path, weights: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards_folder, tmp_path / "copy"))
    dataset = Dataset(copy, "train")
    with dataset.shards[0].tar.open("r+b") as stream:
        stream.seek(int(dataset.shards[0].offset[3]))
        stream.write(np.random.default_rng(0).bytes(int(dataset.shards[0].size[3])))
    args = ["--data.shards", str(copy), "--weights", str(weights), "--score-only"]
    assert main([*args, "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    rows = read_keep(tmp_path / "out" / "keep.csv")
    assert rows[dataset.keys[0]].verdict == UNREADABLE


@pytest.mark.parametrize(
    ("args", "status", "problem"),
    [
        (["--score-only"], 2, "--score-only needs --weights"),
        (["--score-only", "--weights", "W", "--train.lr", "1"], 2, "--train.lr"),
        (["--rounds", "1"], 2, "--rounds must be at least 2"),
        (["--device", "toaster"], 2, "--device"),
        (["--threshold", "1", "--reject-share", "0.1"], 2, "not both"),
        (["--reject-share", "1.5"], 2, "--reject-share"),
        (["--threshold", "nan"], 2, "--threshold must be a number"),
        (["--rounds", "two"], 2, "--rounds must be a whole number"),
        (["--threads", "-1"], 2, "--threads must be at least 0"),
        (["--config=#"], 2, "# does not exist"),
        (["--resume=auto"], 2, "--resume is set by the refinement"),
        (["--run.dir", "x"], 2, "set by the refinement"),
        (["--train.no_such_option", "1"], 2, "no_such_option"),
        (["--score-only", "--weights", "W", "--with", "grid"], 2, "what is --with for"),
        (["--with", "nowhere"], 1, "nowhere"),
        (["--with"], 2, "--with"),
        (["--score-only", "--weights", "nowhere.pt"], 1, "no file"),
        (["--weights", "nowhere.pt"], 1, "no file"),
        (["--out", __file__], 2, "is a file, not a folder"),
        (["--out", f"{__file__}/below"], 2, "is a file, not a folder"),
        (["--train.epochs", "0"], 2, "train.epochs must be at least 1"),
        (["--overfit", "-1"], 2, "--overfit must not be negative"),
        (["--overfit", "2"], 2, "it cannot be combined with --resume"),
        (["--data.shards", "nowhere"], 1, "nowhere"),
    ],
)
def test_bad_usage_is_one_sentence(
    shards_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    status: int,
    problem: str,
) -> None:
    try:
        found = main(["--data.shards", str(shards_folder), "--out", str(tmp_path), *args])
    except SystemExit as left:
        found = int(left.code or 0)
    assert found == status
    shown = capsys.readouterr().err
    assert problem in shown and "Traceback" not in shown


def test_a_training_that_fails_has_said_why_itself(
    shards_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["--data.shards", str(shards_folder), "--out", str(tmp_path)]
    assert main([*args, "--train.batch_size", "100000"]) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert "trainer.run: batch_size 100000 exceeds" in first
    assert second == f"refine: training in {tmp_path / 'round-1' / 'run'} failed, see above"


@pytest.mark.slow
def test_the_loop_trains_scores_and_trains_on_what_is_kept(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--data.shards", str(shards_folder), "--out", str(out), "--reject-share", "0.3"]
    args += ["--train.batch_size", "8", "--train.epochs", "1", "--data.val_runs", "1"]
    assert main(args) == 0
    summary = json.loads((out / "refine.json").read_text())["rounds"]
    clips = len(Dataset(shards_folder, "train"))
    rejected = sum(count for kind, count in summary[0]["verdicts"].items() if kind != KEEP)
    assert rejected == int(0.3 * clips) and "val_accuracy_k5" in summary[1]
    kept = csv.DictReader((out / "round-1" / "keep.csv").open())
    assert sum(row["verdict"] == KEEP for row in kept) == clips - rejected
    before = (out / "round-2" / "run" / "best.pt").stat().st_mtime_ns
    assert main(args) == 0  # nothing is done again
    assert (out / "round-2" / "run" / "best.pt").stat().st_mtime_ns == before
    assert main([*args, "--train.epochs", "2"]) == 2
    assert "round-1/run was trained with train.epochs 1, not 2" in capsys.readouterr().err
    assert main([*args, "--reject-share", "0.1"]) == 2
    assert "keeps or moves other training clips of" in capsys.readouterr().err


@pytest.mark.slow
def test_labels_are_made_anew_beside_a_set_in_sync(
    shards_folder: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    beside = shutil.copytree(shards_folder, tmp_path / "beside")
    out = tmp_path / "out"
    args = ["--data.shards", str(shards_folder), "--with", str(beside), "--weights", str(weights)]
    args += ["--realign", "--rounds", "3", "--out", str(out), "--data.weights", "1", "1"]
    args += ["--train.batch_size", "8", "--train.epochs", "1", "--data.val_runs", "1"]
    # the network of round 1 says so, that of round 2 otherwise of one clip, then we are killed
    monkeypatch.setattr(module, "embed_clips", off_by(PLANTED))
    real_rows = rounds.score_and_judge
    passes = []

    def judged(*given: Any) -> Any:
        if passes:
            monkeypatch.setattr(module, "embed_clips", off_by([-2, *PLANTED[1:]]))
        passes.append(given)
        return real_rows(*given)

    monkeypatch.setattr(rounds, "score_and_judge", judged)
    # as commands, but in this process: the loop's own test starts some
    monkeypatch.setattr(rounds, "_wait_for", lambda words: train(words[3:]))
    assert main(args) == 0
    first, second, third = json.loads((out / "refine.json").read_text())["rounds"]
    assert first["changes"] is None and "verdicts" not in third
    assert second["changes"] == {"moved": 1, "taken_in": 0, "left_out": 0}
    settings = (out / "round-3" / "run" / "config.yaml").read_text()
    assert str(beside) in settings and "round-2/keep.csv" in settings and "none" in settings
    assert "labels" in capsys.readouterr().out
    before = (out / "round-3" / "run" / "best.pt").stat().st_mtime_ns
    assert main(args) == 0  # nothing is done again
    assert (out / "round-3" / "run" / "best.pt").stat().st_mtime_ns == before


def test_the_set_to_be_refined_is_none_of_those_in_sync(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--data.shards", str(shards_folder), "--with", str(tmp_path), str(shards_folder)]
    assert main([*args, "--out", str(tmp_path / "out")]) == 2
    assert "is the set that is to be refined" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.slow
def test_lrw_ar_lies_where_it_was_measured(real_clips: Path, tmp_path: Path) -> None:
    pretrained = default_weights()
    videos = sorted((real_clips / "lrw_ar").glob("*.mp4"))[:1200:20]
    if not videos or pretrained is None:
        pytest.skip("no lrw_ar, or no weights in the package")
    (tmp_path / "videos").mkdir()
    for video in videos:
        (tmp_path / "videos" / video.name).symlink_to(video)
    clips, shards = tmp_path / "clips", tmp_path / "shards"
    words = ["--crop", "mouth", "--gray", "--size", "64", "--min-frames", "25"]
    assert data_tools(["prepare", str(tmp_path / "videos"), "--out", str(clips), *words]) in (0, 1)
    pack(clips, shards, PackOptions(ratios=(100, 0, 0)))
    args = ["--data.shards", str(shards), "--weights", str(pretrained), "--score-only"]
    assert main([*args, "--realign", "--out", str(tmp_path / "out")]) == 0
    spread = json.loads((tmp_path / "out" / "refine.json").read_text())["rounds"][0]["spread"]
    assert -5 <= spread["low"] <= -2 and 0 <= spread["high"] <= 3
    shares = {int(offset): one["share"] for offset, one in spread["offsets"].items()}
    assert sum(shares.get(offset, 0) for offset in range(-3, 2)) > 0.5


def test_a_folder_that_another_is_writing_to_is_refused(
    shards_folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--data.shards", str(shards_folder), "--out", str(tmp_path / "out")]
    for more in ([], ["--weights", str(weights), "--score-only"]):
        with locked(tmp_path / "out", "refine"):
            assert main([*args, *more]) == 2
        assert "another refine is writing to" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_whatever_ends_a_refinement_lets_its_training_save(
    shards_folder: Path, tmp_path: Path, number: int, status: int
) -> None:
    """The signal reaches the refinement alone, as `kill` sends it."""
    args = ["--data.shards", str(shards_folder), "--out", str(tmp_path / "out")]
    args += ["--train.batch_size", "8", "--train.epochs", "100000", "--train.val_every", "99999"]
    run = tmp_path / "out" / "round-1" / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "trainer.refine", *args],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not (run / "steps.jsonl").exists() or not (run / "steps.jsonl").stat().st_size:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=100)
    assert process.returncode == status and error.count("\n") == 1
    assert "the same command goes on" in error
    rows = timing.read_rows(run / "steps.jsonl")
    assert checkpoint.load(run / "last.pt")["step"] == len(rows) > 0
