"""`python -m trainer.run` as a person or a scheduler meets it: real processes, kills, two ranks."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, Row, write_keep
from data_tools.packing import pack
from data_tools.plan import PackOptions
from runs import REPOSITORY, TINY, Forking, Job, command, losses, train_rows
from trainer.config.command import parse
from trainer.config.settings import Config, Data, Run, Train
from trainer.data.dataset import Dataset
from trainer.data.loader import LoaderError
from trainer.data.sampler import TrainSampler
from trainer.run import main
from trainer.train import checkpoint, timing
from trainer.train.trainer import train as train_run


def python(
    code: str, *arguments: str, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, *(launcher or ("-c",)), code, *arguments]
    return subprocess.run(script, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture(scope="module")
def undisturbed(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs without a disturbance."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main(command(shards_folder, run, "--train.epochs", "2")) == 0
    return run


def test_a_run_leaves_everything_it_names(undisturbed: Path) -> None:
    names = {path.name for path in undisturbed.iterdir()}
    assert {
        "steps.jsonl",
        "timing.png",
        "summary.json",
        "config.yaml",
        "last.pt",
        "best.pt",
    } <= names
    assert not any(name.startswith(".") for name in names)
    summary = json.loads((undisturbed / "summary.json").read_text())
    wanted = "seconds epochs steps samples_per_s first_step_wait_ms other_step_wait_ms utilisation"
    wanted += " val_accuracy_k5 val_accuracy_k15 val_auc parameters versions"
    assert set(wanted.split()) <= set(summary)
    assert summary["finished"] and summary["epochs"] == 2
    assert summary["steps"] == len(train_rows(undisturbed))
    phases = {row.phase for row in timing.read_rows(undisturbed / timing.STEPS)}
    assert phases == {"train", "val"}


def test_every_step_has_one_row(undisturbed: Path) -> None:
    rows = train_rows(undisturbed)
    assert [row.step for row in rows] == list(range(len(rows)))
    per_epoch = len(rows) // 2
    assert [row.epoch for row in rows] == [1] * per_epoch + [2] * per_epoch


def test_killed_at_every_step_and_resumed_gives_the_same_losses_to_the_bit(
    shards_folder: Path, tmp_path: Path
) -> None:
    """kill -9 as each step begins (after the last one too); a checkpoint every second step, so
    that half of the kills lose a step which has to be done again."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    epochs = ["--train.epochs", "2"]
    again = command(shards_folder, folder, *epochs, "--run.save_steps", "2", "--resume", "auto")
    with Forking(tmp_path) as forking:
        (undisturbed,) = forking.run(Job(command(shards_folder, whole, *epochs)))
        assert undisturbed.status == 0, undisturbed.err
        kills = [Job(again, "SIGKILL", ("step", at)) for at in range(1, len(losses(whole)))]
        *died, done = forking.run(*kills, Job(again, "SIGKILL", ("finish", 0)), Job(again))
    assert len(died) > 7 and all(one.status == -signal.SIGKILL for one in died), died
    assert done.status == 0, done.err
    assert losses(folder) == losses(whole)
    ours, theirs = (checkpoint.load(run / "last.pt")["model"] for run in (folder, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


MULTIWAY = [
    "--data.pairing", "multiway", "--data.run_frames", "20", "--train.batch_size", "4",
    "--augment.flip", "true", "--augment.shift", "0.1", "--augment.noise", "0.2",
]  # fmt: skip


RUNS = ["--data.windows_per_run", "3", "--data.windows_per_clip", "6", "--train.batch_size", "12"]


@pytest.mark.parametrize(
    "more",
    [
        [*MULTIWAY, "--loss.name", "infonce", "--train.average", "0.9", "--data.curriculum", "2"],
        [*MULTIWAY, "--loss.name", "bins"],
        ["--data.pairing", "paired", "--loss.name", "bce", "--train.precision", "bf16"],
        [*RUNS, "--train.accumulate", "2", "--augment.noise", "0.2", "--train.warmup_steps", "0"],
    ],
)
def test_every_pairing_trains_and_resumes_to_the_bit(
    shards_folder: Path, tmp_path: Path, more: list[str]
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    epochs = ["--train.epochs", "2", "--train.schedule", "constant"]
    assert main(command(shards_folder, whole, *more, *epochs)) == 0
    first = [*epochs[2:], "--train.epochs", "1"]
    assert main(command(shards_folder, halves, *more, *first)) == 0
    assert main(command(shards_folder, halves, *more, *epochs, "--resume", "auto")) == 0
    assert losses(whole) == losses(halves) and len(losses(whole)) >= 3
    one, other = (checkpoint.load(run / "last.pt") for run in (whole, halves))
    for key, value in checkpoint.inference_weights(one).items():
        assert torch.equal(value, checkpoint.inference_weights(other)[key])
    assert ("average" in one) == ("--train.average" in more)
    for key, value in one["loss"].items():
        assert torch.equal(value, other["loss"][key]) and (value != 0).any()


def test_the_manifest_decides_what_is_trained_on(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = Dataset(shards_folder, "train").keys
    rows = {keys[0]: Row(KEEP), keys[1]: Row(REALIGN, offset=3), keys[2]: Row(NO_MINIMUM)}
    write_keep(tmp_path / "keep.csv", rows)
    manifest = ["--data.manifest", str(tmp_path / "keep.csv"), "--data.windows_per_clip", "20"]
    manifest += ["--train.epochs", "1"]
    assert main(command(shards_folder, tmp_path / "run", *manifest)) == 0
    said = capsys.readouterr().out
    assert f"manifest: 2 of {len(keys)} training clips used, 1 of them re-aligned" in said
    assert "rejected," in said and "not listed" in said
    assert "\n2 clips, " in said
    write_keep(tmp_path / "keep.csv", {"another": Row(KEEP)})
    assert main(command(shards_folder, tmp_path / "other", *manifest)) == 2
    assert "keeps none of the training clips" in capsys.readouterr().err


def test_infonce_without_several_sounds_is_refused(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(shards_folder, tmp_path / "run", "--loss.name", "infonce")) == 2
    assert "add --data.pairing multiway" in capsys.readouterr().err


def test_sigterm_saves_and_leaves_cleanly(shards_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    arguments = command(
        shards_folder, run, "--train.epochs", "100000", "--train.val_every", "99999"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.run", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (run / "steps.jsonl").exists() or len(train_rows(run)) < 5:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "stopped by SIGTERM" in said and "Traceback" not in said
    saved = checkpoint.load(run / "last.pt")
    assert saved["step"] == len(train_rows(run))
    assert json.loads((run / "summary.json").read_text())["finished"] is False


@pytest.mark.slow
def test_two_processes_share_one_global_order(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "ranked.py"
    script.write_text(
        """
import json, os, sys
import trainer.run as run
from trainer.data.loader import Loader
rank, out = os.environ.get("RANK", "0"), sys.argv.pop(1)
following = Loader.__next__
def spying(self):
    batch = following(self)
    if self.shape.sample_frames == 5:
        r = batch.segments
        rows = [r.clip, r.start, r.audio_start, r.label]
        with open(f"{out}/{rank}.jsonl", "a") as stream:
            stream.write(json.dumps([batch.step, [x.tolist() for x in rows]]) + "\\n")
    return batch
Loader.__next__ = spying
sys.exit(run.main())
"""
    )
    run = tmp_path / "run"
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    arguments = command(shards_folder, run, "--train.epochs", "2", "--train.device", "cpu")
    done = python(str(script), str(tmp_path), *arguments, launcher=launcher)
    assert done.returncode == 0, done.stderr
    dataset = Dataset(shards_folder, "train")
    sampler = TrainSampler(dataset.windows, 8)
    shares = [
        dict(map(json.loads, (tmp_path / f"{rank}.jsonl").read_text().splitlines()))
        for rank in (0, 1)
    ]
    assert sorted(shares[0]) == sorted(shares[1]) == list(range(2 * sampler.steps_per_epoch))
    for step in shares[0]:
        alone = sampler.batch(step)
        together = np.concatenate([np.array(share[step]) for share in shares], axis=1)
        expected = [alone.clip, alone.start, alone.audio_start, alone.label]
        assert together.tolist() == [x.tolist() for x in expected]
    # only the first process writes, each row once
    assert [row.step for row in train_rows(run)] == list(range(2 * sampler.steps_per_epoch))
    summary = json.loads((run / "summary.json").read_text())
    assert summary["world_size"] == 2 and summary["val_runs"] > 0
    # and one process goes on where two stopped
    assert main(["--resume", str(run), "--train.epochs", "3"]) == 0
    assert "resumed at step" in capsys.readouterr().out
    assert [row.step for row in train_rows(run)] == list(range(3 * sampler.steps_per_epoch))


def test_clips_are_packed_and_trained_in_one_command(clips_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--data.clips", str(clips_folder), "--run.dir", str(run), *TINY]
    assert main([*arguments, "--train.epochs", "1", "--log", "tensorboard"]) == 0
    assert (run / "shards" / "manifest.json").exists()
    assert any((run / "tensorboard").iterdir())


def test_a_frame_damaged_after_packing_does_not_stop_training(
    shards_folder: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(shards_folder, shards)
    (tar,) = shards.glob("train-*.tar")
    with tarfile.open(tar) as archive:
        victim = next(m for m in archive if m.name.endswith(".00010.jpg"))
    with open(tar, "r+b") as stream:
        stream.seek(victim.offset_data)
        stream.write(bytes(victim.size))
    run = tmp_path / "run"
    config = Config(
        data=Data(shards=str(shards), windows_per_clip=40, val_runs=1),
        train=Train(batch_size=8, epochs=1),
        run=Run(dir=str(run)),
    )
    summary = train_run(config)
    assert summary["finished"] and summary["quarantined_clips"] == 1
    saved = checkpoint.load(run / "last.pt")["quarantine"]
    assert list(saved) == [victim.name.partition(".")[0]]


def test_a_damaged_validation_frame_is_left_out_too(shards_folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(shards_folder, shards)
    (tar,) = shards.glob("val-*.tar")
    with tarfile.open(tar) as archive:
        clips = sum(m.name.endswith(".json") for m in archive)
        # inside the one run that is validated, wherever it begins
        victims = [m for m in archive if m.name.endswith((".00020.jpg", ".00025.jpg"))][:2]
    with open(tar, "r+b") as stream:
        for victim in victims:
            stream.seek(victim.offset_data)
            stream.write(bytes(victim.size))
    config = Config(
        data=Data(shards=str(shards), val_runs=1),
        train=Train(batch_size=8 * clips, epochs=1),
        run=Run(dir=str(tmp_path / "run")),
    )
    if clips == 1:  # nothing else in the batch to go on with
        with pytest.raises(LoaderError, match=victims[0].name.partition(".")[0]):
            train_run(config)
    else:
        assert train_run(config)["val_runs"] == clips - 1


def test_a_folder_that_holds_a_run_is_not_overwritten(
    undisturbed: Path, shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (undisturbed / "steps.jsonl").read_bytes()
    assert main(command(shards_folder, undisturbed)) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (undisturbed / "steps.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--train.lrr", "1"], 2, "unrecognized arguments: --train.lrr"),
        (["--train.lr", "fast"], 2, "train.lr"),
        (["--data.shards", "nowhere"], 1, "nowhere/manifest.json is missing"),
        (["--data.shards", "nowhere", "--train.epochs", "0"], 2, "train.epochs must be at least 1"),
        (["--data.shards", "nowhere", "--train.device", "tpu"], 2, "must be auto, cpu or cuda"),
        (
            ["--data.shards", "nowhere", "--log", "excel"],
            2,
            "there are tensorboard, wandb, prometheus",
        ),
        (["--data.shards", "nowhere", "--log", "prometheus:http"], 2, "a port is a number from 0"),
        (["--data.windows_per_run", "3"], 2, "train.batch_size 128 must be a multiple"),
        ([*RUNS, "--train.accumulate", "3"], 2, "in runs of 3 windows"),
        (["--resume", "nowhere"], 1, "nowhere does not exist"),
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_resuming_with_other_samples_is_refused(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--resume", str(undisturbed), "--train.seed", "7"]) == 2
    assert "train.seed" in capsys.readouterr().err
    assert main(["--resume", str(undisturbed), *RUNS]) == 2
    assert "data.windows_per_" in capsys.readouterr().err


def test_resuming_one_set_with_two_is_refused(
    undisturbed: Path, shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ["--data.shards", str(shards_folder), str(shards_folder)]
    assert main(["--resume", str(undisturbed), *two]) == 2
    said = capsys.readouterr().err
    assert "was trained on 1 set(s) of data.shards, not 2" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {}}, "config has no section data"),
        (
            {"config": {"data": {"shards": 5}}},
            "config.data.shards: expected str | array | null, got int",
        ),
        ({"config": {"train": {"lr": 10**400}}}, "config.train.lr: number out of range"),
        ({"config": {"model": {"name": "paper"}}}, "model has no netcnnlip.5.weight"),
        ({"step": 10**12}, "it says that 1000000000000 steps are done, but its whole"),
        ({"step": True}, "step: expected int, got bool"),
        ({"best": math.nan}, "best: expected float"),
        ({"quarantine": {"clip": None}}, "quarantine"),
        ({"average": 5}, "average is 5, not a table"),
        ({"model": {"netfclip.0.bias": torch.zeros(1).expand(10**5, 10**5)}}, "more numbers than"),
        (
            {"model": {"netfclip.0.bias": torch.full((96,), math.inf)}},
            "bias holds numbers that are",
        ),
        ({"optimizer": {"state": {0: {}}}}, "optimizer.state"),
        ({"schedule": {"last_epoch": 5}}, "schedule.last_epoch is 5"),
        ({"rng": torch.zeros(3)}, "rng is 3 of float32, not 5056 of uint8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_that_lies_is_one_sentence(
    undisturbed: Path,
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = checkpoint.load(undisturbed / "last.pt")
    if change.get("config"):
        (section, values), *_ = change["config"].items()
        config = state["config"] | {section: state["config"][section] | values}
        change = {"config": config}
    for entry in ("model", "optimizer", "schedule"):
        if entry in change:
            change = {entry: state[entry] | change[entry]}
    torch.save(state | change, tmp_path / "last.pt")
    averaging = ["--train.average", "0.9"] if "average" in change else []
    assert main(["--resume", str(tmp_path / "last.pt"), *averaging]) == 1
    said = capsys.readouterr().err
    assert words in said and str(tmp_path / "last.pt") in said and said.count("\n") == 1, said
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_run_beyond_its_epochs_says_so(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(undisturbed / "last.pt", tmp_path)
    assert main(["--resume", str(tmp_path / "last.pt"), "--train.epochs", "1"]) == 2
    said = capsys.readouterr().err
    assert "beyond the 4 of this training: give more train.epochs (or train.steps)" in said, said
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_the_saved_configuration_is_read_back(undisturbed: Path) -> None:
    config, _ = parse(["--config", str(undisturbed / "config.yaml")])
    assert config.as_dict() == checkpoint.load(undisturbed / "last.pt")["config"]


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "trainer" / "configs").glob("*.yaml")), ids=lambda p: p.name
)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config, options = parse(["--config", str(path), "--data.shards", "somewhere"])
    assert config.train.epochs >= 1 and not options.demo


@pytest.mark.slow
@pytest.mark.real
def test_the_real_clip_trains_syncnet_with_falling_loss(real_clips: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clips" / "parity"
    shutil.copytree(real_clips / "parity" / "frames", clip / "frames")
    shutil.copy(real_clips / "parity" / "audio.wav", clip / "audio.wav")
    manifest = pack(tmp_path / "clips", tmp_path / "shards", PackOptions())
    assert manifest.splits["train"].clips == 1 and not manifest.dropped
    run = tmp_path / "run"
    arguments = ["--data.shards", str(tmp_path / "shards"), "--run.dir", str(run)]
    arguments += ["--model.name", "syncnet", "--train.batch_size", "4", "--train.epochs", "1"]
    arguments += ["--data.windows_per_clip", "48", "--train.lr", "3e-4"]
    arguments += ["--train.schedule", "constant", "--train.warmup_steps", "0"]
    assert main(arguments) == 0
    found = losses(run)
    assert len(found) == 12
    assert np.mean(found[-4:]) < np.mean(found[:4])
