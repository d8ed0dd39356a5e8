"""Files of `torch.save` from anywhere: nothing is executed, no size is believed.

`torch.load(weights_only=True)` runs no code, but does what a pickle asks for: a file of a kilobyte
can have it allocate a terabyte (storages and views larger than the file, deflated records, a
bytearray by its length), hash nested tuples without end, or fill a tensor with what no checksum
confirms. So a file is first read in outline, with stand-ins for tensors, and opened by torch only
if all that it claims lies in it.

`write` writes such a file.

Bounds: what is read takes no more than the size of the file, plus some 150 MB for a pickle of
`_MOST_STEPS` steps, in a few seconds.
"""

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import torch

from data_tools.errors import UserError
from data_tools.names import NotPlain, open_plain
from trainer.model.zip_end import ZipEndError, zip_end

_MOST_STEPS = 1_000_000  # of a pickle; a checkpoint of ours takes 20,000
_MOST_DIRECTORY = 1 << 22  # bytes that a zip file's list of records takes
_MOST_DIMENSIONS = 64
_CHUNK = 1 << 20
# Bytes a number, by the name of the storage.
_STORAGES = {
    "FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1,
}  # fmt: skip


class TorchFileError(UserError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


class NotOfTorch(TorchFileError):
    """A file that `torch.save` has not written."""


@dataclass(frozen=True)
class _Storage:
    """Stands in for numbers that lie in the file."""

    numbers: int


class _Tensor:
    """Stands in for a tensor."""


def read(path: Path) -> Any:
    """What `torch.save` wrote to `path`: tensors on the CPU, plain values, dicts and lists of them.

    Tensors are plain ones of at most as many numbers as lie in the file for them; keys of dicts are
    strings or integers.

    Raises:
        TorchFileError: the file is missing, damaged, holds anything else, or claims to hold more
            than it does; the message goes on after the file's name.
    """
    try:
        opened = open_regular(path)
    except OSError as error:
        raise TorchFileError(str(error)) from None
    with opened as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(4)
        if size == 0:
            raise TorchFileError("is empty: damaged or truncated; fetch or save it again")
        if not start.startswith((b"\x80", b"PK")):
            raise NotOfTorch("is no file of torch.save")
        stream.seek(0)
        try:
            if start.startswith(b"PK"):
                _outline_zip(stream, size)
            else:
                _outline_legacy(stream, size)
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old protocols
                return torch.load(stream, map_location="cpu", weights_only=True)
        except (TorchFileError, MemoryError):
            raise
        except Exception as error:  # of many kinds, for the pickle does what it likes
            detail = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
            raise TorchFileError(
                f"is damaged or truncated ({detail}); fetch or save it again"
            ) from None


def write(content: Any, path: Path) -> None:
    """torch.save to `path`, with the file's own error if it cannot be written.

    Raises:
        OSError: as the file gave it.
    """
    with open(path, "wb") as stream:
        sink = _Sink(stream)
        torch.save(content, cast(IO[bytes], sink))
        if sink.error is not None:
            raise sink.error


def open_regular(path: Path) -> IO[bytes]:
    """Open a plain file, never waiting for what may come through a pipe.

    Raises:
        OSError: it is missing, a folder, a pipe or a device, or cannot be read; the message goes
            on after the file's name.
    """
    try:
        return open_plain(path)
    except NotPlain:
        what = "a folder" if path.is_dir() else "a pipe or a device, no plain file"
        raise OSError(f"is {what}") from None
    except FileNotFoundError:
        raise OSError("does not exist") from None
    except OSError as error:
        raise OSError(f"cannot be read ({str(error.strerror).lower()})") from None


def plain_name(name: object) -> str:
    """A name out of a file, fit for a message."""
    text = name if isinstance(name, str) else repr(name) if type(name) is int else str(type(name))
    return text if text.isprintable() and len(text) <= 100 else ascii(text[:100])


def _outline_zip(stream: IO[bytes], size: int) -> None:
    """Compare what a zip file claims with what it holds, checksums included."""
    try:
        directory_size, directory_offset = zip_end(stream, size)
    except ZipEndError as error:
        raise TorchFileError(str(error)) from None
    if directory_size > _MOST_DIRECTORY:  # before all of it is read
        raise TorchFileError("is damaged or truncated; fetch or save it again")
    with zipfile.ZipFile(stream) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
            raise TorchFileError("is compressed, which torch.save never does; save it again")
        names = {name.lower() for name in records}  # torch looks them up without regard to case
        if not records or len(names) < len(archive.infolist()):
            raise TorchFileError("is damaged: its records have no names of their own")
        if (
            archive.start_dir != directory_offset
            or sum(record.file_size for record in records.values()) > size
            # so much memory would be asked for
            or any(record.compress_size != record.file_size for record in records.values())
        ):
            raise TorchFileError("is damaged: its records do not lie in it")
        for record in records.values():
            with archive.open(record) as content:
                while content.read(_CHUNK):  # to the end, where the checksum is compared
                    pass
        root = next(iter(records)).partition("/")[0]
        if f"{root}/data.pkl" not in records:
            raise NotOfTorch("is a zip file, but not of torch.save")

        def storage(identity: Any) -> _Storage:
            kind, width, key, _, numbers = identity
            record = records.get(f"{root}/data/{key}") if type(key) is str else None
            if kind != "storage" or record is None or record.file_size != _bytes(numbers, width):
                raise TorchFileError("is damaged: a tensor's numbers do not lie in it")
            return _Storage(numbers)

        pickled = io.BytesIO(archive.read(records[f"{root}/data.pkl"]))
        _Outline(_Counted(pickled, size), storage).load()


def _outline_legacy(stream: IO[bytes], size: int) -> None:
    """Compare what a file of torch before 1.6 (as `syncnet_v2.model`) claims with what it holds."""
    counted = _Counted(stream, size)
    storages: dict[str, tuple[int, int]] = {}  # numbers and bytes
    left = size

    def storage(identity: Any) -> _Storage:
        nonlocal left
        kind, width, key, _, numbers, view = identity
        if kind != "storage" or type(key) is not str:
            raise TorchFileError("is damaged: a tensor's numbers do not lie in it")
        claimed = (numbers, _bytes(numbers, width))
        if key not in storages:
            storages[key] = claimed
            left -= claimed[1]
        if left < 0 or storages[key] != claimed:
            raise TorchFileError("is damaged: a tensor's numbers do not lie in it")
        if view is None:
            return _Storage(numbers)
        view_key, offset, length = view
        if type(view_key) is not str or _count(offset) + _count(length) > numbers:
            raise TorchFileError("is damaged: a tensor's numbers do not lie in it")
        return _Storage(length)

    def load() -> Any:
        return _Outline(counted, storage).load()

    if load() != torch.serialization.MAGIC_NUMBER:
        raise NotOfTorch("is a pickle, but not of torch.save")
    load()  # a version, which torch looks at
    load()  # of which machine it is
    load()
    keys = load()
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise TorchFileError("is damaged: its list of storages is none")
    if sorted(keys) != sorted(storages):
        raise TorchFileError("is damaged: its list of storages is of other tensors")
    for key in keys:
        numbers, length = storages[key]
        if stream.read(8) != struct.pack("<q", numbers) or size - stream.tell() < length:
            raise TorchFileError("is damaged or truncated; fetch or save it again")
        stream.seek(length, os.SEEK_CUR)


class _Sink:
    """Takes what torch writes; keeps the first error, behind which torch would put its own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write `data`, unless the file has failed already."""
        if self.error is None:
            try:
                self._stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing: closing the file does."""


class _Counted:
    """A stream whose reads are counted, and never ask for more than there is."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._size = size
        self._left = _MOST_STEPS

    def read(self, length: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise TorchFileError(
                f"is no file of weights: its pickle has over {_MOST_STEPS:,} steps"
            )
        content = self._stream.read(length) if length <= self._size else b""
        if len(content) < length:
            raise EOFError("its pickle ends early")
        return content

    def readline(self) -> bytes:
        return self._stream.readline(512)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TorchFileError("is damaged: a size in it is no count")
    return value


def _bytes(numbers: Any, width: Any) -> int:
    if type(width) is not int or width not in _STORAGES.values():
        raise TorchFileError("is damaged: a tensor in it has no type")
    return _count(numbers) * width


def _more_than_tensors(what: str = "more than tensors") -> TorchFileError:
    return TorchFileError(
        f"is a pickle of {what} and is not opened, since it could execute code; tensors, numbers, "
        "text, lists and dicts are all that weights need"
    )


def _key(value: Any) -> Any:
    # Others could be nested tuples, whose hash takes for ever.
    if type(value) not in (str, int):
        raise TorchFileError("is no file of weights: a key in it is neither text nor a number")
    return value


# ----- what the pickle may call: torch's functions, without a tensor -----


def _ordered(pairs: Any = ()) -> Any:
    if type(pairs) not in (list, tuple):
        raise _more_than_tensors()
    return OrderedDict((_key(key), value) for key, value in pairs)


def _tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> _Tensor:
    if type(storage) is not _Storage or type(size) is not tuple or type(stride) is not tuple:
        raise TorchFileError("is damaged: a tensor in it has no shape")
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise TorchFileError("is damaged: a tensor in it has no shape")
    if type(requires_grad) is not bool or hooks or metadata:
        raise _more_than_tensors()
    numbers, last = 1, _count(offset)
    for length, step in zip(size, stride, strict=True):
        numbers *= _count(length)
        last += (length - 1) * _count(step)
    if numbers and (last >= storage.numbers or numbers > storage.numbers):
        raise TorchFileError("is damaged: a tensor in it claims more numbers than the file holds")
    return _Tensor()


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> _Tensor:
    if type(tensor) is not _Tensor or type(requires_grad) is not bool or hooks:
        raise _more_than_tensors()
    return tensor


_CALLED: dict[str, Any] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}


_Unpickler: Any = pickle._Unpickler
# What torch's unpickler knows, less sets and objects made without their constructor.
_KNOWN = frozenset(
    getattr(pickle, name)[0]
    for name in (
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "NONE"),
        *("NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        *("SHORT_BINSTRING", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"),
    )
)


class _Outline(_Unpickler):
    """Reads a pickle as torch's own unpickler would, with stand-ins and strict about everything.

    It is the one written in Python: that in C takes an index of 2^32 for a memo as an order.
    """

    def __init__(self, stream: _Counted, storage: Any) -> None:
        super().__init__(stream, encoding="utf-8")
        self.persistent_load = storage

    def load(self) -> Any:
        """The outline of the next object.

        Raises:
            TorchFileError: it holds what no weights need.
        """
        try:
            return super().load()
        except KeyError as error:
            if error.args and error.args[0] in _Unpickler.dispatch:
                raise _more_than_tensors() from None
            raise

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = _CALLED.get(f"{module}.{name}")
        if known is None:
            raise _more_than_tensors(f"more than tensors ({plain_name(f'{module}.{name}')})")
        return known

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function not in _CALLED.values() or type(arguments) is not tuple:
            raise _more_than_tensors()
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        # torch keeps the versions of layers there; nothing here reads them
        named = type(state) is dict and set(state) == {"_metadata"}
        if type(self.stack[-1]) is not OrderedDict or not named:
            raise _more_than_tensors()

    def load_append(self) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._list().extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._dict()[_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._dict().update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _list(self) -> list[Any]:
        if type(self.stack[-1]) is not list:
            raise _more_than_tensors()
        return self.stack[-1]

    def _dict(self) -> dict[Any, Any]:
        if type(self.stack[-1]) not in (dict, OrderedDict):
            raise _more_than_tensors()
        return self.stack[-1]

    dispatch: ClassVar[dict[int, Any]] = {
        **{code: load for code, load in _Unpickler.dispatch.items() if code in _KNOWN},
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }
