"""Whether every node of a cluster sees the workspace: each reads a nonce that the driver left."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import WorkspaceError

NONCE_FILE = "nonce"
Reader = Callable[[str], str]
Ask = Callable[[Reader, str], Mapping[str, str]]
"""`ask(reader, path)` calls `reader(path)` on each node: node's name -> what it returned, or why
it could not."""


def read_nonce(path: str) -> str:
    """Runs on a node: what it finds at `path`, or what kept it from reading."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        return error.strerror or str(error)


def check_shared(folder: Path, ask: Ask) -> None:
    """Leave a nonce in a folder of the workspace and have every node read it.

    Raises:
        WorkspaceError: naming the nodes that read something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NONCE_FILE
    nonce = secrets.token_hex(8)
    file.write_text(nonce, encoding="utf-8")
    answers = ask(read_nonce, str(file))
    file.unlink()
    blind = {name: answer for name, answer in answers.items() if answer != nonce}
    if blind:
        shown = "; ".join(f"{name}: {answer[:200] or 'empty'}" for name, answer in blind.items())
        raise WorkspaceError(
            f"{len(blind)} of {len(answers)} nodes cannot read the workspace at {folder}: {shown}. "
            "Every node must see it under the same path: give a folder on shared storage with "
            "--workspace, or take the node out of the cluster. Nothing was started."
        )
