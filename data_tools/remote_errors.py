"""What went wrong with a file elsewhere: whether to try again, and words without secrets."""

import re

from data_tools.names import first_line

# In what other programs say: who signs in, and signatures.
_USER = re.compile(r"://[^/\s'\"@:\[]*:(?!\d+/)[^\s'\"@?]*@")  # secrets of AWS have slashes
_WEB_USER = re.compile(r"(https?://)[^/\s'\"]*@")
_QUERY = re.compile(r"\?[^\s'\"<>)]*")
# Packages whose errors are the network's or the server's, as all OSErrors are.
_NETWORK = (
    "aiohttp", "aiobotocore", "botocore", "azure", "gcsfs", "google", "huggingface_hub", "httpx",
    "requests", "urllib3", "http", "fsspec", "asyncio",
)  # fmt: skip
_LATER = (408, 425, 429)  # HTTP: ask again later, as after any 5xx


def without_secrets(text: str) -> str:
    """`text` without what signs in or signs requests, wherever a URL in it holds such."""
    return _QUERY.sub("?...", _USER.sub("://", _WEB_USER.sub(r"\1", text)))


def judge(error: BaseException) -> tuple[str | None, str]:
    """Whether to try again ("again"), or else why not; and what is said of the error."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and len(chain) < 8:
        chain.append(cause)
    status = next(filter(None, map(_status, chain)), None)
    # fsspec tells of a server that is down as of a file that is missing, from the true error
    root = next(filter(_is_networks, reversed(chain)), error)
    words = without_secrets(first_line(root))[:200]
    if status is not None:
        words = f"HTTP {status}"
        if status in (404, 410):
            return "missing", words
        if status in _LATER or status >= 500 or status == 416:
            return "again", words
        return "refused" if status in (401, 403) else "wrong", words
    if any("Credential" in type(each).__name__ for each in chain):
        return "refused", words
    if isinstance(root, FileNotFoundError):
        return "missing", "no such file"
    if isinstance(root, PermissionError):
        return "refused", "permission denied"
    return "again" if _is_networks(root) else None, words


def _is_networks(error: BaseException) -> bool:
    """Whether an error may be the network's or the server's, not a bug."""
    package = type(error).__module__.split(".")[0]
    return isinstance(error, OSError | TimeoutError) or package in _NETWORK


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about, as the packages tell it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return found if isinstance(found, int) and found >= 400 else None
    for holder, name in (
        (error, "status"),
        (error, "status_code"),
        # aiohttp gives a body that was cut short a code, too: 400
        (None if type(error).__module__.startswith("aiohttp") else error, "code"),
        (response, "status_code"),
    ):
        value = getattr(holder, name, None)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None
