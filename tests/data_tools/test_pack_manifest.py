"""`pack --manifest`: rejected clips are gone, shifted ones fit, the splits stay as they were."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import soundfile

from data_tools.__main__ import main
from data_tools.clip_data import load_clip, realign
from data_tools.clips import Clip, ClipError
from data_tools.keep import KEEP, REALIGN, SHIFTED, KeepError, Row, write_keep
from data_tools.manifest import RejectedClip
from data_tools.mfcc import SAMPLES_PER_FRAME
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import open_shards
from data_tools.synth.clips import ClipTruth, render_clip
from data_tools.verifying import verify


def clip_keys(shards: Path) -> dict[str, set[str]]:
    return {
        split: {key for shard in open_shards(shards, split) for key in shard.keys}
        for split in ("train", "val", "test")
    }


def test_rejected_clips_are_gone_and_splits_stay(clips_folder: Path, tmp_path: Path) -> None:
    options = PackOptions(ratios=(60, 20, 20))
    pack(clips_folder, tmp_path / "whole", options)
    whole = clip_keys(tmp_path / "whole")
    train = sorted(whole["train"])
    rows = {key: Row(KEEP, 0.5, 0) for key in train}
    rows |= {train[0]: Row(SHIFTED, 0.1, 4, "audio is late"), train[1]: Row(REALIGN, 0.1, 4)}
    manifest = pack(clips_folder, tmp_path / "kept", options, keep=rows)
    assert verify(tmp_path / "kept", 1) == []
    kept = clip_keys(tmp_path / "kept")
    assert kept["train"] == whole["train"] - {train[0]}
    assert (kept["val"], kept["test"]) == (whole["val"], whole["test"])
    (rejected,) = manifest.rejected or ()
    assert rejected == RejectedClip(train[0], SHIFTED, "audio is late")
    frames = {
        record.key: record.frames
        for shard in open_shards(tmp_path / "kept", "train")
        for record in shard.records
    }
    assert frames[train[1]] == frames[train[2]] - 4
    with pytest.raises(ValueError, match="another configuration"):
        pack(clips_folder, tmp_path / "kept", options)
    with pytest.raises(KeepError, match="names none"):
        pack(clips_folder, tmp_path / "other", options, keep={"nobody": Row(KEEP)})


@pytest.mark.parametrize("early", [-7, -1, 2, 9])
def test_realigned_clips_are_as_if_never_shifted(early: int, tmp_path: Path) -> None:
    """The same face and voice, shifted and put in place again, against those in sync."""

    def data(truth: ClipTruth) -> tuple[np.ndarray, np.ndarray]:
        return render_clip(np.random.default_rng(3), 50, 32, truth)

    pictures, sound = data(ClipTruth())
    _, moved = data(ClipTruth("shifted", early))
    folder = tmp_path / "clip"
    (folder / "frames").mkdir(parents=True)
    for number, picture in enumerate(pictures):
        jpeg = simplejpeg.encode_jpeg(picture, 90, "RGB")
        (folder / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
    soundfile.write(folder / "audio.wav", moved, 16000, subtype="PCM_16")
    whole = load_clip(Clip("clip", folder, None, "clip"))
    found = realign(whole, early)
    first = max(0, early)
    assert found.jpegs == whole.jpegs[first : first + 50 - abs(early)]
    assert found.audio is not None
    assert len(found.audio) == SAMPLES_PER_FRAME * len(found.jpegs)
    # the voice's phase is another where it begins elsewhere, so loudness is compared
    expected = loudness(sound[SAMPLES_PER_FRAME * first :][: len(found.audio)])
    likeness = {
        shift: np.corrcoef(np.roll(loudness(found.audio), 4 * shift), expected)[0, 1]
        for shift in range(-12, 13)
    }
    assert max(likeness, key=lambda shift: likeness[shift]) == 0 and likeness[0] > 0.9


def loudness(audio: np.ndarray) -> np.ndarray:
    """(4 a frame,) mean magnitudes."""
    return np.abs(audio.astype(float)).reshape(-1, SAMPLES_PER_FRAME // 4).mean(1)


def test_a_clip_too_short_to_be_realigned(make_clip: object, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "clip", frames=12)  # type: ignore[operator]
    data = load_clip(Clip("clip", folder, None, "clip"))
    assert len(realign(data, 4).jpegs) == 8
    for offset in (8, -8, 12, 50, -50):
        with pytest.raises(ClipError, match="leave no window"):
            realign(data, offset)


def test_command_line(
    clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.parent.name for path in clips_folder.glob("*/frames"))
    keep = tmp_path / "keep.csv"
    write_keep(keep, {name: Row(SHIFTED if name == names[0] else KEEP) for name in names})
    args = ["pack", str(clips_folder), str(tmp_path / "out"), "--flac", "--manifest", str(keep)]
    assert main([*args, "--workers", "1"]) == 0
    assert "11 keep, 1 shifted" in capsys.readouterr().out
    keys = set().union(*clip_keys(tmp_path / "out").values())
    assert keys == set(names[1:])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [row["clip"] for row in manifest["rejected"]] == [names[0]]
    keep.write_text("clip\n")
    assert main([*args, "--workers", "1"]) == 1
    assert "first line" in capsys.readouterr().err


def test_realigned_sound_travels_too(clips_folder: Path, tmp_path: Path) -> None:
    options = PackOptions(ratios=(1, 0, 0), flac=True)
    rows = {"clip_00000": Row(REALIGN, 0.1, 3)}
    pack(clips_folder, tmp_path / "out", options, keep=rows)
    (shard,) = open_shards(tmp_path / "out", "train")
    with tarfile.open(shard.tar) as archive:
        member = archive.extractfile("clip_00000.flac")
        assert member is not None
        audio, _ = soundfile.read(io.BytesIO(member.read()), dtype="int16")
    original, _ = soundfile.read(clips_folder / "clip_00000" / "audio.wav", dtype="int16")
    assert np.array_equal(audio, original[: 47 * SAMPLES_PER_FRAME])
