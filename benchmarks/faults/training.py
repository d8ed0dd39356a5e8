"""What befalls a training: its shards damaged under it, numbers that are none, no memory left."""

import signal
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.faults.damage import verify_said
from benchmarks.faults.lab import Kind, Lab, Outcome

_STEPS = 4
_DIED = (-int(signal.SIGSEGV), -int(signal.SIGABRT))


def damaged_shard(lab: Lab, seed: int, how: str) -> Outcome:
    """Damage a random shard of train as the loader takes the pictures of a random step.

    A picture whose bits are flipped may still be one, for JPEG has no checksum; then the refusal
    is that of `python -m data_tools verify`, which must name the shard.
    """
    rng, program = np.random.default_rng(seed), lab.programs["trainer.run"]
    shards, out = lab.copied(lab.shards, "shards"), lab.new("out")
    shard = shards / f"train-{int(rng.integers(0, 2)):06d}.tar"
    given = {"path": str(shard), "how": how, "seed": seed}
    disturbed = {"at_read": {"call": int(rng.integers(1, _STEPS + 1)), **given}}
    job = lab.training(out, shards)
    done = lab.run(replace(job, disturbed=disturbed))
    if done.status != 0:
        (shard.with_suffix(".whole")).write_bytes((lab.shards / shard.name).read_bytes())
        shard.with_suffix(".whole").replace(shard)
        refusal = lab.refused(done)
        return refusal if refusal.verdict == "lost" else lab.again(program, out, refusal)
    if not lab.same(program, out):
        return Outcome("survived")
    if left_out := [line for line in done.out.splitlines() if "left out" in line]:
        return Outcome("refused", lab.plain(left_out[0]))
    checked = lab.run(
        replace(job, program="data_tools", argv=["verify", str(shards), "--workers", "1"])
    )
    return verify_said(lab, checked, shard.stem)


def _after(
    lab: Lab, disturbed: dict[str, dict[str, object]], died: tuple[int, ...] = ()
) -> Outcome:
    """Train disturbed, and again undisturbed where that was refused, or died by such a signal."""
    program, out = lab.programs["trainer.run"], lab.new("out")
    done = lab.run(replace(program.job(out), disturbed=disturbed))
    if done.status in died:
        return lab.again(program, out)
    if done.status == 0:
        wrong = lab.same(program, out)
        return Outcome("lost", wrong) if wrong else Outcome("survived")
    refusal = lab.refused(done)
    return refusal if refusal.verdict == "lost" else lab.again(program, out, refusal)


def no_number(lab: Lab, seed: int, action: str) -> Outcome:
    """NaN in the loss or the weights of a random step."""
    step = int(np.random.default_rng(seed).integers(0, _STEPS))
    return _after(lab, {"at_step": {"step": step, "action": action}})


def no_feature(lab: Lab, seed: int) -> Outcome:
    """NaN in a random array of features that the loader reads."""
    call = int(np.random.default_rng(seed).integers(1, _STEPS + 1))
    return _after(lab, {"nan_features": {"call": call}})


def no_memory(lab: Lab, seed: int) -> Outcome:
    """Address space for 0 to 300 MB more from the start, or for 0 to 60 MB more from a step on.

    Libraries in C++ (torch's, oneDNN) may end a process that has none left by SIGSEGV or SIGABRT:
    then the run must go on as after a kill.
    """
    rng = np.random.default_rng(seed)
    if seed % 2:
        given = {"action": "memory", "megabytes": float(rng.uniform(0, 60))}
        at_step = {"step": int(rng.integers(0, _STEPS)), **given}
        return _after(lab, {"at_step": at_step}, _DIED)
    return _after(lab, {"memory": {"megabytes": float(rng.uniform(0, 300))}}, _DIED)


def kinds() -> list[Kind]:
    """All of them."""
    damages = {
        "delete": "a shard deleted while training",
        "truncate": "a shard truncated while training",
        "flip": "bits of a shard flipped while training",
        "zero": "blocks of a shard zeroed while training",
    }
    found = [
        Kind(f"shard {how}", fault, 7, partial(damaged_shard, how=how))
        for how, fault in damages.items()
    ]
    found.append(Kind("nan loss", "NaN in the loss", 4, partial(no_number, action="nan_loss")))
    weights = partial(no_number, action="nan_weights")
    found.append(Kind("nan weights", "NaN in the weights", 4, weights))
    found.append(Kind("nan inputs", "NaN in the features of the sound", 4, no_feature))
    memory = "the loader out of memory (RLIMIT_AS)"
    return [*found, Kind("memory", memory, 10, no_memory)]
