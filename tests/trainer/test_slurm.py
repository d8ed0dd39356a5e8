"""The scripts for SLURM, with stand-ins for SLURM's own commands."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.run import get_args_parser

from data_tools.shards import open_shards
from data_tools.verifying import verify
from trainer.config.command import parse

SCRIPTS = Path(__file__).parents[2] / "trainer" / "configs" / "slurm"

# Does the command once on each machine of the job, and hands on a signal to end, as srun does.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
tasks=
for node in $(seq "${SLURM_JOB_NUM_NODES:-1}"); do
    SLURM_NODEID=$((node - 1)) "$@" &
    tasks+=" $!"
done
trap 'kill -TERM $tasks' TERM
status=0
for task in $tasks; do
    wait "$task" || status=$?
    while kill -0 "$task" 2>/dev/null; do wait "$task" || status=$?; done
done
exit "$status"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then printf 'alpha\\nbeta\\n'; else echo "$@" >>"$RECORD/requeued"; fi
"""
# Says what it was asked for and ends as torchrun does: by a signal with status 1.
TORCHRUN = """#!/usr/bin/env bash
printf '%s\\n' "$TORCH_DISABLE_SHARE_RDZV_TCP_STORE" "$@" >"$RECORD/$SLURM_NODEID.part"
mv "$RECORD/$SLURM_NODEID.part" "$RECORD/$SLURM_NODEID"
trap 'echo saved >>"$RECORD/$SLURM_NODEID"; exit 1' TERM
[[ -e $RECORD/finished ]] && exit 0
[[ -e $RECORD/failing ]] && exit 3
while true; do sleep 0.05; done
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, stand-ins found first."""
    there = tmp_path / "bin"
    there.mkdir()
    python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    programs = {"srun": SRUN, "scontrol": SCONTROL, "torchrun": TORCHRUN, "python": python}
    for name, text in programs.items():
        (there / name).write_text(text)
        (there / name).chmod(0o755)
    (tmp_path / "record").mkdir()
    return {
        **os.environ,
        "PATH": f"{there}:{os.environ['PATH']}",
        "PYTHONPATH": str(SCRIPTS.parents[2]),
        "RECORD": str(tmp_path / "record"),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "alpha,beta",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }


def bash(script: str, *arguments: Any, environment: dict[str, str]) -> Any:
    words = ["bash", str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.Popen(
        words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_an_array_prepares_and_one_job_packs(
    slurm: dict[str, str], video: Path, clips_folder: Path, tmp_path: Path
) -> None:
    slurm["SLURM_JOB_NUM_NODES"] = "1"
    out = tmp_path / "shards"
    for task in (0, 1):
        array = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        done = bash(
            "prepare.sbatch", video, out, "--size", "64", "--gray", environment=slurm | array
        )
        said, _ = done.communicate(timeout=120)
        assert done.returncode == 0, said
    assert sum(len(open_shards(out, split)) for split in ("train", "val", "test")) >= 1
    packed = tmp_path / "packed"
    done = bash("pack.sbatch", clips_folder, packed, "--ratios", "60:20:20", environment=slurm)
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 0, said
    assert verify(packed) == []


def start_training(slurm: dict[str, str], run: Path) -> Any:
    arguments = [run, "--data.shards", "somewhere", "--train.epochs", "3"]
    return bash("train.sbatch", *arguments, environment=slurm | {"PROCESSES": "4"})


def test_a_training_that_is_ended_saves_and_is_queued_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    record, run = tmp_path / "record", tmp_path / "a run"
    job = start_training(slurm, run)
    deadline = time.monotonic() + 30
    while not ((record / "0").exists() and (record / "1").exists()):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=30)
    assert job.returncode == 0, said
    assert (record / "requeued").read_text() == "requeue 4711\n"
    for node in "01":
        unshared, *words, saved = (record / node).read_text().splitlines()
        assert unshared == "1" and saved == "saved"
        asked = get_args_parser().parse_args(words)  # torchrun's own
        assert (asked.nnodes, asked.nproc_per_node, asked.max_restarts) == ("2", "4", 3)
        assert asked.rdzv_backend == "c10d" and asked.rdzv_id == "4711"
        assert asked.rdzv_endpoint == "alpha:24711" and asked.module
        assert asked.training_script == "trainer.run"
        config, options = parse(asked.training_script_args)
        assert config.run.dir == str(run) and options.resume == "auto"
        assert config.train.epochs == 3


@pytest.mark.parametrize(("ends", "status"), [("finished", 0), ("failing", 3)])
def test_a_training_that_ends_by_itself_is_not_queued_again(
    slurm: dict[str, str], tmp_path: Path, ends: str, status: int
) -> None:
    (tmp_path / "record" / ends).touch()
    job = start_training(slurm, tmp_path / "run")
    said, _ = job.communicate(timeout=30)
    assert job.returncode == status, said
    assert not (tmp_path / "record" / "requeued").exists()


def test_arguments_that_are_missing_are_asked_for(slurm: dict[str, str]) -> None:
    for script in SCRIPTS.glob("*.sbatch"):
        job = bash(script.name, environment=slurm)
        said, _ = job.communicate(timeout=30)
        assert job.returncode != 0 and "give " in said and said.count("\n") == 1


def test_every_option_of_sbatch_stands_before_the_first_command() -> None:
    """SLURM reads no further."""
    for script in SCRIPTS.glob("*.sbatch"):
        lines = script.read_text().splitlines()
        options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH ")]
        first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
        assert options and max(options) < first
        assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", lines[i]) for i in options)
