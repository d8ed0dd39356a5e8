"""URLs: what they may be, what of them is shown, which package reads them, what is tried again."""

from __future__ import annotations

import errno
import pickle
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from fsspec.registry import _registry

from data_tools import remote, remote_errors
from data_tools.errors import MissingPackage, UsageError
from data_tools.remote import Remote, RemoteError, RemoteMissing, is_remote
from data_tools.remote_errors import without_secrets


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://who:what@host:8080/a/set/?X-Amz-Signature=1", "https://host:8080/a/set"),
        ("https://token@host/set", "https://host/set"),
        ("s3://bucket/set/", "s3://bucket/set"),
        ("s3://KEY:SECRET@bucket/set", "s3://bucket/set"),
        ("s3://KEY:a/SECRET/b@bucket/set", "s3://bucket/set"),
        ("s3://a KEY:SECRET@bucket/set", "s3://bucket/set"),
        ("http://[::1]:99/a@b/set", "http://[::1]:99/a@b/set"),
        ("hf://datasets/user/repo@main/set", "hf://datasets/user/repo@main/set"),
        ("abfs://container@account.host/set", "abfs://container@account.host/set"),
    ],
)
def test_no_credential_is_shown(url: str, shown: str) -> None:
    place = Remote(url)
    assert place.shown == shown
    assert place.file("x.tar") == f"{shown}/x.tar"
    assert "SECRET" not in repr(place) and "what" not in repr(place)
    assert pickle.loads(pickle.dumps(place)) == place  # a worker process gets it


def test_no_credential_is_left_in_what_others_say() -> None:
    words = "HTTP 403 at 'https://who:what@host/x.tar?sig=abc&se=1' (see http://a/b?c)"
    assert without_secrets(words) == "HTTP 403 at 'https://host/x.tar?...' (see http://a/b?...)"
    assert without_secrets("https://token@host/x, http://u:p@ss@host") == (
        "https://host/x, http://host"
    )
    assert without_secrets("s3://KEY:a/b@c/x at http://h:80/a@b") == "s3://c/x at http://h:80/a@b"


def test_a_folder_is_no_url() -> None:
    assert not is_remote("shards") and not is_remote("a:/b") and not is_remote(Path("s3://x/y"))
    assert is_remote("s3://bucket/set")
    with pytest.raises(UsageError, match=r"known are http://.*s3://"):
        Remote("ftp://host/set")
    with pytest.raises(UsageError, match="names no bucket"):
        Remote("s3:///set")


@pytest.mark.parametrize(
    "url, package, extra",
    [
        ("http://host/set", "aiohttp", "http"),
        ("s3://bucket/set", "s3fs", "s3"),
        ("gs://bucket/set", "gcsfs", "gcs"),
        ("az://container/set", "adlfs", "az"),
        ("hf://datasets/user/repo", "huggingface_hub", "hf"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote._file_system.cache_clear()
    for name in list(sys.modules):
        if name.split(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(_registry, url.split(":")[0], raising=False)  # what is loaded already
    if package == "aiohttp":
        monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingPackage, match=rf"needs {package}: pip install 'syncnet-trainer.{extra}"
    ):
        Remote(url).read("manifest.json")


def test_files_go_there_and_come_back(tmp_path: Path) -> None:
    place = Remote("memory://bucket/set")
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 100)
    place.put(file, "one")
    assert place.size("one") == 25_600
    assert place.read("one") == file.read_bytes()
    assert place.read_part("one", 300, 1000) == file.read_bytes()[300:1000]
    place.put(file, "other")
    assert place.names("o*e") == ["one"]
    into = tmp_path / "into"
    into.write_bytes(file.read_bytes()[:1000])
    place.fetch("one", 25_600, into)
    assert into.read_bytes() == file.read_bytes()
    with pytest.raises(RemoteMissing, match="bucket/set/two is missing"):
        place.read("two")
    with pytest.raises(RemoteError, match="has 25600 bytes, the manifest says 5"):
        place.fetch("one", 5, into)


@pytest.mark.parametrize(
    "error, verdict",
    [
        (OSError(errno.EBUSY, "Please reduce your request rate"), "again"),  # s3fs, of SlowDown
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "GetObject"), "again"),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject"), "refused"),
        (NoCredentialsError(), "refused"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "again"),
        (TimeoutError(), "again"),
        (PermissionError(errno.EACCES, "Forbidden"), "refused"),
        (FileNotFoundError("x"), "missing"),
        (TypeError("x"), None),
    ],
)
def test_what_is_tried_again(error: Exception, verdict: str | None) -> None:
    assert remote_errors.judge(error)[0] == verdict
    wrapped = FileNotFoundError("http://host/x")  # as fsspec tells of any failure of HTTP
    wrapped.__cause__ = error
    if verdict is not None:
        assert remote_errors.judge(wrapped)[0] == verdict


def test_a_bug_of_ours_is_not_tried_again() -> None:
    asked = []

    def call() -> None:
        asked.append(1)
        raise KeyError("bug")

    with pytest.raises(KeyError):
        Remote("memory://x/y")._tried("z", call)
    assert asked == [1]


@pytest.mark.parametrize("url", ["http://[::1/set", "https://who:S3CRET]@host/set"])
def test_a_server_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(UsageError, match="has no proper server in it") as caught:
        Remote(url)
    assert "S3CRET" not in str(caught.value)


def test_no_signature_is_shown_of_a_url_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="ftp://host/a is no URL that can be read") as caught:
        Remote("ftp://who:S3CRET@host/a?b= c&sig=S3CRET")
    assert "S3CRET" not in str(caught.value)
