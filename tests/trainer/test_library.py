"""`import trainer`: at once, and everything that it offers is there."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import trainer

REPOSITORY = Path(__file__).parents[2]


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after `code`."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_that_takes_long() -> None:
    modules = loaded_by("import trainer")
    assert "trainer" in modules
    heavy = {"torch", "numpy", "rich", "jsonargparse", "nvidia", "av", "cv2", "importlib.metadata"}
    assert not heavy & modules
    ours = {name for name in modules if name.partition(".")[0] in ("trainer", "data_tools")}
    light = {"interrupt", "lazy", "start"}
    assert ours <= {"trainer", "data_tools", *(f"data_tools.{name}" for name in light)}


def test_the_version_takes_no_torch() -> None:
    assert "torch" not in loaded_by("import trainer; assert trainer.__version__")


def test_names_come_from_their_modules() -> None:
    from trainer.data.dataset import Dataset
    from trainer.data.loader import Loader
    from trainer.data.sampler import TrainSampler
    from trainer.score.options import MeasureOptions
    from trainer.score.trust import TrackResult
    from trainer.score.video import measure_video

    homes = (Dataset, Loader, MeasureOptions, TrackResult, TrainSampler)
    assert all(getattr(trainer, home.__name__) is home for home in homes)
    assert trainer.measure_video is measure_video
    assert set(trainer.__all__) <= set(dir(trainer))
    assert all(getattr(trainer, name) for name in trainer.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert trainer.__version__ in (version("syncnet-trainer"), "unknown")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = trainer.nonsense


def test_a_command_and_a_step_load_nothing_that_they_can_do_without() -> None:
    # a training has one more step of the optimizer than this, a measurement more of SciPy
    modules = loaded_by(
        "import trainer.run, trainer.sync, torch\n"
        "from trainer.train.optimizer import AdamW\n"
        "weight = torch.nn.Parameter(torch.ones(2))\n"
        "optimizer = AdamW([weight], fused=True)\n"
        "weight.sum().backward()\n"
        "optimizer.step()\n"
        "optimizer.zero_grad()\n"
        "optimizer.load_state_dict(optimizer.state_dict())"
    )
    assert {"torch", "trainer.train.trainer", "trainer.score.scoring"} <= modules
    dear = {"torch._dynamo", "nvidia.dali", "matplotlib", "scipy.signal", "scipy.ndimage", "ray"}
    assert not dear & modules
