"""Whom Ray's processes contact: nobody but this machine, watched by an audit hook in each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

HOOK = """
import json, sys
def _seen(event, given, here=[False]):
    if event not in ("socket.connect", "socket.getaddrinfo") or here[0]:
        return
    here[0] = True  # writing it down must not be written down
    try:
        with open({file!r}, "a") as out:
            told = given[1] if event == "socket.connect" else given[0]
            out.write(json.dumps([event, repr(told), sys.argv[:1]]) + "\\n")
    finally:
        here[0] = False
sys.addaudithook(_seen)
"""
STUDY = """
name: contacts
question: Whom does it ask?
subject: harness.testing.stub
recipe: {cycles: 2}
factors:
  part.x: [0.0, 1.0]
replicates: 1
protocol: v1
primary: score
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """The environment of processes whose contacts are written down."""
    (tmp_path / "hook").mkdir()
    code = HOOK.format(file=str(tmp_path / "contacts.jsonl"))
    (tmp_path / "hook" / "sitecustomize.py").write_text(code)
    (tmp_path / "home").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    kept["RAY_AUTH_MODE"] = "disabled"
    return {**kept, "PYTHONPATH": str(tmp_path / "hook"), "HOME": str(tmp_path / "home")}


def strangers(folder: Path) -> list[str]:
    """Contacts with anybody but this machine, by name or address."""
    own = {a.address for listed in psutil.net_if_addrs().values() for a in listed}
    own |= {"127.0.0.1", "::1", "localhost", "0.0.0.0", "", *os.uname().nodename.split(".")[:1]}
    own |= {os.uname().nodename, "None"}
    lines = (folder / "contacts.jsonl").read_text().splitlines()
    seen = [json.loads(line) for line in lines]
    assert seen, "the hook is in no process"
    found = []
    for event, told, program in seen:
        host = told.strip("(").split(",")[0].strip("'\"b") if "," in told else told.strip("'\"b")
        if not host.startswith("/") and host not in own and not host.startswith("\\x00"):
            found.append(f"{event} {told} by {program}")
    return found


@pytest.mark.backend
def test_a_run_with_ray_contacts_nobody(tmp_path: Path, watched: dict[str, str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "study.yaml").write_text(STUDY.replace("cycles: 2", "cycles: 6, seconds: 6.0"))
    command = [sys.executable, "-m", "harness.cli", "run", str(tmp_path / "study.yaml")]
    done = subprocess.run(
        [*command, "--parallel", "1"], env=watched, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    programs = (tmp_path / "contacts.jsonl").read_text()
    assert "default_worker.py" in programs or "agent" in programs, "Ray's own processes are hooked"
    assert strangers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [True, False])
def test_what_the_readme_says_of_clusters_stops_both(
    stopped: bool, tmp_path: Path, watched: dict[str, str]
) -> None:
    """With the two settings nobody is asked; the report itself would go to a loopback address."""
    watched |= {"RAY_USAGE_STATS_ENABLED": "0"}
    watched |= {"RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/"}
    if stopped:
        (tmp_path / "home" / "ray_bootstrap_config.yaml").touch()
    ray = str(Path(sys.executable).with_name("ray"))
    words = ["start", "--head", "--block", "--port=0", "--num-cpus=1", "--include-dashboard=false"]
    words += ["--node-ip-address=127.0.0.1", "--object-store-memory=80000000"]
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen([ray, *words], env=watched, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        report = "('127.0.0.1', 9)"
        while time.monotonic() < end and started.poll() is None:
            told = tmp_path / "contacts.jsonl"
            if told.exists() and report in told.read_text():
                break
            time.sleep(0.2)
        assert report in told.read_text(), "what is reported went to the loopback address"
        found = strangers(tmp_path)
        assert all("169.254" in f or "metadata.google" in f for f in found), found
        assert bool(found) is not stopped
    finally:
        children = psutil.Process(started.pid).children(recursive=True)
        for process in [psutil.Process(started.pid), *children]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        started.wait()
