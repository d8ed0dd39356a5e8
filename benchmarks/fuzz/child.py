"""One target in a process of its own, under limits: what ends the process is a finding, too."""

import hashlib
import mmap
import multiprocessing
import os
import re
import resource
import signal
import struct
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.watch import Forbidden, Watch
from data_tools.errors import UserError

_MOST = 8 << 20  # bytes of an input
_NOTE = struct.Struct("<QQ")  # number and length of the input that is being tried
_TELL = 0.5  # seconds between notes of progress
_FEW = 20  # findings of a target, after which it is left: something is broken as such
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # ends a line, commands a terminal
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A reader and what it is to read.

    Attributes:
        draw: an input for a random number.
        attempt: reads an input; whatever it raises beside `documented` is a finding.
        documented: errors that say in one sentence what is wrong with an input.
        confined: whether nothing outside the folder may be read.
        several: whether a message may name several faults, a line each.
    """

    draw: Callable[[Random], bytes]
    attempt: Callable[[bytes], object]
    documented: tuple[type[Exception], ...] = (UserError,)
    confined: bool = True
    several: bool = False


@dataclass(frozen=True)
class Target:
    """A reader to try.

    Attributes:
        name: of it, and of its findings' files.
        what: it reads.
        make: lays down what it needs in a folder; called in the child.
        inputs: of a full run.
        seconds: that one input may take.
        megabytes: by which memory may grow, untouched address space included.
    """

    name: str
    what: str
    make: Callable[[Path], Case]
    inputs: int
    seconds: float = 20.0
    megabytes: int = 512


@dataclass
class Tried:
    """What became of a target's inputs.

    Attributes:
        inputs: tried.
        refused: of them, in one sentence.
        findings: what went wrong, each kind once, with the input that shows it.
        seconds: it took, and of a processor's time.
        peak_mb: by which memory grew.
    """

    inputs: int = 0
    refused: int = 0
    findings: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0


def fuzz(
    target: Target,
    inputs: int,
    seed: int,
    advance: Callable[[int], None],
    given: list[bytes] | None = None,
) -> Tried:
    """Try so many inputs, in as many processes as die of them.

    Args:
        advance: is told how many more have been tried.
        given: the inputs themselves, instead of drawn ones.
    """
    tried = Tried()
    began, cpu = time.monotonic(), _children_cpu()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    note = mmap.mmap(-1, _NOTE.size + _MOST)
    while tried.inputs < inputs and len(tried.findings) < _FEW:
        note[: _NOTE.size] = _NOTE.pack(tried.inputs, 0)
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=base) as folder:
            died = _in_child(target, tried, inputs, seed, Path(folder), note, advance, given)
        if died:
            at, length = _NOTE.unpack(note[: _NOTE.size])
            content = note[_NOTE.size : _NOTE.size + length]
            tried.findings.setdefault(died, content)
            advance(at + 1 - tried.inputs)
            tried.inputs = at + 1
            if not length:
                break  # before the first input: its preparation fails
    note.close()
    tried.seconds, tried.cpu_seconds = time.monotonic() - began, _children_cpu() - cpu
    return tried


def _children_cpu() -> float:
    """Seconds of a processor that all ended children of this process took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _in_child(
    target: Target,
    tried: Tried,
    inputs: int,
    seed: int,
    folder: Path,
    note: mmap.mmap,
    advance: Callable[[int], None],
    given: list[bytes] | None,
) -> str:
    """Go on with the inputs in a new process; why it died, or "" if it came to the end."""
    # Forked: the imports lie behind it, and the note is shared.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    first = tried.inputs
    arguments = (target, first, inputs, seed, folder, note, there, given)
    with warnings.catch_warnings(action="ignore"):  # that this process may have threads
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
    there.close()
    over = False
    with suppress(EOFError):
        while True:
            kind, value = here.recv()
            if kind == "at":
                number, refused, peak = value
                advance(number - tried.inputs)
                tried.inputs, tried.peak_mb = number, max(tried.peak_mb, peak)
                tried.refused += refused
            elif kind == "finding":
                tried.findings.setdefault(*value)
            elif kind == "broken":
                raise RuntimeError(f"{target.name} cannot be prepared: {value}")
            else:
                over = True
    process.join()
    here.close()
    if over:
        return ""
    if process.exitcode == -signal.SIGALRM:
        return f"hangs: over {target.seconds:g} s"
    ended = process.exitcode or 0
    return f"ends its process: {signal.Signals(-ended).name if ended < 0 else f'status {ended}'}"


def _work(
    target: Target,
    first: int,
    inputs: int,
    seed: int,
    folder: Path,
    note: mmap.mmap,
    pipe: Any,
    given: list[bytes] | None,
) -> None:
    """The child: inputs `first` to `inputs`, one after another."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # of what C libraries say there is much
    work = folder / "work"
    work.mkdir()
    os.chdir(work)
    os.environ["TMPDIR"] = tempfile.tempdir = str(work)
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    time.sleep = lambda seconds: None  # before a request is tried again
    try:
        case = target.make(work)
    except Exception:
        pipe.send(("broken", traceback.format_exc()))
        raise
    watch = Watch(work, case.confined)
    with suppress(Exception):
        case.attempt(b"")  # imports what is imported late
    base = _limit_memory(target.megabytes)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, in C as well
    told, refused = time.monotonic(), 0
    mark = zlib.crc32(f"{seed} {target.name}".encode()) << 32
    for number in range(first, inputs):
        content = given[number] if given else case.draw(Random(mark + number))
        note[: _NOTE.size] = _NOTE.pack(number, len(content))
        note[_NOTE.size : _NOTE.size + len(content)] = content
        signal.setitimer(signal.ITIMER_REAL, target.seconds)
        said = _tried(case, watch, content)
        signal.setitimer(signal.ITIMER_REAL, 0)
        grown = (_peak_kb() - base) / 1024
        if grown > target.megabytes and said in (None, ""):
            said = f"memory: {grown:.0f} MB more"
            base = _peak_kb()
        if said:
            pipe.send(("finding", (said, content)))
        refused += said == ""
        if time.monotonic() - told > _TELL:
            pipe.send(("at", (number + 1, refused, grown)))
            told, refused = time.monotonic(), 0
    pipe.send(("at", (inputs, refused, (_peak_kb() - base) / 1024)))
    pipe.send(("over", None))
    pipe.close()
    os._exit(0)  # threads of libraries may not survive the fork


def _limit_memory(megabytes: int) -> int:
    """Let so much more be allocated and no more; the most that was resident so far, kB."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return _peak_kb()


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _tried(case: Case, watch: Watch, content: bytes) -> str | None:
    """What is wrong with how an input was met; "" if it was refused, None if it was read."""
    watch.begin()
    try:
        case.attempt(content)
        return watch.end()
    except Forbidden as error:
        return str(error)
    except case.documented as error:
        return watch.end() or _wrong_words(str(error), case.several)
    except BaseException as error:
        words = f"{type(error).__name__} {_place(error)}"
        if isinstance(error, AssertionError):
            words += f": {str(error)[:100]}"
        return watch.end() or words
    finally:
        watch.end()


def _wrong_words(said: str, several: bool) -> str:
    """What is wrong with a message; "" if it is one sentence."""
    if not said.strip():
        return "an error without words"
    if len(said) > (20_000 if several else 2000):
        return f"an error of more than 2,000 characters: {said[:60]!r}"
    if "Traceback" in said or "llocate" in said or "std::" in said:
        return f"an error in a library's words: {said[:80]!r}"
    lines = said.split("\n") if several else [said]
    if any(map(_CONTROL.search, lines)):
        return f"an error of more than a line, or that commands a terminal: {_shape(said)}"
    return ""


def _shape(said: str) -> str:
    """A message with what differs from input to input left out."""
    return " ".join(word for word in said.split() if word.isalpha())[:80]


def _place(error: BaseException) -> str:
    """Where in our code an error comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if f.filename.startswith(f"{ROOT}/") and "/benchmarks/" not in f.filename
    ]
    frame = (own or frames)[-1]
    return f"in {Path(frame.filename).name}:{frame.lineno} ({frame.name})"


def file_name(target: str, content: bytes) -> str:
    """The name of a finding's file, by which it is played again."""
    return f"{target}-{hashlib.sha256(content).hexdigest()[:12]}"
