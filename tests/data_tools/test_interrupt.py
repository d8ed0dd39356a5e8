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


_WRITING = """
import sys, time
from pathlib import Path
from data_tools.atomic import atomic_path
from data_tools.cli import exit_status

def work():
    with atomic_path(Path(sys.argv[1])) as partial:
        partial.write_text("half")
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("cleaning", flush=True)
            time.sleep(0.5)

sys.exit(exit_status("test", work, "interrupted; nothing was written"))
"""


def test_sigterm_and_a_closed_terminal_clean_up_and_are_one_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    cases = (
        (signal.SIGTERM, signal.SIG_DFL, 143),
        (signal.SIGHUP, signal.SIG_DFL, 129),
        (signal.SIGHUP, signal.SIG_IGN, 143),  # under nohup it is ignored
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITING, tmp_path / f"{number}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda handler=hup: signal.signal(signal.SIGHUP, handler),  # type: ignore[misc]
        )
        for number, (_, hup, _) in enumerate(cases)
    ]
    for process, (first, hup, status) in zip(running, cases, strict=True):
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(first)
            if hup == signal.SIG_DFL:
                assert process.stdout.readline() == "cleaning\n"
            process.send_signal(signal.SIGTERM)  # a second one does not break off the cleaning
            _, said = process.communicate()
            assert (process.returncode, said) == (
                status,
                "test: interrupted; nothing was written\n",
            )
    assert list(tmp_path.iterdir()) == []


_FORKING = """
import os, signal
from data_tools.interrupt import stopping_signals

with stopping_signals() as stop:
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
print(status, stop.number)
"""


def test_a_forked_child_dies_of_its_signals_as_ever() -> None:
    # a process of its own: libraries that other tests load have handlers, and pytest forks badly
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", _FORKING]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (said.stdout, said.stderr) == ("-15 None\n", "")
