"""A worker of a batch: on which of several GPUs it computes."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from trainer.batch.measuring import own_device


def test_workers_take_the_gpus_in_turn_and_a_dead_ones_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    places, workers = tmp_path / "places", [ExitStack() for _ in range(5)]
    devices = [own_device("cuda", places, worker) for worker in workers]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    workers[1].close()
    workers[1] = ExitStack()
    assert own_device("cuda", places, workers[1]) == "cuda:1"
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("gpus, asked", [(1, "cuda"), (4, "cuda:3"), (4, "cpu"), (0, "cpu")])
def test_one_gpu_and_a_device_of_ones_choice_stay_as_they_are(
    gpus: int, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with ExitStack() as held:
        assert [own_device(asked, tmp_path, held) for _ in range(2)] == [asked] * 2
    assert not list(tmp_path.iterdir())
