"""What this process has fetched of remote sets: bytes, and requests that were tried again."""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Traffic:
    """What was fetched.

    Attributes:
        bytes: that came, those that were of no use included.
        retries: requests that failed and were tried again, by us or, of S3, by its library.
    """

    bytes: int = 0
    retries: int = 0

    def since(self, before: "Traffic") -> "Traffic":
        """What has come after `before`, an earlier look of the same process."""
        return Traffic(self.bytes - before.bytes, self.retries - before.retries)


_lock = threading.Lock()
_all = Traffic()


def so_far() -> Traffic:
    """All of this process."""
    return _all


def count(came: int = 0, retries: int = 0) -> None:
    """Add bytes that came, and requests that are to be tried again."""
    global _all
    with _lock:
        _all = Traffic(_all.bytes + came, _all.retries + retries)


def listen_to_s3(files: Any) -> None:
    """Count the requests that s3fs and botocore try again by themselves, by botocore's events.

    One that failed counts when it is made again: after the last try of all it is not.
    """
    failed: Counter[tuple[str, str]] = Counter()  # the events come from one thread

    def answered(
        request_dict: Any, response: Any = None, caught_exception: object = None, **_: object
    ) -> None:
        status = 0 if response is None else response[0].status_code
        if caught_exception is not None or status == 429 or status >= 500:
            failed[request_dict["method"], request_dict["url"]] += 1

    def made(request: Any, **_: object) -> None:
        if failed[request.method, request.url]:
            count(retries=1)
            failed[request.method, request.url] -= 1
        if not failed[request.method, request.url]:
            del failed[request.method, request.url]

    files.connect()
    files.s3.meta.events.register("needs-retry.s3", answered)
    files.s3.meta.events.register_first("request-created.s3", made)  # before it is signed
