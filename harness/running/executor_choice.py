"""The executor that a run gets: by name, made when it is needed, or one that was made already."""

from __future__ import annotations

import secrets
from typing import Literal

from harness.executors.base import Executor
from harness.journal import temporary_folders
from harness.journal.workspace import Workspace
from harness.study.model import Resources

ExecutorName = Literal["ray", "inline"]


def executor_named(
    wanted: ExecutorName | Executor,
    resources: Resources,
    parallel: int | None,
    address: str | None,
    workspace: Workspace,
) -> Executor:
    """The executor of that name, or the one given.

    Args:
        wanted: `ray`, `inline`, or an executor.
        resources: of one trial.
        parallel: trials at once; default what the machine or cluster holds.
        address: an existing Ray cluster to join.
        workspace: where Ray may keep files.
    """
    if wanted == "inline":
        from harness.executors.inline import InlineExecutor

        return InlineExecutor(resources.cpus)
    if wanted == "ray":
        from harness.executors.ray_tune import RayExecutor

        scratch = (
            workspace.cache / "ray" / (temporary_folders.folder_prefix() + secrets.token_hex(4))
        )
        return RayExecutor(scratch, parallel=parallel, address=address)
    return wanted


def trials_at_once(executor: Executor, resources: Resources, parallel: int | None) -> int | None:
    """Trials at once on the cluster that the executor joins; `parallel` where it cannot tell."""
    asked = getattr(executor, "room", None)
    if asked is None:
        return parallel
    return int(asked(resources.cpus, resources.gpus))
