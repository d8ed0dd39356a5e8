"""Rules on clips: what each removes is counted, scores are honoured, shards stay as they are."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.__main__ import main
from data_tools.keep import KEEP, POOR, Row, read_keep, write_keep
from data_tools.manifest import MANIFEST, read_manifest, read_stats
from servers import serving


@pytest.fixture
def shards(shards_folder: Path, tmp_path: Path) -> Path:
    """Twelve clips of 2 s with a report: sharpness 5, 10, ... 60, and all faces of 80 pixels."""
    folder = shutil.copytree(shards_folder, tmp_path / "shards")
    with open(folder / "report.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "level", "item", "kept", "sharpness", "face_size", "speech"])
        for number, key in enumerate(renamed(folder), 1):
            writer.writerow(["v", "clip", key, "True", 5 * number, 80, 0.9])
    return folder


def renamed(folder: Path) -> list[str]:
    """The keys of all clips, which are called "v/<key>" from now on, as prepare calls them."""
    found = []
    for entry in read_manifest(folder).shards:
        file = (folder / entry.name).with_suffix(".json")
        stats = json.loads(file.read_text())
        for record in stats["clips"]:
            record["clip"] = f"v/{record['key']}"
            found.append(record["key"])
        file.write_text(json.dumps(stats))
    return sorted(found)


def run(*arguments: object) -> int:
    return main(["filter", *map(str, arguments)])


def test_each_rule_removes_what_it_says(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "keep.csv"
    before = {file: file.read_bytes() for file in shards.iterdir()}
    assert run(shards, out, "--min-sharpness", 31, "--min-face", 70, "--min-speech", 0.5) == 0
    rows = read_keep(out)
    assert [rows[key].verdict for key in sorted(rows)] == [POOR] * 6 + [KEEP] * 6
    assert rows[min(rows)].reason == "sharpness 5 < 31"
    assert {file: file.read_bytes() for file in shards.iterdir()} == before
    shown = capsys.readouterr().out
    removed = [line.split("│")[2:5] for line in shown.splitlines() if "min_sharpness" in line]
    assert sum(int(cell) for cell in removed[0]) == 6
    assert run(shards, out, "--recipe", "stablesyncnet") == 1  # all last 2 s
    assert "no clip is left" in capsys.readouterr().err
    assert run(shards, out, "--recipe", "stablesyncnet", "--min-seconds", 1) == 0
    assert sum(row.used for row in read_keep(out).values()) == 9  # sharpness 20 and more
    shown = capsys.readouterr().out
    assert "in sync was not looked at: --scores" in shown
    assert f"wrote {out}: 9 clips to train on, of 12" in shown
    assert run(shards, out, "--recipe", "stablesyncnet", "--min-seconds", 0) == 0  # 0 counts, too
    assert run(shards, out, "--min-score", 5) == 2
    assert "--min-score needs --scores" in capsys.readouterr().err


def test_scores_are_honoured(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = sorted(
        record.key
        for entry in read_manifest(shards).shards
        if entry.split == "train"
        for record in read_stats(shards / entry.name).clips
    )
    scored = {key: Row(KEEP, score=0.1 * place) for place, key in enumerate(keys)}
    scored[keys[-1]] = Row("no minimum", 0.9, None, "no offset fits")
    write_keep(tmp_path / "scores.csv", scored)
    out = tmp_path / "keep.csv"
    assert run(shards, out, "--scores", tmp_path / "scores.csv", "--min-score", 0.15) == 0
    rows = read_keep(out)
    assert sorted(rows) == keys
    assert rows[keys[-1]] == scored[keys[-1]]
    assert [rows[key].verdict for key in keys[:3]] == [POOR, POOR, KEEP]
    # of the others nothing is known: neither of those not listed nor of one without a score
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "not scored" in each]
    assert sum(int(cell) for cell in line.split("│")[2:5]) == 12 - len(keys)
    scored[keys[2]] = Row(KEEP, reason="too short to be judged")
    write_keep(tmp_path / "scores.csv", scored)
    assert run(shards, out, "--scores", tmp_path / "scores.csv") == 0
    assert read_keep(out)[keys[2]] == scored[keys[2]]
    assert run(shards, out, "--scores", tmp_path / "scores.csv", "--min-score", 0.15) == 0
    last = read_keep(out)[keys[2]]
    assert (last.verdict, last.reason) == (POOR, "no score")


def test_a_set_by_url_is_filtered_without_its_tars(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for stats in shards.glob("*-0*.json"):  # the fixture's have another hash
        entries = json.loads((shards / MANIFEST).read_text())
        for entry in entries["shards"]:
            if entry["name"] == stats.with_suffix(".tar").name:
                entry["sha256"] = hashlib.sha256(stats.read_bytes()).hexdigest()
        (shards / MANIFEST).write_text(json.dumps(entries))
    for name, rules in (("here", []), ("there", ["--local", str(tmp_path / "copies")])):
        with serving(shards) as web:
            given = web.url if name == "there" else str(shards)
            argv = [given, str(tmp_path / name), "--min-sharpness", "22", *rules]
            assert main(["filter", *argv]) == 0
    assert f"--data.shards {web.url} --data.manifest" in capsys.readouterr().out
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert not any(name.endswith(".tar") for _, name in web.asked)
    bucket = ["filter", f"file://{shards}", str(tmp_path / "bucket"), "--min-sharpness", "22"]
    assert main([*bucket, "--local", str(tmp_path / "others")]) == 0
    assert (tmp_path / "bucket").read_bytes() == (tmp_path / "here").read_bytes()
    (shards / "report.csv").unlink()
    with serving(shards) as web:
        argv = ["filter", web.url, str(tmp_path / "none"), "--local", str(tmp_path / "third")]
        assert main(argv) == 1
    assert "holds no report.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace(b"v,clip", b"\xff,clip", 1), "no text in UTF-8"),
        (lambda text: text.replace(b",80,", b",80,,", 1), "line 2: 8 fields, not 7"),
        (lambda text: text.replace(b"item", b"name", 1), "its head lacks item"),
        (lambda text: text[:-9], "fields, not 7"),
        (lambda text: b"\0" * 10, "report.csv"),
    ],
)
def test_a_report_that_is_damaged_or_another_is_one_sentence(
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[bytes], bytes],
    told: str,
) -> None:
    report = shards / "report.csv"
    report.write_bytes(change(report.read_bytes()))
    assert run(shards, tmp_path / "keep.csv", "--min-face", 5) == 1
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1 and not (tmp_path / "keep.csv").exists()


def test_shards_without_a_report_are_refused(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shards_folder, tmp_path / "keep.csv", "--min-face", 5) == 1
    assert "holds no report.csv" in capsys.readouterr().err


def test_a_rule_on_speech_that_was_not_measured_is_refused(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = shards / "report.csv"
    report.write_bytes(report.read_bytes().replace(b",0.9", b",", 5))
    assert run(shards, tmp_path / "keep.csv", "--min-speech", 0.5) == 1
    said = capsys.readouterr().err
    assert "no share of speech for 5 of 12 clips (--no-speech leaves it out); leave" in said
    assert len(said.splitlines()) == 1 and not (tmp_path / "keep.csv").exists()
    assert run(shards, tmp_path / "keep.csv", "--min-face", 5) == 0
