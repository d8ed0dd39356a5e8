"""What every benchmark shares: the machine it ran on, its result file, data to run on."""

import importlib.metadata
import json
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import simplejpeg

from data_tools.atomic import write_json
from data_tools.clips import ClipError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.records import RecordError
from data_tools.synth.clips import synthesize
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader, Shape
from trainer.data.sampler import TrainSampler
from trainer.model.syncnet import PRESETS

RESULTS = Path(__file__).parent / "results"
_start = "spawn"  # how `isolated` starts its processes
_PACKAGES = ("torch", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "simplejpeg", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores, GPU and versions, so that a figure can be judged."""
    import torch

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
    }


@dataclass(frozen=True)
class Result:
    """What a benchmark found, with what is needed to judge and to repeat it.

    Attributes:
        benchmark: module under benchmarks; of studies.x the file is study_x.json.
        figures: the answer.
        cache: state of the page cache: "warm", "cold" or "both".
        repetitions: how often each figure was measured.
        quick: true if it only showed that the benchmark works.
    """

    benchmark: str
    figures: dict[str, Any]
    cache: str = "warm"
    repetitions: int = 1
    quick: bool = False
    command: str = field(default_factory=lambda: told(sys.argv[1:]))
    machine: dict[str, Any] = field(default_factory=lambda: machine())

    def write(self, path: Path | None) -> Path:
        """Write to `path`, or to results/<benchmark>.json; figures lie at the top of the file."""
        if path is None:
            # A quick run only shows that it works: it must not replace what was measured.
            folder = Path(tempfile.mkdtemp(prefix="syncnet-quick-")) if self.quick else RESULTS
            name = self.benchmark.replace("studies.", "study_")
            path = folder / f"{name}.json"
        content = asdict(self)
        figures = content.pop("figures")
        content["command"] = f"python -m benchmarks.{self.benchmark} {self.command}".strip()
        write_json(path, content | figures)
        return path


def report(
    name: str, figures: dict[str, Any], path: Path | None, repetitions: int = 1, **about: Any
) -> None:
    """Write a benchmark's `Result` and print its figures."""
    written = Result(name, figures, repetitions=repetitions, **about).write(path)
    print(json.dumps(figures, indent=1))
    print(f"wrote {written}")


def exit_status(benchmark: str, out: Path | None, work: Callable[[], object]) -> int:
    """Do `work`; its exit status: 0, 2 (wrong usage) or 1 (data), the latter after one sentence.

    Args:
        out: a file that `work` ends with, if the user named one: whether it can be written is
            tried first, not after all the measuring.
    """
    try:
        if out is not None:
            try_writing(out)
        work()
        return 0
    except ValueError as error:
        status, said = 2, str(error)
    except (RuntimeError, RecordError, ClipError, OSError) as error:
        status, said = 1, str(error)
    except KeyboardInterrupt:
        status, said = 130, "stopped"
    print(f"{benchmark}: {said}", file=sys.stderr)
    return status


def try_writing(path: Path) -> None:
    """Find out whether a file can be written; makes its folder.

    Raises:
        ValueError: it is a folder.
        OSError: it cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from None


def at_least(arguments: Any, **least: int) -> None:
    """Check that each of the options named is at least so much.

    Raises:
        ValueError: one is less.
    """
    for name, bound in least.items():
        value = getattr(arguments, name)
        if value is not None and value < bound:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {bound}, not {value}")


def check_device(name: str) -> None:
    """Check that `name` is cpu or a GPU that is there.

    Raises:
        ValueError: it is not.
    """
    import torch

    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu or cuda, not {name}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"torch {torch.__version__} finds no GPU here; try --device cpu")


def start_fast() -> None:
    """Let `isolated` fork its processes from one that has the imports behind it.

    For quick runs only: pages shared with that process would be missing from the memory measured.
    """
    global _start
    _start = "forkserver"
    multiprocessing.set_forkserver_preload(["benchmarks.loaders", "benchmarks.step"])


def isolated(function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    """`function(*arguments)` in a fresh process, and what its tree of processes needed at most.

    Returns:
        the result, and peak_memory_mb (private and shared memory, without mapped files) and
        processes, both sampled.

    Raises:
        RuntimeError: it failed; holds its message.
    """
    context: Any = multiprocessing.get_context(_start)
    here, there = context.Pipe()
    process = context.Process(target=_answer, args=(there, function, arguments))
    process.start()
    there.close()
    done, peak = threading.Event(), {"peak_memory_mb": 0.0, "processes": 0.0}

    def watch() -> None:
        while True:
            tree = process_tree(process.pid or 0)
            memory = sum(_memory_mb(pid) for pid in tree)
            peak["peak_memory_mb"] = max(peak["peak_memory_mb"], round(memory))
            peak["processes"] = max(peak["processes"], len(tree))
            if done.wait(0.3):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        good, answer = here.recv()
    except EOFError:
        process.join()
        good, answer = False, f"its process ended with status {process.exitcode}"
    except BaseException:
        process.terminate()
        raise
    finally:
        done.set()
        watcher.join()
    process.join()
    if not good:
        raise RuntimeError(answer)
    return answer, peak


def _answer(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    # A spawned process would spawn its children; a training script on Linux forks them.
    multiprocessing.set_start_method("fork", force=True)
    try:
        pipe.send((True, function(*arguments)))
    except (ValueError, RuntimeError, RecordError, OSError) as error:  # these tell by themselves
        pipe.send((False, str(error)))
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))


def process_tree(root: int) -> list[int]:
    """Process ids of `root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    tree, at = [root], 0
    while at < len(tree):
        tree += children.get(tree[at], [])
        at += 1
    return tree


def cpu_seconds() -> float:
    """CPU time so far of this process and all its descendants, the ended ones included."""
    ticks = 0
    for pid in process_tree(os.getpid()):
        if stat := _stat(pid):
            ticks += sum(int(value) for value in stat[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on (state, parent, ...)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None  # it ended


def _memory_mb(pid: int) -> float:
    """Its share of anonymous and shared memory; pages of mapped files belong to the cache."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    wanted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(wanted)) / 1e3


def told(arguments: list[str]) -> str:
    """The arguments that bear on the figures: where files lie on this machine does not."""
    places = {
        i
        for i, word in enumerate(arguments)
        if word in ("--cache", "--json", "--shards", "--out", "--clips-dir", "--work")
    }
    return " ".join(
        word for i, word in enumerate(arguments) if i not in places and i - 1 not in places
    )


def synthetic_shards(folder: Path, clips: int, size: int, gray: bool = False) -> Path:
    """Shards of synthetic clips of 3 s below `folder`, made once."""
    made = folder / f"synth-{clips}-{size}{'-gray' if gray else ''}"
    if not (made / "shards" / "manifest.json").exists():
        made.mkdir(parents=True, exist_ok=True)
        synthesize(made / "clips", clips, seed=0, size=size)
        pack(made / "clips", made / "shards", PackOptions(gray=gray, ratios=(80, 10, 10)))
    return made / "shards"


def frame_shape(dataset: Dataset) -> tuple[int, int, int]:
    """Height, width and channels of every frame.

    Raises:
        ValueError: they differ.
    """
    if len(dataset.frame_shapes) != 1:
        raise ValueError("the shards hold frames of several sizes; pack them with --size")
    return next(iter(dataset.frame_shapes))


def open_loader(
    dataset: Dataset, sampler: TrainSampler, model: str | None = None, **options: Any
) -> Loader:
    """The training loader over `dataset` for `model`, or at the frames' own size and colour."""
    if model is not None:
        height, channels = PRESETS[model].size, PRESETS[model].channels
    else:
        height, _, channels = frame_shape(dataset)
    return Loader(
        dataset,
        lambda step, quarantine: sampler.batch(step, 0, 1, quarantine),
        Shape(sampler.batch_size, 5, 5, height, channels),
        **options,
    )


def decode_all(jpegs: list[bytes], channels: int) -> Callable[[], None]:
    """A function that decodes `jpegs` with libjpeg-turbo into fresh rows of one reused array."""
    import numpy as np

    colour = "RGB" if channels == 3 else "GRAY"
    first = simplejpeg.decode_jpeg(jpegs[0], colour)
    rows = np.empty((len(jpegs), *first.shape), np.uint8)

    def decode() -> None:
        for row, jpeg in zip(rows, jpegs, strict=True):
            simplejpeg.decode_jpeg(jpeg, colour, fastdct=False, fastupsample=False, buffer=row)

    return decode
