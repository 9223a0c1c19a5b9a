"""Real servers for the tests: PostgreSQL, an S3-compatible store, MLflow on both, a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.tracking import server

HOST = "127.0.0.1"
START_SECONDS = 120.0
BUCKET = "stillhouse"
STARTS = 3
KEYS = {"AWS_ACCESS_KEY_ID": "stillhouse", "AWS_SECRET_ACCESS_KEY": "stillhouse"}
KEYS |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}
"""A token file in the home folder would switch authentication on."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < end, f"not ready in time; see {log}"
        time.sleep(0.1)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A new cluster with a database `mlflow`; yields its address. Skips without PostgreSQL."""
    found = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin"))) or [""]
    initdb = shutil.which("initdb", path=f"{found[-1]}:{os.environ['PATH']}")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="psycopg2 is missing: pip install psycopg2-binary")
    owner = None
    if os.geteuid() == 0:  # PostgreSQL refuses root
        names = {entry.pw_name for entry in pwd.getpwall()}
        owner = next((n for n in ("postgres", "nobody") if n in names), None)
        if owner is None:
            pytest.skip("PostgreSQL refuses to run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-postgres-"))
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        make = [initdb, "-D", str(folder / "data"), "-A", "trust", "-U", "stillhouse", "-N"]
        subprocess.run(make, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL)
        port = free_port()
        command = [str(Path(initdb).with_name("postgres")), "-D", str(folder / "data")]
        command += ["-h", HOST, "-p", str(port), "-c", "unix_socket_directories=", "-F"]
        log = folder / "log"
        with log.open("wb") as output:
            running = subprocess.Popen(
                command, user=owner, cwd=folder, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            address = f"postgresql://stillhouse@{HOST}:{port}"
            wait_until(lambda: _answers(port), running, log)
            _create_database(address)
            yield f"{address.replace('postgresql', 'postgresql+psycopg2')}/mlflow"
        finally:
            running.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
            running.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create_database(address: str) -> None:
    import psycopg2

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(f"{address}/postgres")
            break
        except psycopg2.OperationalError:  # it listens before it lets anybody in
            assert time.monotonic() < end
            time.sleep(0.1)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE mlflow")


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """An S3-compatible store with one bucket; yields its endpoint. Skips where moto is missing."""
    pytest.importorskip("moto", reason="moto is missing: pip install moto")
    boto3 = pytest.importorskip("boto3", reason="boto3 is missing: pip install boto3")
    pytest.importorskip("flask_cors", reason="flask-cors is missing; MLflow brings it")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="stillhouse-s3-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            running = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: _answers(port), running, log)
            endpoint = f"http://{HOST}:{port}"
            client(boto3, endpoint).create_bucket(Bucket=BUCKET)
            yield endpoint
        finally:
            running.terminate()
            running.wait(30)


def client(boto3: object, endpoint: str) -> object:
    """A client of the store."""
    return boto3.client(  # type: ignore[attr-defined]
        "s3",
        endpoint_url=endpoint,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


class Tracking:
    """`mlflow server` on PostgreSQL and S3 that can be stopped and started again."""

    def __init__(self, database: str, endpoint: str, folder: Path) -> None:
        port = free_port()
        self.address = f"http://{HOST}:{port}"
        self.endpoint = endpoint
        self.log = folder / "mlflow.log"
        variables = KEYS | {"MLFLOW_S3_ENDPOINT_URL": endpoint}
        self.command = ["env", *(f"{name}={value}" for name, value in variables.items())]
        self.command += [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        self.command += ["--host", HOST, "--port", str(port), "--backend-store-uri", database]
        self.command += ["--artifacts-destination", f"s3://{BUCKET}/artifacts"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = server.start(self.command, self.log)
        server.wait_for(self.process, self.address, self.log)

    def stop(self) -> None:
        if self.process is not None:
            server.stop(self.process)
            self.process = None


class RayCluster:
    """Nodes started with `ray start`, each with files and ports of its own, killed by pid."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="sh-ray-", dir="/tmp"))  # sockets: short paths
        self.nodes: list[subprocess.Popen[bytes]] = []

    def add(self, cpus: int) -> subprocess.Popen[bytes]:
        """Start a node, the head first; again where Ray's own 30 s were too few on a busy machine.

        Skips where it does not come up at all.
        """
        for _ in range(STARTS):
            log = self.folder.with_name(f"{self.folder.name}-{len(self.nodes)}.log")
            node = self._start(cpus, log)
            with contextlib.suppress(AssertionError):
                wait_until(lambda log=log: b"Ray runtime started" in log.read_bytes(), node, log)
                self.nodes.append(node)
                return node
            _end(node)
        pytest.skip(f"Ray does not start here: {log.read_text()[-300:]}")

    def _start(self, cpus: int, log: Path) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block"]
        command += [f"--num-cpus={cpus}", f"--object-store-memory={80 * 2**20}"]
        command += [f"--node-ip-address={HOST}", "--dashboard-agent-listen-port=0"]
        if self.nodes:
            command += [f"--address={self.address}"]
        else:
            command += ["--head", f"--port={self.port}", f"--temp-dir={self.folder}"]
            command += ["--disable-usage-stats", "--include-dashboard=false"]
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), **NO_TOKEN},
            )

    def end(self) -> None:
        for node in reversed(self.nodes):
            _end(node)
        shutil.rmtree(self.folder, ignore_errors=True)
        for log in self.folder.parent.glob(f"{self.folder.name}-*.log"):
            log.unlink()


def _end(node: subprocess.Popen[bytes]) -> None:
    """End a node with all its processes, by force after 20 s."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        node.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()
