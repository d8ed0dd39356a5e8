"""Web servers on loopback that behave, or misbehave as real ones do."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

# What befalls a request: given method, file name and how often it was asked for before.
Fault = Callable[[str, str, int], str]


def no_fault(method: str, name: str, before: int) -> str:
    """All is well."""
    return ""


class WebServer:
    """Serves a folder.

    Attributes:
        ranges: whether parts of files can be asked for.
        lengths: whether answers say how long they are; else they end with the connection.
        fault: of each request: "", an HTTP status, "reset" or "truncate" (after half of the body).
        asked: requests by method and file name.
        bytes: of all bodies sent.
    """

    def __init__(self, folder: Path, ranges: bool = True, fault: Fault = no_fault) -> None:
        self.folder, self.ranges, self.fault = folder, ranges, fault
        self.lengths = True
        self.asked: Counter[tuple[str, str]] = Counter()
        self.bytes = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                web.answer(self)

            do_GET = do_HEAD

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # whoever asked has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send a file, a part of one, or what is asked for instead."""
        name = urlsplit(request.path).path.rpartition("/")[2]
        before = self.asked[request.command, name]
        self.asked[request.command, name] += 1
        fault = self.fault(request.command, name, before)
        path = self.folder / name
        if fault.isdigit() or not path.is_file():
            request.send_response(int(fault) if fault.isdigit() else 404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        part = asked if self.ranges else None
        begin = int(part[1]) if part else 0
        end = min(len(content), int(part[2]) + 1 if part and part[2] else len(content))
        request.send_response(206 if part else 200)
        if self.lengths:
            request.send_header("Content-Length", str(end - begin))
        else:
            request.send_header("Connection", "close")
        if self.ranges:
            request.send_header("Accept-Ranges", "bytes")
        if part:
            request.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        request.end_headers()
        if request.command == "HEAD":
            return
        if fault:
            end = begin + (end - begin) // 2
        request.wfile.write(content[begin:end])
        self.bytes += end - begin
        if fault == "reset":  # a closing that throws away what is still to be sent
            linger = struct.pack("ii", 1, 0)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if fault:
            request.close_connection = True


@contextmanager
def s3_serving() -> Iterator[dict[str, str]]:
    """A server of Amazon's protocol; yields what the environment has to say to be let in."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "AWS_ACCESS_KEY_ID": "who",
            "AWS_SECRET_ACCESS_KEY": "quietly",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        server.stop()


@contextmanager
def serving(folder: Path, ranges: bool = True, fault: Fault = no_fault) -> Iterator[WebServer]:
    """A `WebServer` that runs meanwhile."""
    web = WebServer(folder, ranges, fault)
    web._thread.start()
    try:
        yield web
    finally:
        web._server.shutdown()
        web._server.server_close()
        web._thread.join()
