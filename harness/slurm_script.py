"""The Slurm batch script of a study: one allocation with Ray over its nodes, or an array of shards.

Slurm sends SIGUSR1 to the batch shell some time before the limit, and at preemption where the site
sets `PreemptParameters=send_user_signal`. The shell passes it to the driver, trials checkpoint, the
driver ends with 138, and the job requeues itself.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pydantic import Field

from harness.errors import HarnessError
from harness.frozen_model import FrozenModel
from harness.text.secrets import without_credentials
from harness.tracking.ownership import VARIABLE

MARK = "# Written by `stillhouse slurm`"
TIME = re.compile(r"\d+|\d+:\d{1,2}(:\d{1,2})?|\d+-\d{1,2}(:\d{1,2}){0,2}")


class Request(FrozenModel):
    """What a batch script needs to know."""

    name: str = Field(description="Name of the study, and so of the job.")
    study: Path = Field(description="Study file, absolute.")
    workspace: Path = Field(description="Workspace, absolute.")
    program: Path = Field(description="The `stillhouse` to start; Ray's `ray` lies beside it.")
    array: int = Field(0, ge=0, description="Shards, a job each; 0 for one job with Ray.")
    nodes: int = Field(1, ge=1, description="Nodes of the one job.")
    gpus: int = Field(0, ge=0, description="GPUs a node.")
    cpus: int = Field(1, ge=1, description="Cores a node.")
    time: str = Field("24:00:00", description="Time limit in a form that Slurm reads.")
    partition: str = Field("", description="Partition; empty for the site's default.")
    account: str = Field("", description="Account; empty for the user's default.")
    notice: int = Field(120, ge=10, description="Seconds between notice and the time limit.")
    requeues: int = Field(20, ge=0, description="Times that a job puts itself back.")
    setup: tuple[str, ...] = Field((), description="Shell lines before the run.")
    mlflow: str = Field("", description="MLflow address; empty: the journal only.")
    beside: str = Field("", description="Name of the study's experiment there, if one was given.")
    until_decided: bool = Field(False, description="Stop when all is decided; one job only.")
    at_most: int | None = Field(None, description="Replicates that may come to.")


def script(request: Request) -> str:
    """The whole script, ending in a newline.

    Raises:
        HarnessError: for a time limit or a name that Slurm would not read.
    """
    if not TIME.fullmatch(request.time):
        raise HarnessError(
            f"--time {request.time!r} is not a time limit: give minutes, HH:MM:SS or D-HH:MM:SS"
        )
    for option, value in (("--partition", request.partition), ("--account", request.account)):
        if not re.fullmatch(r"[\w.,:@+-]*", value):
            raise HarnessError(f"{option} {value!r} may not hold spaces or shell characters")
    body = _array(request) if request.array else _whole(request)
    lines = ["#!/usr/bin/env bash", *_directives(request), *_head(request), *body, *_end()]
    return "\n".join(lines) + "\n"


def write(file: Path, text: str) -> None:
    """Write a script where nothing else is lost.

    Raises:
        HarnessError: if the file exists and is not such a script, or cannot be written.
    """
    try:
        if file.exists() and MARK not in file.read_text(errors="replace"):
            raise HarnessError(f"{file} exists and is not ours; give another name with --output")
        file.write_text(text)
    except OSError as error:
        raise HarnessError(f"cannot write {file}: {error.strerror or error}") from error


def _directives(request: Request) -> list[str]:
    one = {
        "job-name": request.name,
        "time": request.time,
        "partition": request.partition,
        "account": request.account,
        "nodes": str(request.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(request.cpus),
        "gpus-per-node": str(request.gpus or ""),
        "array": f"1-{request.array}" if request.array else "",
        "signal": f"B:USR1@{request.notice}",
        "open-mode": "append",
        "output": f"{request.name}-%A_%a.log" if request.array else f"{request.name}-%j.log",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in one.items() if value]
    lines.append("#SBATCH --requeue")
    if not request.array:  # Ray's symmetric run stops every Ray of this user on its nodes
        lines.append("#SBATCH --exclusive")
    return lines


def _head(request: Request) -> list[str]:
    bare = without_credentials(request.mlflow)
    needs = [
        "# The address came with a user and a password, which are not written down: before sbatch,",
        "# export MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (sbatch hands them on).",
        ': "${MLFLOW_TRACKING_USERNAME:?export it before sbatch}"',
        ': "${MLFLOW_TRACKING_PASSWORD:?export it before sbatch}"',
    ]
    return [
        f"{MARK}; sbatch it from anywhere.",
        "set -uo pipefail",
        *(needs if bare != request.mlflow and request.mlflow.startswith("http") else []),
        *request.setup,
        *([f'export {VARIABLE}="${{{VARIABLE}:-{request.beside}}}"'] if request.beside else []),
        f"export PATH={shlex.quote(str(request.program.parent))}:$PATH",
        f"study={shlex.quote(str(request.study))}",
        f"most_requeues={request.requeues}",
        "run=(",
        f'  {shlex.quote(str(request.program))} run "$study"{_looks(request)}',
        f"  --workspace {shlex.quote(str(request.workspace))}",
        f"  --mlflow {shlex.quote(bare)}" if request.mlflow else "  --no-mlflow",
        ")",
        "",
    ]


def _array(request: Request) -> list[str]:
    return [
        f'"${{run[@]}}" --inline --shard "$SLURM_ARRAY_TASK_ID/{request.array}" &',
        "main=$!",
        'notify() { noticed=1; kill -USR1 "$main"; }',
    ]


def _whole(request: Request) -> list[str]:
    return [
        "# The head is this node; the port differs from job to job.",
        "head=$(hostname --ip-address); head=${head%% *}",
        "address=$head:$((20000 + SLURM_JOB_ID % 10000))",
        "export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300",
        "pid_file=$(mktemp)",
        # `srun` hands a signal to all processes of a step, Ray's raylets among them.
        "# The driver leaves its pid: it runs on this node, beside Ray, which must get no signal.",
        "# shellcheck disable=SC2016",
        'srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --export=ALL \\',
        '  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \\',
        f"  --num-cpus={request.cpus} --num-gpus={request.gpus} --disable-usage-stats -- \\",
        '  bash -c \'echo $$ >"$0" && exec "$@"\' "$pid_file" \\',
        '  "${run[@]}" --ray-address "$address" &',
        "main=$!",
        "notify() {  # before the driver started there is nothing to save",
        "  noticed=1",
        '  if [ -s "$pid_file" ]; then kill -USR1 "$(cat "$pid_file")"; else kill "$main"; fi',
        "}",
    ]


def _end() -> list[str]:
    return [
        "trap notify USR1",
        "while :; do  # a signal ends `wait` early; asked again, it tells how the driver ended",
        "  noticed=",
        '  wait "$main"',
        "  status=$?",
        '  [ -n "$noticed" ] || break',
        "done",
        "# 138: noticed, trials left to run. 143: SIGTERM came instead, e.g. from preemption.",
        "# 4: a deadline of its own. Whatever else it is (70: unexpected) would only happen again.",
        'if [ "$status" -eq 138 ] || [ "$status" -eq 143 ] || [ "$status" -eq 4 ]; then',
        '  if [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_requeues" ]; then',
        '    scontrol requeue "$SLURM_JOB_ID" && exit 0',
        "  fi",
        "fi",
        'exit "$status"',
    ]


def _looks(request: Request) -> str:
    most = "" if request.at_most is None else f" --at-most {request.at_most}"
    return f" --until-decided{most}" if request.until_decided else ""
