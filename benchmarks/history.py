"""What a long history costs: the next trial's start, `status` and `report`.

    python benchmarks/history.py [--finished 1000] [--trials 2000] [--runs 3]

Every trial is real to the harness: run, recorded, read back. Its subject is the stub with as much
to tell as an image generator: 70 numbers with intervals, a table of items, 12 small panels.

next trial   from starting `stillhouse run` on a study with `--finished` trials done and some more
             to do until the first of those begins. Inline, so without Ray: limit 2 s. With Ray, the
             same with no trial finished is taken off: what is left is what the history costs.
status       of `--trials` finished ones: limit 1 s.   report: the same study, limit 15 s.

Each figure is the best of `--runs` fresh processes, wall seconds. Exit code 1 beyond a limit.
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

sys.path.insert(0, str(Path(__file__).resolve().parent))
import overhead

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"next trial, inline": 2.0, "status": 1.0, "report": 15.0}
REPLICATES = 5
SUBJECT = '''\
"""The stub with as much to tell as an image generator."""

import struct
import zlib
from collections.abc import Iterator

from harness.contract import Artifact, Estimate, MetricSpec
from harness.testing import stub
from harness.testing.stub import Recipe, fingerprints  # noqa: F401

NAMES = [f"score/{i}" for i in range(68)]
metrics = dict(stub.metrics)
metrics |= {n: MetricSpec(higher_is_better=True, description="One of many.") for n in NAMES}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HEADER = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
PIXELS = b"".join(b"\\0" + bytes((7 * x * y) % 256 for x in range(192)) for y in range(64))
PNG = b"\\x89PNG\\r\\n\\x1a\\n" + _chunk(b"IHDR", HEADER)
PNG += _chunk(b"IDAT", zlib.compress(PIXELS)) + _chunk(b"IEND", b"")


def run(recipe, context) -> Iterator:
    for report in stub.run(recipe, context):
        loss = report.metrics.get("train/loss")
        if loss is not None:
            more = {f"train/part{i}": loss / (i + 1) for i in range(9)}
            report = report.model_copy(update={"metrics": {**report.metrics, **more}})
        if report.measured:
            score = report.metrics["score"]
            more = {n: score + i / 100 for i, n in enumerate(NAMES)}
            (context.folder / "panels").mkdir(exist_ok=True)
            panels = []
            for item in range(12):
                path = f"panels/{item}.png"
                (context.folder / path).write_bytes(PNG)
                panels.append(Artifact(kind="panel", path=path, step=report.step, item=str(item)))
            estimates = [
                Estimate(name=n, value=v, lo=v - 0.1, hi=v + 0.1, n_items=64)
                for n, v in more.items()
            ]
            report = report.model_copy(
                update={
                    "metrics": {**report.metrics, **more},
                    "estimates": (*report.estimates, *estimates),
                    "artifacts": (*report.artifacts, *panels),
                }
            )
        yield report
'''
STUDY = """\
name: {name}
question: What does a long history cost?
subject: heavy
recipe: {{cycles: {cycles}}}
factors: {{part.y: [{levels}], part.x: [0, 1]}}
replicates: {replicates}
protocol: stub
primary: score
contrasts:
  - {{id: H1, claim: x helps, a: {{part.x: 1}}, b: {{part.x: 0}}}}
"""


def write_study(project: Path, name: str, trials: int, cycles: int = 3) -> Path:
    """A study of `trials` trials: two levels of x by as many of y as that takes."""
    (project / "pyproject.toml").touch()
    (project / "heavy.py").write_text(SUBJECT)
    file = project / f"{name}.yaml"
    levels = ", ".join(str(i) for i in range(trials // (2 * REPLICATES)))
    text = STUDY.format(name=name, levels=levels, replicates=REPLICATES, cycles=cycles)
    file.write_text(text)
    return file


def command(*arguments: str) -> list[str]:
    """The command line of this tree."""
    return [sys.executable, "-m", "harness.cli", *arguments]


def finish(file: Path, workspace: Path) -> None:
    """Run a study whole, inline, without MLflow."""
    given = ["run", str(file), "--inline", "--no-mlflow", "--workspace", str(workspace)]
    subprocess.run(command(*given), check=True, capture_output=True)


def first_started(file: Path, workspace: Path, *options: str) -> float:
    """Seconds from the command's start until a trial opens; the run is then told to stop."""
    before = {f: f.stat().st_size for f in (workspace / "journal").glob("*.jsonl")}
    given = ["run", str(file), "--workspace", str(workspace), "--no-mlflow", *options]
    began, opened = time.time(), None
    process = subprocess.Popen(
        command(*given), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while opened is None:
            assert process.poll() is None or process.returncode == 0, "the run failed"
            for journal in set((workspace / "journal").glob("*.jsonl")) - set(before):
                lines = journal.read_text().splitlines(keepends=True)
                rows = [json.loads(line) for line in lines if line.endswith("\n")]
                opened = next((r["at"] for r in rows if r["type"] == "opened"), None)
            time.sleep(0.01)
    finally:
        process.terminate()
        process.wait()
    return opened - began


def timed(runs: int, *arguments: str) -> float:
    """Best wall seconds of a command."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command(*arguments), check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - began)
    return min(found)


def next_trial(finished: int, runs: int) -> dict[str, float]:
    """Time to the first new trial, inline and in Ray, with and without a history."""
    found: dict[str, list[float]] = {}
    for count in (finished, 0):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            project, workspace = Path(folder), Path(folder) / "workspace"
            if count:
                finish(write_study(project, "long", count), workspace)
            more = write_study(project, "long", finished + 200)
            for _ in range(runs):
                for name, options in (("inline", ("--inline",)), ("ray", ("--parallel", "1"))):
                    seconds = first_started(more, workspace, *options)
                    found.setdefault(f"{name} {count}", []).append(seconds)
    best = {name: min(values) for name, values in found.items()}
    return {
        "next trial, inline": best[f"inline {finished}"],
        "next trial, inline, none finished": best["inline 0"],
        "next trial, Ray": best[f"ray {finished}"],
        "next trial, Ray, none finished": best["ray 0"],
    }


def reading(trials: int, runs: int) -> dict[str, float]:
    """`status` and `report` of a finished study."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        project, workspace = Path(folder), Path(folder) / "workspace"
        file = write_study(project, "long", trials)
        finish(file, workspace)
        where = ("--workspace", str(workspace))
        return {
            "status": timed(runs, "status", *where),
            "report": timed(runs, "report", str(file), *where),
        }


def main() -> int:
    """Print the table; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    overhead.heading("ray", "pydantic")
    print(f"{given.finished} trials finished before the next, {given.trials} reported\n")
    rows = next_trial(given.finished, given.runs) | reading(given.trials, given.runs)
    missed = 0
    for name, seconds in rows.items():
        limit = LIMITS.get(name)
        missed += limit is not None and seconds > limit
        told = "" if limit is None else f"   limit {limit:g} s"
        print(f"{name:36} {seconds:6.2f} s{told}", flush=True)
    cost = rows["next trial, Ray"] - rows["next trial, Ray, none finished"]
    print(f"\nwhat {given.finished} finished trials add to a start with Ray: {cost:.2f} s")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
