"""The shift test, the control and the files of `python -m trainer.evaluate`."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.lock import locked
from trainer.data.dataset import Dataset
from trainer.evaluate import default_folder, main
from trainer.model.syncnet import SyncNet
from trainer.score import evaluation as module
from trainer.score.clip_distances import Embedded
from trainer.score.evaluation import MOVES, EvaluationOptions


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
        ({"--split": "dev"}, 2, "--split must be one of 'train', 'val', 'test', not dev"),
        ({"--device": "toaster"}, 2, "--device"),
        ({"--weights": "#"}, 1, "# is no file"),
        ({"--resamples": "0"}, 2, "--resamples must be at least 1"),
        ({"--threads": "-1"}, 2, "--threads must be at least 0"),
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


def test_each_network_and_set_has_a_folder_of_its_own() -> None:
    def named(weights: str, shards: str, **options: Any) -> str:
        return str(default_folder(Path(weights), shards, EvaluationOptions(**options)))

    assert named("runs/a/best.pt", "sets/grid/") == "evaluations/a-best-grid-test"
    assert named("runs/b/best.pt", "sets/grid") == "evaluations/b-best-grid-test"
    assert named("runs/a/step-00000010.pt", "lrw", split="val") == (
        "evaluations/a-step-00000010-lrw-val"
    )
    assert named("w/mouth.safetensors", "s3://bucket/my set/", swapped=True) == (
        "evaluations/mouth-my_set-test-swapped"
    )


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


def test_the_protocol_of_the_papers_stands_beside_them(
    shards_folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--protocol", "lrs2", "--split", "train", "--resamples", "20"]
    assert main(command(shards_folder, weights, tmp_path / "a", *more)) == 0
    shown = capsys.readouterr().out
    assert "VocaLiST" in shown and "16 frames" in shown and "The sets differ" in shown
    found = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    pairs = found["protocol"]["random_pairs"]
    assert pairs["n16"]["pairs"] > 100 and 0.2 < pairs["n16"]["nearer"]["value"] < 0.8
    assert main(command(shards_folder, weights, tmp_path / "b", *more)) == 0
    again = json.loads((tmp_path / "b" / "evaluation.json").read_text())
    assert again == found
    assert main(command(shards_folder, weights, tmp_path / "c", "--speakers", "(x)(y)")) == 2
    assert "--speakers takes one group" in capsys.readouterr().err
