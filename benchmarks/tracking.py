"""How fast do points get into MLflow: `stillhouse sync` against Ray's own MLflow logger.

    python benchmarks/tracking.py [--trials 100] [--cycles 100]

A study runs without MLflow first. Then both write what it reported, ten numbers a cycle and 70 at
the end, into a SQLite database of their own: `sync` replays the journal (a process of its own,
start-up and pictures included); the stock logger gets the same reports one by one, as Tune's
callback hands them over (no pictures). Both databases are read back and must hold every point.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import history
import overhead


def reports_of(workspace: Path) -> dict[str, list[dict[str, Any]]]:
    """Reports of each attempt, by its folder's name."""
    found = {}
    for file in sorted(workspace.glob("trials/*/attempts/*/reports.jsonl")):
        lines = [json.loads(line)["report"] for line in file.open()]
        found[file.parent.name] = [line for line in lines if line["metrics"]]
    return found


def ours(file: Path, workspace: Path) -> tuple[float, str]:
    """Seconds of `sync` into a new database, and its address."""
    uri = f"sqlite:///{workspace.parent}/ours.db"
    began = time.perf_counter()
    given = ["sync", file.stem, "--mlflow", uri, "--workspace", str(workspace)]
    subprocess.run(history.command(*given), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, uri


def stock(reports: dict[str, list[dict[str, Any]]], folder: Path) -> tuple[float, str]:
    """Seconds of Ray's logger for the same reports, and its database's address."""
    from ray.air._internal.mlflow import _MLflowLoggerUtil

    uri = f"sqlite:///{folder}/stock.db"
    logger = _MLflowLoggerUtil()
    logger.setup_mlflow(tracking_uri=uri, experiment_name="long")
    began = time.perf_counter()
    for name, lines in reports.items():
        run = logger.start_run(run_name=name, tags={"trial_name": name})
        for line in lines:
            logger.log_metrics(line["step"], line["metrics"], run_id=run.info.run_id)
        logger.end_run(run_id=run.info.run_id, status="FINISHED")
    return time.perf_counter() - began, uri


def points_in(uri: str) -> int:
    """Points of all metrics of the trials in a database."""
    import sqlalchemy

    query = (
        "select count(*) from metrics where run_uuid not in (select run_uuid from tags "
        "where key = 'stillhouse.kind' and value in ('study', 'arm'))"
    )
    with sqlalchemy.create_engine(uri).connect() as connection:
        return int(connection.execute(sqlalchemy.text(query)).scalar_one())


def main() -> None:
    """Write with both and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=100)
    given = parser.parse_args()
    os.environ |= {"PYTHONPATH": str(history.ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    overhead.heading("ray", "mlflow", "sqlalchemy")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        workspace = Path(folder) / "workspace"
        file = history.write_study(Path(folder), "long", given.trials, given.cycles)
        history.finish(file, workspace)
        reports = reports_of(workspace)
        rates = {}
        for name, (seconds, uri) in {
            "sync": ours(file, workspace),
            "stock": stock(reports, Path(folder)),
        }.items():
            points = points_in(uri)
            wanted = sum(len(line["metrics"]) for lines in reports.values() for line in lines)
            assert points == wanted, f"{name}: {points} of {wanted} points"
            rates[name] = points / seconds
            print(f"{name:6} {points} points  {seconds:6.1f} s  {rates[name]:8.0f} points/s")
    print(f"\nratio {rates['sync'] / rates['stock']:.1f}")


if __name__ == "__main__":
    main()
