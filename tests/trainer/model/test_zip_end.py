"""The end of a zip file as torch and as zipfile write it."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.model import torch_file
from trainer.model.zip_end import ZipEndError, zip_end


def saved() -> bytes:
    sink = io.BytesIO()
    torch.save({"weight": torch.arange(10.0), "steps": 3}, sink)
    return sink.getvalue()


def zipped(comment: bytes = b"") -> bytes:
    """By zipfile, without the records for files over 4 GB."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a/data.pkl", b"nothing")
        archive.comment = comment
    return sink.getvalue()


@pytest.mark.parametrize("content", [saved(), zipped()])
def test_it_finds_what_zipfile_finds(content: bytes) -> None:
    stream = io.BytesIO(content)
    directory_size, offset = zip_end(stream, len(content))
    with zipfile.ZipFile(stream) as archive:
        assert offset == archive.start_dir
    assert content[offset : offset + 4] == b"PK\1\2"
    assert content[offset + directory_size :][:2] == b"PK"
    assert b"PK\1\2" not in content[offset + directory_size :]


@pytest.mark.parametrize(
    "content",
    [saved() + b"more", zipped(b"a comment"), saved()[:-98] + b"x" * 8 + saved()[-98:]],
)
def test_what_follows_or_moves_the_end_is_refused(content: bytes) -> None:
    with pytest.raises(ZipEndError, match="something follows its end"):
        zip_end(io.BytesIO(content), len(content))


@pytest.mark.parametrize("content", [b"", b"PK", saved()[:-30], b"x" * 200])
def test_a_file_without_an_end_is_damaged(content: bytes) -> None:
    with pytest.raises(ZipEndError, match="damaged or truncated"):
        zip_end(io.BytesIO(content), len(content))


def test_checkpoints_are_read_whatever_zipfile_calls_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 as Ubuntu patches it counts from the end for files over 4 GB."""
    known: Any = zipfile._EndRecData  # type: ignore[attr-defined]
    place = 9

    def moved(stream: Any) -> Any:
        end = known(stream)
        end[place] -= 76
        end[0] = b"PK\5\6"  # keeps this Python from counting those bytes twice
        return end

    monkeypatch.setattr(zipfile, "_EndRecData", moved)
    path = tmp_path / "best.pt"
    path.write_bytes(saved())
    assert torch_file.read(path)["steps"] == 3
