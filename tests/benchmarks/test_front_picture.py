"""The README's picture is drawn, small enough for a page, and shows what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import front_picture
from benchmarks.front_picture import PICTURE, Curve, draw
from benchmarks.result import RESULTS

_PNG = b"\x89PNG"


def size_of(picture: Path) -> tuple[int, int]:
    content = picture.read_bytes()
    assert content.startswith(_PNG)
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    compared = json.loads((RESULTS / "compare_loaders.json").read_text())
    assert set(front_picture.LOADERS) <= set(compared["loaders"])
    curve = Curve({offset: 10.0 + abs(offset - 5) for offset in range(-15, 16)}, 5)
    draw(curve, compared, tmp_path / "front.png")
    assert size_of(tmp_path / "front.png") == (1200, 420)


def test_the_committed_picture_fits_a_page() -> None:
    assert size_of(PICTURE) == (1200, 420)
    assert PICTURE.stat().st_size < 120_000


@pytest.mark.slow
def test_the_command_writes_one_file(tmp_path: Path) -> None:
    out = tmp_path / "front.png"
    assert front_picture.main(["--seconds", "3", "--out", str(out)]) == 0
    assert size_of(out) == (1200, 420)
    assert list(tmp_path.iterdir()) == [out]


def test_wrong_settings_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert front_picture.main(["--seconds", "0"]) == 2
    assert front_picture.main(["--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "--seconds must be at least 3" in error and "is a folder" in error
    assert error.count("\n") == 2
