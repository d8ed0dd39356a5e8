"""What our programs do as they start, and a library does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.start import _module

_TELL = """
import os, sys
sys.argv[0] = sys.argv[1]
import data_tools
print(os.environ.get("OPENBLAS_NUM_THREADS"), sys.excepthook is not sys.__excepthook__)
"""


@pytest.mark.parametrize(
    ("program", "omp", "told"),
    [
        ("/usr/bin/syncnet", None, "1 True"),
        ("syncnet-data", "4", "None True"),  # the user shares the cores out
        ("/home/me/analysis.py", None, "None False"),
    ],
)
def test_programs_of_ours_alone_keep_numpy_to_one_thread(program, omp, told):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    environment |= {} if omp is None else {"OMP_NUM_THREADS": omp}
    done = subprocess.run(
        [sys.executable, "-c", _TELL, program], env=environment, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == (told, "")


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("python -m trainer.run --run.dir -m", "trainer.run"),
        ("python -X dev -W error -m data_tools prepare", "data_tools"),
        ("python -Im data_tools", "data_tools"),
        ("python -mdata_tools", "data_tools"),
        ("python -Xfrozen_modules=off -um benchmarks.report", "benchmarks.report"),
        ("python", ""),
    ],
)
def test_the_module_of_a_command(command, module):
    assert _module(command.split()) == module


def test_another_program_that_imports_ours_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "mytool"
    package.mkdir()
    (package / "__init__.py").write_text("import data_tools")
    (package / "__main__.py").write_text(
        "import os, sys\n"
        "print(os.environ.get('OPENBLAS_NUM_THREADS'), sys.excepthook is sys.__excepthook__)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "mytool"],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("None True", "")
