"""`stillhouse measure`: checkpoints from elsewhere, measured like our own; no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import Adopt, AsJsonAtEnd, Beside, Mlflow, NoMlflow, ProjectWorkspace

if TYPE_CHECKING:
    from harness.running.run_study import RunResult
    from harness.study.opened_study import OpenedStudy


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Folders of students: a diffusers pipeline, or a LoRA. PATH:arm=x,replicate=2 "
            "labels one; a .csv with a column `path` and one a label lists many."
        ),
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE for every path, e.g. arm=portrait; default its folder."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="How they are measured; default the measuring subject's.")
    ] = "",
    base: Annotated[str, typer.Option(help="Weights that a LoRA stands on, e.g. teacher.")] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE that the files do not say, e.g. rungs=4 or shift=3.0."),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="NAME=VALUE that every other value of this label is compared with.")
    ] = "",
    study: Annotated[
        Path | None,
        typer.Option(help="Study file to make or add to; default measured.yaml in the workspace."),
    ] = None,
    measured_by: Annotated[
        str,
        typer.Option(help="Subject that measures them; default the study file's, else ours."),
    ] = "",
    workspace: ProjectWorkspace = None,
    mlflow: Mlflow = None,
    no_mlflow: NoMlflow = False,
    beside: Beside = None,
    adopt: Adopt = False,
    as_json: AsJsonAtEnd = False,
) -> None:
    """Measure checkpoints from elsewhere: same items, references and report page; no training.

    They become the trials of a study of their own, so that `report`, `status` and `reproduce` know
    them. Paths of equal labels are replicates, numbered as they come. Called again, it adds.
    Checkpoints are compared in pairs, over the prompts that both were measured on.

    Example: stillhouse measure runs/*/student --label arm=portrait --protocol toyworld-v1
    """
    from harness.analysis.answered_study import AnsweredStudy
    from harness.commands.opening import tell_runner
    from harness.errors import HarnessError
    from harness.journal.workspace import Workspace
    from harness.report.checkpoint_pairs import pair_lines, pairs_as_json
    from harness.running import summary
    from harness.running.remeasure import supersede_outdated
    from harness.running.run_study import run
    from harness.study.from_checkpoints import foreign_checkpoints, labels_of
    from harness.study.load import open_study
    from harness.tracking.mlflow_place import MlflowPlace
    from harness.tracking.ownership import refuse_untracked

    place = Workspace.find(study, workspace)
    if no_mlflow:
        refuse_untracked(beside, adopt)
    tracked = None if no_mlflow else MlflowPlace(place, mlflow, beside=beside, adopt=adopt)
    settings = labels_of(setting or ()) | ({"base": base} if base else {})
    strangers = foreign_checkpoints(paths, labels_of(label or ()), settings)
    file = study or place.root / "measured.yaml"
    if file.suffix not in (".yaml", ".yml"):
        raise HarnessError(f"--study {file} must be a .yaml file")
    _write(file, strangers, protocol, measured_by, labels_of([baseline] if baseline else ()))
    opened = open_study(file, place)

    def echo(text: str) -> None:
        typer.echo(text, err=as_json)

    echo(f"study     {file}")
    tell_runner(file)
    supersede_outdated(opened, echo)
    result = run(
        opened,
        executor="inline",
        tracker=tracked,
        echo=echo,
        accept_stale=True,  # what is left of them cannot be measured again
    )
    measured = _measured(opened, result)
    for line in summary.lines(result, tracked=not no_mlflow, workspace=place, mlflow=mlflow):
        echo(line)
    echo("each checkpoint, with its interval over items:")
    for row in measured:
        echo(f"  {row['trial']}  {'  '.join(_told(row))}")
    answer = result.answer  # none where nothing was left to measure
    if answer is None and measured:
        answer = AnsweredStudy.of(opened).answer
    for line in pair_lines(answer) if answer else ():
        echo(line)
    if as_json:
        pairs = pairs_as_json(answer) if answer else []
        report = str(result.report) if result.report else None
        content = {"study": str(file), "exit_code": result.exit_code, "report": report}
        typer.echo(json.dumps(content | {"students": measured, "pairs": pairs}))
    raise typer.Exit(result.exit_code)


def _write(
    file: Path, strangers: Any, protocol: str, measured_by: str, baseline: dict[str, Any]
) -> None:
    """Check every checkpoint, then make the study file or add to it."""
    from harness.errors import HarnessError
    from harness.journal.workspace import project_of
    from harness.study.from_checkpoints import CheckpointStudyFile
    from harness.subjects.checkpoints import checkpoint_problems
    from harness.subjects.load import load_subject
    from harness.subjects.settings import MEASURED_BY

    study_file = CheckpointStudyFile(file)
    measured_by = measured_by or study_file.measured_by or MEASURED_BY
    measuring = load_subject(measured_by, project=project_of(file.absolute()))
    problems = checkpoint_problems(measuring, [(s.path, s.settings) for s in strangers])
    if problems:
        listed = "\n  ".join(problems)
        raise HarnessError(f"{len(problems)} checkpoint(s) cannot be measured:\n  {listed}")
    protocol = (
        CheckpointStudyFile.named(protocol, Path.cwd())
        or study_file.protocol
        or getattr(measuring, "default_protocol", "default")
    )
    if study_file.protocol and protocol != study_file.protocol:
        raise HarnessError(
            f"{file} measures under {study_file.protocol}, not {protocol}: name another file with "
            "--study, since numbers of different protocols do not compare"
        )
    options = {"name": file.stem, "protocol": protocol, "measured_by": measured_by}
    study_file.add(strangers, baseline=baseline, **options)
    study_file.save()


def _measured(opened: OpenedStudy, result: RunResult) -> list[dict[str, Any]]:
    """Every checkpoint's numbers, with the intervals of this checkpoint alone."""
    history = opened.reread()
    headline = set(result.headline)
    rows = []
    for planned in result.plan.trials:
        trial = planned.trial
        record = history.trials.get(trial.key)
        at = record.measured(result.plan.fingerprints.protocol) if record else []
        if trial.kind != "trial" or not at:
            continue
        estimates = {e.name: [e.lo, e.hi] for e in at[-1].estimates if e.name in headline}
        metrics = {k: v for k, v in at[-1].metrics.items() if not headline or k in headline}
        rows.append(
            {"trial": trial.short, "key": trial.key, "levels": trial.levels,
             "replicate": trial.replicate, "metrics": metrics, "intervals": estimates}
        )  # fmt: skip
    return rows


def _told(row: dict[str, Any]) -> list[str]:
    words = []
    for name, value in row["metrics"].items():
        lo, hi = row["intervals"].get(name, (None, None))
        span = f" [{lo:.4g}, {hi:.4g}]" if lo is not None and hi is not None else ""
        words.append(f"{name} {value:.4g}{span}" if value is not None else f"{name} -")
    return words
