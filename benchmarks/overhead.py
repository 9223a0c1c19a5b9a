"""Overhead per trial: Stillhouse against stock Ray Tune with its MLflow callback, same machine.

Every trial is the stub's (three reports and a measurement, no work), everything is on, and the
clock stops when MLflow was read back and holds every trial with its last value. Each contender runs
in a process and a folder of its own, one after the other:

    ours   `run_study` on Ray with the MLflow projection: journal, resumable attempts, report
    stock  `tune.Tuner` with `MLflowLoggerCallback`, as its documentation shows
    reuse  the same with `reuse_actors=True`

Example: python benchmarks/overhead.py --trials 200
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.study.opened_study import OpenedStudy

CONTENDERS = ("ours", "reuse", "stock")
CYCLES = 3
REPLICATES = 5
TIMEOUT_SECONDS = 4 * 3600
STUDY = """\
name: overhead
question: What does a trial cost that does nothing?
subject: harness.testing.stub
recipe: {{cycles: {cycles}}}
factors: {{part.y: [{levels}]}}
replicates: {replicates}
protocol: stub
primary: score
"""


def _quiet(line: str) -> None:
    print(line, file=sys.stderr)


def ours(folder: Path, trials: int, echo: Callable[[str], None] = _quiet) -> tuple[float, int]:
    """Run a study of `trials` trials; seconds until MLflow is verified, and trials run."""
    began = time.perf_counter()
    from harness.journal.workspace import Workspace
    from harness.running.run_study import run as run_study
    from harness.study.load import load_study
    from harness.tracking.mlflow_tracker import MlflowTracker

    (folder / "pyproject.toml").touch()
    file = folder / "study.yaml"
    levels = ", ".join(str(i) for i in range(max(1, trials // REPLICATES)))
    file.write_text(STUDY.format(cycles=CYCLES, levels=levels, replicates=REPLICATES))
    workspace = Workspace(folder / "workspace")
    tracker = MlflowTracker(workspace, f"sqlite:///{workspace.database}")
    code = run_study(
        OpenedStudy(load_study(file), workspace), executor="ray", tracker=tracker, echo=echo
    ).exit_code
    assert code == 0, f"the study ended with exit code {code}"
    runs = _read(tracker.uri, "overhead", "tags.`stillhouse.kind` = 'trial'")
    for run in runs:
        assert {"score", "cost", "train/loss"} <= set(run.data.metrics), run.data.metrics
        assert run.data.tags["stillhouse.state"] == "done"
    return time.perf_counter() - began, len(runs)


def stock(folder: Path, trials: int, *, reuse: bool) -> tuple[float, int]:
    """The same trials as a grid of Ray Tune with its own MLflow callback."""
    began = time.perf_counter()
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    uri = f"sqlite:///{folder}/mlflow.db"
    arms = max(1, trials // REPLICATES)
    tuner = tune.Tuner(
        tune.with_resources(_train, {"cpu": 1}),
        param_space={
            "y": tune.grid_search(list(range(arms))),
            "replicate": tune.grid_search(list(range(REPLICATES))),
        },
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(
            storage_path=str(folder / "results"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="overhead")],
        ),
    )
    results = tuner.fit()
    assert not results.errors, results.errors
    runs = _read(uri, "overhead", "")
    for run in runs:
        assert {"score", "cost", "train/loss"} <= set(run.data.metrics), run.data.metrics
    seconds = time.perf_counter() - began
    ray.shutdown()
    return seconds, len(runs)


def _train(config: dict[str, Any]) -> None:
    """The stub subject's reports, as a Ray Tune function."""
    from ray import tune

    from harness.contract import Context, Measurement
    from harness.journal.seeds import stream_for
    from harness.testing import stub

    folder = Path(tune.get_context().get_trial_dir()) / "attempt"
    folder.mkdir(parents=True, exist_ok=True)
    context = Context(
        key="",
        replicate=config["replicate"],
        seed=stream_for(config["replicate"]),
        folder=folder,
        measurement=Measurement(protocol="stub"),
    )
    for report in stub.run({"cycles": CYCLES, "part": {"y": config["y"]}}, context):
        tune.report(dict(report.metrics))


def _read(uri: str, experiment: str, wanted: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([found.experiment_id], wanted, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            break
    assert all(r.info.status == "FINISHED" for r in runs), "a run is not finished"
    return runs


def alone(script: str, *arguments: str, runs: int) -> dict[str, Any]:
    """What a benchmark prints last, as JSON, run in a process and a folder of its own.

    This tree comes first, there is no telemetry, and no address of a tracking server.

    Args:
        script: the benchmark's file; it also gets `--folder`.
        arguments: further ones.
        runs: trials that MLflow must hold at the end.
    """
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "true"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        log = Path(folder) / "log.txt"
        with log.open("w") as errors:
            done = subprocess.run(
                [sys.executable, script, *arguments, "--folder", folder],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)} failed:\n{log.read_text()[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["runs"] == runs, f"{arguments}: MLflow holds {result['runs']} of {runs} trials"
    return result


def heading(*packages: str) -> None:
    """Print date, machine, versions and load."""
    print(f"{datetime.date.today()}  {platform.machine()}  {os.cpu_count()} processors")
    for package in packages:
        print(f"  {package} {metadata.version(package)}")
    print(f"  python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start\n")


def _contend(name: str, trials: int) -> float:
    """Seconds per trial of one contender."""
    wanted = max(1, trials // REPLICATES) * REPLICATES
    result = alone(__file__, "--one", name, "--trials", str(trials), runs=wanted)
    return float(result["seconds"]) / wanted


def main() -> None:
    """Run all contenders and print the table; the last line holds the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--stock-trials", type=int, help="fewer for the slowest; default --trials")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        if given.one == "ours":
            seconds, runs = ours(given.folder, given.trials)
        else:
            seconds, runs = stock(given.folder, given.trials, reuse=given.one == "reuse")
        print(json.dumps({"seconds": seconds, "runs": runs}))
        return
    heading("ray", "mlflow", "sqlalchemy", "pydantic")
    print(f"{'contender':10} {'trials':>6} {'ms a trial':>11}")
    cost: dict[str, float] = {}
    for name in CONTENDERS:
        trials = given.stock_trials or given.trials if name == "stock" else given.trials
        cost[name] = _contend(name, trials)
        print(f"{name:10} {trials:6d} {1000 * cost[name]:11.1f}", flush=True)
    stock_ratio, reuse_ratio = cost["stock"] / cost["ours"], cost["reuse"] / cost["ours"]
    print(f"\nratio stock {stock_ratio:.1f} reuse {reuse_ratio:.1f}")


if __name__ == "__main__":
    main()
