"""Packing: keys, what is left out, and that kills and worker counts leave no trace."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import soundfile

from data_tools.clips import SPLITS, find_clips
from data_tools.mfcc import mfcc
from data_tools.packing import pack
from data_tools.plan import PackOptions, file_sizes
from data_tools.shards import Shard, open_shards
from data_tools.verifying import verify

MakeClip = Callable[..., Path]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def all_shards(folder: Path) -> list[Shard]:
    return [shard for split in SPLITS for shard in open_shards(folder, split)]


# --- keys


def test_clip_names_with_dots_are_packed_under_keys_without(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    for seed, name in enumerate(("talk.v2.final", "talk_v2.final")):
        make_clip(tmp_path / "clips" / name, frames=6, seed=seed)
    pack(tmp_path / "clips", tmp_path / "out", PackOptions(ratios=(1, 0, 0)))
    (shard,) = all_shards(tmp_path / "out")
    assert {record.clip for record in shard.records} == {"talk.v2.final", "talk_v2.final"}
    assert len(set(shard.keys)) == 2
    assert not any("." in key for key in shard.keys)
    assert verify(tmp_path / "out") == []


# --- content


def test_every_clip_is_packed_once_with_its_bytes_untouched(
    clips_folder: Path, shards_folder: Path
) -> None:
    shards = all_shards(shards_folder)
    seen = []
    for shard in shards:
        for clip, record in enumerate(shard.records):
            folder = clips_folder / record.clip
            audio = soundfile.read(folder / "audio.wav", dtype="int16")[0]
            np.testing.assert_array_equal(shard.mfcc(clip), mfcc(audio))
            for frame in range(record.frames):
                original = (folder / "frames" / f"frame{frame}.jpg").read_bytes()
                assert bytes(shard.jpeg(clip, frame)) == original
            seen.append(record.clip)
    assert sorted(seen) == sorted(clip.name for clip in find_clips(clips_folder))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (PackOptions(size=16), (16, 16, 3)),
        (PackOptions(gray=True), (32, 32, 1)),
        (PackOptions(quality=30), (32, 32, 3)),
    ],
)
def test_size_gray_and_quality_change_the_frames(
    make_clip: MakeClip, tmp_path: Path, options: PackOptions, shape: tuple[int, int, int]
) -> None:
    clip = make_clip(tmp_path / "clips" / "a", frames=6)
    pack(tmp_path / "clips", tmp_path / "out", options)
    (shard,) = all_shards(tmp_path / "out")
    jpeg = bytes(shard.jpeg(0, 0))
    assert jpeg != (clip / "frames" / "frame0.jpg").read_bytes()
    record = shard.records[0]
    assert (record.height, record.width, record.channels) == shape
    assert verify(tmp_path / "out") == []


def test_manifest_counts_what_the_shards_hold(shards_folder: Path) -> None:
    manifest = json.loads((shards_folder / "manifest.json").read_text())
    for split in SPLITS:
        shards = open_shards(shards_folder, split)
        assert manifest["splits"][split] == {
            "clips": sum(len(shard.records) for shard in shards),
            "frames": sum(record.frames for shard in shards for record in shard.records),
            "bytes": sum(shard.tar.stat().st_size for shard in shards),
        }
        assert manifest["splits"][split]["clips"] > 0


# --- what is left out


def damage_truncated(clip: Path) -> None:
    jpeg = clip / "frames" / "frame7.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-300])


def damage_corrupt(clip: Path) -> None:
    (clip / "frames" / "frame7.jpg").write_bytes(b"this is no picture")


def damage_no_audio(clip: Path) -> None:
    (clip / "audio.wav").unlink()


def damage_rate(clip: Path) -> None:
    soundfile.write(clip / "audio.wav", np.zeros((44_100, 2), np.int16), 44_100)


def damage_short(clip: Path) -> None:
    for number in range(4, 30):
        (clip / "frames" / f"frame{number}.jpg").unlink()


def damage_sizes(clip: Path) -> None:
    other = simplejpeg.encode_jpeg(np.zeros((48, 40, 3), np.uint8))
    (clip / "frames" / "frame7.jpg").write_bytes(other)


def damage_length(clip: Path) -> None:
    soundfile.write(clip / "audio.wav", np.ones(33 * 640, np.int16), 16_000)


def damage_missing(clip: Path) -> None:
    (clip / "frames" / "frame7.jpg").unlink()


def damage_empty_wav(clip: Path) -> None:
    soundfile.write(clip / "audio.wav", np.zeros(0, np.int16), 16_000)


def damage_wav(clip: Path) -> None:
    (clip / "audio.wav").write_bytes(b"RIFF and nothing more")


DAMAGES: list[tuple[Callable[[Path], None], str, str]] = [
    (damage_truncated, "truncated JPEG", "frame7.jpg"),
    (damage_corrupt, "corrupt JPEG", "frame7.jpg"),
    (damage_no_audio, "no audio", "neither audio.wav nor audio.npy"),
    (damage_rate, "audio is not 16 kHz mono", "2 channels at 44100 Hz"),
    (damage_short, "too short for one window", "4 frames"),
    (damage_sizes, "mixed sizes", "frame7.jpg is 40x48"),
    (damage_length, "length mismatch", "30 frames of picture, 33 of sound"),
    (damage_missing, "frame missing", "no frame 7"),
    (damage_empty_wav, "no audio", "no sample"),
    (damage_wav, "unreadable audio", "audio.wav"),
]


@pytest.mark.parametrize(("damage", "reason", "detail"), DAMAGES)
def test_damaged_clip_is_left_out_and_listed_and_the_rest_is_packed(
    make_clip: MakeClip,
    tmp_path: Path,
    damage: Callable[[Path], None],
    reason: str,
    detail: str,
) -> None:
    make_clip(tmp_path / "clips" / "good")
    damage(make_clip(tmp_path / "clips" / "bad", seed=1))
    manifest = pack(tmp_path / "clips", tmp_path / "out", PackOptions(ratios=(1, 0, 0)))
    (dropped,) = manifest.dropped
    assert (dropped.clip, dropped.reason) == ("bad", reason)
    assert detail in dropped.detail
    assert manifest.clips_found == 2
    assert [r.clip for s in all_shards(tmp_path / "out") for r in s.records] == ["good"]
    assert verify(tmp_path / "out") == []


def test_shard_whose_clips_all_fail_is_listed_and_leaves_no_tar(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    make_clip(tmp_path / "clips" / "train" / "good")
    damage_no_audio(make_clip(tmp_path / "clips" / "val" / "bad"))
    manifest = pack(tmp_path / "clips", tmp_path / "out")
    assert [shard.clips for shard in manifest.shards] == [1, 0]
    assert not (tmp_path / "out" / "val-000000.tar").exists()
    before = contents(tmp_path / "out")
    pack(tmp_path / "clips", tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert verify(tmp_path / "out") == []


# --- the same bytes, whatever happens


@pytest.fixture(scope="module")
def many_clips(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips enough for a dozen shards of one megabyte, one of the clips damaged."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(24):
        make_clip(folder / f"video{number // 2}" / f"c{number}", frames=25, size=128, seed=number)
    damage_truncated(folder / "video3" / "c7")
    return folder


@pytest.fixture(scope="module")
def undisturbed(many_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one run in one process writes."""
    out = tmp_path_factory.mktemp("undisturbed")
    pack(many_clips, out, PackOptions(shard_mb=1), workers=1)
    files = contents(out)
    assert sum(name.endswith(".tar") for name in files) >= 8
    return files


@pytest.mark.slow
def test_worker_count_does_not_change_a_byte(
    many_clips: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    pack(many_clips, tmp_path, PackOptions(shard_mb=1), workers=2)
    assert contents(tmp_path) == undisturbed


def start_pack(clips: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """`pack` in a process group of its own, so that a test can look for what it leaves running."""
    command = [sys.executable, "-m", "data_tools", "pack", str(clips), str(out)]
    command += ["--shard-mb", "1", "--workers", str(workers), "--allow-dropped"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def group_is_gone(group: int) -> bool:
    """Whether every process of the group has ended; a zombie has."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state not in "ZX":
            return False
    return True


def committed(out: Path) -> dict[str, int]:
    """When the files of each complete shard were written."""
    names = [p.name for p in out.glob("*-*.json")] if out.exists() else []
    files = [out / name.replace(".json", s) for name in names for s in (".json", ".idx", ".tar")]
    return {file.name: file.stat().st_mtime_ns for file in files if file.exists()}


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "shards"), [(1, 0), (1, 4), (2, 3)])
def test_killed_pack_goes_on_where_it_stopped_and_ends_with_the_same_bytes(
    many_clips: Path, undisturbed: dict[str, bytes], tmp_path: Path, workers: int, shards: int
) -> None:
    out = tmp_path / "out"
    run = start_pack(many_clips, out, workers)
    wait_until(lambda: len(committed(out)) >= 3 * shards and out.exists(), "no shard was written")
    if shards:  # amid the next shard
        wait_until(lambda: any(out.glob(".*.tar.partial-*")), "no shard was begun")
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL, "the run ended before it was killed"
    wait_until(lambda: group_is_gone(run.pid), "a worker outlived the run")
    kept = committed(out)
    assert not (out / "manifest.json").exists()
    pack(many_clips, out, PackOptions(shard_mb=1), workers=1)
    assert contents(out) == undisturbed
    after = committed(out)
    assert {name: after[name] for name in kept} == kept


@pytest.mark.slow
def test_interrupted_pack_says_so_in_one_line(many_clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start_pack(many_clips, out, workers=2)
    wait_until(lambda: len(committed(out)) >= 3, "no shard was written")
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    _, error = run.communicate(timeout=60)
    assert run.returncode == 130
    # on a busy machine a line of progress comes first
    said = [line for line in error.decode().splitlines() if not line.startswith("packing: ")]
    assert said == ["python -m data_tools pack: interrupted; run it again to go on"]


@pytest.mark.parametrize("lost", [".json", ".idx", ".tar"])
def test_shard_that_lost_a_file_is_written_again(
    many_clips: Path, undisturbed: dict[str, bytes], tmp_path: Path, lost: str
) -> None:
    for name, content in undisturbed.items():
        (tmp_path / name).write_bytes(content)
    before = committed(tmp_path)
    (tmp_path / f"train-000001{lost}").unlink()
    pack(many_clips, tmp_path, PackOptions(shard_mb=1))
    assert contents(tmp_path) == undisturbed
    after = committed(tmp_path)
    assert {name.split(".")[0] for name in before if after[name] != before[name]} == {
        "train-000001"
    }


# --- refusals


@pytest.fixture
def packed(make_clip: MakeClip, tmp_path: Path) -> tuple[Path, Path]:
    for number in range(3):
        make_clip(tmp_path / "clips" / f"c{number}", frames=6, seed=number)
    pack(tmp_path / "clips", tmp_path / "out")
    return tmp_path / "clips", tmp_path / "out"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"ratios": (70, 15, 15)}, "ratios was"),
        ({"gray": True}, "gray was False, is True"),
        ({"size": 64}, "size was None, is 64"),
        ({"flac": True}, "flac was False"),
        ({"split_by": "clip"}, "split_by was source, is clip"),
    ],
)
def test_other_options_over_old_output_are_refused(
    packed: tuple[Path, Path], changed: dict[str, Any], message: str
) -> None:
    before = contents(packed[1])
    with pytest.raises(ValueError, match=message):
        pack(*packed, PackOptions(**changed))
    assert contents(packed[1]) == before


def test_added_clip_over_old_output_is_refused(
    packed: tuple[Path, Path], make_clip: MakeClip
) -> None:
    make_clip(packed[0] / "new", frames=6)
    with pytest.raises(ValueError, match="clips was 3, is 4"):
        pack(*packed)


def test_changed_clip_over_old_output_is_refused(packed: tuple[Path, Path]) -> None:
    (packed[0] / "c1" / "frames" / "frame3.jpg").write_bytes(b"shorter")
    with pytest.raises(ValueError, match="another configuration"):
        pack(*packed)


def test_shards_of_unknown_origin_are_not_touched(packed: tuple[Path, Path]) -> None:
    (packed[1] / "plan.json").unlink()
    with pytest.raises(ValueError, match="unknown origin"):
        pack(*packed)


def test_second_pack_into_the_same_folder_is_refused(packed: tuple[Path, Path]) -> None:
    descriptor = os.open(packed[1], os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another pack is writing"):
            pack(*packed)
    finally:
        os.close(descriptor)


def test_file_sizes_see_absent_audio_and_every_frame(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a", frames=5)
    wav, npy, *frames = file_sizes(find_clips(tmp_path)[0])
    assert (wav, npy, len(frames)) == ((clip / "audio.wav").stat().st_size, -1, 5)


# --- real recordings


def unpack_tar(tar: Path, out: Path, clips: int) -> None:
    """The first clips of a tar of clip folders."""
    with tarfile.open(tar) as archive:
        chosen: set[str] = set()
        for member in archive:
            name = member.name.removeprefix("./").split("/")[0]
            if name not in chosen and len(chosen) == clips:
                continue
            if member.isfile():
                chosen.add(name)
                archive.extract(member, out, filter="data")


@pytest.mark.real
def test_real_mouths_are_packed_whole(real_clips: Path, tmp_path: Path) -> None:
    unpack_tar(real_clips / "grid_mouths" / "clips.tar", tmp_path / "clips", clips=10)
    manifest = pack(tmp_path / "clips", tmp_path / "out")
    assert manifest.dropped == []
    assert sum(split.clips for split in manifest.splits.values()) == 10
    assert verify(tmp_path / "out") == []


@pytest.mark.real
def test_real_face_track_is_packed_with_all_317_frames(real_clips: Path, tmp_path: Path) -> None:
    shutil.copytree(real_clips / "parity" / "frames", tmp_path / "clips" / "parity" / "frames")
    shutil.copy(real_clips / "parity" / "audio.wav", tmp_path / "clips" / "parity")
    assert pack(tmp_path / "clips", tmp_path / "out").dropped == []
    (shard,) = all_shards(tmp_path / "out")
    (record,) = shard.records
    assert (record.frames, record.height, record.width, record.channels) == (317, 224, 224, 3)
    assert verify(tmp_path / "out") == []
