"""Files in a bucket or on a web server (fsspec): read by range or whole, written, tried again."""

import hashlib
import os
import random
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import fsspec

from data_tools import traffic
from data_tools.errors import MissingPackage, UsageError, UserError
from data_tools.names import first_line, shown
from data_tools.records import LARGEST
from data_tools.remote_errors import judge, without_secrets
from data_tools.remote_place import NoRanges, Part, Place
from data_tools.remote_place import Stopped as Stopped

TRIES: Final = 8  # of a request, before it is given up
PAUSE: Final = 0.5  # seconds before the second try, twice as many before each further one
LONGEST_PAUSE: Final = 30.0
PIECE: Final = 16 * 2**20  # bytes of a request for a part of a file

# What reads a protocol: a package, and the extra that brings it.
_PACKAGES = {
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "az"),
    "abfs": ("adlfs", "az"),
    "abfss": ("adlfs", "az"),
    "hf": ("huggingface_hub", "hf"),
    "file": ("fsspec", ""),
    "memory": ("fsspec", ""),
}
_WEB = ("http", "https")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.+)", re.DOTALL)
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")

T = TypeVar("T")


class RemoteError(UserError):
    """A file in a bucket or on a server that cannot be had; names it, never a credential."""


class RemoteMissing(RemoteError):
    """There is no such file."""


class RemoteResized(RemoteError):
    """A file has another size than it should."""


def is_remote(name: object) -> bool:
    """Whether `name` is a URL rather than a folder."""
    return isinstance(name, str) and _URL.match(name) is not None


def _nothing(count: int) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Remote:
    """A folder in a bucket or on a web server.

    Attributes:
        url: of the folder, as given; it may hold credentials, so it is never shown.
        shown: the same without them, for people and files; one folder has one.

    Raises:
        UsageError: it is none of the URLs that can be read.
    """

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        match = _URL.match(self.url)
        if match is None or self.protocol not in _PACKAGES:
            known = ", ".join(f"{name}://" for name in _PACKAGES)
            raise UsageError(f"{shown(self.shown)} is no URL that can be read; known are {known}")
        if not match[2].strip("/") or (self.protocol != "file" and match[2].startswith("/")):
            raise UsageError(f"a URL of {self.protocol}:// names no bucket or server")
        if _CONTROL.search(self.url):
            raise UsageError("a URL of shards has a line break or another control character in it")
        try:
            urlsplit(self.url)
        except ValueError:  # of brackets about the server's address
            raise UsageError(f"a URL of {self.protocol}:// has no proper server in it") from None

    @property
    def protocol(self) -> str:
        """http, s3 ..."""
        return self.url.split("://", 1)[0].lower()

    @cached_property
    def shown(self) -> str:
        web = self.protocol in _WEB
        scheme, _, rest = self.url.partition("?")[0].partition("://")
        place, slash, path = rest.partition("/")
        user, _, host = place.rpartition("@")
        port = place.rpartition(":")[2]
        if ":" in user or (web and user):
            place = host
        elif ":" in place and "@" in path and not (port.isdecimal() or port.endswith("]")):
            place, slash, path = rest.rpartition("@")[2].partition("/")  # a secret with a slash
        if web:
            scheme, path = self.protocol, path.partition("#")[0]
        return without_secrets(f"{scheme}://{place}{slash}{path}").rstrip("/")

    def file(self, name: str) -> str:
        """How messages call a file in it."""
        return f"{self.shown}/{name}"

    def key(self) -> str:
        """Tells one folder from another: 12 hexadecimal digits."""
        return hashlib.sha256(os.fsencode(self.shown)).hexdigest()[:12]

    def read(self, name: str, size: int | None = None) -> bytes:
        """A small file, whole.

        size: that it must have; None: any.

        Raises:
            RemoteMissing: there is none.
            RemoteError: it cannot be had; says why.
        """

        def whole() -> bytes:
            content: bytes = self._files().cat_file(self._path(name))
            traffic.count(len(content))
            if len(content) > LARGEST:
                raise RemoteError(f"{self.file(name)} is larger than {LARGEST:,} bytes")
            if size is not None and len(content) != size:
                raise ConnectionError(f"{len(content)} of {size} bytes came")
            return content

        return self._tried(name, whole)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if the server does not say.

        Raises:
            RemoteMissing, RemoteError: as `read`.
        """
        found = self._tried(name, lambda: self._files().info(self._path(name))["size"])
        return None if found is None else int(found)

    def read_part(self, name: str, begin: int, end: int) -> bytes | None:
        """Some bytes of a file; None if the server has no ranges, when nothing is read.

        Raises:
            RemoteMissing, RemoteError: as `read`.
        """

        def part() -> bytes | None:
            if self.protocol not in _WEB:
                content: bytes = self._files().cat_file(self._path(name), start=begin, end=end)
            else:
                stream = BytesIO()
                headers = {"Accept-Encoding": "identity", "Range": f"bytes={begin}-{end - 1}"}
                ask = self._files().get_file
                try:
                    ask(self._path(name), stream, callback=Part(end - begin), headers=headers)
                except NoRanges:
                    return None
                content = stream.getvalue()
            traffic.count(len(content))
            if len(content) != end - begin:
                raise ConnectionError(f"{len(content)} of {end - begin} bytes came")
            return content

        return self._tried(name, part)

    def names(self, pattern: str) -> list[str]:
        """Of the files whose names are like "report*.csv"; of a web server, which lists none, that
        without the asterisk.

        Raises:
            RemoteError: as `read`.
        """
        if self.protocol in _WEB:
            return [pattern.replace("*", "")]
        found = self._tried(pattern, lambda: self._files().glob(self._path(pattern)))
        return sorted(path.rpartition("/")[2] for path in found)

    def fetch(
        self,
        name: str,
        size: int,
        into: Path,
        advance: Callable[[int], None] = _nothing,
        stopped: Callable[[], bool] = _never,
    ) -> None:
        """Add to `into` what it lacks of a file of `size` bytes; all of it if `into` is missing.

        By range where the server has ranges, so that what is there already stays; else from its
        beginning. Nothing is compared but the size.

        Args:
            advance: is told of the bytes that came, or went when a beginning was of no use.
            stopped: whether to leave off.

        Raises:
            RemoteMissing, RemoteError: as `read`.
            RemoteResized: it has another size.
            Stopped: as asked.
        """
        there = self.size(name)
        if there is not None and there != size:
            raise RemoteResized(
                f"{self.file(name)} has {there} bytes, the manifest says {size}: a truncated or "
                "stale copy; put the set there anew"
            )
        read = self._read_on if self.protocol in _WEB else self._read_piece
        with into.open("ab") as stream:
            place = Place(stream, size, advance, stopped)
            failures = most = 0
            while place.have < size:
                try:
                    read(name, place)
                except Exception as error:
                    # What is gained at each try comes to an end; a server without ranges that
                    # always breaks off gains nothing.
                    failures = failures + 1 if place.have <= most else 1
                    most = max(most, place.have)
                    self._wait(name, error, failures)

    def fetch_unsized(self, name: str, into: Path) -> None:
        """Write to `into` a file whose size the server does not say; whole, or not at all.

        Raises:
            RemoteMissing, RemoteError: as `read`.
        """

        def whole() -> None:
            try:
                self._files().get_file(self._path(name), str(into))
            except BaseException:
                into.unlink(missing_ok=True)
                raise

        self._tried(name, whole)

    def put(self, file: Path, name: str) -> None:
        """Write a file there: whole, or not at all.

        Raises:
            RemoteError: it cannot be written.
        """
        size = file.stat().st_size

        def whole() -> None:
            files, path = self._files(), self._path(name)
            if self.protocol == "file":  # buckets show an object once it is whole; this does not
                files.makedirs(files._parent(path), exist_ok=True)
                files.put_file(str(file), f"{path}.partial")
                files.mv(f"{path}.partial", path)
            else:
                files.put_file(str(file), path)
            with suppress(AttributeError):
                files.invalidate_cache()
            if (there := files.info(path)["size"]) != size:
                raise ConnectionError(f"{there} of {size} bytes are there")

        self._tried(name, whole)

    def check_writable(self) -> None:
        """Find out whether files can be written there at all.

        Raises:
            UsageError: no.
        """
        if self.protocol in _WEB:
            raise UsageError(f"{self.shown}: a web server is only read; give a bucket")
        self._files()

    def _path(self, name: str) -> str:
        if self.protocol not in _WEB:
            return f"{self.url.rstrip('/')}/{name}"
        parts = urlsplit(self.url)
        path = f"{parts.path.rstrip('/')}/{name}"
        return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))

    def _files(self) -> Any:
        """The file system."""
        try:
            return _file_system(self.protocol, bool(urlsplit(self.url).query), os.getpid())
        except ImportError:
            package, extra = _PACKAGES[self.protocol]
            raise MissingPackage(
                f"{self.shown} needs {package}: pip install 'syncnet-trainer[{extra}]'"
            ) from None
        except Exception as error:  # each has its own, of accounts and credentials that are missing
            words = without_secrets(first_line(error))
            raise RemoteError(f"{self.shown} cannot be opened: {words}") from None

    def _read_piece(self, name: str, place: Place) -> None:
        """Ask a bucket for the next part."""
        end = min(place.size, place.have + PIECE)
        content = self._files().cat_file(self._path(name), start=place.have, end=end)
        if not 0 < len(content) <= end - place.have:
            raise ConnectionError(f"{len(content)} of {end - place.have} bytes came")
        place.stream.write(content)
        place.relative_update()

    def _read_on(self, name: str, place: Place) -> None:
        """Ask a web server for all that is lacking, or for all if it has no ranges."""
        headers = {"Accept-Encoding": "identity"}
        if place.have:
            headers["Range"] = f"bytes={place.have}-"
        place.asked = place.size - place.have
        try:
            self._files().get_file(self._path(name), place.stream, callback=place, headers=headers)
        except NoRanges:
            place.cut(0)
            return
        finally:
            place.tell()
        if place.have > place.size:
            place.cut(0)
            raise ConnectionError("more came than was asked for")
        if place.have < place.size:
            raise ConnectionError(f"{place.have} of {place.size} bytes came")

    def _tried(self, name: str, call: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return call()
            except Exception as error:
                failures += 1
                self._wait(name, error, failures)

    def _wait(self, name: str, error: Exception, failures: int) -> None:
        """Wait for the next try; or raise what is to be said of the failure."""
        if isinstance(error, UserError | Stopped):
            raise error
        verdict, words = judge(error)
        if verdict is None:
            raise error
        where = self.file(name)
        if verdict == "missing":
            raise RemoteMissing(f"{where} is missing: {words}") from None
        if verdict == "refused":
            raise RemoteError(f"{where} is refused: {words}; are your credentials right?") from None
        if verdict == "wrong":
            raise RemoteError(f"{where} cannot be had: {words}") from None
        if failures >= TRIES:
            raise RemoteError(f"{where} cannot be had: {words}, {TRIES} times in a row") from None
        if self.protocol != "s3":  # whose library tells of each try
            traffic.count(retries=1)
        if failures > 1:
            print(f"note: {where}: {words}; trying again", file=sys.stderr, flush=True)
        # Many processes that were throttled at once must not come again at once.
        time.sleep(min(LONGEST_PAUSE, PAUSE * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))


@lru_cache
def _file_system(protocol: str, encoded: bool, process: int) -> Any:
    """One for all threads of a process: fsspec's own cache makes one, and a client, for each.

    encoded: whether URLs are to be sent as they are, since a signature is of these bytes.
    """
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in _WEB:
        import aiohttp

        # No limit on a whole body, which may be large, but on silence.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options |= {"client_kwargs": {"timeout": timeout, "trust_env": True}, "encoded": encoded}
    files = fsspec.filesystem(protocol, **options)
    if protocol == "s3":
        traffic.listen_to_s3(files)
    return files
