"""Scores, thresholds and verdicts; a pass that is killed and goes on; the files."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, SHIFTED, UNREADABLE, read_keep, write_keep
from data_tools.lock import locked
from data_tools.records import RecordError
from mutations import changed_bytes, changed_json, documented
from trainer import refine as module
from trainer.data.dataset import Dataset
from trainer.model.syncnet import SyncNet
from trainer.refine import (
    PARTIAL,
    REACH,
    SCORES,
    Judged,
    find_threshold,
    fit_mixture,
    give_verdicts,
    judge,
    main,
    score_clips,
)
from trainer.score.clip_distances import Embedded, clip_distances
from trainer.train import checkpoint, timing


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fresh.pt"
    torch.save(SyncNet("small").state_dict(), path)
    return path


def clip(early: int | None, seed: int = 0, hidden: int = 0) -> Judged:
    """A clip whose audio is `early`, or dubbed (None); `hidden` windows see nothing of the lips."""
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(200, 16))
    lips = said[60:130] + 0.5 * rng.normal(size=(70, 16))
    lips[:hidden] = 30 * rng.normal(size=(hidden, 16))
    heard = rng.normal(size=(200, 16)) if early is None else said
    sound = heard[60 + (early or 0) :][:70]
    parts = torch.from_numpy(lips).float(), torch.from_numpy(sound).float()
    return judge(f"{early}-{seed}", *clip_distances(*parts, REACH))


@settings(max_examples=20, deadline=None)
@given(st.integers(-12, 12), st.integers(0, 50))
def test_score_and_offset(early: int, seed: int) -> None:
    found = clip(early, seed)
    assert found.offset == early and found.best_score > 0.3
    assert found.score > 0.3 if abs(early) <= 1 else found.score < 0.05
    assert clip(None, seed).score < 0.1 and clip(None, seed).best_score < 0.1


def test_a_few_wild_windows_change_little() -> None:
    assert clip(0, hidden=6).score == pytest.approx(clip(0).score, abs=0.05)
    assert clip(7, hidden=6).offset == 7


@pytest.mark.parametrize("realign", [False, True])
def test_verdicts(realign: bool) -> None:
    judged = [clip(0), clip(1), clip(9), clip(-5), clip(None)]
    judged += [Judged("short", 20, -1.0), Judged("bad", 70, fault="a frame cannot be decoded")]
    rows = give_verdicts(judged, 0.2, realign)
    moved = REALIGN if realign else SHIFTED
    assert [row.verdict for row in rows.values()] == (
        [KEEP, KEEP, moved, moved, NO_MINIMUM, KEEP, UNREADABLE]
    )
    assert rows["9-0"].offset == 9 and "360 ms early; delay" in rows["9-0"].reason
    assert rows["9-0"].audio_shift == (-9 if realign else 0)
    assert "too short to be judged" in rows["short"].reason and rows["short"].score is None


def test_two_groups_are_found_and_parted() -> None:
    rng = np.random.default_rng(0)
    off, on = rng.normal(-0.1, 0.08, 40), rng.normal(0.35, 0.08, 160)
    mixture = fit_mixture(np.concatenate([off, on]))
    assert mixture is not None and mixture.separate
    assert mixture.means == pytest.approx((-0.1, 0.35), abs=0.03)
    assert mixture.shares[0] == pytest.approx(0.2, abs=0.03)
    assert off.max() < mixture.threshold < np.quantile(on, 0.02)


@pytest.mark.parametrize("kind", ["normal", "skewed", "nothing learnt", "all one", "few"])
def test_one_group_rejects_nothing(kind: str) -> None:
    rng = np.random.default_rng(1)
    scores = {
        "normal": rng.normal(0.45, 0.08, 300),
        "skewed": 0.6 - rng.gamma(2, 0.06, 300),
        "nothing learnt": np.append(rng.normal(0.0, 0.004, 200), rng.normal(0.02, 0.002, 99)),
        "all one": np.full(50, 0.4),
        "few": np.array([0.1, 0.5]),
    }[kind]
    threshold = find_threshold(scores)
    assert threshold.value == -np.inf and "nothing is rejected" in threshold.words


def test_thresholds_that_are_given() -> None:
    scores = np.arange(100.0)
    assert find_threshold(scores, fixed=0.3).value == 0.3
    assert (scores < find_threshold(scores, reject_share=0.2).value).sum() == 20
    assert (scores < find_threshold(scores, reject_share=0.0).value).sum() == 0


real_pass = module.embed_clips


def killed_after(count: int) -> Any:
    def some(*args: Any, **options: Any) -> Iterator[Any]:
        for number, one in enumerate(real_pass(*args, **options)):
            if number == count:
                raise KeyboardInterrupt
            yield one

    return some


def test_a_killed_pass_goes_on(
    shards_folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_clips(shards_folder, weights, tmp_path / "whole", threads=1)
    assert [one.clip for one in whole] == sorted(Dataset(shards_folder, "train").keys)
    killed = tmp_path / "killed"
    monkeypatch.setattr(module, "embed_clips", killed_after(3))
    with pytest.raises(KeyboardInterrupt):
        score_clips(shards_folder, weights, killed, threads=1)
    assert not (killed / SCORES).exists()
    with open(killed / PARTIAL, "a") as stream:
        stream.write('{"clip": "clip_0')  # a line that was cut off
    asked: list[int] = []

    def noted(dataset: Dataset, model: SyncNet, clips: list[int], **options: Any) -> Iterator[Any]:
        asked.extend(clips)
        return real_pass(dataset, model, clips, **options)

    monkeypatch.setattr(module, "embed_clips", noted)
    again = score_clips(shards_folder, weights, killed, threads=1)
    assert len(asked) == len(whole) - 3
    for one, other in zip(again, whole, strict=True):
        assert one.clip == other.clip and one.score == pytest.approx(other.score, abs=1e-5)
    assert not (killed / PARTIAL).exists()
    asked.clear()
    assert score_clips(shards_folder, weights, killed, threads=1) == again
    assert asked == []
    # of other weights nothing may be used again
    torch.manual_seed(1)
    other_weights = tmp_path / "other.pt"
    torch.save(SyncNet("small").state_dict(), other_weights)
    score_clips(shards_folder, other_weights, killed, threads=1)
    assert len(asked) == len(whole)


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
    args += ["--out", str(tmp_path), "--threshold", "0.1", "--threads", "1", "--realign"]
    assert main(args) == 0
    keys = Dataset(shards_folder, "train").keys
    rows = read_keep(tmp_path / "keep.csv")
    assert sorted(rows) == sorted(keys)
    assert rows[keys[2]].verdict == REALIGN
    # window k of the lips shows what was heard at k - 6: the sound is early
    assert rows[keys[2]].offset == 6 and rows[keys[2]].audio_shift == -6
    assert rows[keys[4]].verdict == NO_MINIMUM
    assert all(rows[key].verdict == KEEP for at, key in enumerate(keys) if at not in (2, 4))
    assert (tmp_path / "scores.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "keep.csv" in shown and "1 realign, 1 no minimum" in shown
    assert main([*args, "--threshold", "9"]) == 1
    assert "no clip would be kept" in capsys.readouterr().err


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
        (["--run.dir", "x"], 2, "set by the refinement"),
        (["--train.no_such_option", "1"], 2, "no_such_option"),
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
    shards_folder: Path, tmp_path: Path
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


SUMMARY = {"finished": True, "seconds": 1.5, "val_auc": 0.5, "test_accuracy_k5": None, "steps": 3}


@settings(deadline=None, max_examples=200)
@given(data=changed_json(SUMMARY) | changed_bytes(json.dumps(SUMMARY).encode()))
def test_any_summary_of_a_training(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    run = tmp_path_factory.getbasetemp()
    (run / "summary.json").write_bytes(data)
    documented(lambda: (module._finished(run), module._final_scores(run)))


def test_a_summary_with_nan_is_read_and_a_damaged_one_named(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text('{"finished": true, "val_loss": NaN, "val_auc": 0.5, "test_auc": null}')
    assert module._finished(tmp_path) and module._final_scores(tmp_path) == {"val_auc": 0.5}
    file.write_text('{"finished": "yes"}')
    with pytest.raises(RecordError, match="finished: expected bool, got str"):
        module._finished(tmp_path)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_line_of_scores_is_read_or_measured_again(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    known = asdict(Judged("b", 46, 0.5, 3, 0.25))
    line = data.draw(changed_json(known) | changed_bytes(json.dumps(known).encode()))
    check_scores(line, tmp_path_factory.getbasetemp())


def check_scores(line: bytes, folder: Path) -> None:
    """What a pass goes on with, and its verdicts, where one line of the scores is `line`."""
    path, identity = folder / SCORES, {"version": 1}
    first = json.dumps(asdict(Judged("a", 46, 0.5)))
    path.write_bytes(b"\n".join([json.dumps(identity).encode(), first.encode(), line]))
    found = documented(lambda: module._read_scores(path, identity, {"a": 46, "b": 46}), ())
    assert "a" in found and set(found) <= {"a", "b"}
    threshold = find_threshold(np.array([one.score for one in found.values()]))
    rows = give_verdicts(found.values(), threshold.value, realign=True)
    write_keep(folder / "keep.csv", rows)
    assert read_keep(folder / "keep.csv").keys() == found.keys()


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
