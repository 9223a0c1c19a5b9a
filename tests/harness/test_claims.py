import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from harness.errors import ClaimedError
from harness.journal import claims
from harness.journal.shards import claim_run
from harness.journal.workspace import Workspace

HOLD = """
import sys, time
from pathlib import Path
from harness.journal import claims
from harness.journal.shards import claim_run
claim = claims.try_claim(Path(sys.argv[1]), what="other")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_holder(tmp_path: Path):
    """Another process that holds `tmp_path/x/claim.lock`."""
    path = tmp_path / "x" / "claim.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process, path
    process.kill()
    process.wait()


def test_claim_excludes_and_is_released(tmp_path: Path):
    path = tmp_path / "a" / "claim.lock"
    assert not claims.is_claimed(path)
    claim = claims.try_claim(path, what="mine")
    assert claim is not None
    assert claims.is_claimed(path)
    assert claims.is_claimed(path.parent)  # the trial's folder means its lock
    assert claims.try_claim(path) is None
    held = claims.holder(path)
    assert held is not None
    assert (held.pid, held.what) == (os.getpid(), "mine")
    claim.release()
    claim.release()
    assert not claims.is_claimed(path)
    assert claims.holder(path) is None
    again = claims.try_claim(path)
    assert again is not None
    again.release()


def test_claim_of_another_process_dies_with_it(other_holder):
    process, path = other_holder
    assert claims.is_claimed(path)
    assert claims.try_claim(path) is None
    found = claims.holder(path)
    assert found is not None
    assert found.pid == process.pid
    process.kill()  # SIGKILL: nothing is cleaned up, the kernel lets the lock go
    process.wait()
    assert not claims.is_claimed(path)
    assert claims.holder(path) is None, "the holder's file is left, but nobody holds the lock"
    with claims.try_claim(path) as claim:  # type: ignore[union-attr]
        assert claim.path == path


def test_study_claim_says_who(tmp_path: Path):
    workspace = Workspace(tmp_path)
    with claim_run(workspace, "demo", None), pytest.raises(ClaimedError) as caught:
        claim_run(workspace, "demo", None)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert time.strftime("%Y-%m-%d") in str(caught.value)
    assert caught.value.exit_code == 2


def test_asking_never_writes(tmp_path: Path):
    assert not claims.is_claimed(tmp_path / "no" / "claim.lock")
    assert claims.holder(tmp_path / "no" / "claim.lock") is None
    assert list(tmp_path.iterdir()) == []


def test_unreadable_holder_is_unknown(tmp_path: Path):
    path = tmp_path / "claim.lock"
    with claims.try_claim(path):  # type: ignore[union-attr]
        path.with_suffix(".json").write_text("{torn")
        assert claims.holder(path) is None
        assert claims.is_claimed(path)
        path.with_suffix(".json").write_text(json.dumps({"host": "h"}))
        assert "holder unknown" in str(claims.claimed_error(path, "demo"))
