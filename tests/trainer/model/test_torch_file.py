"""Files of torch.save: whole ones as torch reads them, all others refused before they take room."""

import io
import os
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hostile_weights as hostile
from trainer.model import torch_file
from trainer.model.torch_file import TorchFileError


def refused(content: bytes, words: str) -> None:
    began = time.monotonic()
    said = hostile.refused(lambda: torch_file.read(hostile.file_of(content)), TorchFileError)
    assert said is not None and words in said, said
    assert time.monotonic() - began < 60  # 2^60 steps have no end


def test_whole_files_are_read_as_torch_reads_them() -> None:
    for content in hostile.small_files():
        path = hostile.file_of(content)
        found, wanted = torch_file.read(path), torch.load(path, weights_only=True)
        assert found["values"] == wanted["values"]
        for name in ("a", "b", "n"):
            mine, theirs = found["model"][name], wanted["model"][name]
            assert torch.equal(mine, theirs) and mine.stride() == theirs.stride()
        assert isinstance(found["p"], nn.Parameter) and found["half"].dtype == torch.bfloat16


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").touch()
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "no plain file"),
        (tmp_path / "loop", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "empty", "truncated"),
        (Path("/dev/zero"), "no plain file"),
    ):
        with pytest.raises(TorchFileError, match=words):
            torch_file.read(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(1).expand(10**5, 10**5), "more numbers than the file holds"),
        (torch.zeros(3)[:1].expand(5, 3), "more numbers than the file holds"),
        (torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.zeros(10**6, 10**6, device="meta"), "_rebuild_meta_tensor"),
        (torch.zeros(3, dtype=torch.complex64), "ComplexFloatStorage"),
        (torch.zeros(3, dtype=torch.uint16), "more than tensors"),
        ({(1, 2): 3}, "a key in it"),
        ({1, 2}, "set"),
        (bytearray(10), "bytearray"),
    ],
    ids=str,
)
def test_more_than_plain_tensors_is_refused(value: Any, words: str, zipped: bool) -> None:
    stream = io.BytesIO()
    torch.save({"a": value}, stream, _use_new_zipfile_serialization=zipped)
    refused(stream.getvalue(), words)


# A storage of ten numbers, as `hostile.pickled` keeps it, and the same said to be of 2^31 - 1.
TEN = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\ntQ"
HUGE = TEN.replace(b"K\n", b"J\xff\xff\xff\x7f")
VIEW = b"ctorch._utils\n_rebuild_tensor_v2\n(%b%b%b%b\x89NtR"
BOMB = b")" + b"q\0h\0\x86" * 60  # a tuple of two of the tuples before, sixty times


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (VIEW % (TEN, b"K\0", b"K\n\x85", b"K\1\x85"), ""),
        (VIEW % (HUGE, b"K\0", b"K\n\x85", b"K\1\x85"), "do not lie in it"),
        (VIEW % (TEN, b"K\5", b"K\n\x85", b"K\1\x85"), "more numbers"),
        (VIEW % (TEN, b"K\0", b"J\xff\xff\xff\x7f\x85", b"K\0\x85"), "more numbers"),
        (VIEW % (TEN, b"K\0", b"J\xff\xff\xff\xff\x85", b"K\0\x85"), "no count"),
        (VIEW % (TEN, b"K\0", b"K\n\x85", b"J\xff\xff\xff\xff\x85"), "no count"),
        (VIEW % (TEN, b"K\0", b"K\n\x85", b")"), "no shape"),
        (VIEW % (TEN, b"K\0", b"X\1\0\0\x00a\x85", b"K\1\x85"), "no count"),
        (VIEW % (TEN, b"K\0", b"(" + b"K\1" * 99 + b"t", b"(" + b"K\1" * 99 + b"t"), "no shape"),
        (b"c__builtin__\nbytearray\n\x8a\6\0\0\0\0\0\1\x85R", "bytearray"),
        (b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R", "FloatTensor"),
        (b"}" + BOMB + b"K\1s", "a key in it"),
        (b"ccollections\nOrderedDict\n]](" + BOMB + b"K\1ea\x85R", "a key in it"),
        (b"]r\xff\xff\xff\xff", ""),  # an index of a memo, which pickle in C takes for its length
        (b"\x8c\5short", "could execute code"),
        (b"X\xff\xff\xff\xfftext", "ends early"),
        (b"]" + b"]a" * 600_000, "over 1,000,000 steps"),
        (b"\x85" * 10, ""),
        (b"}X\5\0\0\0itemsK\5s", ""),
        (b"ccollections\nOrderedDict\n)R}X\5\0\0\0itemsK\5sb", "more than tensors"),
    ],
)
def test_pickles_written_by_hand(parts: bytes, words: str) -> None:
    content = hostile.pickled(parts)
    if words:
        refused(content, words)
    else:
        hostile.check_torch_file(content)


def test_zip_files_that_lie_are_refused() -> None:
    whole = hostile.small_files()[0]
    # a bomb: zeros deflated to a thousandth
    for method, words in ((zipfile.ZIP_DEFLATED, "compressed"), (zipfile.ZIP_LZMA, "compressed")):
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w", method) as new:
            for record in old.infolist():
                new.writestr(record.filename, old.read(record))
            new.writestr("tried/data/99", bytes(1 << 24))
        refused(stream.getvalue(), words)
    # every bit counts
    place = whole.index(torch.tensor(7.0).numpy().tobytes())
    refused(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], "damaged")
    refused(whole + b"tail", "")
    refused(b"PK\3\4" + whole, "")
    refused(whole[: len(whole) // 2], "damaged or truncated")
    packed = whole.index(b"PK\1\2") + 20  # how much data.pkl takes, by the directory
    refused(whole[:packed] + b"\xff\xff\xff\x7f" + whole[packed + 4 :], "do not lie in it")
    stream = io.BytesIO(whole)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(
            archive.namelist()[0].upper(), b"another, by a name that torch takes for it"
        )
    refused(stream.getvalue(), "no names of their own")


def test_a_file_before_torch_1_6_that_lies_is_refused() -> None:
    whole = hostile.small_files()[1]
    assert torch_file.read(hostile.file_of(whole))["values"][5] == "text"
    refused(whole[:-4], "damaged or truncated")
    count = whole.index(b"K<")  # of the sixty numbers
    refused(whole[:count] + b"K\xff" + whole[count + 2 :], "damaged")


@settings(max_examples=900, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_bytes_crash_or_take_room(rng: random.Random) -> None:
    hostile.check_torch_file(hostile.mutated_torch_file(rng))
