"""`info`: the table of splits and the picture of sampled clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from data_tools.__main__ import main
from data_tools.packing import pack
from data_tools.plan import PackOptions

MakeClip = Callable[..., Path]


def test_table_counts_clips_and_frames_of_each_split(
    shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(shards_folder)]) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    counts = {row[0]: (row[1], row[3]) for row in rows if len(row) == 5}
    assert counts["train"] == ("7", "350")
    assert counts["val"] == ("2", "100") and counts["test"] == ("3", "150")


def test_montage_is_a_picture(shards_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "montage.png"
    arguments = ["--montage", str(picture), "--clips", "2", "--frames", "4"]
    assert main(["info", str(shards_folder), *arguments]) == 0
    pixels = cv2.imread(str(picture))
    assert pixels is not None and pixels.shape[1] > 1000 and pixels.std() > 10


def test_montage_of_gray_clips_and_more_than_there_are(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip(tmp_path / "clips" / "a", frames=6)
    pack(tmp_path / "clips", tmp_path / "out", PackOptions(gray=True))
    assert main(["info", str(tmp_path / "out"), "--montage", str(tmp_path / "m.png")]) == 0
    assert cv2.imread(str(tmp_path / "m.png")) is not None


def test_montage_of_no_clip_is_refused(
    make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (make_clip(tmp_path / "clips" / "a") / "audio.wav").unlink()
    pack(tmp_path / "clips", tmp_path / "out")
    assert main(["info", str(tmp_path / "out"), "--montage", str(tmp_path / "m.png")]) == 1
    assert "holds no clip to draw" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--clips", "--frames"])
def test_empty_montage_is_refused(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    picture = tmp_path / "m.png"
    assert main(["info", str(shards_folder), "--montage", str(picture), option, "0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err
    assert not picture.exists()
