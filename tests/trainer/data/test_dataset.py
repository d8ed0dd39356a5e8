"""The dataset: views of the mapped tars that equal what tarfile reads, and faults named."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace as Namespace

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from data_tools.manifest import ShardError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from tests.conftest import MakeClip
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments


@pytest.fixture(scope="module")
def several_shards(clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve clips as one split of at least three shards."""
    out = tmp_path_factory.mktemp("several") / "packed"
    pack(clips_folder, out, PackOptions(ratios=(100, 0, 0), shard_mb=1))
    assert len(list(out.glob("train-*.tar"))) >= 3
    return out


@pytest.fixture
def damaged(several_shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(several_shards, tmp_path / "copy"))


def runs_of(
    clips: Sequence[int], starts: Sequence[int], audio_starts: Sequence[int] | None = None
) -> Segments:
    clip, start = np.array(clips), np.array(starts)
    sound = start if audio_starts is None else np.array(audio_starts)
    return Segments(clip, start, clip, sound, np.ones_like(clip))


def members(folder: Path) -> dict[str, bytes]:
    """Every member of every tar in the folder, as tarfile reads it."""
    found = {}
    for tar in folder.glob("*.tar"):
        with tarfile.open(tar) as archive:
            for info in archive:
                stream = archive.extractfile(info)
                assert stream is not None
                found[info.name] = stream.read()
    return found


def stored_mfcc(folder: Path, key: str) -> NDArray[np.float32]:
    return np.asarray(np.load(io.BytesIO(members(folder)[f"{key}.mfcc.npy"])))


# -------------------------------------------------------------------------------- the clips


def test_clips_are_numbered_through_the_shards(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    assert len(dataset) == len(set(dataset.keys)) == 12
    assert dataset.frames.tolist() == [50] * 12
    assert dataset.windows.tolist() == [45] * 12  # 199 columns hold 45 windows of 20
    assert dataset.frame_shapes == {(64, 64, 3): 12}


def test_a_split_holds_its_own_clips_only(shards_folder: Path) -> None:
    keys = [set(Dataset(shards_folder, split).keys) for split in ("train", "val", "test")]
    assert [len(split) for split in keys] == [7, 2, 3]
    assert len(set().union(*keys)) == 12


def test_a_frame_is_named_by_member_and_shard(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    last = dataset.shards[-1]
    assert dataset.frame_name(11, 7) == f"{dataset.keys[11]}.00007.jpg in {last.tar}"


# ------------------------------------------------------------------------------- the frames


def test_jpegs_equal_the_members_of_the_tars(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    truth = members(several_shards)
    segments = runs_of(range(12), [0, 40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 40])
    got = dataset.jpegs(segments, 10)
    names = [
        f"{dataset.keys[clip]}.{start + frame:05d}.jpg"
        for clip, start in zip(segments.clip.tolist(), segments.start.tolist(), strict=True)
        for frame in range(10)
    ]
    assert [jpeg.tobytes() for jpeg in got] == [truth[name] for name in names]


def test_jpegs_are_read_only_views_of_the_mapping(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    for clip, jpeg in enumerate(dataset.jpegs(runs_of(range(12), [0] * 12), 1)):
        owner = next(s for s in dataset.shards if dataset.keys[clip] in s.keys)
        assert np.shares_memory(jpeg, owner.bytes)
        assert not jpeg.flags.writeable


def test_advising_is_fine_at_both_ends_of_every_clip(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    dataset.advise(runs_of(range(12), [0] * 12), 50)
    dataset.advise(runs_of(range(12), [0] * 12), 1)
    dataset.advise(runs_of(range(12), [49] * 12), 1)


def test_what_was_asked_of_the_kernel_is_asked_again_once_a_page_was_waited_for(
    several_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    class Map:
        def madvise(self, advice: int, at: int, size: int) -> None:
            asked.append((at, size))

    faults = [5]
    monkeypatch.setattr(
        "trainer.data.dataset.resource.getrusage", lambda who: Namespace(ru_majflt=faults[0])
    )
    dataset = Dataset(several_shards, "train")
    for shard in dataset.shards:
        monkeypatch.setattr(shard, "map", Map(), raising=False)
    dataset.advise(runs_of([0, 3, 7], [0, 5, 9]), 5)
    assert len(asked) == 3
    dataset.advise(runs_of([3, 7, 8], [5, 9, 1]), 5)
    assert len(asked) == 4  # the new one
    for turn in range(300):  # more than there are numbers of rounds
        faults[0] += 1
        dataset.advise(runs_of([0, 3], [0, 5]), 5)
        dataset.advise(runs_of([0, 3], [0, 5]), 5)
        assert len(asked) == 6 + 2 * turn
    assert set(asked[:3]) == set(asked[:3] + asked[4:])


def test_no_runs_give_nothing(several_shards: Path) -> None:
    nothing = Segments(*(np.empty(0, dtype=np.int64) for _ in range(5)))
    dataset = Dataset(several_shards, "train")
    dataset.advise(nothing, 5)
    assert dataset.jpegs(nothing, 5) == []
    assert dataset.mfcc(nothing, 5, 20).shape == (0, 20, 13)


# -------------------------------------------------------------------------------- the sound


@pytest.mark.parametrize("clip", range(12))
def test_sound_equals_the_stored_features(several_shards: Path, clip: int) -> None:
    dataset = Dataset(several_shards, "train")
    stored = stored_mfcc(several_shards, dataset.keys[clip])
    sound = dataset.mfcc(runs_of([clip, clip], [0, 0], [0, 44]), 5, 20)
    assert sound.dtype == np.float32
    assert np.array_equal(sound[0], stored[:20])
    assert np.array_equal(sound[1], stored[176:196])


@pytest.mark.parametrize("begin", [-100, -20, -5, -1, 0, 30, 45, 49, 50, 100])
def test_sound_is_zero_outside_both_ends_of_the_clip(several_shards: Path, begin: int) -> None:
    dataset = Dataset(several_shards, "train")
    stored = stored_mfcc(several_shards, dataset.keys[5])
    expected = np.zeros((80, 13), dtype=np.float32)
    for column in range(80):
        if 0 <= 4 * begin + column < len(stored):
            expected[column] = stored[4 * begin + column]
    assert np.array_equal(dataset.mfcc(runs_of([5], [0], [begin]), 20, 80)[0], expected)


def test_a_span_wider_than_the_clip_holds_all_of_it(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    stored = stored_mfcc(several_shards, dataset.keys[0])
    sound = dataset.mfcc(runs_of([0], [0], [-10]), 80, 320)[0]
    assert np.array_equal(sound[40:239], stored)
    assert not sound[:40].any() and not sound[239:].any()


def test_columns_past_the_span_are_zero(several_shards: Path) -> None:
    sound = Dataset(several_shards, "train").mfcc(runs_of([0], [0]), 5, 25)[0]
    assert sound[:20].any(axis=1).all()
    assert not sound[20:].any()


def test_sound_may_come_from_another_clip(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    one = np.array([0])
    sound = dataset.mfcc(Segments(one, one, np.array([11]), one, one), 5, 20)
    assert np.array_equal(sound[0], stored_mfcc(several_shards, dataset.keys[11])[:20])


# ------------------------------------------------------------------------------- the faults


def test_a_split_without_clips_is_named(several_shards: Path) -> None:
    with pytest.raises(ShardError, match=r"holds no clip of the val split"):
        Dataset(several_shards, "val")


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"manifest\.json is missing"):
        Dataset(tmp_path, "train")


@pytest.mark.parametrize("suffix", [".tar", ".idx", ".json"])
def test_a_missing_file_is_named(damaged: Path, suffix: str) -> None:
    gone = damaged / f"train-000001{suffix}"
    gone.unlink()
    with pytest.raises(ShardError) as caught:
        Dataset(damaged, "train")
    assert str(caught.value).startswith(f"{gone} is missing")


def test_a_truncated_tar_is_named(damaged: Path) -> None:
    tar = damaged / "train-000001.tar"
    size = tar.stat().st_size
    with tar.open("r+b") as stream:
        stream.truncate(size - 1024)
    with pytest.raises(ShardError) as caught:
        Dataset(damaged, "train")
    assert f"{tar} has {size - 1024} bytes, {size} were written" in str(caught.value)


def test_the_idx_of_another_shard_is_named(damaged: Path) -> None:
    shutil.copy(damaged / "train-000000.idx", damaged / "train-000001.idx")
    with pytest.raises(ShardError) as caught:
        Dataset(damaged, "train")
    assert f"{damaged / 'train-000001.idx'} does not match train-000001.tar" in str(caught.value)


def test_a_tar_written_anew_under_an_old_idx_is_named(damaged: Path) -> None:
    """Same size, other places: only the headers in the tar tell."""
    tar = damaged / "train-000001.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[512:] + content[:512])
    with pytest.raises(ShardError, match=r"train-000001\.idx does not match"):
        Dataset(damaged, "train")


@pytest.mark.parametrize("text", ["", "v1.1 1\n", "v1.2 1\njson x\n", "\0\xff\n"])
def test_an_idx_that_is_none_is_named(damaged: Path, text: str) -> None:
    (damaged / "train-000001.idx").write_text(text, encoding="utf-8")
    with pytest.raises(ShardError, match=r"train-000001\.idx does not match"):
        Dataset(damaged, "train")


def test_all_faults_are_named_at_once(damaged: Path) -> None:
    (damaged / "train-000000.idx").unlink()
    (damaged / "train-000001.tar").unlink()
    (damaged / "train-000002.json").write_text("{")
    with pytest.raises(ShardError) as caught:
        Dataset(damaged, "train")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, name in zip(
        lines, ["train-000000.idx", "train-000001.tar", "train-000002.json"], strict=True
    ):
        assert str(damaged / name) in line


def test_damage_in_another_split_does_no_harm(shards_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shards_folder, tmp_path / "copy"))
    for entry in json.loads((folder / "manifest.json").read_text())["shards"]:
        if entry["split"] == "test":
            (folder / entry["name"]).unlink()
    assert len(Dataset(folder, "train")) == 7
    with pytest.raises(ShardError, match=r"test-000000\.tar is missing"):
        Dataset(folder, "test")


@pytest.mark.parametrize("early", [0, 4, -3])
def test_kept_clips_are_numbered_from_where_picture_and_sound_agree(
    several_shards: Path, early: int
) -> None:
    plain = Dataset(several_shards, "train")
    kept = Dataset(several_shards, "train", {plain.keys[2]: early, plain.keys[5]: 0})
    used = np.flatnonzero(kept.windows)
    assert used.tolist() == [2, 5]
    # frame i goes with the sound at i - early
    frame, heard = max(early, 0) + 7, max(early, 0) + 7 - early
    segments, moved = runs_of([2], [7]), runs_of([2], [frame], [heard])
    assert np.array_equal(kept.mfcc(segments, 5, 20), plain.mfcc(moved, 5, 20))
    for one, other in zip(kept.jpegs(segments, 5), plain.jpegs(moved, 5), strict=True):
        assert np.array_equal(one, other)
    assert f".{frame:05d}.jpg" in kept.frame_name(2, 7)
    last = int(kept.windows[2]) - 1
    assert plain.windows[2] - kept.windows[2] in range(abs(early) - 1, abs(early) + 2)
    moved = runs_of([2], [max(early, 0) + last], [max(early, 0) + last - early])
    assert moved.start[0] + 5 <= plain.frames[2] and moved.audio_start[0] < plain.windows[2]


def test_a_second_sound_follows_the_first(several_shards: Path) -> None:
    dataset = Dataset(several_shards, "train")
    segments = runs_of([3], [10])
    both = Segments(
        segments.clip, segments.start, segments.clip, segments.start, segments.label, np.array([22])
    )
    sound = dataset.mfcc(both, 10, 40)
    assert np.array_equal(sound[:, :20], dataset.mfcc(segments, 5, 20))
    assert np.array_equal(sound[:, 20:], dataset.mfcc(runs_of([3], [10], [22]), 5, 20))


def test_quiet_windows_are_those_far_below_the_loud(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clips" / "half", frames=40)
    audio, rate = soundfile.read(clip / "audio.wav", dtype="int16")
    audio[20 * 640 :] //= 2000  # 66 dB down
    soundfile.write(clip / "audio.wav", audio, rate, subtype="PCM_16")
    pack(tmp_path / "clips", tmp_path / "shards", PackOptions(ratios=(100, 0, 0)))
    dataset = Dataset(tmp_path / "shards", "train")
    segments = runs_of([0], [0])
    sound = dataset.mfcc(segments, 40, 160)
    quiet = dataset.quiet(segments, sound, 160)[0]
    assert quiet.shape == (36,) and not quiet[:19].any() and quiet[21:35].all()
    loud = dataset.loud(0, 40)
    assert np.array_equal(loud, ~quiet[: len(loud)]) and len(loud) == dataset.windows[0]
    assert dataset.loud(0, 90).all()
