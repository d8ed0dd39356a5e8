"""Shards from servers that fail: HTTP on loopback, and Amazon's protocol (moto)."""

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.children import Job
from benchmarks.faults.lab import Kind, Lab, Outcome, files

_SHARE = 0.4  # of requests that fail
_SLOW = 0.15  # seconds between pieces of a slow body
_KEYS = {
    "AWS_ACCESS_KEY_ID": "who",
    "AWS_SECRET_ACCESS_KEY": "quietly",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
Fails = Callable[[str], str]


class _Handler(BaseHTTPRequestHandler):
    """Sends a file, a part of one, or a fault; `folder` and `fails` are the server's."""

    protocol_version = "HTTP/1.1"
    folder: Path
    fails: Fails

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        fault = type(self).fails(name) if self.command == "GET" else ""
        path = self.folder / name
        if fault.isdigit() or not path.is_file():
            self.send_response(int(fault) if fault.isdigit() else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin = int(part[1]) if part else 0
        end = min(len(content), int(part[2]) + 1) if part and part[2] else len(content)
        self.send_response(206 if part else 200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        if part:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self._body(content[begin:end], fault)

    def _body(self, content: bytes, fault: str) -> None:
        if fault == "wrong" and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault in ("reset", "truncate"):
            content = content[: len(content) // 2]
        pieces = np.array_split(np.frombuffer(content, np.uint8), 4 if fault == "slow" else 1)
        for piece in pieces:
            self.wfile.write(piece.tobytes())
            time.sleep(_SLOW if fault == "slow" else 0)
        if fault == "reset":  # a closing that throws away what is still to be sent
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = self.close_connection or fault in ("reset", "truncate")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # whoever asked has gone


@contextmanager
def serving(folder: Path, fails: Fails) -> Iterator[str]:
    """The URL of a server of a folder; fails(name) says what befalls a request."""
    attributes = {"folder": folder, "fails": staticmethod(fails)}
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), attributes))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/set"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def at_random(seed: int, fault: str, always: bool) -> tuple[Fails, Counter[str]]:
    """A share of the requests fail, or (`always`) all for one file; and how many have failed."""
    rng, failed = np.random.default_rng(seed), Counter[str]()
    lock = threading.Lock()
    unlucky = str(rng.choice(["train-000000.tar", "train-000001.tar", "train-000000.json"]))

    def fails(name: str) -> str:
        with lock:
            fail = name == unlucky if always else rng.random() < _SHARE
            failed[name] += bool(fail)
            return fault if fail else ""

    return fails, failed


def by_http(lab: Lab, seed: int, fault: str) -> Outcome:
    """Every fourth try fails for ever on one file; the others on a share of all requests."""
    fails, failed = at_random(seed, fault, always=seed % 4 == 3)
    copies = lab.new("copies")
    with serving(lab.shards, fails) as url:
        outcome = _fetched(lab, seed, url, copies, {})
    if outcome.verdict == "survived" and not failed.total():
        return Outcome("lost", "the benchmark: no request failed")
    return outcome


def _fetched(lab: Lab, seed: int, url: str, copies: Path, environment: dict[str, str]) -> Outcome:
    """Train from a URL (seeds 2, 5, 8 ...), or `verify` it; copies that are there must be whole."""
    local, program = ["--data.local", str(copies)], lab.programs["trainer.run"]
    out = lab.new("out")
    if seed % 3 == 2:
        job = lab.training(out, url)
        job = replace(job, argv=[*job.argv, *local])
    else:
        job = Job("data_tools", ["verify", url, "--local", str(copies), "--workers", "1"])
    hurry: dict[str, dict[str, Any]] = {"no_pauses": {}}
    done = lab.run(replace(job, disturbed=hurry, environment=environment))
    wanted = files(lab.shards)
    for path in copies.rglob("*.tar"):
        if not path.name.startswith(".") and path.read_bytes() != wanted[path.name]:
            return Outcome("lost", f"half a copy: {path.name}")
    if done.status != 0:
        return lab.refused(done)
    if job.program == "run" and (wrong := lab.same(program, out)):
        return Outcome("lost", wrong)
    # `verify` reads all splits, a training two
    splits = ("train-", "val-") if job.program == "run" else ("",)
    asked = {name for name in wanted if name.endswith(".tar") and name.startswith(splits)}
    if missing := asked - {path.name for path in copies.rglob("*.tar")}:
        return Outcome("lost", f"not fetched: {', '.join(sorted(missing))}")
    return Outcome("survived")


@contextmanager
def throttled_bucket(fails: Callable[[], bool]) -> Iterator[dict[str, str]]:
    """A server of Amazon's protocol that answers "SlowDown" where `fails()`; its environment."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    inner = DomainDispatcherApplication(create_backend_app)
    words = (
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    )

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if fails():
            # an answer to HEAD has no body: a client would take it for the next answer
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else words
            length = str(len(body))
            start(
                "503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", length)]
            )
            return [body]
        return inner(environ, start)

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield {**_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    finally:
        server.shutdown()
        thread.join()


def throttled(lab: Lab, seed: int) -> Outcome:
    """Pack into a bucket and read it back, while a share of the requests is told to slow down."""
    import boto3

    rng, lock, on = np.random.default_rng(seed), threading.Lock(), threading.Event()
    failed = Counter[str]()

    def fails() -> bool:
        with lock:
            fail = on.is_set() and (seed % 4 == 3 or rng.random() < _SHARE)
            failed["all"] += bool(fail)
            return fail

    with throttled_bucket(fails) as environment:
        keys = {"aws_access_key_id": "who", "aws_secret_access_key": "quietly"}
        url = environment["AWS_ENDPOINT_URL"]
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        name = f"shards-{seed}"
        client.create_bucket(Bucket=name)
        packed = lab.programs["pack"].job(lab.new("packed")).argv
        argv = [packed[0], packed[1], f"s3://{name}/set", *packed[3:], "--local", packed[2]]
        job = Job("data_tools", argv, disturbed={"no_pauses": {}}, environment=environment)
        on.set()
        done = lab.run(job)
        refusal = None if done.status == 0 else lab.refused(done)
        if refusal is not None and refusal.verdict == "lost":
            return refusal
        if refusal is not None:
            on.clear()
            if (done := lab.run(job)).status != 0:
                return replace(lab.refused(done), verdict="lost")
        on.clear()
        for file, content in files(lab.shards).items():
            there = client.get_object(Bucket=name, Key=f"set/{file}")["Body"].read()
            if there != content:
                return Outcome("lost", f"{file} in the bucket is another")
        on.set()
        found = _fetched(lab, seed, f"s3://{name}/set", lab.new("copies"), environment)
    if not failed.total():
        return Outcome("lost", "the benchmark: no request failed")
    return refusal or found if found.verdict != "lost" else found


def kinds() -> list[Kind]:
    """One for each fault of a server."""
    faults = {
        "500": "HTTP 500", "429": "HTTP 429", "reset": "HTTP: connections reset in the body",
        "slow": "HTTP: slow bodies", "truncate": "HTTP: bodies cut short",
        "wrong": "HTTP: a wrong byte in the body",
    }  # fmt: skip
    found = [
        Kind(f"http {name}", what, 6, partial(by_http, fault=name), 1 if name == "500" else 0)
        for name, what in faults.items()
    ]
    return [*found, Kind("s3", "S3: throttled (moto, SlowDown)", 4, throttled)]
