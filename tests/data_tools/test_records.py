"""Whatever is in a file that we read: a record, or one sentence with file and field.

The `check_...` functions take what a file is to hold and a folder from its maker below; they raise
AssertionError where anything but the documented errors comes out. They leave the folder as it was.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from data_tools import prepare
from data_tools.__main__ import main
from data_tools.clips import SPLITS, find_clips
from data_tools.commands import prepare as prepare_command
from data_tools.info import summarise
from data_tools.keep import COLUMNS, KeepError, read_keep, write_keep
from data_tools.manifest import Manifest, ShardError, ShardStats, read_manifest
from data_tools.packing import pack
from data_tools.records import (
    LONGEST_LINE,
    RecordError,
    decode_record,
    number,
    read_lines,
    read_table,
    whole_number,
)
from data_tools.report import tally, write_report
from data_tools.shard_writer import is_complete
from data_tools.shards import open_shards
from data_tools.synth.clips import synthesize
from data_tools.tar_index import index_tar
from data_tools.verifying import verify
from data_tools.video.record import Row as VideoRow
from data_tools.video.record import (
    failed_row,
    open_record,
    read_record,
    record_file,
    write_record,
)
from mutations import DEEP, at, changed, changed_bytes, changed_json, command, documented
from mutations import places as all_places
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments

MakeClip = Callable[..., Path]
TRAIN = "train-000000"


@contextmanager
def holding(path: Path, data: bytes) -> Iterator[None]:
    """`path` holds `data` for a while."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def make_shards(make_clip: MakeClip, folder: Path) -> Path:
    """FOLDER/out: two clips to train on, one to validate on, one left out; of FOLDER/clips."""
    for count in range(2):
        make_clip(folder / "clips" / "train" / f"c{count}", frames=6, size=16, seed=count)
    clip = make_clip(folder / "clips" / "val" / "c2", frames=6, size=16, seed=2)
    (clip / "clip.json").write_text(json.dumps({"source": "talk", "frames": 6}))
    (make_clip(folder / "clips" / "train" / "mute", frames=6, size=16) / "audio.wav").unlink()
    pack(folder / "clips", folder / "out")
    return folder / "out"


def make_prepared(folder: Path) -> Path:
    """A folder as `prepare` leaves it, of a video that is not there any more."""
    out = folder / "prepared"
    clip = VideoRow("talk", "clip", "000-00", 0.0, 2.0, 50, True, "", "", 0.9, 80.5, 30.25, 0.5)
    track = VideoRow("talk", "track", "track 0", 0.0, 2.0, 50, True)
    short = VideoRow("talk", "track", "track 1", 1.0, 2.0, 25, False, "track too short", "25 < 50")
    video = VideoRow("talk", "video", "", 0.0, 2.0, 50, True)
    (folder / "talk.mp4").write_bytes(b"once a video")
    write_record(folder / "talk.mp4", "talk", out, [video, track, clip, short])
    (folder / "talk.mp4").unlink()
    return out


@pytest.fixture(scope="module")
def shards(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(make_clip, tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("records"))


def read_shards(folder: Path) -> None:
    """All that reads a folder of shards."""

    def everything() -> None:
        verify(folder)
        for split in SPLITS:
            for shard in open_shards(folder, split):
                for clip, record in enumerate(shard.records):
                    assert shard.mfcc(clip).shape == (record.columns, 13)
                    assert all(len(shard.jpeg(clip, i)) for i in range(record.frames))
        dataset = Dataset(folder, "train")
        segments = Segments(
            *(dataset_index(len(dataset), *at) for at in ((0,), (0,), (0,), (0,), (1,)))
        )
        dataset.jpegs(segments, 5)
        dataset.mfcc(segments, 5, 20)

    documented(everything)


def dataset_index(count: int, value: int) -> Any:
    import numpy as np

    return np.full(1, min(value, count - 1))


def check_manifest(data: bytes, folder: Path) -> None:
    """`verify`, `info`, `open_shards` and `Dataset` with another manifest.json."""
    console = Console(file=io.StringIO(), markup=False)
    with holding(folder / "manifest.json", data):
        read_shards(folder)
        documented(lambda: summarise(read_manifest(folder), folder, console))


def check_stats(data: bytes, folder: Path) -> None:
    """The same and what `pack` asks on a resume, with other statistics of a shard."""
    with holding(folder / f"{TRAIN}.json", data):
        read_shards(folder)
        documented(lambda: is_complete(folder / f"{TRAIN}.tar"))


def check_idx(data: bytes, folder: Path) -> None:
    """The readers with another index; one that is not the tar's is found as it is opened."""
    path = folder / f"{TRAIN}.idx"
    whole = path.read_bytes()
    with holding(path, data):
        read_shards(folder)
        if data != whole:
            assert verify(folder) != []


def check_tar(data: bytes, folder: Path) -> None:
    """The readers with other bytes in the tar."""
    with holding(folder / f"{TRAIN}.tar", data):
        read_shards(folder)


def check_plan(data: bytes, folder: Path) -> None:
    """`pack` into a folder with another plan.json."""
    with holding(folder / "plan.json", data):
        documented(lambda: pack(folder.parent / "clips", folder), (RecordError, ValueError))


def check_clip_json(data: bytes, folder: Path) -> None:
    """`find_clips` with another clip.json."""
    clips = folder.parent / "clips"
    with holding(clips / "val" / "c2" / "clip.json", data):
        found = documented(lambda: find_clips(clips))
    if found is not None:
        assert all(isinstance(clip.source, str) and clip.source for clip in found)


def check_keep(data: bytes, folder: Path) -> None:
    """`read_keep` with another keep.csv, from a file beside the shards."""
    path = folder.parent / "keep.csv"
    path.write_bytes(data)
    rows = documented(lambda: read_keep(path), (KeepError,))
    if rows is not None:
        write_keep(path, rows)
        assert read_keep(path).keys() == rows.keys()


def check_video_record(data: bytes, folder: Path) -> None:
    """What `prepare` does with a record of an earlier run: resume, report, table, remedy."""

    def resume() -> None:
        record = read_record("talk", folder)
        assert record is not None
        videos = [(Path("nowhere/talk.mp4"), "talk", "")]
        options = prepare_options()
        found = prepare.prepare(videos, folder, options, lambda *_: iter(()))
        found = sorted(found + prepare.earlier_records(folder, {name for name, _ in found}))
        write_report(folder, found)
        prepare_command.summarise(tally(found), Console(file=io.StringIO(), markup=False))
        prepare_command.remedy(tally(found))

    for file in (folder / ".prepare" / "options.json", *folder.glob("report*")):
        file.unlink(missing_ok=True)
    with holding(record_file(folder, "talk"), data):
        documented(resume)
    for file in (folder / ".prepare" / "options.json", *folder.glob("report*")):
        file.unlink(missing_ok=True)


def prepare_options() -> Any:
    from data_tools.video.options import PrepareOptions

    return PrepareOptions()


def check_prepare_options(data: bytes, folder: Path) -> None:
    """`prepare` into a folder with another options.json."""
    prepare.claim(folder, prepare_options())
    path = folder / ".prepare" / "options.json"
    with holding(path, data):
        documented(lambda: prepare.claim(folder, prepare_options()), (RecordError, ValueError))
    path.unlink()


EXAMPLES = settings(deadline=None, max_examples=250)


def content(path: Path) -> Any:
    return json.loads(path.read_bytes())


@EXAMPLES
@given(data=st.data())
def test_any_manifest(shards: Path, data: st.DataObject) -> None:
    whole = (shards / "manifest.json").read_bytes()
    check_manifest(data.draw(changed_json(json.loads(whole)) | changed_bytes(whole)), shards)


@EXAMPLES
@given(data=st.data())
def test_any_statistics(shards: Path, data: st.DataObject) -> None:
    whole = (shards / f"{TRAIN}.json").read_bytes()
    check_stats(data.draw(changed_json(json.loads(whole)) | changed_bytes(whole)), shards)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_index(shards: Path, data: st.DataObject) -> None:
    check_idx(data.draw(changed_bytes((shards / f"{TRAIN}.idx").read_bytes())), shards)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_tar(shards: Path, data: st.DataObject) -> None:
    check_tar(data.draw(changed_bytes((shards / f"{TRAIN}.tar").read_bytes())), shards)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_plan(shards: Path, data: st.DataObject) -> None:
    whole = (shards / "plan.json").read_bytes()
    check_plan(data.draw(changed_json(json.loads(whole)) | changed_bytes(whole)), shards)


@settings(deadline=None, max_examples=500)
@given(data=changed_json({"source": "talk", "frames": 6}) | changed_bytes(b'{"source": "talk"}'))
def test_any_clip_json(shards: Path, data: bytes) -> None:
    check_clip_json(data, shards)


TABLE = b"""\
clip,score,offset,verdict,reason
a,0.91,0,keep,
b,-1e-3,-5,realign,"audio is late; ""so"" it is"
c,,,unreadable,
"""


@settings(deadline=None, max_examples=800)
@given(data=changed_bytes(TABLE))
def test_any_keep_csv(shards: Path, data: bytes) -> None:
    check_keep(data, shards)


@EXAMPLES
@given(data=st.data())
def test_any_video_record(prepared: Path, data: st.DataObject) -> None:
    whole = record_file(prepared, "talk").read_bytes()
    check_video_record(data.draw(changed_json(json.loads(whole)) | changed_bytes(whole)), prepared)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_options_of_prepare(prepared: Path, data: st.DataObject) -> None:
    prepare.claim(prepared, prepare_options())
    whole = (prepared / ".prepare" / "options.json").read_bytes()
    check_prepare_options(
        data.draw(changed_json(json.loads(whole)) | changed_bytes(whole)), prepared
    )


def optional(place: tuple[str | int, ...]) -> bool:
    """Whether a field may be missing, or be null."""
    return place[-1] in ("format", "options", "sha256")


SOME_WRONG = [
    *("null", "true", "5", "-1", "5.5", '"x"', "[]", '{"x": 1}'),
    *("NaN", "Infinity", str(2**63), '"../../x.tar"', '"\\u0000"', DEEP),
]


def wrong_for(value: Any) -> list[str | None]:
    """What can't be right in place of `value`: None is that it is missing."""
    if isinstance(value, str):
        fits = [text for text in SOME_WRONG if text.startswith('"')]
    elif isinstance(value, dict):
        fits = ["{}", '{"x": 1}']
    elif isinstance(value, list):
        fits = ["[]"]
    elif isinstance(value, bool):
        fits = ["true"]
    elif isinstance(value, float):
        fits = ["0", "5", "-0.0", "5.5", "-1"]  # some may be negative
    else:
        fits = ["0", "5", "-0.0"]
    # a lone surrogate is no text
    return [None, '"\\udcff"', *(text for text in SOME_WRONG if text not in fits)]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("out/manifest.json", ["info", "out"]),
        (f"out/{TRAIN}.json", ["verify", "out", "--workers", "1"]),
        ("out/plan.json", ["pack", "clips", "out", "--workers", "1"]),
        ("clips/val/c2/clip.json", ["pack", "clips", "out", "--workers", "1"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_every_field_of_another_type_ends_the_command_with_one_sentence(
    shards: Path, name: str, arguments: list[str]
) -> None:
    root = shards.parent
    file = root / name
    whole = content(file)
    words = [str(root / word) if (root / word).exists() else word for word in arguments]
    for place in all_places(whole):
        if "options" in place[:-1] or place == ("frames",):  # what nobody reads
            continue
        if place[:2] in (("clips", 1), ("shards", 1)):  # like the first
            continue
        value = at(whole, place)
        for text in wrong_for(value):
            if place and optional(place) and text in (None, "null"):
                continue
            if place and place[-1] == "options" and text == '{"x": 1}':
                continue
            if place and isinstance(place[-1], int) and text is None:
                continue  # one entry less is another list, not a wrong one
            with holding(file, changed(whole, place, text).encode("utf-8", "surrogatepass")):
                status, out, err = command(main, *words)
            # a source may be a number or a name that is no UTF-8: then it is merely another one
            another = place == ("source",) and text in ('"\\udcff"', "0", "5", "-1", str(2**63))
            if another:
                assert status == 2 and "another configuration" in err, (place, text)
                continue
            assert status == 1, (place, text)
            told = err + (out if arguments[0] == "verify" else "")
            assert file.name in told, (place, text, told)


def test_every_field_of_a_video_record(prepared: Path) -> None:
    file = record_file(prepared, "talk")
    whole = content(file)
    for place in all_places(whole):
        for text in wrong_for(at(whole, place)):
            if place and (isinstance(place[-1], int) or at(whole, place) is None):
                continue
            data = changed(whole, place, text).encode("utf-8", "surrogatepass")
            check_video_record(data, prepared)
            if place == ("file", "path") and text == '"\\udcff"':
                continue  # a file's name may be no UTF-8
            with holding(file, data):
                if text in (None, "null") or place in (("file", "size"), ("file", "mtime_ns")):
                    documented(lambda: open_record(file))  # some may be missing
                    continue
                with pytest.raises(RecordError, match="is not the record of a video") as error:
                    open_record(file)
            named = not place or text == '"\\udcff"' or str(place[-1]) in str(error.value)
            assert named, (place, text)


def test_the_error_names_file_field_and_remedy(shards: Path) -> None:
    file = shards / f"{TRAIN}.json"
    with (
        holding(file, changed(content(file), ("clips", 1, "frames"), '"6"').encode()),
        pytest.raises(ShardError) as error,
    ):
        open_shards(shards, "train")
    assert str(error.value) == (
        f"{file} cannot be used: its statistics are damaged: clips[1].frames: expected int, got "
        "str; delete it and run pack again"
    )


@pytest.mark.parametrize("moved", [-512, -1, 1, 512])
@pytest.mark.parametrize("member", ["json", "mfcc.npy", "00000.jpg", "00003.jpg", "00005.jpg"])
def test_an_offset_in_the_index_that_is_moved_is_found_as_the_shard_is_opened(
    shards: Path, moved: int, member: str
) -> None:
    hit = next(m for m in index_tar(shards / f"{TRAIN}.tar")[1] if m.extension == member)
    idx = shards / f"{TRAIN}.idx"
    before = idx.read_bytes()
    here = f"{member} {hit.offset} {hit.size} ".encode()
    assert before.count(here) == 1
    with (
        holding(idx, before.replace(here, f"{member} {hit.offset + moved} {hit.size} ".encode())),
        pytest.raises(ShardError, match="does not match"),
    ):
        open_shards(shards, "train")


@pytest.mark.parametrize("name", ["../out/{}", "/{}", "a/{}", "..{}", ".{}", "{}/.", "{}\\n", ""])
def test_a_name_in_the_manifest_leads_nowhere_else(shards: Path, name: str) -> None:
    manifest = content(shards / "manifest.json")
    manifest["shards"][0]["name"] = name.format(manifest["shards"][0]["name"])
    with (
        holding(shards / "manifest.json", json.dumps(manifest).encode()),
        pytest.raises(ShardError, match=r"shards\[0\]\.name"),
    ):
        verify(shards)


def test_a_shard_of_another_split_is_not_trained_on(shards: Path) -> None:
    manifest = content(shards / "manifest.json")
    for entry in manifest["shards"]:
        entry["split"] = "train"
    with (
        holding(shards / "manifest.json", json.dumps(manifest).encode()),
        pytest.raises(ShardError, match="clips of val"),
    ):
        open_shards(shards, "train")


def test_a_manifest_that_counts_clips_where_there_are_none(shards: Path) -> None:
    stats = content(shards / f"{TRAIN}.json") | {"clips": []}
    with (
        holding(shards / f"{TRAIN}.json", json.dumps(stats).encode()),
        pytest.raises(ShardError, match="lists no clip"),
    ):
        open_shards(shards, "train")


def test_brackets_in_a_name_are_no_markup(shards: Path) -> None:
    manifest = content(shards / "manifest.json")
    manifest["dropped"][0] |= {"clip": "[/red]:smile:", "reason": "[bold", "detail": "[/]"}
    with holding(shards / "manifest.json", json.dumps(manifest).encode()):
        status, out, _ = command(main, "info", shards)
    assert status == 0 and "[/red]:smile:" in out


def test_what_is_no_regular_file_does_not_make_us_wait(tmp_path: Path) -> None:
    pipe = tmp_path / "manifest.json"
    os.mkfifo(pipe)
    for action in (
        lambda: read_manifest(tmp_path),
        lambda: read_keep(pipe),
        lambda: list(read_lines(pipe)),
        lambda: list(read_table(Path("/dev/zero"))),
        lambda: read_keep(tmp_path),
    ):
        with pytest.raises(RecordError, match="no regular file"):
            action()


def test_a_file_too_large_to_be_read_is_not_read(tmp_path: Path) -> None:
    for name in ("manifest.json", "keep.csv"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(2**40)  # a hole
    with pytest.raises(RecordError, match="larger than"):
        read_manifest(tmp_path)
    with pytest.raises(RecordError, match="larger than"):
        read_keep(tmp_path / "keep.csv")
    (tmp_path / "lines").write_bytes(b"1\n" + b"2" * (LONGEST_LINE + 1))
    with pytest.raises(RecordError, match="line 2: longer than"):
        list(read_lines(tmp_path / "lines"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "no JSON"),
        (b'{"a": 1} x', "no JSON"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": 1e400}', ": number out of range"),
        (b'{"a": 5.0}', ": expected int, got float"),
        (b'{"a": true}', ": expected int, got bool"),
        (b'{"a": ' + b"9" * 5000 + b"}", ": integer value out of range"),
        (b'{"\xff": 1}', "no UTF-8"),
        (b'{"a": "\\ud800"}', "no JSON|expected int"),
        (b'{"a": ' + DEEP.encode() + b"}", ": expected int, got array"),
        (b'{"b": {"c": ' + DEEP.encode() + b"}}", "nested too deeply|expected"),
    ],
)
def test_what_is_no_record_is_said(text: bytes, problem: str) -> None:
    with pytest.raises(RecordError, match=problem):
        decode_record(text, dict[str, int])


def test_a_name_that_is_no_utf8_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"talk\xff.mp4")
    file.write_bytes(b"once a video")
    write_record(file, "talk", tmp_path, [failed_row("talk", "no face", "none")])
    record = read_record("talk", tmp_path)
    assert record is not None and Path(record.file.path) == file


def test_numbers_in_tables() -> None:
    found = {text: whole_number(text) for text in ("5", "+5", " -5 ", "05", "1_0", "５", "5.0", "")}
    assert found == dict.fromkeys(("5", "+5", "05"), 5) | {" -5 ": -5} | dict.fromkeys(
        ("1_0", "５", "5.0", "")
    )
    assert whole_number("9" * 5000) is None
    assert [number(text) for text in ("1e3", "-.5", "nan", "inf", "1e999", "1_0", "0x1")] == [
        *(1000, -0.5),
        *(None, None, None, None, None),
    ]


def test_unknown_fields_and_old_files_are_read(shards: Path) -> None:
    manifest = content(shards / "manifest.json") | {"later": [1]}
    del manifest["options"], manifest["format"]
    with holding(shards / "manifest.json", json.dumps(manifest).encode()):
        assert verify(shards) == []
        assert read_manifest(shards).clips_found == 4


def test_what_is_written_is_what_is_read(shards: Path) -> None:
    """The files are what they were before there were records: same keys, same bytes."""
    for name, kind in (("manifest.json", Manifest), (f"{TRAIN}.json", ShardStats)):
        text = (shards / name).read_bytes()
        assert decode_record(text, kind) is not None
        plain = json.dumps(json.loads(text), indent=1, sort_keys=True).encode() + b"\n"
        assert text == plain
    assert set(content(shards / "manifest.json")) == {
        *("format", "options", "clips_found", "shards", "splits", "dropped")
    }
    assert set(content(shards / "plan.json")) == {"format", "options", "clips", "clips_sha256"}


def test_synth_goes_on_in_a_folder_with_a_damaged_record_no_more(tmp_path: Path) -> None:
    synthesize(tmp_path / "s", clips=1, seconds=1, size=32, workers=1)
    for text in ("", "[]", DEEP, '{"seed": NaN}', "null"):
        (tmp_path / "s" / "synth.json").write_text(text)
        with pytest.raises(ValueError, match="other arguments"):
            synthesize(tmp_path / "s", clips=1, seconds=1, size=32, workers=1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",".join(COLUMNS) + "\na,1,1_0,keep,\n", "no whole number"),
        (",".join(COLUMNS) + "\na,1,５,keep,\n", "no whole number"),
        (",".join(COLUMNS) + "\na,1_0,0,keep,\n", "no number"),
        (",".join(COLUMNS) + "\na,1,0,keep," + "x" * 200_000 + "\n", "line 2: field larger"),
        (",".join([*COLUMNS, "clip"]) + "\na,1,0,keep,,b\n", "first line"),
        ("\0" + ",".join(COLUMNS) + "\na,1,0,keep,\n", "first line"),
    ],
)
def test_a_keep_csv_that_no_program_wrote(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "keep.csv").write_text(text, encoding="utf-8")
    with pytest.raises(KeepError, match=problem):
        read_keep(tmp_path / "keep.csv")
