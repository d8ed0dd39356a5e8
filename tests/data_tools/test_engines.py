"""What is done about tasks whose processes die; `pack` on Ray, one of whose workers is killed."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_tools.commands.pack import main
from data_tools.engines import RunOptions, each_done, run_local
from data_tools.errors import UserError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.workers import WorkerDied


def dies(task: tuple[Path, str], on_bytes: object) -> None:
    """Writes a line; the process dies if the task says so: "once" or "twice"."""
    file, ends = task
    with file.open("a") as stream:
        stream.write("begun\n")
    tries = len(file.read_text().splitlines())
    if (ends, tries) in (("once", 1), ("twice", 1), ("twice", 2)):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_between_tasks_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pebble = pytest.importorskip("pebble", reason="needs the extra [prepare]")

    def broken(*given: object, **named: object) -> Future[None]:
        """As pebble's manager leaves a task when its only worker was killed before taking it."""
        future: Future[None] = Future()
        future.set_exception(BrokenProcessPool("All workers expired"))
        return future

    monkeypatch.setattr(pebble.ProcessPool, "schedule", broken)
    with pytest.raises(WorkerDied, match=r"was killed .* run the same command again"):
        list(run_local(dies, [(Path("x"), "well")], 1, lambda count: None))


def test_a_pool_that_is_broken_when_a_task_is_given_is_told_in_the_same_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pebble = pytest.importorskip("pebble", reason="needs the extra [prepare]")
    from pebble.pool.base_pool import PoolStatus

    schedule = pebble.ProcessPool.schedule

    def broken(pool: Any, *given: Any, **named: Any) -> Future[None]:
        """As where a loop of the pool has ended before another task comes."""
        future: Future[None] = schedule(pool, *given, **named)
        pool._context.status = PoolStatus.ERROR
        return future

    monkeypatch.setattr(pebble.ProcessPool, "schedule", broken)
    with pytest.raises(WorkerDied, match=r"was killed .* run the same command again"):
        list(run_local(dies, [(Path("x"), "well")] * 2, 1, lambda count: None))


def test_what_died_is_tried_once_more_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pebble", reason="needs the extra [prepare]")
    ends = ("well", "once", "twice")
    tasks = {name: (tmp_path / name, name) for name in ends}
    engine: Any = lambda function, todo, on_bytes: run_local(function, todo, 1, on_bytes)  # noqa: E731
    done = []
    with pytest.raises(
        UserError, match=r"1 of 3 were given up, .* died twice: twice; run it again"
    ):
        for name, _ in each_done(engine, dies, tasks):
            done.append(name)
    assert done == ["well", "once"]
    assert [len((tmp_path / name).read_text().splitlines()) for name in ends] == [1, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["once", "twice", "twice"]
    assert said[0].endswith("trying once more") and said[-1].endswith("given up")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def killing_once(marker: Path, work: Callable[[Any], None], shard: Any) -> None:
    """Kills the first process that packs a shard."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    work(shard)


@pytest.mark.slow
def test_ray_packs_the_same_shards_though_a_worker_dies(
    clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra [ray]")
    options = PackOptions(ratios=(60, 20, 20), shard_mb=1)
    plain = pack(clips_folder, tmp_path / "plain", options)

    def engine(function: Any, tasks: list[Any], on_bytes: Any) -> Iterator[Any]:
        disturbed = [
            (partial(killing_once, tmp_path / "killed", work), shard) for work, shard in tasks
        ]
        back = dict(zip(map(id, disturbed), tasks, strict=True))
        for task, words in RunOptions(engine="ray").run(function, disturbed, on_bytes):
            yield back[id(task)], words

    try:
        manifest = pack(clips_folder, tmp_path / "ray", options, engine=engine)
    finally:
        ray.shutdown()
    assert manifest == plain and contents(tmp_path / "ray") == contents(tmp_path / "plain")
    said = capsys.readouterr().err
    assert said.count("its Ray worker died") == said.count("trying once more") == 1


def test_an_address_without_ray_is_refused(
    clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(clips_folder), str(tmp_path / "out"), "--ray-address", "auto"]
    assert main(argv) == 2
    assert "--ray-address needs --engine ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
