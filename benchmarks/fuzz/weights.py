"""Checkpoints and weights that are damaged or hostile."""

import io
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch._dynamo  # which every optimizer imports: once, not in each child
from safetensors.torch import save as to_safetensors
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.fuzz.child import Case, Target
from benchmarks.fuzz.mutate import Json, mutated
from data_tools.records import RecordError
from trainer.config.command import saved_config
from trainer.config.settings import Config
from trainer.model import torch_file
from trainer.model.calibration import decode_calibration
from trainer.model.syncnet import SyncNet
from trainer.model.torch_file import TorchFileError
from trainer.model.weights import WeightsError, load_model, read_calibration, read_crop
from trainer.train import checkpoint
from trainer.train.checkpoint import CheckpointError

_CALIBRATION = {"clearness": [1.0, 2.0, 3.5], "share_right": [0.2, 0.5, 0.9]}
# What a pickle may ask for: to call, to import, to build, to allocate.
_OPCODES = (
    *(b"cos\nsystem\n(S'id'\ntR", b"cbuiltins\neval\n(S'1'\ntR", b"\x8c\x02os\x8c\x06system\x93"),
    *(b"(cos\nsystem\nS'id'\no", b"(S'id'\nios\nsystem\n", b"cfuzz_canary\nX\n", b"ctorch\nload\n"),
    *(b"\x8d" + b"\xff" * 8, b"\x96" + b"\xff" * 8, b"B\xff\xff\xff\x7f", b"T\xff\xff\xff\x7f"),
    *(b"r\xff\xff\xff\x7f", b"\x95" + b"\xff" * 8, b"\x82\x01", b"P1\n", b"Q", b"b", b"R", b"\x81"),
)


def _saved(value: Any, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _rezipped(whole: bytes, change: Callable[[str, bytes], bytes], how: int) -> bytes:
    """A zip file of torch.save with its records changed and their checksums right again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w", how) as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))
    return stream.getvalue()


def _pickle(rng: Random, content: bytes) -> bytes:
    """A pickle with bytes changed, or with opcodes put in that call and allocate."""
    if rng.random() < 0.6:
        return mutated(rng, content, len(content))
    at = rng.randrange(2, len(content))
    return content[:at] + rng.choice(_OPCODES) + content[at:]


def _draw_torch(rng: Random, zipped: bytes, old: bytes) -> bytes:
    """A file of torch.save: bytes changed, or its pickle with right checksums around it."""
    kind = rng.random()
    if kind < 0.25:
        return mutated(rng, zipped, 600)
    if kind < 0.4:
        return mutated(rng, old, len(old))
    if kind < 0.5:
        at = rng.randrange(len(old))
        return old[:at] + rng.choice(_OPCODES) + old[at:]

    def change(name: str, content: bytes) -> bytes:
        return _pickle(rng, content) if name.endswith("data.pkl") else content

    how = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    return _rezipped(zipped, change, how)


def _torch(folder: Path) -> Case:
    base = torch.arange(60.0)
    state = {
        "model": OrderedDict(a=base.reshape(3, 4, 5).transpose(0, 2), b=base[7:9]),
        "p": nn.Parameter(torch.ones(2)),
        "values": [1, 2**40, -1.5, None, True, "text", ("a", {"b": 2}), 2**70],
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    zipped, old = _saved(state), _saved(state, False)
    file = folder / "any.pt"

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        torch_file.read(file)

    return Case(lambda rng: _draw_torch(rng, zipped, old), attempt, (TorchFileError,))


def _checkpoint(folder: Path) -> Case:
    """Checkpoints as a run goes on from them, of another state or of other bytes."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = LambdaLR(optimizer, lambda step: 0.5)
    for _ in range(3):
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
        schedule.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "rng": torch.get_rng_state(),
        **{"step": 3, "best": 0.5, "seconds": 12.5, "quarantine": {"clip": 2}},
        "config": Config().as_dict(),
    }
    whole, file = _saved(state), folder / "any.pt"

    def draw(rng: Random) -> bytes:
        if rng.random() < 0.4:
            return _rezipped(whole, lambda name, content: _pickle(rng, content) if name.endswith(
                "data.pkl") else content, zipfile.ZIP_STORED)  # fmt: skip
        changed = _changed(rng, state)
        try:
            return _saved(changed)
        except (UnicodeEncodeError, RuntimeError, NotImplementedError):
            return _saved({})  # torch itself cannot save it

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        found = checkpoint.resume(file)
        saved_config(file, found.state)
        model.load_state_dict(found.take("model", model.state_dict()))
        optimizer.load_state_dict(found.optimizer(optimizer))
        schedule.load_state_dict(found.schedule(schedule))
        found.rng("rng", torch.default_generator)
        checkpoint.weights(file, model)

    return Case(draw, attempt, (CheckpointError,))


def _changed(rng: Random, value: Any) -> Any:
    """A copy with one entry, somewhere in it, exchanged, removed, renamed or added."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        copy = value.copy()
        key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
        kind = rng.random()
        if kind < 0.7:
            copy[key] = _changed(rng, copy[key])
        elif isinstance(copy, dict) and kind < 0.85:
            copy[rng.choice(("x", "", 5, "config", key))] = copy.pop(key)
        else:
            del copy[key]
        return copy
    if isinstance(value, torch.Tensor) and value.numel() and rng.random() < 0.5:
        flat = value.detach().flatten()
        return rng.choice((
            flat[:-1], flat.to(torch.float64), flat.to(torch.int64), value.detach()[None],
            flat[:1].expand(flat.numel() * 1000), flat.float() * float("nan"),
        ))  # fmt: skip
    return rng.choice((
        None, True, -1, 2**63, 10**400, 0.0, float("nan"), float("inf"), 1e300, "", "a\nb",
        "\x1b[2J", "é" * 5000, [], {}, (), [1], {"a": 1}, {5: {}}, b"bytes", {1, 2},
        torch.zeros(()), torch.zeros(0), torch.zeros(1).expand(10**5, 10**5),
        torch.ones(2, 3, 1, 1), torch.zeros(3, dtype=torch.bool), torch.eye(3).to_sparse(),
        torch.zeros(3, dtype=torch.cfloat),
        torch.zeros(10**6, 10**6, device="meta"), torch.zeros(3, requires_grad=True),
    ))  # fmt: skip


def _weights(folder: Path) -> Case:
    """State dicts of a network, bare or wrapped."""
    whole = {key: value.clone() for key, value in SyncNet("small").state_dict().items()}
    file = folder / "any.pt"

    def draw(rng: Random) -> bytes:
        state = _changed(rng, whole)
        kind = rng.randrange(5)
        if kind == 0:
            state = {"model": state, "crop": _changed(rng, "face")}
        elif kind == 1:
            state = {"state_dict": state}
        elif kind == 2:
            state = {"model": whole, "average": rng.choice((5, None, {}, {"module.x": 5}, {5: 5}))}
        elif kind == 3 and isinstance(state, dict):
            state = {f"module.{key}": value for key, value in state.items()}
        try:
            return _saved(state)
        except (UnicodeEncodeError, RuntimeError, NotImplementedError):
            return _saved({})

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        read_crop(file)
        model = load_model(file)
        assert all(value.isfinite().all() for value in model.state_dict().values()), "not finite"

    return Case(draw, attempt, (WeightsError,))


def _safetensors(folder: Path) -> Case:
    state = SyncNet("small").state_dict()
    whole = to_safetensors(state, {"calibration": json.dumps(_CALIBRATION), "crop": "face"})
    (length,) = struct.unpack("<Q", whole[:8])
    head, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    kinds = ('"F64"', '"BF16"', '"F16"', '"I64"', '"BOOL"', '"U8"', '"F8_E4M3"', '"F4"', '"C64"')
    shapes = ("[0]", "[1099511627776, 1099511627776]", "[-1]", "[0, 9223372036854775808]", "[8, 4]")
    base = Json(head, (*kinds, *shapes))
    file = folder / "any.safetensors"

    def draw(rng: Random) -> bytes:
        if rng.random() < 0.3:
            return mutated(rng, whole, 8 + length)
        text = base.draw(rng)
        return struct.pack("<Q", len(text)) + text + rest

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        read_calibration(file)
        read_crop(file)
        load_model(file)

    return Case(draw, attempt, (WeightsError,))


def _calibration(folder: Path) -> Case:
    versions = (
        Json(_CALIBRATION),
        Json({
            "version": 2, "mode": "centred", "coefficients": [1.0, 2.0, 3.0, 4.0],
            "windows": [0, 5], "needed": 0.9, "least_windows": 60,
        }),
    )  # fmt: skip

    def attempt(content: bytes) -> None:
        decode_calibration(content.decode("utf-8", "replace"))

    return Case(lambda rng: rng.choice(versions).draw(rng), attempt, (RecordError,))


TARGETS = (
    Target("torch", "a file of torch.save", _torch, 2000),
    Target("checkpoint", "a run's checkpoint", _checkpoint, 1000),
    Target("weights", "a network's weights", _weights, 40),
    Target("safetensors", "weights in safetensors", _safetensors, 600),
    Target("calibration", "the calibration in them", _calibration, 310_000),
)
