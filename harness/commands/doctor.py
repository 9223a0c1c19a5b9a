"""`stillhouse doctor`: checks what a run will need, and says how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AnyWorkspace, AsJson

if TYPE_CHECKING:
    from harness.doctor.finding import Finding
    from harness.journal.workspace import Workspace
    from harness.study.model import Study


def command(
    study: Annotated[
        Path | None, typer.Argument(help="Study file: its subject and resources count.")
    ] = None,
    workspace: AnyWorkspace = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A Ray cluster that `run` would join.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow address that `run` would be given.")
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Leave Ray out, as `run --inline` does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check Python, packages and what hides them, torch, GPUs, workspace, Ray, MLflow.

    Example: stillhouse doctor studies/quickstart/study.yaml
    """
    from harness.journal.workspace import Workspace
    from harness.study.load import load_study

    loaded = load_study(study) if study is not None else None
    place = Workspace.find(loaded.file if loaded else None, workspace)
    findings = []
    for finding in _findings(loaded, place, ray_address, mlflow, inline):
        findings.append(finding)
        if not as_json:  # each as soon as it is known: torch and Ray take a while
            typer.echo(f"{finding.state:<5} {finding.check:<13} {finding.found}")
            if finding.fix:
                typer.echo(f"      {'':<13} -> {finding.fix}")
    failed = sum(f.state == "fail" for f in findings)
    if as_json:
        content = {"ok": not failed, "findings": [f.model_dump() for f in findings]}
        typer.echo(json.dumps(content))
    else:
        typer.echo(f"{failed} of {len(findings)} checks failed" if failed else "ready to run")
    raise typer.Exit(1 if failed else 0)


def _findings(
    study: Study | None,
    workspace: Workspace,
    ray_address: str | None,
    mlflow: str | None,
    inline: bool,
) -> Iterator[Finding]:
    from harness.doctor import machine, services, shadows, storage
    from harness.journal.workspace import project_of
    from harness.subjects.settings import MEASURED_BY, imported_by
    from harness.tracking.address import sqlite_uri

    # our own subject needs the packages of the extra `distill`, also where it measures only
    distill = study is None or imported_by(study.subject) == MEASURED_BY
    gpus = study.resources.gpus if study else 0.0
    cpus = study.resources.cpus if study else 1.0
    project = project_of(study.file) if study else None
    yield machine.python()
    yield machine.packages(distill)
    yield machine.pins()
    yield shadows.installation(project)
    yield from shadows.shadows(project)
    if distill:
        yield machine.torch()
    yield machine.gpus(gpus, elsewhere=ray_address is not None)
    yield machine.cores(cpus, elsewhere=ray_address is not None)
    usable = storage.writable(workspace)
    yield usable
    # Asked before it is told: whether MLflow's SQLite file would lie in the workspace decides what
    # is said of the file system.
    recorded = services.mlflow(workspace, mlflow)
    if usable.state == "ok":
        local = any(sqlite_uri(workspace.root) in f.found for f in recorded)
        yield storage.disk(workspace.root)
        yield storage.filesystem(workspace.root, sqlite=local)
        yield storage.locking(workspace.root)
        yield storage.clock(workspace.root)
    if not inline:
        yield services.ray(ray_address, cpus, gpus)
    yield from recorded
