"""`stillhouse slurm`: writes a batch script that runs a study under Slurm."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Beside


def command(
    study: Annotated[Path, typer.Argument(help="Study file.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write; default NAME.sbatch here; - prints."),
    ] = None,
    array: Annotated[
        int | None,
        typer.Option(min=1, help="That many jobs, a shard each; default one job with Ray inside."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the one job.")] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs a node; default what a trial asks for.")
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(min=1, help="Cores a node; default for as many trials as fit on its GPUs."),
    ] = None,
    time: Annotated[str, typer.Option(help="Time limit, as Slurm reads it.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    notice: Annotated[
        int, typer.Option(min=10, help="Seconds before the end in which trials checkpoint.")
    ] = 120,
    requeues: Annotated[
        int, typer.Option(min=0, help="Times that a job puts itself back in the queue.")
    ] = 20,
    setup: Annotated[
        list[str] | None,
        typer.Option(help='Shell line before the run, e.g. "module load cuda"; may be repeated.'),
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Workspace, on storage that every node sees.")
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(help="MLflow server; default none: nodes write the journal, `sync` later."),
    ] = None,
    beside: Beside = None,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Stop when all is decided; not with --array."),
    ] = False,
    at_most: Annotated[
        int | None, typer.Option(min=1, help="Replicates that --until-decided may come to.")
    ] = None,
) -> None:
    """Write a batch script: one allocation with Ray over all its nodes, or an array of shards.

    When time runs out or the job is preempted, trials checkpoint and the job requeues itself.

    Example: stillhouse slurm studies/quickstart/study.yaml --array 8 --time 12:00:00 --gpus 1
    """
    from harness import installation
    from harness.commands.opening import tell_runner
    from harness.errors import HarnessError
    from harness.import_path import same
    from harness.journal.command_line import executable, path_word, typed
    from harness.journal.workspace import Workspace
    from harness.slurm_script import Request, script, write
    from harness.study.load import load_study
    from harness.tracking.ownership import name_to_write_to

    loaded = load_study(study)
    starts = installation.installed()
    if starts is not None and not same(str(starts), str(installation.ROOT)):
        raise HarnessError(
            f"the script would start {executable()}, which is the installation {starts}; this is "
            f"{installation.ROOT}. Write it with the `stillhouse` that is to run: `make env` in a "
            "checkout makes its own"
        )
    if at_most is not None and not until_decided:
        raise HarnessError(f"--at-most {at_most} says how far --until-decided may go: give both")
    if array and until_decided:
        raise HarnessError(
            f"--until-decided looks at the whole study after each replicate, which none of the "
            f"shards of --array {array} can: leave out one of them"
        )
    place = Workspace.find(loaded.file, workspace)
    tell_runner(loaded.file)
    resources = loaded.resources
    if not array and cpus is None and not resources.gpus:
        raise HarnessError(
            "give --cpus, the cores of a node: trials of this study ask for no GPU by which to "
            "count how many fit. --array N runs one trial at a time in each of N jobs instead."
        )
    gpus_a_node = gpus if gpus is not None else _whole(resources.gpus)
    at_once = 1
    if not array and resources.gpus:
        at_once = max(1, int(gpus_a_node / resources.gpus))
    request = Request(
        name=loaded.name,
        study=loaded.file.resolve(),
        workspace=place.root,
        program=executable(),
        array=array or 0,
        nodes=1 if array else nodes,
        gpus=gpus_a_node,
        cpus=cpus if cpus is not None else _whole(resources.cpus * at_once),
        time=time,
        partition=partition or "",
        account=account or "",
        notice=notice,
        requeues=requeues,
        setup=tuple(setup or ()),
        mlflow=mlflow or "",
        beside=name_to_write_to(beside),
        until_decided=until_decided,
        at_most=at_most,
    )
    text = script(request)
    if output == Path("-"):
        typer.echo(text, nl=False)
        return
    file = output or Path(f"{loaded.name}.sbatch")
    write(file, text)
    typer.echo(f"wrote {file}")
    typer.echo(f"next  {shlex.join(['sbatch', path_word(file)])}")
    watch, answer = (typed(w, study=study, workspace=place) for w in ("status", "report"))
    typer.echo(f"then  {watch}; {answer}")
    if not mlflow:
        as_words = ["--as", request.beside] if request.beside else []
        again = typed("sync", loaded.name, *as_words, workspace=place)
        typer.echo(f"and   {again}  # --mlflow names a server in reach")


def _whole(number: float) -> int:
    """Slurm counts devices whole."""
    return int(-(-number // 1))
