"""A cluster whose nodes do not see the workspace is refused at once, with the node's name."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import WorkspaceError
from harness.executors.shared_storage import Ask, Reader, check_shared, read_nonce
from tests.support.executor_contract import Recorder, make_job, never

ELSEWHERE = """\
import os, sys
os.chroot(sys.argv[1])
from pathlib import Path
try:
    print(Path(sys.argv[2]).read_text())
except OSError as error:
    print(error.strerror)
"""


def nodes(**readers: Callable[[str], str]) -> Ask:
    def ask(reader: Reader, path: str) -> dict[str, str]:
        assert reader is read_nonce
        return {name: read(path) for name, read in readers.items()}

    return ask


def other_root(root: Path) -> Callable[[str], str]:
    """A process with another file system below /, as a node without the shared disk has."""

    def read(path: str) -> str:
        command = [sys.executable, "-c", ELSEWHERE, str(root), path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return read


def test_nodes_that_see_the_workspace_pass_and_nothing_is_left(tmp_path: Path) -> None:
    check_shared(tmp_path / "w", nodes(one=read_nonce, two=read_nonce))
    assert list((tmp_path / "w").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a process in another root needs root")
def test_a_node_that_sees_another_disk_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(WorkspaceError, match="1 of 2 nodes cannot read") as error:
        check_shared(tmp_path / "w", nodes(head=read_nonce, far=other_root(other)))
    assert "far: No such file or directory" in str(error.value)
    assert "head:" not in str(error.value)
    assert "--workspace" in str(error.value)


def test_an_older_file_at_the_same_path_is_no_proof(tmp_path: Path) -> None:
    """A folder of the same name on a node's own disk, with a nonce of an earlier run."""
    with pytest.raises(WorkspaceError, match="far: 0123456789abcdef"):
        check_shared(tmp_path, nodes(far=lambda path: "0123456789abcdef"))


@pytest.fixture
def cluster() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    from harness.executors import ray_tune  # noqa: F401 - sets Ray's environment first

    made = Cluster()
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
    yield made.address
    made.shutdown()


@pytest.mark.slow
def test_a_cluster_of_two_nodes_is_asked_node_by_node(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.executors import ray_tune

    asked: list[dict[str, str]] = []

    def ask(reader: Reader, path: str) -> dict[str, str]:
        told = original(reader, path)
        asked.extend([told] if reader is read_nonce else [])
        return told

    original = ray_tune._ask_nodes
    monkeypatch.setattr(ray_tune, "_ask_nodes", ask)
    executor = ray_tune.RayExecutor(tmp_path / "scratch", address=cluster)
    job, told = make_job(tmp_path, "one"), Recorder()
    try:
        executor.run([job], told, never)
        assert told.ended(job).state == "done"
        (answers,) = asked
        assert len(answers) == 2
        assert len(set(answers.values())) == 1
        gone = original(read_nonce, str(tmp_path / "nowhere"))
        assert set(gone.values()) == {"No such file or directory"}
    finally:
        executor.close()
