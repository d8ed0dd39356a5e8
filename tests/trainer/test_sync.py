"""From a video file to an offset in words, the mend, and every way it can go wrong."""

import csv
import errno
import io
import json
import os
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from data_tools.errors import MissingPackage
from measured import track_result
from trainer import sync
from trainer.score import video as video_module
from trainer.score.trust import TrackResult
from videos import canvas, head, write_video


def test_a_prepared_crop_is_scored_and_everything_written(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"out-{name}.png" for name in ("json", "csv", "plot")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    arguments = [str(video), "--weights", str(weights), "--prepared", *options]
    assert sync.main(arguments) == 0
    said = capsys.readouterr().out
    assert "frames" in said and all(str(path) in said for path in files.values())
    (track,) = json.loads(files["json"].read_text())["tracks"]
    (row,) = csv.DictReader(files["csv"].read_text().splitlines())
    assert int(row["offset_frames"]) == track["offset_frames"]
    assert track["offset_ms"] == 40 * track["offset_frames"] and track["windows"] == 56
    assert len(track["mean_distance_by_shift"]) == 31 and len(track["frame_confidence"]) == 56
    assert files["plot"].read_bytes().startswith(b"\x89PNG")


def test_parity_leaves_out_the_last_window(video: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = [str(video), "--weights", str(weights), "--prepared", "--mode", "parity"]
    assert sync.main([*arguments, "--json", str(out)]) == 0
    (track,) = json.loads(out.read_text())["tracks"]
    assert track["windows"] == 55


@pytest.mark.slow
def test_faces_are_found_in_a_video(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, sound = head(7, 75)
    path = write_video(tmp_path / "wide.mp4", canvas([pictures]), sound)
    silent = write_video(tmp_path / "silent.mp4", canvas([pictures])[:30])
    out = tmp_path / "out.json"
    arguments = ["--weights", str(weights), "--json", str(out)]
    assert sync.main([str(path), str(silent), *arguments]) == 1
    said = capsys.readouterr()
    assert "wide.mp4" in said.out and "no audio stream" in said.err
    (track,) = json.loads(out.read_text())["tracks"]
    left, top, right, bottom = track["face"]["box"]  # the head fills the middle, 160 by 160
    assert 80 < left < 140 and 180 < right < 240 and 40 <= top < bottom <= 200
    assert track["start_seconds"] < track["face"]["seconds"] < track["end_seconds"]


def test_of_two_faces_it_says_who_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Side by side, one sound; from standard input, by the package's network."""
    monkeypatch.setenv("COLUMNS", "160")
    (listener, _), (speaker, sound) = head(11, 100), head(12, 100)
    path = write_video(tmp_path / "two.mp4", canvas([listener, speaker], 200, 400), sound)
    out = tmp_path / "two.csv"
    with path.open("rb") as piped:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(piped))
        assert sync.main(["-", "--csv", str(out)]) == 0
    rows = {row["speaker"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert rows.keys() == {"speaks", "listens"} and rows["speaks"]["video"] == "stdin"
    assert rows["speaks"]["offset_frames"] == "0" and rows["speaks"]["speaking_rank"] == "1"
    assert float(rows["speaks"]["speaking"]) > 0.9 > 0.1 > float(rows["listens"]["speaking"])
    assert "another face on screen speaks" in rows["listens"]["doubts"]
    said = capsys.readouterr().out
    assert f"stdin: who speaks: {rows['speaks']['track']} speaks (best fit" in said
    assert f"{rows['listens']['track']} listens" in said


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--max-shift", "0"], 2, "--max-shift must be at least 1"),
        (["--max-shift", "501"], 2, "at most 500"),
        (["--plot", "x.jpg"], 2, "x.jpg must end in .png"),
        (["more.mp4", "--fix", "out.mp4"], 2, "--fix takes one video"),
        (["--weights", "missing.pt"], 1, "missing.pt is no file"),
        (["--device", "tpu"], 2, "must be auto, cpu or cuda"),
        (["--json", "no/such/folder.json"], 2, "--json: no/such/folder.json cannot be written"),
        (["--csv", "/"], 2, "cannot be written"),
        (["--json", "a.out", "--csv", "./b/../a.out"], 2, "is what --json writes"),
        (["--fix", "out.avi"], 2, "must end in .mp4"),
        (["--fix", "no/such/out.mp4"], 2, "cannot be written"),
        (["--fix", "/proc/out.mp4"], 2, "--fix: /proc/out.mp4 cannot be written: its folder"),
        (["--csv", "/proc/out.csv"], 2, "--csv: /proc/out.csv cannot be written: its folder"),
        (["--csv", f"{300 * 'a'}.csv"], 2, "file name too long"),
        (["--csv", ""], 2, "a file name is empty"),
        (["--tolerance", "r128"], 2, "must be ebu-r37, bt1359"),
        (["--strict"], 2, "--strict needs --tolerance"),
        (["--embed"], 2, "--embed needs --html"),
        (["--html"], 2, "--html needs the name of a file"),
        (["--html", "no/such/page.html"], 2, "no/such/page.html cannot be written"),
        (["--out", "o", "--html", "x.html"], 2, "--html takes no name with --out"),
        (["--junit", "x.xml"], 2, "--junit needs --tolerance"),
        (["--junit", "no/such/x.xml", "--tolerance", "2"], 2, "no/such/x.xml cannot be written"),
        (["--workers", "2"], 2, "--workers needs --out"),
        (["--fix-dir", "there"], 2, "--fix-dir needs --out"),
        (["--out", "o", "--csv", "x.csv"], 2, "--csv does not go with --out"),
        (["--out", "o", "--fix-dir", "/proc/x"], 2, "--fix-dir: /proc"),
        (["--out", "/proc/x"], 2, "--out: the folder /proc/x cannot be written to"),
        (["--out", "o", "--tolerance", "1", "--junit", "o/results.csv"], 2, "a name that --out"),
        (["--out", "o", "--shard-id", "1"], 2, "--shard-id must be from 0 to 0"),
        (["--out", "o", "--ray-address", "x"], 2, "--ray-address needs --engine ray"),
        (["missing.mp4", "--out", "o"], 2, "missing.mp4 does not exist"),
        ([""], 2, "a file name is empty"),
        (["-", "-"], 2, "- can be given once"),
        (["https://u:pw@h/x.mp4", "--out", "o"], 2, "--out measures files: give https://h/x.mp4"),
        (["--audio-stream", "-1"], 2, "counts from 0"),
        (["--audio-stream", "klingon"], 2, "a language like en"),
    ],
)
def test_bad_usage_is_one_sentence(
    video: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    try:
        got = sync.main([str(video), "--weights", str(weights), *arguments])
    except SystemExit as left:
        got = int(left.code or 0)
    assert got == status and words in capsys.readouterr().err


def test_bad_videos_are_one_sentence_each(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, sound = head(5, 60, 64)
    short = write_video(tmp_path / "short.mp4", pictures[:3], sound[: 3 * 640])
    (tmp_path / "text.mp4").write_text("no video")
    bad = [short, tmp_path / "text.mp4", tmp_path / "missing.mp4"]
    prepared = ["--prepared", "--crop", "mouth"]
    assert sync.main([*map(str, bad), "--weights", str(weights), *prepared]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in bad]
    assert "too short" in lines[0] and "readable video" in lines[1]


def test_what_is_read_is_never_overwritten(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.mp4"
    own.write_bytes(video.read_bytes())
    (tmp_path / "soft.mp4").symlink_to(own)
    (tmp_path / "hard.mp4").hardlink_to(own)
    (tmp_path / "below").mkdir()
    names = [own, tmp_path / "soft.mp4", tmp_path / "hard.mp4", tmp_path / "below/../own.mp4"]
    for option in ("--fix", "--json", "--csv", "--plot"):
        for name in [*names, weights]:
            assert sync.main([str(own), "--weights", str(weights), option, str(name)]) == 2
            assert "never overwritten" in capsys.readouterr().err
    assert own.read_bytes() == video.read_bytes()


def test_a_copy_overwrites_by_force_alone(
    video: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coming = iter([5, 5, 5, 0])
    monkeypatch.setattr(video_module, "measure", lambda *_: ([track_result(next(coming))], []))
    out = tmp_path / "out.mp4"
    out.write_bytes(b"dear")
    arguments = [str(video), "--weights", str(weights), "--fix", str(out)]
    status = sync.main(arguments)
    said = capsys.readouterr()
    assert status == 2 and "out.mp4 exists; name another file" in said.err
    assert said.out == "" and out.read_bytes() == b"dear"
    assert sync.main([*arguments, "--force"]) == 1  # a copy that is no better takes nobody's place
    assert out.read_bytes() == b"dear" and list(tmp_path.iterdir()) == [out]
    assert sync.main([*arguments, "--force"]) == 0
    assert out.read_bytes() != b"dear"
    assert sync.main([str(out), "--weights", str(weights), "--fix", str(out), "--force"]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_a_full_disk_is_not_blamed_on_the_video(
    video: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(video_module, "measure", full)
    arguments = [str(video), "--weights", str(weights)]
    assert sync.main([*arguments, "--fix", str(tmp_path / "out.mp4")]) == 1
    said = capsys.readouterr().err
    assert "no room for temporary files" in said and "trusted" not in said
    device = tmp_path / "full.json"
    device.symlink_to("/dev/full")
    assert sync.main([*arguments, "--json", str(device)]) == 1
    assert f"sync: {device}: no space left on device" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_one_sentence(
    video: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status = sync.main([str(video), "--weights", str(weights), "--device", "cuda"])
    assert status == 2 and "finds no GPU" in capsys.readouterr().err


def test_without_any_weights_they_are_asked_for(
    video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sync, "default_weights", lambda: None)
    assert sync.main([str(video)]) == 2 and "--weights is needed" in capsys.readouterr().err


def test_weights_of_the_package_are_the_default(
    video: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "default_weights", lambda: weights)
    assert sync.main([str(video), "--prepared"]) == 0


@pytest.mark.parametrize(
    "error", [MissingPackage("av is not installed"), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_faults_that_are_not_the_videos_are_one_sentence(
    error: Exception,
    video: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(video_module, "measure", broken)
    assert sync.main([str(video), "--weights", str(weights)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("rate", [25, 30, Fraction(30000, 1001)])
def test_a_video_of_any_rate_and_size_is_prepared(
    rate: Fraction, weights: Path, tmp_path: Path
) -> None:
    pictures, sound = head(5, 60, 96)
    count = int(60 * rate / 25)
    times = [Fraction(k) / Fraction(rate) for k in range(count)]
    shown = pictures[[min(59, int(time * 25)) for time in times]]
    path = write_video(tmp_path / "a.mp4", shown[:, :80], sound, times)
    out = tmp_path / "out.json"
    assert sync.main([str(path), "--weights", str(weights), "--prepared", "--json", str(out)]) == 0
    (track,) = json.loads(out.read_text())["tracks"]
    assert abs(track["windows"] - 56) <= 1


def test_a_mended_copy_is_measured_again(
    video: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "out.json"
    arguments = [str(video), "--weights", str(weights), "--fix", str(out), "--json", str(report)]
    arguments.append("--force")

    def run(*offsets: int) -> tuple[int, str, str]:
        coming = iter(offsets)
        monkeypatch.setattr(video_module, "measure", lambda *_: ([track_result(next(coming))], []))
        status = sync.main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    status, said, _ = run(0)
    assert status == 0 and "nothing to mend" in said and not out.exists()
    assert json.loads(report.read_text())["fix"] == {"moved_frames": 0}
    status, said, _ = run(5, 0)
    assert status == 0 and "200 ms later (+5 frames); measured again" in said and out.exists()
    assert f"wrote {out}" in said
    copy = out.read_bytes()
    status, said, _ = run(1)  # which may be the error of the measurement
    assert status == 0 and "in sync within a frame" in said and out.read_bytes() == copy
    status, said, wrong = run(5, 5)
    assert status == 1 and "still off: audio is 200 ms early" in wrong
    assert "out.mp4 was not written" in wrong and f"wrote {out}" not in said
    assert json.loads(report.read_text())["fix"]["written"] is False
    assert out.read_bytes() == copy and sorted(tmp_path.iterdir()) == [report, out]
    monkeypatch.setattr(video_module, "measure", lambda *_: ([], ["no face found"]))
    assert sync.main(arguments) == 1
    assert "--fix: nothing was measured, so nothing was written" in capsys.readouterr().err


def test_what_a_copy_is_called_while_it_is_measured_is_not_shown(
    video: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "out.json"
    measured: list[Path] = []

    def measure(path: Path, *_: object) -> tuple[list[TrackResult], list[str]]:
        measured.append(path)
        assert not out.exists()
        return [replace(track_result(0 if len(measured) > 1 else 5), video=str(path))], []

    monkeypatch.setattr(video_module, "measure", measure)
    arguments = [str(video), "--weights", str(weights), "--fix", str(out), "--json", str(report)]
    assert sync.main(arguments) == 0
    said = capsys.readouterr()
    assert measured[1] != out and measured[1].name not in said.out + said.err
    (row,) = json.loads(report.read_text())["fix"]["tracks"]
    assert row["video"] == str(out) and out.exists()


def test_names_of_any_kind_are_shown(
    video: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    odd = tmp_path / "[bold]$x_{$ :smile:.mp4"
    odd.write_bytes(video.read_bytes())
    out = tmp_path / "[red].png"
    assert sync.main([str(odd), "--weights", str(weights), "--prepared", "--plot", str(out)]) == 0
    said = capsys.readouterr().out
    assert "[bold]$x_{$" in said and f"wrote {out}" in said


@pytest.mark.parametrize("columns", [None, 80, 200])
def test_redirected_lines_fit_100_columns_unless_columns_says_otherwise(
    columns: int | None,
    video: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    named = tmp_path / f"{'long' * 15}.mp4"
    named.write_bytes(video.read_bytes())
    assert sync.main([str(named), "--weights", str(weights), "--prepared"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= (columns or 100)
    assert (named.name in said) == (columns == 200)


def test_what_is_left_out_is_in_the_csv(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    missing = tmp_path / "missing.mp4"
    assert sync.main([str(missing), "--weights", str(weights), "--csv", str(out)]) == 1
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert row["video"] == str(missing) and row["offset_frames"] == ""
    assert "not a readable video" in row["doubts"]


def test_help_says_what_the_sign_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sync.main(["--help"])
    said = capsys.readouterr().out
    assert "offset > 0: the audio is early" in said and "examples:" in said


@pytest.mark.real
@pytest.mark.slow
def test_real_videos_give_a_row_or_a_sentence(
    real_clips: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["no_audio_256_30fps_9s.mp4", "face3.mp4", "sound_480x360_30fps_10s.mp4"]
    videos = [real_clips / "videos" / name for name in names]
    out = tmp_path / "out.csv"
    assert sync.main([*map(str, videos), "--weights", str(weights), "--csv", str(out)]) == 1
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {Path(row["video"]).name for row in rows} == set(names)
    assert all(row["offset_frames"] or row["doubts"] for row in rows)


# --- names, and what was left out


def test_videos_and_options_in_any_order_and_behind_a_dash(capsys) -> None:
    def parsed(*argv: str) -> tuple[list[str], Path | None, Path | None]:
        args = sync._parse(list(argv))
        return [str(path) for path in args.videos], args.csv, args.weights

    assert parsed("a", "--csv", "c", "b") == (["a", "b"], Path("c"), None)
    assert parsed("--csv", "c", "a", "b", "--weights", "w") == (["a", "b"], Path("c"), Path("w"))
    assert parsed("--", "-dash.mp4") == (["-dash.mp4"], None, None)
    assert parsed("a", "--csv=-c", "--", "--csv", "--") == (["a", "--csv", "--"], Path("-c"), None)
    wrong = [[], ["--"], ["--csv", "--", "a.mp4"], ["--", ""], ["-dash.mp4"]]
    for argv in wrong:
        assert sync.main(argv) == 2, argv
    assert "VIDEO must be given" in capsys.readouterr().err


def test_any_name_is_measured_and_written_on_any_terminal(
    video: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["12:30 ü.mp4", "file:x", os.fsdecode(b"a\n\xff.mp4"), "-dash.mp4"]
    for name in names:
        Path(name).write_bytes(video.read_bytes())
    said = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, raw in said.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, "ascii", "strict"))
    outs = ["--csv", "./c:ü.csv", "--json=-j:1.json", "--plot", "p:1.png"]
    missing = os.fsdecode(b"http:\xfe.mp4")
    arguments = ["--weights", str(weights), "--prepared", "--crop", "mouth", *outs]
    assert sync.main([*arguments, "./" + names[0], *names[1:3], missing, "--", names[3]]) == 1
    sys.stdout.flush(), sys.stderr.flush()
    printed = said["stdout"].getvalue().decode("ascii")
    assert all(word in printed for word in ("12:30 \\xfc", "file:x", "a\\n\\xff", "-dash"))
    assert b"http:\\xfe.mp4: left out: not a readable video" in said["stderr"].getvalue()
    rows = list(csv.DictReader(io.StringIO(Path("c:ü.csv").read_text("utf-8"), newline="")))
    in_cells = [*names[:2], "a\n\\xff.mp4", "./-dash.mp4", "http:\\xfe.mp4"]  # UTF-8, no formula
    assert [row["video"] for row in rows] == in_cells
    tracks = json.loads(Path("-j:1.json").read_text())["tracks"]
    assert [track["video"] for track in tracks] == names
    assert Path("p:1.png").stat().st_size > 0


def test_what_is_no_file_is_left_out_in_a_sentence(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    bad = [tmp_path / "pipe.mp4", tmp_path / "zero.mp4"]
    assert sync.main([*map(str, bad), "--weights", str(weights)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line, path in zip(lines, bad, strict=True):
        assert line.startswith(f"{path.name}: left out: not a file: no plain file but a pipe")


@pytest.mark.parametrize("prepared", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_what_a_video_lost_is_said_everywhere(
    prepared: bool, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, sound = head(5, 75, 96 if prepared else 160)
    shown = pictures if prepared else canvas([pictures])
    path = write_video(tmp_path / "v.mkv", shown, sound, sound_codec="pcm_s16le")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    outs = [tmp_path / "o.csv", tmp_path / "o.json"]
    arguments = ["--weights", str(weights), "--csv", str(outs[0]), "--json", str(outs[1])]
    assert (
        sync.main([str(path), *arguments, *["--prepared", "--crop", "mouth"][: 3 * prepared]]) == 0
    )
    (row,) = csv.DictReader(outs[0].read_text().splitlines())
    (track,) = json.loads(outs[1].read_text())["tracks"]
    lost = "the file says that it lasts 3.0 s, but ends after "
    assert lost in row["notes"] and lost in track["notes"]
    assert "% of the recording could be used: the file says" in row["doubts"]
    assert row["trusted"] == "False" and track["trusted"] is False
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("v.mkv: ") and lost in line for line in lines) == 1


@pytest.mark.parametrize("number", ["-1", "1"])
def test_an_audio_stream_that_is_not_there_is_wrong_usage(
    number: str, video: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = sync.main([str(video), "--weights", str(weights), f"--audio-stream={number}"])
    assert status == 2 and "--audio-stream" in capsys.readouterr().err.splitlines()[-1]
    words = ["--prepared", "--audio-stream", "0"]
    assert sync.main([str(video), "--weights", str(weights), *words]) == 0


# --- verdicts, and many videos


@pytest.mark.parametrize(
    ("offsets", "options", "status", "words"),
    [
        ([1], "ebu-r37 --strict", 0, "1 in tolerance, 0 out of tolerance"),
        ([-1], "ebu-r37 --strict", 0, "1 in tolerance"),
        ([2], "ebu-r37 --strict", 1, "1 out of tolerance (head.mp4 +80 ms)"),
        ([2], "ebu-r37", 0, "1 out of tolerance"),
        ([-2], "ebu-r37 --strict", 1, "head.mp4 -80 ms"),
        ([-4], "bt1359 --strict", 0, "1 in tolerance"),
        ([4], "bt1359 --strict", 1, "head.mp4 +160 ms"),
        ([0, 3], "2 --strict", 1, "head.mp4 +120 ms"),
        (["doubted"], "0 --strict", 0, "1 not sure"),
        ([], "0 --strict", 1, "1 no offset"),
    ],
)
def test_the_exit_status_follows_the_tolerance(
    offsets: list[int | str],
    options: str,
    status: int,
    words: str,
    video: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracks = [
        track_result(9, doubts=("short",)) if offset == "doubted" else track_result(int(offset))
        for offset in offsets
    ]
    monkeypatch.chdir(video.parent)
    tracks = [replace(track, video="head.mp4") for track in tracks]
    monkeypatch.setattr(video_module, "measure", lambda *_: (tracks, [] if tracks else ["nothing"]))
    outs = [tmp_path / name for name in ("o.xml", "o.csv")]
    arguments = ["head.mp4", "--weights", str(weights), "--tolerance", *options.split()]
    assert sync.main([*arguments, "--junit", str(outs[0]), "--csv", str(outs[1])]) == status
    said = capsys.readouterr().out
    assert words in said and sum(line.startswith("verdict (") for line in said.splitlines()) == 1
    out = words.endswith("ms)") or "out of tolerance (" in said
    assert ("<failure" in outs[0].read_text()) == out
    verdicts = [row["verdict"] for row in csv.DictReader(outs[1].open())]
    assert ("out of tolerance" in verdicts) == out and len(verdicts) == max(1, len(tracks))


def test_a_folder_is_measured_by_other_processes(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos" / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4"):
        (tmp_path / "videos" / name).write_bytes(video.read_bytes())
    out = tmp_path / "out"
    xml = out / "o.xml"
    arguments = ["--weights", str(weights), "--prepared", "--crop", "mouth", "--precision", "fp32"]
    more = ["--workers", "1", "--out", str(out), "--tolerance", "3", "--junit", str(xml)]
    assert sync.main([str(tmp_path / "videos"), *arguments, *more]) == 0
    said = capsys.readouterr()
    assert "2 videos: 2 gave an offset, 0 none; 2 tracks" in said.out
    assert f"wrote {out / 'results.jsonl'}" in said.out and f"wrote {xml}" in said.out
    assert "verdict (3 frames" in said.out and "reading" not in said.err
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [Path(row["video"]).name for row in rows] == ["a.mp4", "b.mp4"]
    assert rows[0]["offset_frames"] == rows[1]["offset_frames"] != ""
    assert sync.main([str(video), *arguments, "--csv", str(tmp_path / "one.csv")]) == 0
    (one,) = csv.DictReader((tmp_path / "one.csv").open())
    assert [rows[0][key] for key in one if key != "video"] == [one[k] for k in one if k != "video"]
