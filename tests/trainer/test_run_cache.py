"""Trainings with a cache of decoded frames: the losses of one without, to the bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_tools.cache_file import FRAMES
from data_tools.errors import UsageError
from runs import REPOSITORY, TINY, Forking, Job, command, losses
from trainer.config.command import parse
from trainer.config.settings import Data
from trainer.run import main
from trainer.train.caching import Choice, Room, choose

GB = 10**9
EPOCHS = ["--train.epochs", "3", "--train.val_every", "99"]


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    """What starts runs."""
    with Forking(tmp_path_factory.mktemp("said")) as made:
        yield made


@pytest.mark.parametrize("more", [[], ["--augment.flip", "true", "--augment.turn", "5"]])
def test_losses_are_those_without_a_cache_killed_and_resumed_as_well(
    forking: Forking, shards_folder: Path, tmp_path: Path, more: list[str]
) -> None:
    cache = ["--data.cache", str(tmp_path / "cache")]
    save = ["--run.save_steps", "2", "--resume", "auto"]
    special = {"without": ["--data.decoder", "dali"], "auto": []}
    runs = {name: tmp_path / name for name in ("without", "auto", "killed", "warm")}
    without, auto, killed, warm = (
        command(shards_folder, folder, *EPOCHS, *more, *special.get(name, cache))
        for name, folder in runs.items()
    )
    done = forking.run(
        Job(without),
        Job(auto),
        Job([*killed, *save], "SIGKILL", ("step", 5)),
        Job([*killed, *save]),
        Job(warm),
    )
    assert [each.status for each in done] == [0, 0, -signal.SIGKILL, 0, 0], done[-1].err
    assert len(losses(runs["without"])) > 6
    assert losses(runs["auto"]) == losses(runs["without"])
    assert losses(runs["killed"]) == losses(runs["without"])
    assert losses(runs["warm"]) == losses(runs["without"])
    assert len(list((tmp_path / "cache").glob(f"*{FRAMES}"))) == 1
    assert "decoded by" not in done[0].out
    taken = "DALI in" if more else "libjpeg-turbo in"  # with a cache, augmented later
    assert f"frames are decoded by {taken}" in done[1].out
    assert "frames are decoded by libjpeg-turbo in" in done[2].out
    assert "times as long here as copying it" in done[2].out
    assert ": 0 of 350 frames" in done[2].out and ": 0 of 350 frames" not in done[4].out


RANKS = """
import sys
import trainer.run as run
from trainer.train import distributed
shards, out, *more = sys.argv[1:]
# one group for all runs: it cannot be made anew over the same store
processes, leave = distributed.setup("cpu"), distributed.leave
distributed.setup, distributed.leave = lambda device: processes, lambda: None
for name in ("without", "cold", "warm"):
    cache = [] if name == "without" else ["--data.cache", f"{out}/cache"]
    argv = ["--data.shards", shards, "--run.dir", f"{out}/{name}", *more, *cache]
    assert run.main(argv) == 0, name
leave()
"""


@pytest.mark.slow
def test_two_processes_share_a_cache(shards_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    arguments = [str(tmp_path / "ranks.py"), str(shards_folder), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *launcher, *arguments, *TINY, *EPOCHS, "--train.device", "cpu"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [losses(tmp_path / name) for name in ("without", "cold", "warm")]
    assert found[0] == found[1] == found[2] and len(found[0]) > 6


def room(memory: int = 100 * GB, disk: int = 100 * GB, device: int = 0) -> Room:
    return Room(memory, lambda folder: disk, device)


def test_auto_keeps_all_frames_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    auto = Data(cache="auto")
    folder = str(tmp_path / "syncnet-trainer" / "frames")
    assert choose(auto, 40 * GB, 10, room()) == Choice(folder, 50 * GB)
    assert choose(auto, 60 * GB, 10, room()).where == "off"
    assert choose(auto, 40 * GB, 2, room()).where == "off"
    assert choose(auto, 40 * GB, 10, room(disk=40 * GB)).where == "off"
    assert choose(auto, 40 * GB, 10, room(device=79 * GB)).where == folder
    assert choose(auto, 40 * GB, 10, room(device=80 * GB)).where == "gpu"
    assert choose(Data(cache="auto", cache_gb=30), 40 * GB, 10, room()).where == "off"


def test_a_cache_that_was_named_is_had_whatever_fits() -> None:
    assert choose(Data(cache="frames"), 900 * GB, 1, room()) == Choice("frames", 75 * GB)
    assert choose(Data(cache="frames", cache_gb=5), 900 * GB, 1, room()).budget == 5 * GB
    assert choose(Data(cache="gpu"), 900 * GB, 1, room(device=80 * GB)) == Choice("gpu", 40 * GB)
    with pytest.raises(UsageError, match="needs a GPU"):
        choose(Data(cache="gpu"), GB, 10, room())


def test_settings_of_no_use_are_refused(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for status, more in (
        (2, ["--data.cache_gb", "-1"]),
        (2, ["--data.cache", ""]),
        (2, ["--data.decoder", "turbo", "--data.decode_device", "gpu"]),
        (2, ["--data.decoder", "turbo", "--augment.turn", "5"]),
        (2, ["--data.cache", "gpu", "--train.device", "cpu"]),
        (2, ["--data.cache", str(tmp_path / "file")]),
        (1, ["--data.cache", str(tmp_path / "file" / "below")]),
    ):
        assert main(command(shards_folder, tmp_path / "run", *more)) == status
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "Traceback" not in said


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("config", "data:\n  cache: off\n"),
        ("config", "data.cache: off\n"),
        ("data", "cache: off\n"),
    ],
)
def test_off_is_a_word_in_a_file_of_settings(tmp_path: Path, option: str, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    config, _ = parse([f"--{option}", str(tmp_path / "settings.yaml")])
    assert config.data.cache == "off"
