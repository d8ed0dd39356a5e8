"""Files damaged at random bytes: of shards, of lists of clips, of networks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults.children import Done, Job
from benchmarks.faults.lab import Kind, Lab, Outcome, Program, files
from data_tools.keep import KEEP, REALIGN, Row, write_keep
from data_tools.manifest import read_stats


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` cut short, or with one to four random bytes at random places."""
    if rng.integers(0, 5) == 0:
        return content[: int(rng.integers(0, len(content)))]
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        damaged[int(rng.integers(0, len(content)))] ^= int(rng.integers(1, 256))
    return bytes(damaged)


def tried(lab: Lab, seed: int, file: Path, program: Program, out: Path) -> Outcome:
    """Damage a file and call a program that reads it, which must leave what lies beside it.

    A refused try of four, and each that goes on in its own folder, is called again with the whole
    file.
    """
    whole = file.read_bytes()
    before = files(file.parent)
    file.write_bytes(damage(whole, np.random.default_rng(seed)))
    done = lab.run(program.job(out))
    file.write_bytes(whole)
    if done.status == 0:
        wrong = lab.same(program, out)
        return Outcome("lost", f"silently {wrong}") if wrong else Outcome("survived")
    refusal = lab.refused(done)
    if refusal.verdict == "refused" and file.parent != out:
        after = files(file.parent)
        if any(after.get(name) != content for name, content in before.items()):
            return Outcome("lost", "what lay beside the damaged file was changed")
        if seed % 4:
            return refusal
    return refusal if refusal.verdict == "lost" else lab.again(program, out, refusal)


def verify_said(lab: Lab, done: Done, shard: str) -> Outcome:
    """What `verify` has found: it must name the shard."""
    told = [line for line in done.out.splitlines() + done.err.splitlines() if shard in line]
    if done.status != 1 or "Traceback" in done.err or not told:
        return Outcome("lost", f"verify: {lab.plain(done.err) or done.status}")
    return Outcome("refused", lab.plain(told[0]))


def of_shards(lab: Lab, seed: int, name: str) -> Outcome:
    """A file beside the shards: a training on them."""
    shards = lab.copied(lab.shards, "shards")
    own = lab.programs["trainer.run"]
    program = replace(own, job=lambda out: lab.training(out, shards))
    return tried(lab, seed, shards / name, program, lab.new("out"))


def verified(lab: Lab, seed: int) -> Outcome:
    """A shard itself: `verify` must find it."""
    shards = lab.copied(lab.shards, "shards")
    file = shards / "train-000000.tar"
    file.write_bytes(damage(file.read_bytes(), np.random.default_rng(seed)))
    done = lab.run(Job("data_tools", ["verify", str(shards), "--workers", "1"]))
    if done.status == 0:
        return Outcome("lost", "verify found nothing")
    return verify_said(lab, done, "train-000000")


def keep(lab: Lab, seed: int) -> Outcome:
    """A keep.csv: a training by it."""
    path = lab.new("keep.csv")
    own = lab.programs["trainer.run"]
    rows = {}
    for tar in sorted(lab.shards.glob("train-*.tar")):
        for clip in read_stats(tar).clips:
            rows[clip.key] = Row(KEEP, 0.9, 0)
    rows[min(rows)] = Row(REALIGN, 0.8, 3, "audio is 120 ms early; delay it by 120 ms")
    write_keep(path, rows)

    def job(out: Path) -> Job:
        made = lab.training(out)
        return replace(made, argv=[*made.argv, "--data.manifest", str(path)])

    return tried(lab, seed, path, Program("trainer.run by keep.csv", job, own.result), lab.new("o"))


def last(lab: Lab, seed: int) -> Outcome:
    """last.pt of a run that was killed: it is gone on with."""
    program = lab.programs["trainer.run"]
    half = lab.folder / "half"
    if not half.exists():
        kill = {"at_step": {"step": 2, "action": "kill"}}
        lab.run(replace(program.job(half), disturbed=kill))
    out = lab.copied(half, "out")
    return tried(lab, seed, out / "last.pt", program, out)


def network(lab: Lab, seed: int, name: str) -> Outcome:
    """A network: clips are scored by it."""
    path = lab.copied(lab.weights if name == "best.pt" else lab.tensors, name)

    def job(out: Path) -> Job:
        argv = ["--weights", str(path), "--data.shards", str(lab.shards), "--out", str(out)]
        return Job("evaluate", [*argv, "--split", "val", "--threads", "1"])

    def scores(out: Path) -> dict[str, object]:
        return {name: content for name, content in files(out).items() if name == "clips.csv"}

    return tried(lab, seed, path, Program(f"evaluate by {name}", job, scores), lab.new("out"))


def kinds() -> list[Kind]:
    """One for each file."""

    def kind(name: str, what: str, tries: int, play: Callable[[Lab, int], Outcome]) -> Kind:
        return Kind(f"damaged {name}", f"{what} damaged at random bytes", tries, play)

    found = [
        kind("manifest.json", "manifest.json", 12, partial(of_shards, name="manifest.json")),
        kind("idx", "a shard's index", 12, partial(of_shards, name="train-000000.idx")),
        kind("json", "a shard's .json", 12, partial(of_shards, name="train-000000.json")),
        kind("keep.csv", "keep.csv", 12, keep),
        kind("last.pt", "last.pt", 8, last),
        kind("best.pt", "best.pt", 12, partial(network, name="best.pt")),
        kind("safetensors", "a safetensors file", 12, partial(network, name="w.safetensors")),
    ]
    tar = Kind("damaged tar", "a shard damaged at random bytes, then `verify`", 14, verified, 2)
    return [tar, *found]
