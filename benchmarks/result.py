"""What a benchmark found, as a JSON file that says how and where it was measured."""

import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_tools.atomic import write_json
from data_tools.errors import UsageError
from data_tools.versions import versions

RESULTS = Path(__file__).parent / "results"
_PLACES = {  # options whose values say where files lie
    "--cache",
    "--json",
    "--shards",
    "--unseen",
    "--unseen-offsets",
    "--manifest",
    "--more",
    "--more-manifest",
    "--out",
    "--clips-dir",
    "--work",
    "--data",
    "--findings",
}
_PACKAGES = ("torch", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "simplejpeg", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores, GPU and versions, so that a figure can be judged."""
    import torch

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
        "versions": versions(*_PACKAGES),
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


def try_writing(path: Path) -> None:
    """Find out whether a file can be written; makes its folder.

    Raises:
        UsageError: it is a folder.
        OSError: it cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from None


def told(arguments: list[str]) -> str:
    """The arguments that bear on the figures: where files lie on this machine does not."""
    words, place = [], False
    for word in arguments:
        if word.startswith("--"):
            place = word.split("=")[0] in _PLACES
        if not place:
            words.append(word)
    return " ".join(words)
