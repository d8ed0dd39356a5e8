"""Damaged and hostile checkpoints, weights and settings, made from whole ones by a random number.

A `mutated_...` takes a `random.Random` and gives what is to be tried; the `check_...` of the same
name tries it, and raises AssertionError on any outcome but those that are documented, on memory
beyond the bound included. Whoever wants 200,000 inputs calls both in a loop.
"""

import io
import json
import math
import os
import pickle
import random
import resource
import struct
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from trainer.config import check
from trainer.config.checks import from_dict
from trainer.config.command import parse
from trainer.config.files import settings
from trainer.config.settings import Config
from trainer.model import torch_file
from trainer.model.ema import average
from trainer.model.syncnet import SyncNet
from trainer.model.torch_file import TorchFileError
from trainer.model.weights import WeightsError, load_model, read_calibration
from trainer.train import checkpoint
from trainer.train.checkpoint import CheckpointError

BOUND = 1 << 29  # bytes of address space that a small file may take beyond what is taken already


@contextmanager
def bounded() -> Iterator[None]:
    """Let nothing more than BOUND be allocated, not even for a moment and untouched."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        taken = int(stream.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + BOUND, before[1]))
    try:
        yield
    except MemoryError:
        raise AssertionError("asked for more memory than the bound") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused(action: Callable[[], object], *kinds: type[Exception]) -> str | None:
    """What one of `kinds` said, in one sentence of bounded length; None if all went well."""
    try:
        with bounded(), warnings.catch_warnings():
            warnings.simplefilter("error")
            action()
    except kinds as error:
        said = str(error)
        assert said and len(said) < 2000, f"{len(said)} characters"
        assert "allocate" not in said, said  # torch's way of saying that memory is full
        return said
    return None


def file_of(content: bytes, suffix: str = ".pt") -> Path:
    """A file with this content, one for all tries of this process."""
    path = _folder() / f"tried{suffix}"
    path.write_bytes(content)
    return path


@cache
def _kept_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _folder() -> Path:
    return Path(_kept_folder().name)


def mutated_bytes(whole: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, removed, doubled or cut off, mostly where sizes and names stand."""
    content = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        ends = rng.choice((64, 1024, len(content)))
        place = rng.randrange(min(ends, len(content)) or 1)
        if rng.random() < 0.5:
            place = max(0, len(content) - 1 - place)
        kind = rng.randrange(6)
        if kind == 0:
            content[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            content[place : place + 1] = bytes([content[place] ^ 1 << rng.randrange(8)])
        elif kind == 2:
            huge = rng.choice((0, 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
            width = rng.choice((4, 8))
            content[place : place + width] = (huge % 2 ** (8 * width)).to_bytes(width, "little")
        elif kind == 3:
            del content[place : place + rng.randrange(1, 9)]
        elif kind == 4:
            content[place:place] = content[place : place + rng.randrange(1, 30)]
        else:
            del content[place:]
        if not content:
            break
    return bytes(content)


# ----- files of torch.save -----


@cache
def small_files() -> tuple[bytes, ...]:
    """A zip file and one of torch before 1.6, some kilobytes each."""
    base = torch.arange(60.0)
    state = {
        "model": OrderedDict(
            a=base.reshape(3, 4, 5).transpose(0, 2), b=base[7:9], n=torch.tensor(3)
        ),
        "p": nn.Parameter(torch.ones(2)),
        "values": [1, 2**40, -1.5, None, True, "text", ("a", {"b": 2}), 2**70],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "rng": torch.get_rng_state()[:100].clone(),
    }
    found = []
    for zipped in (True, False):
        stream = io.BytesIO()
        torch.save(state, stream, _use_new_zipfile_serialization=zipped)
        found.append(stream.getvalue())
    return tuple(found)


def rezipped(whole: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip file of torch.save with its records changed and their checksums right again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w") as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))
    return stream.getvalue()


def mutated_torch_file(rng: random.Random) -> bytes:
    """Bytes of a file changed, or those of its pickle, with right checksums around it."""
    zipped, old = small_files()
    if rng.random() < 0.5:
        return mutated_bytes(rng.choice((zipped, old)), rng)

    def change(name: str, content: bytes) -> bytes:
        return mutated_bytes(content, rng) if name.endswith("data.pkl") else content

    return rezipped(zipped, change)


def check_torch_file(content: bytes) -> None:
    """Whatever the bytes: values, or TorchFileError."""
    refused(lambda: torch_file.read(file_of(content)), TorchFileError)


# ----- values in checkpoints -----


def nested(depth: int, kind: type = tuple) -> Any:
    """2^depth empty lists or tuples, in 2 x depth references."""
    value: Any = kind()
    for _ in range(depth):
        value = kind((value, value))
    return value


def odd_value(rng: random.Random) -> Any:
    """What a checkpoint should not hold where it is put."""
    return rng.choice(
        (
            lambda: None,
            lambda: True,
            lambda: rng.choice((-1, 0, 5, 2**63, 10**12, -(10**400), 10**400)),
            lambda: rng.choice((0.0, -1.0, math.nan, math.inf, -math.inf, 1e300)),
            lambda: rng.choice(("", "x", "nan", "a\nb", "\x1b[2J\0", "é" * 5000, "\ud800")),
            lambda: rng.choice(([], {}, (), [1], {"a": 1}, {5: {}}, {"items": 5}, OrderedDict())),
            lambda: nested(rng.choice((3, 40)), rng.choice((tuple, list))),
            lambda: torch.zeros(rng.choice(((), (0,), (2,), (3, 4), (1, 1, 1, 1, 1, 1, 1)))),
            lambda: torch.zeros(1).expand(10**5, 10**5),
            lambda: torch.zeros(3, dtype=rng.choice((torch.int64, torch.uint8, torch.bool))),
            lambda: torch.zeros(3, dtype=rng.choice((torch.float64, torch.bfloat16))),
            lambda: torch.full((3,), rng.choice((math.nan, math.inf))),
            lambda: torch.zeros(3, requires_grad=True),
            lambda: torch.eye(3).to_sparse(),
            lambda: torch.zeros(3, dtype=torch.complex64),
            lambda: torch.zeros(10**6, 10**6, device="meta"),
            lambda: b"bytes",
            lambda: {1, 2},
        )
    )()


def changed(value: Any, rng: random.Random) -> Any:
    """A copy with one entry, somewhere in it, exchanged, removed, renamed or added."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        copy = value.copy()
        keys = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
        key = rng.choice(keys)
        if rng.random() < 0.7:
            copy[key] = changed(copy[key], rng)
        elif isinstance(copy, dict) and rng.random() < 0.5:
            copy[rng.choice(("x", "", 5, "config", key))] = copy.pop(key)
        elif rng.random() < 0.5:
            del copy[key]
        elif isinstance(copy, dict):
            copy[rng.choice(("new", 7))] = odd_value(rng)
        else:
            copy.append(odd_value(rng))
        return copy
    plain = (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
        and 0 < value.numel() < 10**6
    )
    if plain and rng.random() < 0.5:
        kind = rng.randrange(5)
        if kind == 0 and value.is_floating_point():
            value = value.detach().clone()
            value.view(-1)[rng.randrange(value.numel())] = rng.choice((math.nan, math.inf, -1.0))
        elif kind == 1:
            value = value.flatten()[:-1]
        elif kind == 2:
            value = value.to(rng.choice((torch.float64, torch.int64, torch.float16)))
        elif kind == 3:
            value = value[None]
        else:
            value = value.flatten()[:1].expand(value.numel() * 1000)
        return value
    return odd_value(rng)


class Receiver:
    """What a checkpoint is resumed into, as trainer.run does, only smaller."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.loss = nn.Bilinear(2, 2, 1)
        self.average = average(self.model, 0.9)
        self.optimizer = torch.optim.AdamW([*self.model.parameters(), *self.loss.parameters()])
        self.schedule = LambdaLR(self.optimizer, lambda step: 0.5)
        self.scaler = torch.amp.GradScaler("cpu", enabled=True)

    def state(self) -> dict[str, Any]:
        """After three steps."""
        for _ in range(3):
            output = self.model(torch.randn(4, 3))
            self.loss(output, output).square().mean().backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.model)
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "step": 3,
            "best": 0.5,
            "seconds": 12.5,
            "quarantine": {"clip": 2},
            "config": Config().as_dict(),
        }

    def resume(self, path: Path) -> None:
        """As trainer.run goes on from a checkpoint.

        Raises:
            CheckpointError, ValueError: documented.
        """
        found = checkpoint.resume(path)
        try:
            from_dict(found.state["config"])
        except ValueError as error:
            raise ValueError(f"config: {error}") from None
        self.model.load_state_dict(found.take("model", self.model.state_dict()))
        self.loss.load_state_dict(found.take("loss", self.loss.state_dict()))
        if "average" in found.state:
            averaged = found.take("average", self.average.state_dict())
            self.average.load_state_dict(averaged)
        self.optimizer.load_state_dict(found.optimizer(self.optimizer))
        self.schedule.load_state_dict(found.schedule(self.schedule))
        if scaler := found.scaler(self.scaler):
            self.scaler.load_state_dict(scaler)
        before = torch.get_rng_state()
        torch.set_rng_state(found.rng("rng", torch.default_generator))
        torch.rand(3)
        torch.set_rng_state(before)
        self.state()  # it goes on
        checkpoint.weights(path, self.model)


@cache
def whole_state() -> dict[str, Any]:
    """The state of a run, as trainer.run saves it."""
    return Receiver().state()


def mutated_checkpoint(rng: random.Random) -> dict[str, Any]:
    """A run's state with an entry or two of another type, shape or size."""
    state = whole_state()
    for _ in range(rng.choice((1, 1, 2))):
        found = changed(state, rng)
        state = found if isinstance(found, dict) else state | {"step": found}
    return state


def saved(state: Any) -> bytes | None:
    """A file of torch.save; None for what torch itself cannot save."""
    stream = io.BytesIO()
    try:
        torch.save(state, stream)
    except (UnicodeEncodeError, NotImplementedError, RuntimeError):
        return None
    return stream.getvalue()


def check_checkpoint(state: dict[str, Any]) -> None:
    """Whatever the state: resumed so that training goes on, or an error that names the file."""
    content = saved(state)
    if content is None:
        return
    path = file_of(content)
    said = refused(lambda: Receiver().resume(path), CheckpointError, ValueError)
    assert said is None or str(path) in said or said.startswith("config"), said


# ----- weights -----


@cache
def small_weights() -> dict[str, torch.Tensor]:
    """Weights of the smallest network."""
    return SyncNet("small").state_dict()


@cache
def small_safetensors() -> bytes:
    """The same as safetensors, with a calibration."""
    calibration = {"clearness": [1.0, 2.0, 3.5], "share_right": [0.2, 0.5, 0.9]}
    return to_safetensors(small_weights(), {"calibration": json.dumps(calibration)})


def mutated_safetensors(rng: random.Random) -> bytes:
    """Bytes changed, or the header, in JSON."""
    whole = small_safetensors()
    if rng.random() < 0.4:
        return mutated_bytes(whole, rng)
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    key = rng.choice(list(header))
    if key == "__metadata__":
        header[key]["calibration"] = mutated_calibration(rng)
    else:
        field = rng.choice(("dtype", "shape", "data_offsets"))
        wrong: dict[str, tuple[Any, ...]] = {
            "dtype": ("F64", "BF16", "F16", "I64", "BOOL", "U8", "F8_E4M3", "F4", "C64", 5, None),
            "shape": ([], [0], [2**40, 2**40], [-1], [3, 3], "x", [1.5], [1] * 100),
            "data_offsets": ([0, 0], [0, 2**63], [8, 4], [-1, 4], [0, 4], "x", None, [0]),
        }
        header[key][field] = rng.choice(wrong[field])
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = b"[" * 10**5
    return struct.pack("<Q", len(text)) + text + whole[8 + length :]


def mutated_calibration(rng: random.Random) -> str:
    """JSON that is no calibration, or hardly one."""
    points = rng.choice(
        ([1, 2], [2, 1], [1, math.nan], [True, False], ["1", "2"], [], [10**400, 1])
    )
    return rng.choice(
        (
            json.dumps({"clearness": points, "share_right": [0.1, 0.9]}),
            json.dumps({"clearness": [1, 2], "share_right": points}),
            json.dumps({"clearness": list(range(10**5)), "share_right": [0.5] * 10**5}),
            json.dumps({"clearness": 5}),
            json.dumps({"version": points, "mode": "centred"}),
            json.dumps(
                {
                    "version": 2,
                    "mode": rng.choice(("centred", "parity", 5)),
                    "coefficients": rng.choice((points, [1, 2, 3, 4], [1, 2, 3, math.inf])),
                    "windows": rng.choice((points, [0, 5])),
                    "needed": rng.choice((0.9, 9, math.nan)),
                    "least_windows": rng.choice((60, -1, 10**400)),
                }
            ),
            "[" * 10**5,
            "1" * 10**5,
            '{"clearness": [1e999, 2], "share_right": [0, 1]}',
            "null",
            "",
            "\0",
        )
    )


def check_safetensors(content: bytes) -> None:
    """Whatever the bytes: weights of a SyncNet and a calibration, or WeightsError."""
    path = file_of(content, ".safetensors")
    for action in (load_model, read_calibration):
        said = refused(lambda action=action: action(path), WeightsError)
        assert said is None or (str(path) in said and "\n" not in said), said


def mutated_weights(rng: random.Random) -> Any:
    """A state dict, bare or wrapped, with entries changed."""
    weights = {key: value.clone() for key, value in small_weights().items()}
    state = changed(weights, rng)
    wrap = rng.randrange(5)
    if wrap == 0:
        return {"model": state}
    if wrap == 1:
        return {"state_dict": state, "epoch": odd_value(rng)}
    if wrap == 2:
        return {"model": weights, "average": rng.choice((5, None, {}, {"module.x": 5}, {5: 5}))}
    if wrap == 3 and isinstance(state, dict):
        return {f"module.{key}": value for key, value in state.items()}
    return state


def check_weights(state: Any) -> None:
    """Whatever the state: a SyncNet that computes numbers, or WeightsError."""
    content = saved(state)
    if content is None:
        return
    path = file_of(content)

    def use() -> None:
        model = load_model(path)
        assert all(value.isfinite().all() for value in model.state_dict().values())

    said = refused(use, WeightsError)
    assert said is None or (str(path) in said and "\n" not in said), said


# ----- settings -----


_LINES = (
    *("\t", "---", "...", "%YAML 9.9", "config: x", "resume: [", "data.ready: 3", "overfit: x"),
    *("a: &a [x]", "b: [*a, *a]", "  class_path: os.path", "? [1]\n: 2", "train.lr: [1, 2]"),
)


def mutated_settings(rng: random.Random) -> bytes:
    """A file of settings with values and lines changed, or bytes."""
    values = rng.choice((
        "5", "0", "-1", "1e400", ".nan", ".inf", "-.inf", "0x10", "010", "0o17", "1_000", "1:30",
        "2026-11-25", "yes", "no", "null", "~", "", "'5'", '"\\u0000"', "[]", "{}", "[[[[", "{a: b",
        "&a 5", "*a", "!!python/object/apply:os.system [exit]", "!!binary aGk=", "!!str 5", "<<",
        "9" * 5000, "9" * 300, "x" * 5000, "=", "- 1", "|\n  a\n  b", "é", "😀",
        "{class_path: os.path}", "1e3", "1.5", "true", "syncnet", "auto", "cuda:999999999999999999",
    ))  # fmt: skip
    config = Config().as_dict()
    lines = []
    for section, table in config.items():
        lines.append(f"{section}:")
        given = [(key, value) for key, value in table.items() if value is not None]
        lines += [f"  {key}: {json.dumps(value)}" for key, value in given]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        key = lines[at].partition(":")[0]
        kind = rng.randrange(7)
        if kind <= 2:
            lines[at] = f"{key}: {values}"
        elif kind == 3:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif kind == 4:
            lines[at] = f"{key}x: {values}"
        elif kind == 5:
            lines.insert(at, rng.choice(_LINES))
        else:
            del lines[at]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    return mutated_bytes(content, rng) if rng.random() < 0.3 else content


def check_settings(content: bytes) -> None:
    """Whatever the bytes: settings that a run could use, or a sentence; nothing imported or run."""
    path = file_of(content, ".yaml")
    if refused(lambda: settings("config", str(path)), ValueError) is not None:
        return  # before jsonargparse, whose parser takes its time, sees anything

    def use() -> None:
        config, _ = parse(["--config", str(path), "--data.shards", "s"])
        check(config)

    refused(use, ValueError, CheckpointError)


def mutated_config(rng: random.Random) -> Any:
    """The settings in a checkpoint, changed."""
    return changed(Config().as_dict(), rng)


def check_config(value: Any) -> None:
    """Whatever the value: settings that a run could use, or ValueError."""
    refused(lambda: from_dict(value), ValueError)


# ----- by hand -----


def pickled(*parts: bytes) -> bytes:
    """A file of torch.save, of a pickle written by hand."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"".join(parts) + pickle.STOP)
        archive.writestr("a/data/0", bytes(40))
        archive.writestr("a/version", b"3\n")
    return stream.getvalue()


PAIRS: dict[str, tuple[Callable[[random.Random], Any], Callable[[Any], None]]] = {
    "torch_file": (mutated_torch_file, check_torch_file),
    "checkpoint": (mutated_checkpoint, check_checkpoint),
    "safetensors": (mutated_safetensors, check_safetensors),
    "weights": (mutated_weights, check_weights),
    "settings": (mutated_settings, check_settings),
    "config": (mutated_config, check_config),
}

if __name__ == "__main__":
    import sys
    import time

    name, count = sys.argv[1], int(sys.argv[2])
    make, try_it = PAIRS[name]
    began = time.monotonic()
    for seed in range(int(sys.argv[3]) if len(sys.argv) > 3 else 0, count):
        try:
            try_it(make(random.Random(seed)))
        except BaseException:
            print(f"{name}: seed {seed}", file=sys.stderr)
            raise
    print(f"{name}: {count} in {time.monotonic() - began:.1f} s", os.getpid())
