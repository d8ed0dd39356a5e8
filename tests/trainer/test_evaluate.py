"""Accuracy, intervals, the shift test and the files of `python -m trainer.evaluate`."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.lock import locked
from data_tools.manifest import ClipRecord
from mutations import changed_bytes, documented
from trainer import evaluate as module
from trainer.data.dataset import Dataset
from trainer.evaluate import (
    CONTEXTS,
    MOVES,
    REACH,
    EvaluationError,
    Measured,
    Options,
    figures,
    main,
    measure_clip,
    read_offsets,
    sliding_means,
)
from trainer.model.syncnet import SyncNet
from trainer.score.clip_distances import Embedded, clip_distances
from trainer.score.scoring import accuracy, mean_over_windows

RECORD = ClipRecord("clip", "clip", "source", 60, 240, 64, 64, 1, 0, "")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that has learnt nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fresh.pt"
    torch.save(SyncNet("small").state_dict(), path)
    return path


def embeddings(early: int, windows: int, noise: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(windows + 100, 8))
    lips = content[50 : 50 + windows] + noise * rng.normal(size=(windows, 8))
    sound = content[50 + early : 50 + early + windows]
    return torch.from_numpy(lips).float(), torch.from_numpy(sound).float()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 11), st.integers(0, 5))
def test_sliding_means_are_those_of_every_run(windows: int, width: int, seed: int) -> None:
    distances, valid = clip_distances(*embeddings(0, windows, 1.0, seed), REACH)
    found = sliding_means(distances, valid, width)
    assert len(found) == max(0, windows - width + 1)
    for start, means in enumerate(found):
        part = slice(start, start + width)
        expected = mean_over_windows(distances[None, part], valid[None, part])[0]
        np.testing.assert_allclose(means, expected, rtol=1e-6)


@pytest.mark.parametrize("early", [-9, 0, 1, 4])
def test_a_clip_is_right_where_its_offset_is_nought(early: int) -> None:
    found = measure_clip(RECORD, *embeddings(early, 60, 0.1), Options(), 100)
    assert found.runs.tolist() == [60 - (context - 4) + 1 for context in CONTEXTS]
    assert found.score.offset == early
    assert found.histogram.sum(1).tolist() == found.runs.tolist()
    if abs(early) <= 1:
        # of the first window alone the right shift may lie before the clip
        assert (found.runs - found.right <= abs(early)).all()
    else:  # near an end the right shift lies outside the clip
        assert (found.right < 0.3 * found.runs).all()
        assert (found.histogram[:, early + REACH] > 0.6 * found.runs).all()


def test_an_own_offset_takes_the_place_of_nought() -> None:
    in_sync = measure_clip(RECORD, *embeddings(0, 60, 0.1), Options(), 100)
    early = measure_clip(RECORD, *embeddings(4, 60, 0.1), Options(), 100, own=4)
    wrong = measure_clip(RECORD, *embeddings(0, 60, 0.1), Options(), 100, own=4)
    assert early.parts["inside"].tolist() == in_sync.parts["inside"].tolist()
    assert (early.right > 0.8 * early.runs).all() and not wrong.right.any()
    assert early.genuine.mean() == pytest.approx(in_sync.genuine.mean(), rel=0.3)
    assert wrong.genuine.mean() > 3 * in_sync.genuine.mean()
    result = [figures([one], Options(resamples=5)) for one in (early, wrong)]
    assert [found["accuracy"]["clip"]["value"] for found in result] == [1.0, 0.0]
    assert result[1]["offset_histogram"]["clip"][REACH - 4] == 1
    assert early.row()["own_offset_frames"] == 4 and early.row()["offset_frames"] == 4


def test_offsets_are_read_from_what_synth_and_evaluate_write(tmp_path: Path) -> None:
    file = tmp_path / "truth.csv"
    file.write_text("clip,kind,offset_frames\na,in_sync,0\nb,shifted,-4\nc,dubbed,\n")
    assert read_offsets(file) == {"a": 0, "b": -4}
    for text, said in (
        ("clip,offset\na,0\n", "no column offset_frames"),
        ("clip,offset_frames\na,x\n", "line 2: the offset of a, 'x', is no whole number"),
        ("clip,offset_frames\na,0\nb,16\n", "line 3: b is off by 16 frames, more than 15"),
        ("clip,offset_frames\na,1_0\n", "'1_0', is no whole number"),
        ("clip,offset_frames\na\n", "line 2: 1 fields, not 2"),
        ("clip,offset_frames\na,1\na,2\n", "line 3: clip 'a' is twice"),
        ("clip,offset_frames,clip\na,1,b\n", "a column twice"),
        ("", "no column clip and no offset_frames"),
        ('clip,offset_frames\na,"1\n', "line 2"),
    ):
        file.write_text(text)
        with pytest.raises(EvaluationError, match=said):
            read_offsets(file)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_offsets(tmp_path / "none.csv")


def test_accuracy_is_that_of_the_scoring() -> None:
    lips, sound = embeddings(0, 50, 2.0)
    speech = np.arange(50) % 7 < 2
    found = measure_clip(RECORD, lips, sound, Options(), 100, speech_K=speech)
    distances, valid = clip_distances(lips, sound, REACH)
    for i, context in enumerate(CONTEXTS):
        width = context - 4
        cut = range(50 - width + 1)
        runs = np.stack([distances[start : start + width] for start in cut])
        inside = np.stack([valid[start : start + width] for start in cut])
        expected = accuracy(mean_over_windows(runs, inside))
        assert found.right[i] / found.runs[i] == pytest.approx(expected)
        zeros = accuracy(mean_over_windows(runs, np.ones_like(inside)))
        assert found.right_padded[i] / found.runs[i] == pytest.approx(zeros)
        away = [start for start in cut if start >= REACH and start + width + REACH <= 50]
        starts, right = found.parts["inside"][i]
        assert starts == len(away) > 0 and inside[away].all()
        expected = accuracy(mean_over_windows(runs[away], inside[away]))
        assert right / starts == pytest.approx(expected)
        spoken = [start for start in away if speech[start : start + width].any()]
        starts, right = found.parts["speech"][i]
        assert starts == len(spoken) > 0
        expected = accuracy(mean_over_windows(runs[spoken], inside[spoken]))
        assert right / starts == pytest.approx(expected)


def test_short_clips_and_subsets_of_starts() -> None:
    few = measure_clip(RECORD, *embeddings(0, 60, 0.1), Options(starts=4), 100)
    assert few.runs.tolist() == [4] * len(CONTEXTS)
    short = measure_clip(RECORD, *embeddings(0, 4, 0.1), Options(), 100)
    assert short.runs.tolist() == [4, 2, 0, 0, 0, 0]
    result = figures([short], Options(resamples=20))
    assert result["accuracy"]["k15"] == {"value": None, "low": None, "high": None}


def test_intervals_come_from_sources() -> None:
    """A hundred clips of two sources say no more of others than two clips do."""

    def clips(each: int) -> list[Measured]:
        good = measure_clip(RECORD, *embeddings(0, 40, 0.1), Options(), 100)
        bad = measure_clip(RECORD, *embeddings(9, 40, 0.1), Options(), 100)
        bad = replace(bad, record=replace(RECORD, source="other"))
        return [good, bad] * each

    few, many = (figures(clips(each), Options(resamples=300)) for each in (1, 50))
    for name in ("accuracy", "accuracy_zero_padded"):
        assert few[name] == many[name]
    assert few["accuracy"]["k15"]["low"] == pytest.approx(0, abs=0.1)
    assert few["accuracy"]["k15"]["high"] == 1
    for name in ("auc", "eer", "lse_c", "lse_d"):
        figure = many[name]
        assert figure["low"] <= figure["value"] + 0.01 and figure["value"] - 0.01 <= figure["high"]
    alone = figures([clips(1)[0]], Options(resamples=20))
    assert alone["auc"]["low"] is None and alone["auc"]["value"] == 1.0


def command(shards: Path, weights: Path, out: Path, *more: str) -> list[str]:
    return ["--data.shards", str(shards), "--weights", str(weights), "--out", str(out), *more]


def test_files_are_the_same_each_time(shards_folder: Path, weights: Path, tmp_path: Path) -> None:
    args = ["--resamples", "20", "--split", "train"]
    assert main(command(shards_folder, weights, tmp_path / "a", *args)) == 0
    assert main(command(shards_folder, weights, tmp_path / "b", *args)) == 0
    for name in ("evaluation.json", "clips.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "offsets.png").stat().st_size > 1000
    result = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    rows = list(csv.DictReader((tmp_path / "a" / "clips.csv").open()))
    assert len(rows) == result["clips"] == len(Dataset(shards_folder, "train"))
    total = sum(int(row["k15_right"]) for row in rows)
    assert result["accuracy"]["k15"]["value"] == total / result["starts"]["k15"]


def hears_with_its_eyes(
    dataset: Dataset, model: SyncNet, *args: Any, **options: Any
) -> Iterator[Any]:
    """Embeddings of a perfect network: what the lips give is what the sound gives."""
    for one in real_pass(dataset, model, *args, **options):
        yield Embedded(one.clip, one.sound_KD, one.sound_KD)


real_pass = module.embed_clips


def test_shift_test_follows_the_sound(
    shards_folder: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = command(shards_folder, weights, tmp_path / "out", "--shift-test", "--resamples", "20")
    assert main(args) == 1  # a network that has learnt nothing
    assert "DOES NOT FOLLOW" in capsys.readouterr().out
    monkeypatch.setattr(module, "embed_clips", hears_with_its_eyes)
    assert main(args) == 0
    rows = json.loads((tmp_path / "out" / "evaluation.json").read_text())["shift_test"]
    assert [row["median_change"] for row in rows] == list(MOVES)
    assert all(row["share_right"] == 1 and row["share_wrong_sign"] == 0 for row in rows)
    assert "480 ms) early: the offset moves by +12" in capsys.readouterr().out


def test_swapped_sound_scores_near_chance(
    shards_folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "embed_clips", hears_with_its_eyes)
    own, swapped = tmp_path / "own", tmp_path / "swapped"
    args = ["--split", "train", "--resamples", "20"]
    assert main(command(shards_folder, weights, own, *args)) == 0
    assert main(command(shards_folder, weights, swapped, *args, "--swapped")) == 0
    found = [json.loads((out / "evaluation.json").read_text()) for out in (own, swapped)]
    assert found[0]["accuracy"]["clip"]["value"] == 1
    assert found[1]["accuracy"]["k5"]["value"] < 0.35


def test_own_offsets_are_those_of_a_file(
    shards_folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "embed_clips", hears_with_its_eyes)
    key = next(shard.records[0].key for shard in Dataset(shards_folder, "train").shards)
    args = command(shards_folder, weights, tmp_path / "a", "--split", "train", "--resamples", "20")
    assert main(args) == 0
    clips = tmp_path / "a" / "clips.csv"
    assert main([*args, "--out", str(tmp_path / "b"), "--offsets", str(clips)]) == 0
    same = json.loads((tmp_path / "b" / "evaluation.json").read_text())
    assert same["accuracy"]["clip"]["value"] == 1 and same["own_offsets"] == "clips.csv"
    one = tmp_path / "one.csv"
    one.write_text(f"clip,offset_frames\n{key},-3\n")
    assert main([*args, "--out", str(tmp_path / "c"), "--offsets", str(one)]) == 0
    other = json.loads((tmp_path / "c" / "evaluation.json").read_text())
    assert other["clips"] == 1 and other["accuracy"]["clip"]["value"] == 0
    assert set(other["left_out"].values()) == {"its own offset is not listed"}


def test_a_broken_clip_is_listed(shards_folder: Path, weights: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards_folder, tmp_path / "copy"))
    shard = Dataset(copy, "test").shards[0]
    with shard.tar.open("r+b") as stream:
        stream.seek(int(shard.offset[3]))
        stream.write(np.random.default_rng(0).bytes(int(shard.size[3])))
    args = command(copy, weights, tmp_path / "out", "--resamples", "20")
    assert main(args) == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(result["left_out"].values()) == ["a frame cannot be decoded"]
    assert "a frame cannot be decoded" in (tmp_path / "out" / "clips.csv").read_text()


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"--weights": "nowhere.pt"}, 1, "no file"),
        ({"--data.shards": "nowhere"}, 1, "manifest"),
        ({"--starts": "-1"}, 2, "--starts"),
        ({"--min-shift": "16"}, 2, "--min-shift"),
        ({"--swapped": None, "--shift-test": None}, 2, "leave out --swapped"),
        ({"--swapped": None, "--offsets": "x.csv"}, 2, "leave out --swapped"),
        ({"--offsets": "nowhere.csv"}, 1, "nowhere.csv cannot be read"),
        ({"--out": __file__}, 2, "is a file, not a folder"),
        ({"--out": f"{__file__}/below"}, 2, "is a file, not a folder"),
        ({"--out": "/proc/evaluation"}, 2, "cannot be written"),
        ({"--split": "dev"}, 2, "invalid choice"),
        ({"--device": "toaster"}, 2, "--device"),
    ],
)
def test_bad_input_is_one_sentence(
    shards_folder: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str | None],
    status: int,
    problem: str,
) -> None:
    given = {"--data.shards": str(shards_folder), "--weights": str(weights)}
    given |= {"--out": str(tmp_path / "out"), **change}  # type: ignore[dict-item]
    words = [word for pair in given.items() for word in pair if word is not None]
    try:
        assert main(words) == status
    except SystemExit as left:
        assert left.code == status
    shown = capsys.readouterr().err
    assert problem in shown and "Traceback" not in shown


@settings(deadline=None, max_examples=300)
@given(data=changed_bytes(b"clip,kind,offset_frames\na,in_sync,0\nb,shifted,-4\nc,dubbed,\n"))
def test_any_file_of_offsets(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "offsets.csv"
    file.write_bytes(data)
    documented(lambda: read_offsets(file), (EvaluationError,))


def test_a_folder_that_another_is_writing_to_is_refused(
    shards_folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--weights", str(weights), "--data.shards", str(shards_folder), "--out", str(out)]
    with locked(out, "evaluate"):
        assert main(args) == 2
    assert f"another evaluate is writing to {out}; wait for it" in capsys.readouterr().err
    assert not out.exists()
    assert main([*args, "--starts", "1", "--resamples", "1"]) == 0
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
