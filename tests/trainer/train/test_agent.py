"""What torchrun keeps between the starts of processes; its store is one of this process here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from data_tools.errors import UserError
from trainer.config.command import parse
from trainer.train import agent


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    made = dist.HashStore()
    monkeypatch.setattr(agent, "_store", lambda: made)
    return made


def meet(world: int, late: int) -> list[bytes]:
    """What each process finds where all meet; process `late` comes when the others wait."""

    def come(rank: int) -> dist.Store:
        met = agent.meeting(rank, world)
        assert met is not None
        return met

    with ThreadPoolExecutor(world) as pool:
        waiting = {rank: pool.submit(come, rank) for rank in range(world) if rank != late}
        if world > 1:
            with pytest.raises(TimeoutError):
                next(iter(waiting.values())).result(0.2)
        waiting[late] = pool.submit(come, late)
        met = [waiting[rank].result(10) for rank in range(world)]
    fresh = not met[0].check(["address"])
    met[0].set("address", f"of a start with {late} late")
    assert fresh
    return [each.get("address") for each in met]


def test_processes_meet_where_none_of_earlier_starts_left_anything(store: dist.Store) -> None:
    for late in (0, 2, 1, 0):  # in one store, as torchrun's
        assert meet(3, late) == [f"of a start with {late} late".encode()] * 3


def test_who_waits_in_vain_says_so(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_TIMEOUT", agent._TIMEOUT * 1e-4)
    with pytest.raises(UserError, match="1 of 2 processes came within"):
        agent.meeting(0, 2)
    with pytest.raises(UserError, match="the first process did not come"):
        agent.meeting(1, 2)


def test_without_torchrun_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    agent.remember(Path("anywhere"))
    assert agent.begun() is None and agent.meeting(0, 2) is None


def test_a_restart_goes_on_with_the_run_that_was_begun(
    store: dist.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--data.shards", "somewhere", "--run.dir", "mine"]
    config, options = parse(argv)
    assert config.run.dir == "mine" and options.resume is None and not options.restarted
    run = tmp_path / "ä b"
    agent.remember(run)
    # who has trained before was not started anew: another run
    assert parse(argv)[0].run.dir == "mine"
    monkeypatch.setattr(agent, "_trained", False)
    config, options = parse(argv)
    assert config.run.dir == str(run) and options.restarted and options.resume == "auto"
    # the self-check begins no run, and goes on with none
    monkeypatch.setattr(agent, "_trained", False)
    assert parse([*argv, "--overfit", "1"])[0].run.dir == "mine"
