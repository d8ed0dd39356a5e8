"""Copies of remote shards: whole, checked, shared, resumed, evicted only where that is safe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools import mirror_room, remote, verifying
from data_tools.__main__ import main as data_tools
from data_tools.errors import UsageError
from data_tools.keep import read_keep
from data_tools.manifest import MANIFEST, ShardEntry, ShardError, read_manifest
from data_tools.mirror import LocalOptions, Mirror, folder_of, mirror_at, open_set
from data_tools.remote import Remote, RemoteError
from data_tools.shards import open_shards
from data_tools.verifying import verify
from servers import serving

FIRST = "train-000000.tar"
LIMIT = 1.8e-3  # GB: two of the largest shard, less than all


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setattr(mirror_room, "_PATIENCE", 0.1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def source(many_shards: Path, tmp_path: Path) -> Path:
    """A set that may be changed."""
    return Path(shutil.copytree(many_shards, tmp_path / "source"))


def opened(url: str, tmp_path: Path, gb: float = 0.0) -> Mirror:
    """The copy of a set below `tmp_path`, its statistics and indices here."""
    mirror = mirror_at(open_set(url, LocalOptions(str(tmp_path / "copies"), gb)))
    assert mirror is not None
    mirror.fetch_small(mirror.entries.values())
    return mirror


def tars(mirror: Mirror) -> set[str]:
    return {path.name for path in mirror.folder.glob("*.tar")}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_shard_comes_whole_and_what_came_before_a_kill_is_used(
    many_shards: Path, tmp_path: Path, ranges: bool
) -> None:
    content = (many_shards / FIRST).read_bytes()
    with serving(many_shards, ranges) as web:
        mirror = opened(web.url, tmp_path)
        (mirror.folder / ".mirror" / f"{FIRST}.{len(content)}.part").write_bytes(content[:500_000])
        before = web.bytes
        came: list[int] = []
        assert mirror.fetch(FIRST, on_bytes=came.append)
        asked = web.bytes - before
        assert asked == len(content) - 500_000 if ranges else asked >= len(content)
        assert sum(came) == len(content)
        assert (mirror.folder / FIRST).read_bytes() == content
        asked = web.asked["GET", FIRST]
        assert mirror.fetch(FIRST) and web.asked["GET", FIRST] == asked  # it is here
        for name in mirror.entries:
            mirror.fetch(name)
        assert not verify(mirror.folder)
    shutil.rmtree(mirror.folder / ".mirror")
    assert {path.name for path in mirror.folder.iterdir()} == {
        path.name for path in many_shards.iterdir() if path.name != "plan.json"
    }


def test_a_beginning_of_other_bytes_is_no_harm(many_shards: Path, tmp_path: Path) -> None:
    content = (many_shards / FIRST).read_bytes()
    with serving(many_shards) as web:
        mirror = opened(web.url, tmp_path)
        (mirror.folder / ".mirror" / f"{FIRST}.{len(content)}.part").write_bytes(bytes(5000))
        assert mirror.fetch(FIRST)
    assert (mirror.folder / FIRST).read_bytes() == content


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda tar: flip(tar, 300_000), "another content of"),
        (lambda tar: tar.write_bytes(tar.read_bytes()[:-512]), "bytes, the manifest says"),
        (lambda tar: tar.unlink(), "is missing"),
    ],
)
def test_a_tar_that_is_not_the_manifests_is_refused_by_name(
    source: Path, tmp_path: Path, change: object, words: str
) -> None:
    change(source / FIRST)  # type: ignore[operator]
    with serving(source) as web:
        mirror = opened(web.url, tmp_path)
        with pytest.raises((ShardError, RemoteError), match=words) as caught:
            mirror.fetch(FIRST)
    assert FIRST in str(caught.value) and "\n" not in str(caught.value)
    assert tars(mirror) == set()


def test_statistics_that_are_not_the_manifests_are_refused_by_name(
    source: Path, tmp_path: Path
) -> None:
    path = source / "train-000001.json"
    path.write_text(path.read_text().replace('"speaker"', '"speaker" '))
    path.write_text(path.read_text().replace("{", "{ ", 1))
    with serving(source) as web, pytest.raises(ShardError, match=r"train-000001\.tar.*hash"):
        opened(web.url, tmp_path)


def test_a_set_without_hashes_is_compared_by_its_totals(source: Path, tmp_path: Path) -> None:
    manifest = json.loads((source / MANIFEST).read_text())
    for entry in manifest["shards"]:
        del entry["sha256"]
    (source / MANIFEST).write_text(json.dumps(manifest))
    shutil.copy(source / "val-000000.json", source / "test-000000.json")
    with serving(source) as web, pytest.raises(ShardError, match="other totals"):
        opened(web.url, tmp_path)


def test_a_server_that_is_down_is_asked_again_and_then_named(
    many_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(method: str, name: str, before: int) -> str:
        return "503"

    with serving(many_shards, fault=down) as web:
        with pytest.raises(RemoteError, match=r"manifest\.json cannot be had: HTTP 503, 8 times"):
            opened(web.url.replace("//", "//who:quietly@") + "/x?sig=secret", tmp_path)
        assert web.asked["GET", MANIFEST] == remote.TRIES
    said = capsys.readouterr().err
    assert "trying again" in said and "quietly" not in said and "secret" not in said


@pytest.mark.parametrize("status, words", [("403", "refused: HTTP 403"), ("404", "is missing")])
def test_what_no_waiting_mends_is_said_at_once(
    many_shards: Path, tmp_path: Path, status: str, words: str
) -> None:
    def fault(method: str, name: str, before: int) -> str:
        return status

    with serving(many_shards, fault=fault) as web:
        with pytest.raises((RemoteError, ShardError), match=words):
            opened(web.url, tmp_path)
        assert web.asked["GET", MANIFEST] == 1


def test_whoever_comes_at_the_same_time_waits_for_the_one_that_fetches(
    many_shards: Path, tmp_path: Path
) -> None:
    def slow(method: str, name: str, before: int) -> str:
        time.sleep(0.05)
        return ""

    with serving(many_shards, fault=slow) as web:
        folder = opened(web.url, tmp_path).folder
        mirrors = [Mirror(Remote(web.url), folder) for _ in range(4)]  # each with files of its own
        for mirror in mirrors:
            mirror.reopen()
        threads = [threading.Thread(target=mirror.fetch, args=(FIRST,)) for mirror in mirrors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert web.asked["GET", FIRST] == 1
    assert (folder / FIRST).read_bytes() == (many_shards / FIRST).read_bytes()


def test_what_does_not_fit_goes_and_comes_again(many_shards: Path, tmp_path: Path) -> None:
    with serving(many_shards) as web:
        mirror = opened(web.url, tmp_path, LIMIT)
        assert mirror.scarce
        for _ in range(2):
            for split in ("train", "val", "test"):
                shards = zip(
                    open_shards(mirror.folder, split), open_shards(many_shards, split), strict=True
                )
                for own, other in shards:
                    assert np.array_equal(own.jpeg(0, 3), other.jpeg(0, 3))
                    assert np.array_equal(own.mfcc(1), other.mfcc(1))
                    here = sum(path.stat().st_size for path in mirror.folder.glob("*.tar"))
                    assert here <= LIMIT * 1e9
        assert web.asked["GET", FIRST] == 2


def test_what_is_in_use_or_the_only_copy_is_not_evicted(source: Path, tmp_path: Path) -> None:
    with serving(source) as web:
        mirror = opened(web.url, tmp_path)
        mirror.fetch(FIRST)
        mapped = open_shards(mirror.folder, "train")[0].map
        assert mirror.evict(FIRST) == 0
        mapped.close()
        # its source lacks it
        (source / FIRST).rename(source / "elsewhere")
        assert mirror.evict(FIRST) == 0
        (source / "elsewhere").rename(source / FIRST)
        # its source has another version
        manifest = (source / MANIFEST).read_text()
        (source / MANIFEST).write_text(manifest.replace('"clips_found": 12', '"clips_found": 13'))
        assert mirror.evict(FIRST) == 0
        (source / MANIFEST).write_text(manifest)
        assert mirror.evict(FIRST) > 0 and tars(mirror) == set()
    mirror.folder.joinpath("mine.tar").write_bytes(b"x")
    assert mirror.evict("mine.tar") == 0


def test_no_room_is_said_and_too_little_refused(source: Path, tmp_path: Path) -> None:
    with serving(source) as web:
        with pytest.raises(UsageError, match="two must fit"):
            opened(web.url, tmp_path, 1e-3)
        mirror = opened(web.url, tmp_path, LIMIT)
        names = sorted(mirror.entries)
        held = [mirror.open(name) for name in names[:2]]
        with pytest.raises(RemoteError, match=r"no room for train-000001\.tar.*in use"):
            mirror.fetch("train-000001.tar")
        assert mirror.fetch("train-000001.tar", ahead=True) is False
        for stream in held:
            stream.close()


def test_a_folder_is_the_same_for_a_url_whoever_signs_in(tmp_path: Path) -> None:
    local = str(tmp_path)
    plain = folder_of("https://host/data/set", local)
    assert plain == folder_of("https://who:what@host/data/set/?sig=1", local)
    assert plain != folder_of("https://host/data/other", local)
    assert plain.name.startswith("set-")
    assert folder_of("some/folder", local) == Path("some/folder")
    with pytest.raises(UsageError, match=r"ftp.*no URL that can be read"):
        folder_of("ftp://host/set", local)


def test_no_more_shards_are_verified_at_once_than_there_is_room_for(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def each(function: Any, tasks: Any, workers: int, work: str) -> Any:
        asked.append(workers)
        return ((task, function(task)) for task in tasks)

    monkeypatch.setattr(verifying, "each_result", each)
    for gb, workers in ((LIMIT, 2), (0.0, 4)):
        mirror = opened(f"file://{source}", tmp_path / str(workers), gb)
        assert verify(mirror.folder, 9) == [] and asked.pop() == workers


def test_a_set_with_a_shard_that_kept_no_clip_is_verified_and_filtered(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = source / "train-000099.tar"
    stats = {"split": "train", "clips": [], "dropped": [], "tar_bytes": 0}
    empty.with_suffix(".json").write_text(json.dumps(stats))
    manifest = json.loads((source / MANIFEST).read_text())
    manifest["shards"].append(asdict(ShardEntry.of(empty)[0]))
    (source / MANIFEST).write_text(json.dumps(manifest))
    (source / "report.csv").write_text("video,level,item,kept\n")
    assert verify(source) == []
    for command in (["verify"], ["filter", str(tmp_path / "keep.csv"), "--min-seconds", "1"]):
        command.insert(1, f"file://{source}")
        local = tmp_path / command[0]  # each from the beginning
        assert data_tools([*command, "--local", str(local)]) == 0, capsys.readouterr().err
    assert read_keep(tmp_path / "keep.csv")
    mirror = opened(f"file://{source}", tmp_path / "verify")
    mirror.fetch_small(mirror.listed)
    (mirror.folder / empty.name).with_suffix(".json").write_text("{}")
    with pytest.raises(ShardError, match="another hash"):
        mirror.fetch_small(mirror.listed)


@pytest.mark.slow
def test_many_workers_verify_in_little_room(many_shards: Path, tmp_path: Path) -> None:
    local = ["--local", str(tmp_path), "--local-gb", str(LIMIT), "--workers", "9"]
    with serving(many_shards) as web:
        assert data_tools(["verify", web.url, *local]) == 0
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.tar")) <= LIMIT * 1e9


_FETCH = """
import sys
from data_tools import mirror
folder = mirror.open_set(sys.argv[1], mirror.LocalOptions(sys.argv[2]))
own = mirror.mirror_at(folder)
own.fetch_small(own.entries.values())
for name in own.entries:
    own.fetch(name)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_next_one_goes_on(many_shards: Path, tmp_path: Path) -> None:
    def slow(method: str, name: str, before: int) -> str:
        time.sleep(0.02)
        return ""

    copies = tmp_path / "copies"
    rng = np.random.default_rng(0)
    command = [sys.executable, "-c", _FETCH]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with serving(many_shards, fault=slow) as web:
        for _ in range(8):
            pair = [
                subprocess.Popen([*command, web.url, str(copies)], env=environment)
                for _ in range(2)
            ]
            time.sleep(2.0 + rng.uniform(0, 1.5))
            for process in pair:
                process.send_signal(signal.SIGKILL)
                process.wait()
        subprocess.run([*command, web.url, str(copies)], env=environment, check=True)
    [folder] = copies.glob("*-*")
    for path in many_shards.glob("*-0*"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert read_manifest(folder) == read_manifest(many_shards)
