"""What our programs do as they start, and a library does not."""

import os
import subprocess
import sys

import pytest

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
