"""A proxy before an HTTP server that delays, answers with errors, drops, or delivers too late."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple

HOP = ("connection", "transfer-encoding", "content-length", "host", "keep-alive")


class Fault(NamedTuple):
    """What happens to one request."""

    kind: Literal["pass", "slow", "status", "drop", "drop-after", "late"] = "pass"
    """drop: never delivered; drop-after: delivered, but its answer is lost; late: dropped, and
    delivered `seconds` afterwards."""
    seconds: float = 0.0
    status: int = 500
    body: bytes = b"<html>the gateway is confused</html>"


PASS = Fault()
Choose = Callable[[int, str, str], Fault]
"""`choose(number, method, path)`: the fault of the request of this number, from 0."""


class FaultProxy:
    """Forwards to `127.0.0.1:port`; what it did is counted by kind in `done`."""

    def __init__(self, port: int, choose: Choose) -> None:
        self.done: Counter[str] = Counter()
        self._port = port
        self._choose = choose
        self._number = 0
        self._lock = threading.Lock()
        self._late: list[threading.Thread] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

            def log_message(self, *given: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def settle(self) -> None:
        """Wait for what is delivered late."""
        for thread in self._late:
            thread.join()

    def close(self) -> None:
        """Stop, once everything late was delivered."""
        self.settle()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        with self._lock:
            fault = self._choose(self._number, request.command, request.path)
            self._number += 1
            self.done[fault.kind] += 1
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        elif fault.kind == "status":
            _answer(request, fault.status, [("Content-Type", "text/html")], fault.body)
            return
        elif fault.kind == "drop":
            request.close_connection = True
            return
        elif fault.kind == "late":
            request.close_connection = True
            sent = (request.command, request.path, body, _headers(request))
            thread = threading.Thread(target=self._deliver_late, args=(fault.seconds, *sent))
            self._late.append(thread)
            thread.start()
            return
        status, headers, content = self._forward(
            request.command, request.path, body, _headers(request)
        )
        if fault.kind == "drop-after":
            request.close_connection = True
            return
        _answer(request, status, headers, content)

    def _deliver_late(
        self, seconds: float, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> None:
        time.sleep(seconds)
        self._forward(method, path, body, headers)

    def _forward(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


def _headers(request: BaseHTTPRequestHandler) -> dict[str, str]:
    return {k: v for k, v in request.headers.items() if k.lower() not in HOP}


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    request.send_response(status)
    for name, value in headers:
        if name.lower() not in HOP:
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
