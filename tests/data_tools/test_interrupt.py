"""Ctrl-C while a program still loads: one sentence."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "loading"), [("trainer.export", "torch"), ("data_tools", "numpy")]
)
def test_ctrl_c_amid_the_imports_is_one_sentence(module: str, loading: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        # each import is said on stderr as it ends
        [sys.executable, "-X", "importtime", "-m", module, "info"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f" {loading}." in line:
                break
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.returncode == 130
    assert said == [f"{module}: interrupted\n"]
