"""Synthetic clips: layout, determinism, resuming, refusals, and lips that follow the sound."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import soundfile
from numpy.typing import NDArray
from python_speech_features import mfcc

from data_tools.__main__ import main
from data_tools.mfcc import SAMPLES_PER_FRAME
from data_tools.synth import clips as synth
from data_tools.synth.face import mouth_box
from data_tools.synth.voice import STEPS_PER_FRAME, render_voice, speak
from data_tools.workers import WorkerOptions

FRAMES = 75
SIZE = 64
LAGS = range(-15, 16)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def mouth_darkness(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much of the mouth's surroundings is darker than the skin, per picture."""
    top, bottom, left, right = mouth_box(pictures.shape[1])
    gray = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    patch = gray[:, top:bottom, left:right].astype(np.float64)
    skin = np.median(patch, axis=(1, 2), keepdims=True)
    return np.asarray(np.clip(0.55 * skin - patch, 0.0, None).mean((1, 2)) / skin[:, 0, 0])


def loudness(audio: NDArray[np.int16]) -> NDArray[np.float64]:
    """Root mean square of each video frame's samples."""
    blocks = audio.astype(np.float64).reshape(-1, SAMPLES_PER_FRAME)
    return np.asarray(np.sqrt((blocks**2).mean(axis=1)))


def lagged(
    sound: NDArray[np.float64], picture: NDArray[np.float64], reach: int = 15
) -> NDArray[np.float64]:
    """Correlation of sound[t] with picture[t + lag] for lag -reach..reach."""
    middle = slice(reach, len(sound) - reach)
    return np.array(
        [
            np.corrcoef(sound[middle], picture[reach + lag : len(sound) - reach + lag])[0, 1]
            for lag in range(-reach, reach + 1)
        ]
    )


def truth_rows(out: Path) -> list[dict[str, str]]:
    with (out / "truth.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def rendered() -> list[tuple[NDArray[np.uint8], NDArray[np.int16]]]:
    """Forty clips of different people, in sync."""
    return [synth.render_clip(np.random.default_rng([5, k]), FRAMES, SIZE) for k in range(40)]


def test_layout(tmp_path: Path) -> None:
    out = tmp_path / "out"
    called: list[None] = []
    synth.synthesize(
        out, clips=2, seed=3, size=48, seconds=1.2, workers=1, on_clip=lambda: called.append(None)
    )
    assert len(called) == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "clip_00000",
        "clip_00001",
        "synth.json",
        "truth.csv",
    ]
    for clip in ("clip_00000", "clip_00001"):
        info = soundfile.info(out / clip / "audio.wav")
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames == 30 * 640
        names = {path.name for path in (out / clip / "frames").iterdir()}
        assert names == {f"frame{number}.jpg" for number in range(30)}
        data = (out / clip / "frames" / "frame29.jpg").read_bytes()
        assert simplejpeg.decode_jpeg_header(data)[:3] == (48, 48, "YCbCr")
    assert truth_rows(out) == [
        {"clip": clip, "kind": "in_sync", "offset_frames": "0", "audio_from": ""}
        for clip in ("clip_00000", "clip_00001")
    ]


def test_same_files_for_any_worker_count_and_fewer_clips_are_a_prefix(tmp_path: Path) -> None:
    few, many, pooled = (tmp_path / name for name in ("few", "many", "pooled"))
    for out, clips, workers in ((few, 2, 1), (many, 4, 1), (pooled, 4, 2)):
        synth.synthesize(out, clips=clips, seed=9, size=32, seconds=1, offsync=0.5, workers=workers)
    assert tree(many) == tree(pooled)
    few_files, many_files = tree(few), tree(many)
    own = [name for name in few_files if name.startswith("clip_")]
    assert len(own) == 2 * 26
    assert all(few_files[name] == many_files[name] for name in own)
    assert truth_rows(few) == truth_rows(many)[:2]


def test_different_seeds_and_clips_differ() -> None:
    sounds = [
        synth.render_clip(np.random.default_rng([seed, clip]), 25, 32)[1].tobytes()
        for seed in (0, 1)
        for clip in (0, 1)
    ]
    assert len(set(sounds)) == 4


def test_killed_run_resumes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = {"clips": 3, "seed": 2, "size": 32, "seconds": 1.0, "workers": 1}
    synth.synthesize(whole, **arguments)  # type: ignore[arg-type]

    class Killed(Exception):
        pass

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        synth.synthesize(broken, on_clip=kill, **arguments)  # type: ignore[arg-type]
    assert not (broken / "truth.csv").exists()
    # What a kill in the middle of a clip leaves behind.
    half = broken / ".clip_00001.partial" / "frames"
    half.mkdir(parents=True)
    (half / "frame99.jpg").write_bytes(b"half")
    made_at = (broken / "clip_00000" / "audio.wav").stat().st_mtime_ns
    counted: list[None] = []
    synth.synthesize(broken, on_clip=lambda: counted.append(None), **arguments)  # type: ignore[arg-type]
    assert len(counted) == 3
    assert tree(broken) == tree(whole)
    assert (broken / "clip_00000" / "audio.wav").stat().st_mtime_ns == made_at
    assert not list(broken.glob(".*"))


def test_refuses_foreign_folder_and_other_arguments(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("keep me")
    with pytest.raises(ValueError, match="not empty"):
        synth.synthesize(foreign, clips=1, size=32, seconds=1)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]

    mine = tmp_path / "mine"
    synth.synthesize(mine, clips=1, size=32, seconds=1, workers=1)
    before = tree(mine)
    for change in ({"seed": 1}, {"size": 33}, {"seconds": 2.0}, {"offsync": 0.1}, {"clips": 2}):
        with pytest.raises(ValueError, match="other arguments"):
            synth.synthesize(mine, **{"clips": 1, "size": 32, "seconds": 1, **change})  # type: ignore[arg-type]
    (mine / "synth.json").write_text("{")
    with pytest.raises(ValueError, match="other arguments"):
        synth.synthesize(mine, clips=1, size=32, seconds=1)
    (mine / "synth.json").write_bytes(before["synth.json"])
    assert tree(mine) == before

    plain = tmp_path / "plain"
    plain.write_text("a file")
    with pytest.raises(ValueError, match="not a folder"):
        synth.synthesize(plain, clips=1, size=32, seconds=1)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"clips": 0}, "clips"),
        ({"seed": -1}, "seed"),
        ({"size": 31}, "size"),
        ({"size": 1025}, "size"),
        ({"seconds": 0.9}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"offsync": -0.1}, "offsync"),
        ({"offsync": 1.1}, "offsync"),
        ({"offsync": float("nan")}, "offsync"),
        ({"workers": -1}, "workers"),
        ({"workers": 10**9}, "workers"),
        ({"clips": 10**12}, "clips"),
        ({"clips": 10**400}, "clips"),
        ({"seed": 10**400}, "seed"),
        ({"size": 10**400}, "size"),
        ({"seconds": 301.0}, "seconds"),
        ({"seconds": 1e12}, "seconds"),
        ({"seconds": 1e308}, "seconds"),
        ({"seconds": 120.0, "size": 1024}, "seconds"),
    ],
)
def test_refuses_bad_arguments(tmp_path: Path, arguments: dict[str, float], word: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=f"^--{word} must"):
        synth.synthesize(out, **{"clips": 1, **arguments})  # type: ignore[arg-type]
    assert not out.exists()


def test_refuses_what_the_disk_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"10000000 clips would take about .* GB and the disk"):
        synth.synthesize(out, clips=10_000_000, size=1024, seconds=10)
    assert not out.exists()
    synth.synthesize(out, clips=1, size=32, seconds=1, workers=1)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    synth.synthesize(out, clips=1, size=32, seconds=1, workers=1)  # is there already
    with pytest.raises(ValueError, match="would take about"):
        synth.synthesize(tmp_path / "two", clips=1, size=32, seconds=1, workers=1)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000, "1e400", "nan"])
@pytest.mark.parametrize("option", ["--clips", "--seed", "--size", "--seconds", "--workers"])
def test_numbers_beyond_all_bounds_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    command = ["synth", str(tmp_path / "out"), "--clips", "1", option, number]
    try:
        status = main(command)
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2
    error = capsys.readouterr().err
    assert option.strip("-") in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_long_timeline_reaches_its_end() -> None:
    for frames in (4000, 7500):
        speech = speak(np.random.default_rng(0), frames)
        assert speech.opening.size == speech.f0.size == frames * STEPS_PER_FRAME


def test_truth_shares() -> None:
    truths = [synth.clip_truth(4, index, 0.5) for index in range(2000)]
    kinds = Counter(truth.kind for truth in truths)
    assert abs(kinds["in_sync"] - 1000) < 100
    assert abs(kinds["shifted"] - 500) < 80
    assert abs(kinds["dubbed"] - 500) < 80
    shifts = Counter(truth.offset_frames for truth in truths if truth.kind == "shifted")
    assert set(shifts) == {*range(-12, -2), *range(3, 13)}
    assert min(shifts.values()) > 8
    assert all(truth.offset_frames == 0 for truth in truths if truth.kind != "shifted")
    assert {synth.clip_truth(4, index, 0.0).kind for index in range(50)} == {"in_sync"}
    assert "in_sync" not in {synth.clip_truth(4, index, 1.0).kind for index in range(50)}


def test_truth_file(tmp_path: Path) -> None:
    synth.synthesize(tmp_path / "out", clips=8, seed=1, size=32, seconds=1, offsync=1, workers=1)
    rows = truth_rows(tmp_path / "out")
    assert [row["clip"] for row in rows] == [f"clip_{index:05d}" for index in range(8)]
    assert {row["kind"] for row in rows} == {"shifted", "dubbed"}
    for row in rows:
        if row["kind"] == "dubbed":
            assert (row["offset_frames"], row["audio_from"]) == ("", "another speaker")
        else:
            assert 3 <= abs(int(row["offset_frames"])) <= 12
            assert row["audio_from"] == ""


def test_going_off_sync_leaves_the_picture_alone() -> None:
    truths = [synth.ClipTruth(), synth.ClipTruth("shifted", -7), synth.ClipTruth("dubbed")]
    clips = [synth.render_clip(np.random.default_rng(1), 25, 32, truth) for truth in truths]
    assert np.array_equal(clips[0][0], clips[1][0])
    assert np.array_equal(clips[0][0], clips[2][0])
    assert len({audio.tobytes() for _, audio in clips}) == 3


@pytest.mark.parametrize("offset", [-12, -3, 5, 12])
def test_positive_offset_means_early_audio(offset: int) -> None:
    total = np.zeros(len(LAGS))
    for clip in range(6):
        rng = np.random.default_rng([8, clip])
        truth = synth.ClipTruth("shifted", offset)
        pictures, audio = synth.render_clip(rng, FRAMES, SIZE, truth)
        total += lagged(loudness(audio), mouth_darkness(pictures))
    # Early audio: what is heard at t is seen at t + offset.
    assert list(LAGS)[int(np.argmax(total))] == offset


def test_dubbed_sound_does_not_follow_the_mouth() -> None:
    total = np.zeros(len(LAGS))
    for clip in range(20):
        rng = np.random.default_rng([8, clip])
        pictures, audio = synth.render_clip(rng, FRAMES, 48, synth.ClipTruth("dubbed"))
        total += lagged(loudness(audio), mouth_darkness(pictures))
    assert np.abs(total / 20).max() < 0.2


def test_picture_and_sound_come_from_one_timeline() -> None:
    speech = synth.draw_timeline(np.random.default_rng(3), FRAMES)
    lips = speech.frames(10, FRAMES)
    assert lips.shape == (FRAMES, 3)
    assert lips[:, 0].min() == 0.0
    assert 0.7 < lips[:, 0].max() < 1.2
    with pytest.raises(ValueError, match="timeline"):
        render_voice(np.random.default_rng(0), speech, 0, FRAMES)


def test_held_out_speech_predicts_the_mouth_at_lag_zero_only(
    rendered: list[tuple[NDArray[np.uint8], NDArray[np.int16]]],
) -> None:
    mouths = [mouth_darkness(pictures) for pictures, _ in rendered]
    features = []
    for _, audio in rendered:
        columns = mfcc(audio.astype(np.float64), 16000, nfft=512)
        columns = np.pad(columns, ((0, FRAMES * 4 - len(columns)), (0, 0)), mode="edge")
        frames = columns.reshape(FRAMES, -1)
        features.append(frames - frames.mean(axis=0))
    train = np.concatenate(features[:25])
    scale = train.std(axis=0)
    target = np.concatenate([(mouth - mouth.mean()) / mouth.std() for mouth in mouths[:25]])
    train = train / scale
    weights = np.linalg.solve(train.T @ train + 300 * np.eye(train.shape[1]), train.T @ target)
    heard = [frames / scale @ weights for frames in features[25:]]
    seen = mouths[25:]
    curve = np.mean([lagged(h, s) for h, s in zip(heard, seen, strict=True)], axis=0)
    assert int(np.argmax(curve)) == 15
    assert curve[15] > 0.7
    assert np.delete(curve, range(12, 19)).max() < 0.25
    crossed = [lagged(h, s) for h, s in zip(heard, seen[1:] + seen[:1], strict=True)]
    assert np.abs(np.mean(crossed, axis=0)).max() < 0.25


def test_sound_is_speech_throughout(
    rendered: list[tuple[NDArray[np.uint8], NDArray[np.int16]]],
) -> None:
    profiles, silent = [], []
    for _, audio in rendered:
        assert 300 < np.abs(audio.astype(np.int32)).max() < 32767
        steps = np.sqrt((audio.astype(np.float64).reshape(-1, 160) ** 2).mean(axis=1))
        quiet = steps < 0.1 * np.percentile(steps, 95)
        silent.append(quiet.mean())
        longest = max(len(run) for run in "".join(" x"[int(q)] for q in quiet).split(" "))
        assert longest <= 55
        profiles.append(steps / steps.mean())
    assert np.mean(silent) < 0.3
    ends = np.mean([np.concatenate([p[:20], p[-20:]]).mean() for p in profiles])
    assert abs(ends - 1.0) < 0.15


def test_faces_differ_and_fill_the_picture(
    rendered: list[tuple[NDArray[np.uint8], NDArray[np.int16]]],
) -> None:
    means = np.array([pictures.mean(axis=(0, 1, 2)) for pictures, _ in rendered])
    assert means.std(axis=0).min() > 10
    for pictures, _ in rendered:
        assert pictures.shape == (FRAMES, SIZE, SIZE, 3)
        assert pictures.dtype == np.uint8
        assert mouth_darkness(pictures).std() > 0.005


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defaults = synth.SynthOptions(clips=1)
    assert (defaults.seed, defaults.size, defaults.seconds) == (0, 224, 3.0)
    assert (defaults.offsync, WorkerOptions().workers) == (0.0, 0)
    out = tmp_path / "out"
    words = [str(out), "--clips", "2", "--seed", "6", "--size", "32", "--seconds", "1"]
    assert main(["synth", *words, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "2 clips (2 s of video)" in said
    assert str(out / "truth.csv") in said
    assert json.loads((out / "synth.json").read_text())["seed"] == 6
