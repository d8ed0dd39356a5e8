"""Training and measuring on shards by URL: to the bit what they are on the local folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

import s3fs
from moto.moto_server.threaded_moto_server import DomainDispatcherApplication
from safetensors import safe_open

from data_tools import remote
from data_tools.__main__ import main as data_tools
from runs import command, losses
from servers import s3_serving, serving
from trainer import calibrate, evaluate, refine
from trainer.run import main
from trainer.train import timing
from trainer.train.display import Tracker

SIZE = ["--data.threads", "1", "--train.steps", "3", "--data.val_clips", "1"]


PLACES = ("here", "there")


@pytest.fixture(scope="module")
def expected(many_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float | None]:
    run = tmp_path_factory.mktemp("local") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "plot", lambda rows, picture: None)
        assert main(command(many_shards, run, *SIZE)) == 0
    return losses(run)


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "plot", lambda rows, picture: None)
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server of Amazon's protocol."""
    with s3_serving() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        remote._file_system.cache_clear()
        s3fs.S3FileSystem().mkdir("shards")
        yield "s3://shards"
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def throttled(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """The bucket's server asks twice to slow down, for each tar that is written or read.

    Counts requests by method and path.
    """
    asked: Counter[tuple[str, str]] = Counter()
    honest = DomainDispatcherApplication.__call__

    def answer(self: Any, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        key = request["REQUEST_METHOD"], request["PATH_INFO"]
        asked[key] += 1
        if key[0] not in ("GET", "PUT") or not key[1].endswith(".tar") or asked[key] > 2:
            return honest(self, request, start)  # type: ignore[no-any-return]
        request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
        start("503 Slow Down", [("Content-Type", "application/xml")])
        return [b"<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>"]

    monkeypatch.setattr(DomainDispatcherApplication, "__call__", answer)
    return asked


def test_a_training_by_http_is_the_same_through_resets_throttling_and_cut_bodies(
    many_shards: Path,
    expected: list[float | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faults = {0: "reset", 1: "503", 2: "truncate", 3: "429"}

    def fault(method: str, name: str, before: int) -> str:
        return faults.get(before, "") if method == "GET" and not name.startswith("test") else ""

    tracked: list[dict[str, float]] = []
    monkeypatch.setattr(Tracker, "log", lambda self, step, figures: tracked.append(figures))
    with serving(many_shards, fault=fault) as web:
        url = web.url.replace("//", "//who:quietly@") + "/set?signature=secret"
        run = tmp_path / "run"
        argv = command(Path("x"), run, *SIZE, "--data.local", str(tmp_path / "copies"))
        argv[argv.index("x")] = url
        assert main(argv) == 0
    assert losses(run) == expected
    assert web.asked["GET", "train-000000.tar"] >= 5
    said = capsys.readouterr()
    summary = json.loads((run / "summary.json").read_text())
    names = {name for _, name in web.asked if name.endswith(".tar")}
    whole = sum((many_shards / name).stat().st_size for name in names)
    assert whole < summary["fetched_bytes"] < web.bytes  # of bodies that were reset a part is lost
    assert summary["fetch_retries"] >= 4 * len(names - {"test-000000.tar"})
    assert f"{summary['fetch_retries']} requests tried again" in said.out
    told = [each["train/fetched_bytes"] for each in tracked if "train/loss" in each]
    assert len(told) == 3 and 0 < told[-1] <= summary["fetched_bytes"]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "quietly" not in said.out + said.err and "secret" not in said.out + said.err
    assert b"quietly" not in written and b"secret" not in written
    assert web.url in (run / "config.yaml").read_text()


def test_a_bucket_that_asks_to_slow_down_is_packed_into_trained_from_and_measured(
    clips_folder: Path,
    many_shards: Path,
    expected: list[float | None],
    bucket: str,
    throttled: Counter[tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, copies = f"{bucket}/set", ["--data.local", str(tmp_path / "copies")]
    options = ["--ratios", "60:20:20", "--shard-mb", "1", "--workers", "1"]
    packed = ["--local", str(tmp_path / "packed")]
    assert data_tools(["pack", str(clips_folder), url, *options, *packed]) == 0
    files = s3fs.S3FileSystem()
    for path in many_shards.iterdir():
        assert files.cat_file(f"{url}/{path.name}") == path.read_bytes(), path.name
    assert throttled["PUT", "/shards/set/train-000000.tar"] == 3
    throttled.clear()
    assert main(command(Path("x"), tmp_path / "run", *SIZE, *copies, "--data.shards", url)) == 0
    assert throttled["GET", "/shards/set/train-000000.tar"] == 3
    assert losses(tmp_path / "run") == expected
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["fetch_retries"] >= 8
    local = ["--local", str(tmp_path / "copies")]
    assert data_tools(["info", url, *local]) == 0
    assert data_tools(["verify", url, *local, "--workers", "1"]) == 0
    assert "no fault" in capsys.readouterr().out


def test_with_little_room_shards_come_and_go_and_a_resumed_run_goes_on(
    many_shards: Path, expected: list[float | None], tmp_path: Path
) -> None:
    copies, run = tmp_path / "copies", tmp_path / "run"
    argv = command(Path("x"), run, *SIZE, "--data.local", str(copies), "--data.local_gb", "1.8e-3")
    argv[argv.index("x")] = f"file://{many_shards}"
    assert main([*argv, "--train.steps", "2"]) == 0
    assert sum(path.stat().st_size for path in copies.rglob("*.tar")) <= 1.8e6
    assert main([*argv, "--resume", "auto"]) == 0
    assert sum(path.stat().st_size for path in copies.rglob("*.tar")) <= 1.8e6
    assert losses(run) == expected


def test_by_blocks_shards_are_fetched_ahead_in_little_room(
    many_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = ["--data.order", "blocks", "--data.block_gb", "0.9e-3", "--data.nodes", "2"]
    assert main(command(many_shards, tmp_path / "here", *SIZE, *blocks)) == 0
    copies, run = tmp_path / "copies", tmp_path / "run"
    room = ["--data.local", str(copies), "--data.local_gb", "1.8e-3"]
    argv = command(Path("x"), run, *SIZE, *blocks, *room)
    argv[argv.index("x")] = f"file://{many_shards}"
    assert main(argv) == 0
    assert losses(run) == losses(tmp_path / "here")
    assert sum(path.stat().st_size for path in copies.rglob("*.tar")) <= 1.8e6
    said = capsys.readouterr().out
    assert "samples are shuffled within blocks of" in said
    assert said.count("shards are fetched whole, and a block's clips come out of one or two") == 2


@pytest.mark.slow
def test_measuring_by_url_is_the_same(many_shards: Path, weights: Path, tmp_path: Path) -> None:
    url, local = f"file://{many_shards}", ["--data.local", str(tmp_path / "copies")]
    for name, shards in zip(PLACES, (str(many_shards), url), strict=True):
        argv = ["--weights", str(weights), "--data.shards", shards]
        out = str(tmp_path / name)
        assert evaluate.main([*argv, *local, "--out", out, "--split", "val", "--threads", "1"]) == 0
        assert refine.main([*argv, *local, "--out", out + "-scores", "--score-only"]) == 0
        assert calibrate.main([*argv, *local, out + ".safetensors", "--split", "all"]) == 0
    for name in ("clips.csv", "-scores/keep.csv"):
        here, there = (tmp_path / f"{place}/{name}".replace("/-", "-") for place in PLACES)
        assert here.read_bytes() == there.read_bytes(), name
    # their bytes are in another order each time
    said = [safe_open(tmp_path / f"{place}.safetensors", "np").metadata() for place in PLACES]
    assert said[0] == said[1] and "calibration" in str(said[0])


@pytest.mark.slow
def test_a_refinement_hands_the_url_on_to_its_trainings(
    many_shards: Path, weights: Path, tmp_path: Path
) -> None:
    argv = ["--weights", str(weights), "--rounds", "2", "--out", str(tmp_path / "out"), *SIZE,
            "--data.shards", f"file://{many_shards}", "--data.local", str(tmp_path / "copies"),
            "--train.batch_size", "4"]  # fmt: skip
    assert refine.main(argv) == 0
    saved = (tmp_path / "out" / "round-2" / "run" / "config.yaml").read_text()
    assert f"shards: file://{many_shards}" in saved and str(tmp_path / "copies") in saved
