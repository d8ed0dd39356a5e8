"""What torchrun keeps while it starts processes anew: where they meet, which run they go on with.

It starts all of them anew when one has died (`--max-restarts`), or when a machine joins or leaves
(`--nnodes 1:4`), and holds a store of keys meanwhile.
"""

import os
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import torch.distributed as dist

from data_tools.errors import UserError

_OURS = "syncnet-trainer"
_TIMEOUT = timedelta(minutes=30)  # as torch waits for processes
_POLL_SECONDS = 0.05

_trained = False  # whether this process has asked for its run before


def _store() -> dist.Store | None:
    """The store that outlives the processes; None where torchrun keeps none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=_TIMEOUT, wait_for_workers=False)
    return dist.PrefixStore(_OURS, store)


def remember(folder: Path) -> None:
    """Say that the run in `folder` has begun, for processes that torchrun may start later."""
    store = _store()
    if store is not None:
        store.set("run", os.fsencode(folder.absolute()).hex())


def begun() -> Path | None:
    """The folder of the run that this torchrun has begun before; None at its first start.

    That a folder holds a run does not tell whose it is. A process that trains a second time was
    not started anew for that: what it begins is another run.
    """
    global _trained
    again, _trained = _trained, True
    store = None if again else _store()
    if store is None or not store.check(["run"]):
        return None
    return Path(os.fsdecode(bytes.fromhex(store.get("run").decode())))


def meeting(rank: int, world: int) -> dist.Store | None:
    """A part of torchrun's store that no earlier processes have used; None: it keeps no store.

    In the store as such processes find the addresses of those before them, which are gone (torch
    2.13). What torchrun counts as restarts cannot tell the starts apart: its agents differ in it.
    So the first process draws a name, the others answer it, and the answers that it saw come back:
    who finds its own among them knows that the first one lives.

    Raises:
        UserError: the others did not come.
    """
    store = _store()
    if store is None:
        return None
    name = _invite(store, world) if rank == 0 else _answer(store, rank)
    return dist.PrefixStore(name, store)


def _invite(store: dist.Store, world: int) -> str:
    name, keys = uuid4().hex, [f"answer/{rank}" for rank in range(1, world)]
    store.set("name", name)
    answers: dict[str, str] = {}
    deadline = time.monotonic() + _TIMEOUT.total_seconds()
    while len(answers) < len(keys):
        for key in keys:
            if key in answers or not store.check([key]):
                continue
            asked, _, answer = store.get(key).decode().partition(" ")
            if asked == name:
                answers[key] = answer
        _wait(deadline, f"{len(answers) + 1} of {world} processes came")
    store.set(f"seen/{name}", " ".join(answers.values()))
    return name


def _answer(store: dist.Store, rank: int) -> str:
    own, asked = uuid4().hex, ""
    deadline = time.monotonic() + _TIMEOUT.total_seconds()
    while True:
        name = store.get("name").decode() if store.check(["name"]) else ""
        if name != asked:
            store.set(f"answer/{rank}", f"{name} {own}")
            asked = name
        seen = f"seen/{asked}"
        if asked and store.check([seen]) and own in store.get(seen).decode().split():
            return asked
        _wait(deadline, "the first process did not come")


def _wait(deadline: float, words: str) -> None:
    """Wait a moment.

    Raises:
        UserError: it is past the deadline.
    """
    if time.monotonic() > deadline:
        raise UserError(f"{words} within {_TIMEOUT.total_seconds() / 60:.0f} minutes")
    time.sleep(_POLL_SECONDS)
