"""From a video file to an offset in words, the mend, and every way it can go wrong."""

import csv
import dataclasses
import errno
import io
import json
import os
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from data_tools.errors import MissingPackage
from data_tools.mfcc import SAMPLES_PER_FRAME, mfcc
from trainer import sync
from trainer.model.syncnet import SyncNet
from trainer.model.weights import Calibration, load_model
from trainer.score.embed import embed_lips, embed_sound, fold, part_of
from trainer.score.scoring import Score, score
from videos import canvas, flashes, head, write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fresh.pt"
    torch.save(SyncNet("small").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures, sound = head(5, 60, 96)
    return write_video(tmp_path_factory.mktemp("video") / "head.mp4", pictures, sound)


def found(offset: int, clearness: float = 9.0, doubts: tuple[str, ...] = ()) -> sync.Found:
    """A track with a deep minimum at an offset."""
    means = 10 + np.sin(np.arange(31.0)) / 10
    means[15 - offset] = 10 - clearness / 10
    result = Score(offset, 1.0, float(means.min()), means, np.ones(50))
    return sync.Found("a.mp4", "000", 0.0, 2.0, 50, 0.9, result, None, doubts)


def test_only_offsets_that_can_be_trusted_are_mended() -> None:
    with pytest.raises(sync.SyncError, match="no offset can be trusted"):
        sync.mend([found(3, doubts=("too short",))])
    with pytest.raises(sync.SyncError, match="off by -2 to 3 frames"):
        sync.mend([found(3), found(-2)])
    with pytest.raises(sync.SyncError, match="nothing was measured"):
        sync.mend([])
    assert sync.mend([found(3, 5.0), found(4, 8.0), found(9, doubts=("unsure",))]) == 4
    assert sync.still_off([found(1), found(-1)]) == ""
    assert "still off: audio is 80 ms late" in sync.still_off([found(1), found(-2)])
    assert "no offset can be trusted" in sync.still_off([found(0, doubts=("unsure",))])
    assert "could not be measured again" in sync.still_off([])


def test_the_table_names_what_it_shows() -> None:
    shown = sync.table([found(1)])
    headers = [str(column.header) for column in shown.columns]
    assert "LSE-C\n(confidence)" in headers and "LSE-D\n(distance)" in headers
    assert list(shown.columns[3].cells) == ["+1 frame, +40 ms"]


def test_crops_that_do_not_suit_are_noted(weights: Path) -> None:
    small, published = load_model(weights), SyncNet("syncnet")
    assert sync.crop_note(small, sync.How()) == ""
    for how in (sync.How(crop="mouth"), sync.How(prepared=True, crop="mouth")):
        assert sync.crop_note(small, how) == ""
        assert "take face crops" in sync.crop_note(published, how)
    assert "take mouth crops" in sync.crop_note(small, sync.How(crop="face"))
    assert sync.crop_note(small, sync.How(prepared=True)).endswith("say so with --crop mouth")


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
    assert sync.main([str(path), str(silent), "--weights", str(weights)]) == 1
    said = capsys.readouterr()
    assert "wide.mp4" in said.out and "no audio stream" in said.err


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
        ([""], 2, "a file name is empty"),
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
            with pytest.raises(SystemExit) as left:
                sync.main([str(own), "--weights", str(weights), option, str(name)])
            assert left.value.code == 2
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
    monkeypatch.setattr(sync, "measure", lambda *_: ([found(next(coming))], []))
    out = tmp_path / "out.mp4"
    out.write_bytes(b"dear")
    arguments = [str(video), "--weights", str(weights), "--fix", str(out)]
    with pytest.raises(SystemExit) as left:
        sync.main(arguments)
    said = capsys.readouterr()
    assert left.value.code == 2 and "out.mp4 exists; name another file" in said.err
    assert said.out == "" and out.read_bytes() == b"dear"
    assert sync.main([*arguments, "--force"]) == 1  # a copy that is no better takes nobody's place
    assert out.read_bytes() == b"dear" and list(tmp_path.iterdir()) == [out]
    assert sync.main([*arguments, "--force"]) == 0
    assert out.read_bytes() != b"dear"
    with pytest.raises(SystemExit):
        sync.main([str(out), "--weights", str(weights), "--fix", str(out), "--force"])
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

    monkeypatch.setattr(sync, "measure", full)
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
    with pytest.raises(SystemExit) as left:
        sync.main([str(video), "--weights", str(weights), "--device", "cuda"])
    assert left.value.code == 2 and "finds no GPU" in capsys.readouterr().err


def test_without_any_weights_they_are_asked_for(
    video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sync, "default_weights", lambda: None)
    with pytest.raises(SystemExit) as left:
        sync.main([str(video)])
    assert left.value.code == 2 and "--weights is needed" in capsys.readouterr().err


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

    monkeypatch.setattr(sync, "measure", broken)
    assert sync.main([str(video), "--weights", str(weights)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_calibration_says_how_likely_an_offset_is_right() -> None:
    calibration = Calibration((2.0, 6.0), (0.5, 0.9))
    how = sync.How(calibration=calibration)
    noise = np.random.default_rng(0).normal(10, 0.1, 31)

    def judged(depth: float, how: sync.How) -> sync.Found:
        means = noise.copy()
        means[12] = 10 - depth
        result = Score(3, 1.0, float(means.min()), means, np.ones(50))
        return sync._found("a.mp4", "", 0.0, 2.0, 0.9, result, how)

    clear, unclear = judged(1.0, how), judged(0.3, how)
    assert clear.probability == 0.9 and clear.trusted
    assert unclear.probability is not None and 0.5 <= unclear.probability < 0.8
    assert "%, below the 80 % needed" in unclear.doubts[0] and not unclear.trusted
    # It was measured for the default way of scoring alone.
    for other in (sync.How(), sync.How(mode="parity", calibration=calibration)):
        assert judged(1.0, other).probability is None and judged(1.0, other).trusted
    shown = [column.header for column in sync.table([clear, judged(1.0, sync.How())]).columns]
    assert "chance of\nbeing right" in shown
    assert "chance of\nbeing right" not in [c.header for c in sync.table([found(0)]).columns]
    # What is below the bound does not read as the bound.
    close = sync.How(calibration=Calibration((2.0,), (0.799,)))
    assert "79 %, below the 80 % needed" in judged(1.0, close).doubts[0]
    (doubt,) = judged(0.2, sync.How()).doubts
    assert "deviations, below the 3 needed" in doubt


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


def test_a_long_track_in_pieces_gives_what_it_gives_at_once(weights: Path) -> None:
    model = fold(load_model(weights))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (700, 64, 64, 1), dtype=np.uint8)
    audio = rng.integers(-9000, 9000, 700 * SAMPLES_PER_FRAME, dtype=np.int16)
    pieces = np.split(frames, [100, 101, 350])
    heard = lambda count: (part_of(audio), count * SAMPLES_PER_FRAME)  # noqa: E731
    one = sync.score_track(model, pieces, heard)
    other = score(
        embed_lips(model, [frames]), embed_sound(model, mfcc(np.pad(audio, (0, 240)))), 15
    )
    assert one.offset == other.offset and len(one.frames_K) == len(other.frames_K) == 696
    np.testing.assert_allclose(one.means_S, other.means_S, rtol=1e-4)
    np.testing.assert_allclose(one.frames_K, other.frames_K, atol=1e-3)


def test_a_track_in_several_clips_is_one_sound(tmp_path: Path) -> None:
    audio = np.arange(5 * SAMPLES_PER_FRAME, dtype=np.int16)
    for name, first, last in (("a", 0, 2), ("b", 2, 5)):
        (tmp_path / name).mkdir()
        part = audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        soundfile.write(tmp_path / name / "audio.wav", part, 16000, subtype="PCM_16")
    read, samples = sync._stored_sound([(tmp_path / "a", 2), (tmp_path / "b", 3)])(5)
    assert samples == len(audio)
    for first, count in ((0, samples), (1000, 900), (1280, 10), (100, 50)):
        np.testing.assert_array_equal(read(first, count), audio[first : first + count])


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
        monkeypatch.setattr(sync, "measure", lambda *_: ([found(next(coming))], []))
        status = sync.main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    status, said, _ = run(0)
    assert status == 0 and "nothing to mend" in said and not out.exists()
    assert json.loads(report.read_text())["fix"] == {"moved_frames": 0}
    status, said, _ = run(5, 0)
    assert status == 0 and "200 ms later (+5 frames); measured again" in said and out.exists()
    assert f"wrote {out}" in said
    status, said, _ = run(1, 0)
    assert "40 ms later (+1 frame); measured again" in said
    copy = out.read_bytes()
    status, said, wrong = run(5, 5)
    assert status == 1 and "still off: audio is 200 ms early" in wrong
    assert "out.mp4 was not written" in wrong and f"wrote {out}" not in said
    assert json.loads(report.read_text())["fix"]["written"] is False
    assert out.read_bytes() == copy and sorted(tmp_path.iterdir()) == [report, out]
    monkeypatch.setattr(sync, "measure", lambda *_: ([], ["no face found"]))
    assert sync.main(arguments) == 1
    assert "--fix: nothing was measured, so nothing was written" in capsys.readouterr().err


def test_where_the_clock_restarts_each_part_is_measured(weights: Path, tmp_path: Path) -> None:
    parts = [flashes(tmp_path / "part.ts", 0.0, Fraction(start)).read_bytes() for start in (9, 1)]
    (tmp_path / "whole.ts").write_bytes(b"".join(parts))
    model = fold(load_model(weights))
    one, _ = sync.measure(tmp_path / "part.ts", model, sync.How(prepared=True))
    assert [row.track for row in one] == [""]
    found, dropped = sync.measure(tmp_path / "whole.ts", model, sync.How(prepared=True))
    assert [row.track for row in found] == ["part 1", "part 2"] and dropped == []
    assert [row.windows for row in found] == pytest.approx([one[0].windows] * 2, abs=2)
    assert (found[0].start, found[1].start) == (0, pytest.approx(3.04, abs=0.05))
    assert found[1].end == pytest.approx(6.08, abs=0.08)
    # the second part alone gives what it gives after the first, but for the pictures' phase
    np.testing.assert_allclose(found[0].score.means_S, one[0].score.means_S, rtol=0.05)


def test_what_a_copy_is_called_while_it_is_measured_is_not_shown(
    video: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "out.json"
    measured: list[Path] = []

    def measure(path: Path, *_: object) -> tuple[list[sync.Found], list[str]]:
        measured.append(path)
        assert not out.exists()
        return [replace(found(0 if len(measured) > 1 else 5), video=str(path))], []

    monkeypatch.setattr(sync, "measure", measure)
    arguments = [str(video), "--weights", str(weights), "--fix", str(out), "--json", str(report)]
    assert sync.main(arguments) == 0
    said = capsys.readouterr()
    assert measured[1] != out and measured[1].name not in said.out + said.err
    (row,) = json.loads(report.read_text())["fix"]["tracks"]
    assert row["video"] == str(out) and out.exists()


def test_names_of_any_kind_are_shown(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "[bold]$x_{$ :smile:.mp4"
    odd.write_bytes(video.read_bytes())
    out = tmp_path / "[red].png"
    assert sync.main([str(odd), "--weights", str(weights), "--prepared", "--plot", str(out)]) == 0
    said = capsys.readouterr().out
    assert "[bold]$x_{$" in said and f"wrote {out}" in said


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
        args = sync._parse(sync._parser(), list(argv))
        return [str(path) for path in args.videos], args.csv, args.weights

    assert parsed("a", "--csv", "c", "b") == (["a", "b"], Path("c"), None)
    assert parsed("--csv", "c", "a", "b", "--weights", "w") == (["a", "b"], Path("c"), Path("w"))
    assert parsed("--", "-dash.mp4") == (["-dash.mp4"], None, None)
    assert parsed("a", "--csv=-c", "--", "--csv", "--") == (["a", "--csv", "--"], Path("-c"), None)
    wrong = [[], ["--"], ["--csv", "--", "a.mp4"], ["--", ""], ["-dash.mp4"]]
    for argv in wrong:
        with pytest.raises(SystemExit) as left:
            sync._parse(sync._parser(), argv)
        assert left.value.code == 2, argv
    assert "the following arguments are required: VIDEO" in capsys.readouterr().err


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
    text = Path("c:ü.csv").read_text(encoding="utf-8", errors="surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["video"] for row in rows] == [*names, missing]
    tracks = json.loads(Path("-j:1.json").read_text())["tracks"]
    assert [track["video"] for track in tracks] == names
    assert Path("p:1.png").stat().st_size > 0


def test_what_is_no_file_is_left_out_in_a_sentence(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    bad = [tmp_path / "pipe.mp4", tmp_path / "zero.mp4", tmp_path]
    assert sync.main([*map(str, bad), "--weights", str(weights)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
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


def test_notes_are_a_line_for_each_video_and_no_doubt() -> None:
    one, other = (dataclasses.replace(found(0), notes=("late", "chosen"), track=t) for t in "01")
    assert sync.note_lines([one, other]) == ["a.mp4: late", "a.mp4: chosen"]
    assert one.trusted and one.row()["notes"] == "late; chosen"
    assert sync.COLUMNS[-2:] == ("doubts", "notes") and list(one.row()) == list(sync.COLUMNS)
    result, doubt = found(0).score, "only 80 % of the sound could be used: 1.00 s of doubled sound"
    doubted = sync._found("a", "", 0.0, 2.0, 0.9, result, sync.How(), ("late",), (doubt,))
    assert doubted.doubts == (doubt,) and doubted.notes == ("late",) and not doubted.trusted


@pytest.mark.parametrize("number", ["-1", "1"])
def test_an_audio_stream_that_is_not_there_is_wrong_usage(
    number: str, video: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        sync.main([str(video), "--weights", str(weights), f"--audio-stream={number}"])
    assert left.value.code == 2 and "--audio-stream" in capsys.readouterr().err.splitlines()[-1]
    words = ["--prepared", "--audio-stream", "0"]
    assert sync.main([str(video), "--weights", str(weights), *words]) == 0


def test_an_error_about_a_name_is_one_line() -> None:
    name = os.fsdecode(b"a\n\xff")
    assert sync._first_line(OSError(2, "No such", name)) == "a\\n\\xff: no such"
