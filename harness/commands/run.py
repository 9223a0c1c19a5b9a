"""`stillhouse run`: run what a study misses, then answer it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import Adopt, AsJsonAtEnd, Beside, Mlflow, NoMlflow, StudyWorkspace

if TYPE_CHECKING:
    from harness.running.run_study import RunResult


def command(
    study: Annotated[Path, typer.Argument(help="Study file.")],
    inline: Annotated[
        bool, typer.Option("--inline", help="One trial at a time in this process, without Ray.")
    ] = False,
    workspace: StudyWorkspace = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials at once; default what the machine holds.")
    ] = None,
    accept_stale: Annotated[
        bool, typer.Option("--accept-stale", help="Count results of older code as they are.")
    ] = False,
    rerun_stale: Annotated[
        bool, typer.Option("--rerun-stale", help="Run trials of older code again.")
    ] = False,
    over_budget: Annotated[
        bool, typer.Option("--over-budget", help="Run although the study's budget is exceeded.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Try three arms for three steps; nothing is recorded.")
    ] = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Look after each replicate from the third, and stop when all is decided.",
        ),
    ] = False,
    at_most: Annotated[
        int | None,
        typer.Option(min=1, help="Replicates that --until-decided may come to."),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so many hours: trials checkpoint and end."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Run this share only, e.g. 2/4; the others run in other processes."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Join this Ray cluster, e.g. `auto` or host:6379.")
    ] = None,
    mlflow: Mlflow = None,
    no_mlflow: NoMlflow = False,
    beside: Beside = None,
    adopt: Adopt = False,
    as_json: AsJsonAtEnd = False,
) -> None:
    """Run what a study misses: schedule, record, answer. The same command continues after any stop.

    Example: stillhouse run studies/quickstart/study.yaml
    """
    from harness.commands.opening import tell_runner
    from harness.journal.command_line import typed
    from harness.journal.shards import Shard
    from harness.running import summary
    from harness.running.run_study import run
    from harness.study.load import open_study
    from harness.text.secrets import without_credentials
    from harness.tracking.mlflow_place import MlflowPlace
    from harness.tracking.ownership import refuse_untracked

    began = time.time()
    share = Shard.parse(shard) if shard is not None else None
    opened = open_study(study, workspace)
    place = opened.workspace
    tracked = None
    if no_mlflow or smoke:
        refuse_untracked(beside, adopt)
    else:
        # refuses an address or a name that cannot work
        tracked = MlflowPlace(place, mlflow, beside=beside, adopt=adopt)

    def echo(text: str) -> None:
        typer.echo(text, err=as_json)

    echo(f"workspace {place.root}")
    tell_runner(opened.study.file)
    result = run(
        opened,
        executor="inline" if inline else "ray",
        tracker=tracked,
        accept_stale=accept_stale,
        rerun_stale=rerun_stale,
        over_budget=over_budget,
        smoke=smoke,
        echo=echo,
        parallel=parallel,
        ray_address=ray_address,
        shard=share,
        until_decided=until_decided,
        at_most=at_most,
        deadline=None if hours is None else began + 3600 * hours,
        live=sys.stdout.isatty() and not as_json,
    )
    for line in summary.lines(result, tracked=not no_mlflow, workspace=place, mlflow=mlflow):
        echo(line)
    expired = result.tally is not None and result.tally.expired
    stopped = result.exit_code > 128  # by a signal
    if expired or stopped:
        # What is said again word for word, so that the line continues this very run.
        words = ["--inline"] if inline else []
        words += ["--parallel", str(parallel)] if parallel else []
        words += ["--ray-address", ray_address] if ray_address else []
        words += ["--shard", str(share)] if share else []
        words += ["--until-decided"] if until_decided else []
        words += ["--at-most", str(at_most)] if at_most is not None else []
        words += ["--hours", f"{hours:g}"] if hours is not None else []
        words += ["--mlflow", without_credentials(mlflow)] if mlflow else []
        words += ["--no-mlflow"] if no_mlflow else []
        words += ["--as", beside] if beside else []
        words += ["--accept-stale"] if accept_stale else []
        # a shard has superseded its own stale trials only; other shards may not have begun
        words += ["--rerun-stale"] if rerun_stale and share else []
        words += ["--over-budget"] if over_budget else []
        again = typed("run", *words, study=study, workspace=place)
        echo(f"{'interrupted' if stopped else 'deadline reached'}; continue with: {again}")
    if as_json:
        typer.echo(json.dumps(_content(result)))
    raise typer.Exit(result.exit_code)


def _content(result: RunResult) -> dict[str, object]:
    ended = result.tally.ended if result.tally else {}
    return {
        "study": result.plan.study,
        "exit_code": result.exit_code,
        "report": str(result.report) if result.report else None,
        "trials": {key: {"state": e.state, "reason": e.reason} for key, e in ended.items()},
        "verdicts": [
            v.model_dump(mode="json") for v in (result.answer.verdicts if result.answer else [])
        ],
        "warnings": list(result.warnings),
    }
