"""A training on several machines: agents of torchrun come and go, processes are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import synthesize
from runs import REPOSITORY, command, train_rows
from servers import s3_serving, serving
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler
from trainer.model.syncnet import SyncNet
from trainer.train import checkpoint
from trainer.train.distributed import Processes
from two_processes import stepped, validated

# Reads lines: {"kind", "said", ...}; prints the number of the process that does it. A number is
# that of a process whose exit status is printed, null while it lives.
_STARTER = """
import json, os, signal, sys, time
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
import torch._dynamo  # DistributedDataParallel's, late and dear
import trainer.run as run
from trainer.data.loader import Loader
from trainer.train import distributed, peers, timing

timing.plot = lambda rows, picture: None  # dear as well

def worker(said, argv):
    redirect(said)
    rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    following = Loader.__next__
    def spying(self):
        batch = following(self)
        if self.shape.sample_frames == 5:
            s = batch.segments
            rows = [x.tolist() for x in (s.clip, s.start, s.audio_start, s.label)]
            with open(f"{said}.samples", "a") as stream:
                stream.write(json.dumps([batch.step, rank, world, os.getpid(), rows]) + "\\n")
        return batch
    Loader.__next__ = spying
    status = run.main(argv)
    sys.stdout.flush()
    os._exit(status)  # a fork leaves behind threads, for which its end would wait

def agent(said, endpoint, argv, nodes, share):
    redirect(said)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = str(int(not share))
    wait = {"last_call_timeout": 1, "keep_alive_interval": 3, "keep_alive_max_attempt": 3}
    config = LaunchConfig(
        min_nodes=nodes, max_nodes=2, nproc_per_node=1, run_id="test", rdzv_backend="c10d",
        rdzv_endpoint=endpoint, rdzv_configs=wait, max_restarts=1, start_method="fork",
        local_addr="127.0.0.1", monitor_interval=0.1,
    )
    elastic_launch(config, worker)(said, argv)

def rank(said, argv, rank, world, port, environment):
    os.environ.update(
        environment, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )
    worker(said, argv)

def watcher(said, rank, port, ends):
    redirect(said)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="3", MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    peers.GRACE_SECONDS = 0.5
    processes = distributed.setup("cpu")
    with peers.watching(processes):
        processes.barrier()
        if ends[rank] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if ends[rank] == "fails":
            raise RuntimeError("a bug of its own")
        time.sleep(ends[rank])
    distributed.leave()

def shared(said, work, rank, port, given):
    redirect(said)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import two_processes
    processes = distributed.setup("cpu")
    getattr(two_processes, work)(processes, **given)
    distributed.leave()

def redirect(said):
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)

for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
        ended, status = os.waitpid(asked, os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if ended else None), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    status = 0
    try:
        globals()[asked.pop("kind")](**asked)
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(status)
"""


class Starter:
    """Starts processes that have the libraries already."""

    def __init__(self) -> None:
        ours = f"{REPOSITORY}{os.pathsep}{Path(__file__).parent}"
        environment = {**os.environ, "PYTHONPATH": ours, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _STARTER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._started: list[int] = []

    def start(self, kind: str, said: Path, **given: Any) -> int:
        """Start one; the number of its process."""
        self._started.append(self._ask({"kind": kind, "said": str(said), **given}))
        return self._started[-1]

    def wait(self, process: int, seconds: float) -> int:
        """Its exit status, minus the signal's number if one killed it."""
        deadline = time.monotonic() + seconds
        while (status := self._ask(process)) is None:
            assert time.monotonic() < deadline, f"still there after {seconds} s"
            time.sleep(0.05)
        self._started.remove(process)
        return int(status)

    def end(self) -> None:
        """Kill all that are left."""
        for process in self._started:
            for each in (*children(process), process):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def _ask(self, what: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def children(process: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    return []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    made = Starter()
    yield made
    made.end()


def wait_for(what: Callable[[], Any], seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("ends", "statuses"),
    [
        ([0.0, 2.0, 1.0], [0, 0, 0]),  # the first goes early, the second late: all as they should
        ([60, "killed", 60], [1, -signal.SIGKILL, 1]),
        (["killed", 60, 60], [-signal.SIGKILL, 1, 1]),
        ([60, 60, "fails"], [1, 1, 1]),
    ],
)
def test_who_computes_hears_of_a_lost_process_in_seconds(
    starter: Starter, tmp_path: Path, ends: list[Any], statuses: list[int]
) -> None:
    """The main threads sleep, as one does that packs or waits for a GPU."""
    port, said = free_port(), [tmp_path / str(rank) for rank in range(3)]
    started = [
        starter.start("watcher", said[rank], rank=rank, port=port, ends=ends) for rank in range(3)
    ]
    assert [starter.wait(process, 30) for process in started] == statuses
    for rank, text in enumerate(path.read_text() for path in said):
        if ends[rank] == "fails":
            assert "a bug of its own" in text and "is gone" not in text
        elif ends[rank] == 60:
            assert text.count(f"process {rank} of 3: another process of this training is gone") == 1
            assert "Traceback" not in text and text.count("\n") == 1
        else:
            assert "is gone" not in text


def by_two(starter: Starter, folder: Path, work: str, **given: Any) -> list[Any]:
    """What two processes of one training (`two_processes`) have found."""
    port, said = free_port(), [folder / f"{work}-{rank}" for rank in range(2)]
    given = {name: str(value) for name, value in given.items()} | {"folder": str(folder)}
    started = [
        starter.start("shared", said[rank], work=work, rank=rank, port=port, given=given)
        for rank in range(2)
    ]
    assert [starter.wait(each, 60) for each in started] == [0, 0], said[0].read_text()
    return [torch.load(folder / f"{work}-{rank}.pt", weights_only=True) for rank in range(2)]


def test_a_validation_measures_one_network_the_one_that_is_saved(
    starter: Starter, shards_folder: Path, tmp_path: Path
) -> None:
    """Batch norm has seen other samples in each process since its buffers were last alike."""
    (figures, saved), other = by_two(starter, tmp_path, "validate", shards=shards_folder)
    assert other[0] == figures and all(torch.equal(other[1][k], v) for k, v in saved.items())
    model = SyncNet("small")
    model.load_state_dict(saved)
    assert validated(shards_folder, model, Processes()) == pytest.approx(figures)


def test_a_step_of_two_processes_is_that_of_the_whole_batch(
    starter: Starter, tmp_path: Path
) -> None:
    """But for batch norm; they have unequally many false pairs, or genuine ones."""
    one, other = by_two(starter, tmp_path, "steps")
    alone, (_, fresh) = stepped(Processes()), one["fresh"]
    assert torch.equal(alone.pop("fresh")[1], fresh)
    for name, (loss, weights) in alone.items():
        assert one[name][0] == other[name][0] == pytest.approx(loss, rel=1e-5), name
        assert torch.equal(one[name][1], other[name][1])
        assert (weights - one[name][1]).norm() < 1e-3 * (weights - fresh).norm(), name


SENTENCE = "another process of this training is gone"
ENDLESS = ["--train.epochs", "100000", "--train.val_every", "99999", "--run.save_steps", "3"]


def samples(said: Path, world: int, but: int = 0) -> list[Any]:
    """What an agent's processes (`but` that of a number) were given while there were `world`."""
    path = Path(f"{said}.samples")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if row[2] == world and row[3] != but]


def check_saved(run: Path, said: Path) -> int:
    """That a run was stopped, whole; its steps."""
    text = " ".join(said.read_text().split())
    assert f"go on with --resume {run}" in text and "/trainer/train/" not in text  # a traceback's
    rows = train_rows(run)
    assert checkpoint.load(run / "last.pt")["step"] == len(rows)
    assert [row.step for row in rows] == list(range(len(rows)))
    return len(rows)


def check_order(rows: list[Any], folders: tuple[Path, Path]) -> None:
    """That every step, whoever did it, had its share of the one order."""
    dataset = Dataset(folders, "train")
    sampler = TrainSampler(dataset.windows, 8, sets=dataset.sets, weights=(0.7, 0.3))
    for step, rank, world, _, row in rows:
        whole = sampler.batch(step)
        share = slice(rank * 8 // world, (rank + 1) * 8 // world)
        expected = [whole.clip, whole.start, whole.audio_start, whole.label]
        assert row == [x[share].tolist() for x in expected]


def killed_by_url(
    starter: Starter,
    urls: tuple[str, str],
    folders: tuple[Path, Path],
    tmp_path: Path,
    worlds: tuple[int, ...],
    seconds: Callable[[], float],
    steps: int,
    **environment: str,
) -> None:
    """Train from two weighted remote sets; kill -9 all processes again and again, the last but one.

    Args:
        folders: where the same sets lie.
        worlds: how many processes each start has; the last one goes on to the end.
        seconds: after which each is killed, counted from the first batches on.
        steps: of the whole training.
    """
    run = tmp_path / "run"
    argv = command(Path(urls[0]), run, "--train.steps", str(steps), "--train.device", "cpu")
    argv[1:2] = urls
    argv += ["--data.weights", "0.7", "0.3", "--run.save_steps", "2", "--data.val_clips", "1"]
    argv += ["--data.local", str(tmp_path / "copies"), "--resume", "auto"]
    given: list[Any] = []
    for number, world in enumerate(worlds):
        said = [tmp_path / f"{number}-{rank}" for rank in range(world)]
        job = {"argv": argv, "world": world, "port": free_port(), "environment": environment}
        started = [starter.start("rank", each, rank=rank, **job) for rank, each in enumerate(said)]
        if number + 1 == len(worlds):
            assert [starter.wait(each, 120) for each in started] == [0] * world, said[0].read_text()
        else:
            wait_for(lambda said=said, world=world: len(samples(said[0], world)) > 2)
            time.sleep(seconds())
            for each in started:
                os.kill(each, signal.SIGKILL)
            assert {starter.wait(each, 30) for each in started} == {-signal.SIGKILL}
        last = [row for each in said for row in samples(each, world)]
        given += last
    check_order(given, folders)
    # none skipped, and of those that were done again none another
    assert [row.step for row in train_rows(run)] == list(range(steps))
    assert {step for step, *_ in given} >= set(range(steps)) and min(row[0] for row in last) > 0
    assert checkpoint.load(run / "last.pt")["step"] == steps


def test_killed_and_with_more_processes_a_run_by_url_has_the_samples_that_were_due(
    starter: Starter, many_shards: Path, shards_folder: Path, tmp_path: Path
) -> None:
    folders = many_shards, shards_folder
    with serving(many_shards) as one, serving(shards_folder) as other:
        urls = f"{one.url}/one", f"{other.url}/two"
        killed_by_url(
            starter, urls, folders, tmp_path, (1, 2), lambda: 0.0, 12, NO_PROXY="127.0.0.1"
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_a_run_from_buckets_has_the_samples_that_were_due(
    starter: Starter,
    many_shards: Path,
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("moto")
    s3fs, folders = pytest.importorskip("s3fs"), (many_shards, shards_folder)
    rng = np.random.default_rng(0)
    with s3_serving() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.mkdir("two-sets")
        for name, folder in zip(("one", "two"), folders, strict=True):
            files.put(f"{folder}/*", f"two-sets/{name}/")
        urls = "s3://two-sets/one", "s3://two-sets/two"
        worlds, wait = (2, 1, 2, 1, 2), partial(rng.uniform, 0, 0.6)
        killed_by_url(starter, urls, folders, tmp_path, worlds, wait, 24, **environment)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_machines_come_and_die_and_no_sample_is_lost(
    starter: Starter, shards_folder: Path, tmp_path: Path
) -> None:
    """Two weighted sets; one machine, then two, then one: joined and killed whenever it comes."""
    other = tmp_path / "other"  # of its own clips: no set may train on what another measures
    synthesize(tmp_path / "clips", clips=12, seed=5, size=64, seconds=2.0, workers=1)
    pack(tmp_path / "clips", other, PackOptions(ratios=(80, 10, 10)))
    run, (a, b) = tmp_path / "run", (tmp_path / "A", tmp_path / "B")
    argv = command(shards_folder, run, *ENDLESS, "--train.device", "cpu", "--resume", "auto")
    argv[2:2] = [str(other), "--data.weights", "0.7", "0.3"]
    job = {"endpoint": f"127.0.0.1:{free_port()}", "argv": argv, "nodes": 1, "share": False}

    one = starter.start("agent", a, **job)
    wait_for(lambda: len(samples(a, 1)) > 4)
    alone = samples(a, 1)[0][3]
    two = starter.start("agent", b, **job)
    wait_for(lambda: len(samples(a, 2)) > 4 and len(samples(b, 2)) > 4)
    for process in (*children(two), two):  # a machine dies
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: SENTENCE in a.read_text(), 30)
    wait_for(lambda: len(samples(a, 1, alone)) > 4)
    os.kill(one, signal.SIGTERM)  # the other is preempted
    starter.wait(one, 30)
    done = check_saved(run, a)
    assert a.read_text().count(SENTENCE) == 1 and "failed to connect" not in a.read_text()

    given = [*samples(a, 1), *samples(a, 2), *samples(b, 2)]
    check_order(given, (shards_folder, other))
    seen: dict[tuple[int, int], set[int]] = {}
    for step, rank, world, *_ in given:
        seen.setdefault((step, world), set()).add(rank)
    assert set(range(done)) <= {
        step for (step, world), ranks in seen.items() if len(ranks) == world
    }
    assert {world for _, world in seen} == {1, 2}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchrun_goes_on_by_itself_after_a_kill(
    starter: Starter, shards_folder: Path, tmp_path: Path
) -> None:
    """Two machines, torchrun's own settings, and no --resume."""
    run, said = tmp_path / "run", [tmp_path / "A", tmp_path / "B"]
    argv = command(shards_folder, run, *ENDLESS, "--train.device", "cpu")
    job = {"endpoint": f"127.0.0.1:{free_port()}", "argv": argv, "nodes": 2, "share": True}
    agents = [starter.start("agent", each, **job) for each in said]
    wait_for(lambda: all(len(samples(each, 2)) > 4 for each in said))
    before = [samples(each, 2)[0][3] for each in said]
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: SENTENCE in said[0].read_text() + said[1].read_text(), 30)
    wait_for(lambda: all(len(samples(each, 2, before[i])) > 4 for i, each in enumerate(said)))
    assert min(row[0] for row in samples(said[0], 2, before[0])) >= 3
    for agent in agents:
        os.kill(agent, signal.SIGTERM)
    for agent in agents:
        starter.wait(agent, 30)
    first = next(each for each in said if samples(each, 2)[-1][1] == 0)
    check_saved(run, first)
    assert sum(each.read_text().count(SENTENCE) for each in said) == 1
