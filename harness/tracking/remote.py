"""Somebody else's MLflow server, read within bounds: of time, size and pages. Imports no mlflow.

Everything goes through the server's own HTTP interface, files as well: an artifact address that it
names (`file:`, a plain path, another host) is never followed, nor is a redirect. Each request and
the whole reading have a deadline that no trickle of bytes prolongs.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

from pydantic import BaseModel, ValidationError

from harness.text.archive import Bad, parsed
from harness.text.identifiers import ForeignError, Name
from harness.text.printable import printable
from harness.text.secrets import without_credentials
from harness.tracking.address import VARIABLE

REQUEST_SECONDS, FILE_SECONDS, ALL_SECONDS = 20.0, 60.0, 180.0
MOST_ANSWER_BYTES = 32 * 2**20
MOST_FILE_BYTES, MOST_BYTES = 256 * 2**20, 2**30
MOST_PAGES = 100
PAGE = 1000
_CHUNK = 2**16
Made = TypeVar("Made")


class Experiment(BaseModel):
    """An experiment, as far as it is read."""

    experiment_id: Name
    name: str = ""


class _Info(BaseModel):
    run_id: Name


class _Tag(BaseModel):
    key: str = ""
    value: str = ""


class _Data(BaseModel):
    tags: list[_Tag] = []


class Run(BaseModel):
    """A run, as far as it is read."""

    info: _Info
    data: _Data = _Data()

    def tag(self, name: str) -> str:
        """A tag's value; empty where there is none."""
        return next((tag.value for tag in self.data.tags if tag.key == name), "")


class Listed(BaseModel):
    """A file of a run."""

    path: str
    is_dir: bool = False
    file_size: int = 0


class _Page(BaseModel):
    experiments: list[Experiment] = []
    runs: list[Run] = []
    files: list[Listed] = []
    next_page_token: str = ""


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: where they lead is not what the user named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Remote:
    """One server, for as long as one command reads it."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        self.shown = without_credentials(address)
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self._headers = {"Content-Type": "application/json", **authorization(address)}
        self._opener = opener()
        self._end = time.monotonic() + ALL_SECONDS
        self._left = MOST_BYTES

    def version(self) -> tuple[str, str | None]:
        """What the server says it is, and the date it has."""

        def take(answer: Any) -> tuple[str, str | None]:
            pieces = self._pieces(answer, MOST_ANSWER_BYTES, "its answer", REQUEST_SECONDS)
            return b"".join(pieces)[:100].decode(errors="replace"), answer.headers.get("Date")

        text, date = self._asked("version", None, take, REQUEST_SECONDS)
        return printable(text.strip()), date

    def experiments(self) -> Iterator[Experiment]:
        """All that are not deleted."""
        for page in self._pages("experiments/search", {}):
            yield from page.experiments

    def runs(self, experiment: str, condition: str, *, deleted: bool = False) -> Iterator[Run]:
        """The runs of an experiment that a filter takes; with those that are deleted, if asked."""
        query: dict[str, Any] = {"experiment_ids": [experiment], "filter": condition}
        query |= {"run_view_type": "ALL"} if deleted else {}
        for page in self._pages("runs/search", query):
            yield from page.runs

    def files(self, run: str, folder: str) -> list[Listed]:
        """What a folder of a run's files holds."""
        query = urlencode({"run_id": run, "path": folder})
        return self._page(f"api/2.0/mlflow/artifacts/list?{query}", None).files

    def download(self, run: str, file: Listed, target: Path) -> None:
        """Copy a file of a run; the server sends it, from wherever it keeps it."""
        self._refuse_size(file.file_size, file.path)
        query = urlencode({"run_id": run, "path": file.path})

        def copy(answer: Any) -> None:
            with target.open("xb") as out:
                for piece in self._pieces(answer, MOST_FILE_BYTES, file.path, FILE_SECONDS):
                    out.write(piece)

        self._asked(f"get-artifact?{query}", None, copy, FILE_SECONDS)

    def _pages(self, call: str, query: Mapping[str, Any]) -> Iterator[_Page]:
        token = ""
        for _ in range(MOST_PAGES):
            more = {"page_token": token} if token else {}
            page = self._page(
                f"api/2.0/mlflow/{call}",
                json.dumps({"max_results": PAGE, **query, **more}).encode(),
            )
            yield page
            if not page.next_page_token:
                return
            if page.next_page_token == token:
                self._refuse(f"its pages of {call} repeat without end")
            token = page.next_page_token
        self._refuse(f"it has more than {MOST_PAGES} pages of {call}")

    def _page(self, path: str, body: bytes | None) -> _Page:
        def whole(answer: Any) -> bytes:
            pieces = self._pieces(answer, MOST_ANSWER_BYTES, "its answer", REQUEST_SECONDS)
            return b"".join(pieces)

        content = self._asked(path, body, whole, REQUEST_SECONDS)
        try:
            return _Page.model_validate(parsed(content, "its answer"))
        except Bad as error:
            self._refuse(f"it does not answer as MLflow does: {error}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            self._refuse(f"its {place} {ascii(first['input'])[:80]} is refused: {first['msg']}")

    def _asked(
        self, path: str, body: bytes | None, take: Callable[[Any], Made], seconds: float
    ) -> Made:
        """What `take` makes of the answer to a request, before a deadline."""
        seconds = min(seconds, self._end - time.monotonic())
        if seconds <= 0:
            self._refuse(f"reading it takes more than {ALL_SECONDS:.0f} s in all")
        request = urllib.request.Request(f"{self._base}/{path}", data=body, headers=self._headers)
        answers: queue.SimpleQueue[tuple[Made | None, BaseException | None]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                with self._opener.open(request, timeout=seconds) as answer:
                    answers.put((take(answer), None))
            # Whatever it is: who waits would else learn of it at the deadline.
            except BaseException as error:
                answers.put((None, error))

        # Headers that trickle hold up any reader: this one is left behind at the deadline.
        threading.Thread(target=ask, name="stillhouse-remote", daemon=True).start()
        try:
            result, error = answers.get(timeout=seconds)
        except queue.Empty:
            self._refuse(f"it did not finish one answer within {seconds:.0f} s")
        if error is not None:
            self._failed(error, seconds)
        return result  # type: ignore[return-value]

    def _pieces(self, answer: Any, most: int, what: str, seconds: float) -> Iterator[bytes]:
        """A body, piece by piece as it comes, at most so many bytes and seconds."""
        end = min(time.monotonic() + seconds, self._end)
        declared = answer.headers.get("Content-Length") or "0"
        self._refuse_size(int(declared) if declared.isdecimal() else 0, what, most)
        count = 0
        # `read1` gives what has come; `read` would wait for all of a piece, deadline or not.
        while piece := answer.read1(_CHUNK):
            count += len(piece)
            self._left -= len(piece)
            self._refuse_size(count, what, most)
            if time.monotonic() > end:
                self._refuse(f"it did not finish {what} within {seconds:.0f} s")
            yield piece

    def _refuse_size(self, size: int, what: str, most: int = MOST_FILE_BYTES) -> None:
        if size > most:
            self._refuse(f"{what} is larger than {most // 2**20} MiB")
        if self._left < 0:
            self._refuse(f"its files are larger than {MOST_BYTES // 2**20} MiB in all")

    def _failed(self, error: BaseException, seconds: float) -> NoReturn:
        if isinstance(error, ForeignError):
            raise error
        if isinstance(error, urllib.error.HTTPError):
            if 300 <= error.code < 400:
                where = without_credentials(error.headers.get("Location", "nowhere"))
                self._refuse(f"it redirects to {where}, which is not followed")
            self._refuse(f"it answers {error.code} {error.reason}")
        if isinstance(error, TimeoutError):
            self._refuse(f"it did not answer within {seconds:.0f} s")
        reason = getattr(error, "reason", None) or error
        self._refuse(f"it does not answer: {type(reason).__name__}: {reason}")

    def _refuse(self, why: str) -> NoReturn:
        reason = printable(without_credentials(why))[:400]
        raise ForeignError(f"MLflow at {self.shown} cannot be read: {reason}")


def opener() -> urllib.request.OpenerDirector:
    """What opens an address and follows no redirect, trusting whom MLflow's client is told to."""
    return urllib.request.build_opener(_StayHere, urllib.request.HTTPSHandler(context=_trusted()))


def authorization(address: str) -> dict[str, str]:
    """As MLflow's own client; what is set for one server is not sent to another."""
    parts = urlsplit(address)
    if parts.username is not None:
        name, word = unquote(parts.username), unquote(parts.password or "")
        return _basic(name, word)
    usual = urlsplit(os.environ.get(VARIABLE, ""))
    if usual.hostname and (usual.hostname, usual.port) != (parts.hostname, parts.port):
        return {}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME", ""):
        return _basic(name, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    return {}


def _basic(name: str, word: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()}


def _trusted() -> ssl.SSLContext:
    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=own if own and Path(own).is_file() else None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
