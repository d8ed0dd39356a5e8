"""What faults need: clips, shards, videos and weights, undisturbed results, and a judgement."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.faults.children import Children, Done, Job
from benchmarks.videos import write_video
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import render_clip, synthesize

Verdict = Literal["survived", "refused", "lost"]
# What is no sentence of a refusal: progress, and what multiprocessing says of semaphores, since the
# forks of our server end without Python's last rites.
_PROGRESS = re.compile(
    r"(packing|measuring|preparing|checking|uploading|fetching): |\s*$|.*resource_tracker"
)


@dataclass(frozen=True)
class Outcome:
    """What became of one try.

    Attributes:
        verdict: survived: the result is the undisturbed one's; refused: an exit status of 1 or 2
            and one sentence, and nothing that was whole was damaged; lost: anything else.
        words: of a refusal its sentence, of what is lost what happened; else empty.
    """

    verdict: Verdict
    words: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: for --only, and for the JSON.
        fault: what it is, in words.
        tries: how often it is injected.
        play: injects it once, from a seed.
        quick: how often in a quick run.
    """

    name: str
    fault: str
    tries: int
    play: Callable[["Lab", int], Outcome]
    quick: int = 0


@dataclass(frozen=True)
class Program:
    """A program that makes something in a folder and goes on when it is called again.

    Attributes:
        name: as people call it.
        job: its call, given the folder.
        result: what it has made, by name: bytes or what can be compared.
        workers: whether it has worker processes.
    """

    name: str
    job: Callable[[Path], Job]
    result: Callable[[Path], dict[str, Any]]
    workers: bool = False


class Lab:
    """A folder with all that faults need, made when it is first asked for.

    children: in which programs run.
    """

    def __init__(self, folder: Path, children: Children, disk: str) -> None:
        self.folder, self.children, self.disk = folder, children, disk
        self._count = 0
        self._expected: dict[str, tuple[dict[str, Any], float]] = {}

    def new(self, name: str) -> Path:
        """A path in a new folder; `tidy` takes it away."""
        self._count += 1
        path = self.folder / f"try-{self._count}" / name
        path.parent.mkdir(parents=True)
        return path

    def tidy(self) -> None:
        """Remove the folders of the tries."""
        for path in self.folder.glob("try-*"):
            shutil.rmtree(path, ignore_errors=True)

    def run(self, job: Job) -> Done:
        """Do a job."""
        return self.children.run(job)

    def expected(self, program: Program) -> tuple[dict[str, Any], float]:
        """What the program makes undisturbed, and the seconds that it takes."""
        if program.name not in self._expected:
            out = self.folder / f"undisturbed-{program.name.replace(' ', '-')}"
            done = self.run(program.job(out))
            if done.status != 0:
                raise RuntimeError(f"{program.name} fails undisturbed: {done.err or done.out}")
            self._expected[program.name] = program.result(out), done.seconds
        return self._expected[program.name]

    # --- what is made once

    @cached_property
    def clips(self) -> Path:
        """Twelve synthetic clips of two seconds, 64x64."""
        out = self.folder / "clips"
        synthesize(out, clips=12, seed=0, size=64, seconds=2.0, workers=1)
        return out

    @cached_property
    def shards(self) -> Path:
        """The clips packed: two shards of train, one each of val and test."""
        out = self.folder / "shards"
        pack(self.clips, out, PackOptions(ratios=(60, 20, 20), shard_mb=1), workers=1)
        return out

    def copied(self, source: Path, name: str) -> Path:
        """A copy of a folder or file for one try."""
        out = self.new(name)
        if source.is_dir():
            shutil.copytree(source, out)
        else:
            shutil.copyfile(source, out)
        return out

    @cached_property
    def weights(self) -> Path:
        """Weights of a network that has learnt nothing."""
        import torch

        from trainer.model.syncnet import SyncNet

        torch.manual_seed(0)
        path = self.folder / "fresh.pt"
        torch.save(SyncNet("small").state_dict(), path)
        return path

    @cached_property
    def tensors(self) -> Path:
        """The same weights as safetensors."""
        path = self.folder / "fresh.safetensors"
        done = self.run(Job("export", [str(self.weights), str(path)]))
        if done.status != 0:
            raise RuntimeError(f"no weights could be written: {done.err}")
        return path

    @cached_property
    def videos(self) -> Path:
        """Three videos of a face of 160 pixels before gray, 30 frames."""
        folder = self.folder / "videos"
        folder.mkdir()
        for number in range(3):
            heads, sound = render_clip(np.random.default_rng(number), 30, 160)
            pictures = np.full((len(heads), 240, 320, 3), 120, np.uint8)
            pictures[:, 40:200, 80:240] = heads
            write_video(folder / f"v{number}.mp4", pictures, sound, (320, 240))
        return folder

    @cached_property
    def heads(self) -> Path:
        """Three videos that show a head alone, 64x64, 30 frames."""
        folder = self.folder / "heads"
        folder.mkdir()
        for number in range(3):
            pictures, sound = render_clip(np.random.default_rng(number), 30, 64)
            write_video(folder / f"h{number}.mp4", pictures, sound, (64, 64))
        return folder

    # --- programs

    @cached_property
    def programs(self) -> dict[str, Program]:
        """Those that can be stopped at any moment and called again."""
        found = [
            Program("pack", self._pack, files),
            Program("prepare --shards", self._prepare, files, workers=True),
            Program("trainer.run", self.training, trained),
            Program("trainer.refine", self._refine, refined),
            Program("syncnet --out", self._batch, measured, workers=True),
        ]
        return {program.name: program for program in found}

    def _pack(self, out: Path) -> Job:
        argv = ["pack", str(self.clips), str(out), "--ratios", "60:20:20", "--shard-mb", "1"]
        return Job("data_tools", [*argv, "--workers", "1"])

    def _prepare(self, out: Path) -> Job:
        argv = ["prepare", str(self.videos), "--shards", str(out), "--flac", "--workers", "1"]
        argv += ["--crop", "mouth", "--gray", "--size", "32", "--min-frames", "20"]
        return Job("data_tools", [*argv, "--ratios", "60:20:20"])

    def training(self, out: Path, shards: Path | str | None = None) -> Job:
        """A small training that saves after each step and goes on when called again."""
        argv = ["--data.shards", str(shards or self.shards), "--run.dir", str(out)]
        return Job("run", [*argv, *_SMALL, "--run.save_steps", "1", "--resume", "auto"])

    def _refine(self, out: Path) -> Job:
        argv = ["--data.shards", str(self.shards), "--out", str(out), "--rounds", "2"]
        argv += ["--weights", str(self.weights), "--threads", "1", *_SMALL]
        at_hand: dict[str, dict[str, Any]] = {"training_at_hand": {}}
        return Job("refine", [*argv, "--train.batch_size", "4"], disturbed=at_hand)

    def _batch(self, out: Path) -> Job:
        argv = [str(self.heads), "--out", str(out), "--weights", str(self.weights), "--prepared"]
        return Job("sync", [*argv, "--crop", "mouth", "--workers", "1", "--device", "cpu"])

    # --- judging

    def refused(self, done: Done) -> Outcome:
        """A refusal, where the program said one sentence and nothing was damaged; else lost."""
        if done.status is None:
            return Outcome("lost", "it hung")
        if done.left:
            return Outcome("lost", f"{done.left} of its processes outlived it")
        lines = [line for line in done.err.splitlines() if not _PROGRESS.match(line)]
        if "Traceback" in done.err or done.status not in (1, 2) or not lines:
            last = lines[-1] if lines else ""
            return Outcome("lost", self.plain(f"exit status {done.status}: {last}"))
        return Outcome("refused", self.plain(lines[-1]))

    def plain(self, words: str) -> str:
        """Words without what differs from machine to machine and try to try."""
        words = words.replace(str(self.folder), "").replace(str(Path.cwd()), "")
        words = re.sub(r"/try-\d+", "", words)
        words = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", words)
        return " ".join(re.sub(r"\bprocess \d+", "process N", words).split())[:400]

    def same(self, program: Program, out: Path) -> str:
        """What differs from the undisturbed result; empty: nothing."""
        wanted, _ = self.expected(program)
        try:
            found = program.result(out)
        except Exception as error:
            return f"its result cannot be read: {type(error).__name__}: {error}"
        differing = [n for n in sorted(wanted | found) if wanted.get(n) != found.get(n)]
        left = [path.name for path in out.rglob("*") if ".partial-" in path.name]
        if left:
            return f"left behind: {', '.join(left)}"
        return f"differs: {', '.join(differing)}" if differing else ""

    def again(self, program: Program, out: Path, refusal: Outcome | None = None) -> Outcome:
        """Call the program again, undisturbed: it must end with the undisturbed result.

        refusal: what it had come to before, which is returned if all is well.
        """
        done = self.run(program.job(out))
        if done.status != 0:
            return replace(self.refused(done), verdict="lost")
        if wrong := self.same(program, out):
            return Outcome("lost", wrong)
        return refusal or Outcome("survived")


_SMALL = [
    "--train.batch_size", "8", "--data.val_runs", "1", "--train.warmup_steps", "2",
    "--data.threads", "1", "--train.steps", "4", "--data.val_clips", "1",
]  # fmt: skip


def files(out: Path) -> dict[str, Any]:
    """The files that a user sees in a folder, by their names."""
    found = (path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(name): (out / name).read_bytes()
        for name in found
        if not any(part.startswith(".") for part in name.parts)
    }


def trained(out: Path) -> dict[str, Any]:
    """A run's losses, and its weights as hashes."""
    from trainer.train import checkpoint, timing

    rows = [row for row in timing.read_rows(out / timing.STEPS) if row.phase == "train"]
    state = checkpoint.load(out / "last.pt")
    digest = hashlib.sha256()
    for name, tensor in sorted(state["model"].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    finished = json.loads((out / "summary.json").read_text())["finished"]
    losses = [row.loss for row in rows]
    return {"losses": losses, "weights": digest.hexdigest(), "finished": finished}


def refined(out: Path) -> dict[str, Any]:
    """A refinement's lists of clips, and the training that followed."""
    lists = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("keep.csv")}
    return lists | trained(out / "round-2" / "run")


def measured(out: Path) -> dict[str, Any]:
    """A batch's rows."""
    lines = sorted((out / "results.jsonl").read_bytes().splitlines())
    return {"results.jsonl": lines, "results.csv": (out / "results.csv").read_bytes()}
