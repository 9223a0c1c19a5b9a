"""A server that speaks MLflow's language and means harm, on this machine's loopback."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Files = dict[str, bytes]


class Hostile(ThreadingHTTPServer):
    """Answers as told: `run_id`, `files` by listed path, and hooks that take over a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.run_id = "0" * 32
        self.files: Files = {}
        self.artifact_uri = "file:///nowhere"
        self.asked: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.hooks: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.pages: Callable[[dict[str, Any]], str] = lambda body: ""
        self.sizes: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hostile

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(json.loads(body or b"{}"))

    def _answer(self, body: dict[str, Any]) -> None:
        here, parts = self.server, urlsplit(self.path)
        here.asked.append(self.path)
        here.headers_seen.append(dict(self.headers))
        for name, hook in here.hooks.items():
            if name in parts.path:
                hook(self)
                return
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if parts.path.endswith("experiments/search"):
            found: Any = {"experiments": [{"experiment_id": "1", "name": "x"}]}
            found["next_page_token"] = here.pages(body)
        elif parts.path.endswith("runs/search"):
            tags = [{"key": "stillhouse.study", "value": "again"}]
            tags.append({"key": "stillhouse.kind", "value": "study"})
            info = {"run_id": here.run_id, "artifact_uri": here.artifact_uri}
            found = {"runs": [{"info": info, "data": {"tags": tags}}]}
        elif parts.path.endswith("runs/get"):
            info = {"run_id": here.run_id, "artifact_uri": here.artifact_uri}
            found = {"run": {"info": info, "data": {}}}
        elif parts.path.endswith("artifacts/list"):
            listed = [
                {"path": n, "is_dir": False, "file_size": here.sizes.get(n, len(c))}
                for n, c in here.files.items()
            ]
            found = {"root_uri": here.artifact_uri, "files": listed}
        elif parts.path.endswith("get-artifact"):
            self.send(here.files.get(query.get("path", ""), b""))
            return
        else:
            self.send_error(404)
            return
        self.send(json.dumps(found).encode())

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, without end: no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)


def trickling_head(handler: BaseHTTPRequestHandler) -> None:
    """The same before the body begins."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)


def flood(handler: BaseHTTPRequestHandler) -> None:
    """Gigabytes that no header announced."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 2**20)


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@contextlib.contextmanager
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
