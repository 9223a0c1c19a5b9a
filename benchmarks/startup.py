"""Start-up times: `stillhouse --help`, and `stillhouse plan` of a small and of a 10,000-arm study.

    python benchmarks/startup.py [--runs 5] [--json FILE]

Each figure is the best of several fresh processes, in wall and in CPU seconds; wall time on a busy
machine says little. The limits are those of the design: `--help` 0.4 s, `plan` 0.7 s + 0.15 ms an
arm.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELP_SECONDS = 0.4
PLAN_SECONDS = 0.7
SECONDS_AN_ARM = 0.15e-3

STUDY = """\
name: startup
question: How long does planning take?
subject: harness.testing.stub
recipe: {{part: {{x: 0.5}}, mixture: {{a: 3, b: 1}}}}
factors:
  part.x: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  part.y: {ys}
  share: {{path: mixture.b, levels: {shares}}}
contrasts:
  - {{id: H1, a: {{part.x: 1}}, b: {{part.x: 0}}, margin: 0.01}}
"""


def timed(arguments: list[str], runs: int) -> tuple[float, float]:
    """Best wall and best CPU seconds over fresh processes."""
    walls, cpus = [], []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "harness.cli", *arguments],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(cpus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").touch()
        sizes = {"small": (1, 1), "large": (40, 25)}
        commands: list[tuple[str, int, list[str]]] = [("--help", 0, ["--help"])]
        for name, (ys, shares) in sizes.items():
            file = Path(folder) / f"{name}.yaml"
            levels = [round((i + 1) / (shares + 2), 4) for i in range(shares)]
            file.write_text(STUDY.format(ys=list(range(ys)), shares=levels))
            commands.append((f"plan {name}", 10 * ys * shares, ["plan", str(file)]))
        for name, arms, arguments in commands:
            wall, cpu = timed(arguments, options.runs)
            limit = PLAN_SECONDS + SECONDS_AN_ARM * arms if arms else HELP_SECONDS
            rows.append(
                {"command": name, "arms": arms, "wall_s": wall, "cpu_s": cpu, "limit_s": limit}
            )
            print(
                f"{name:<12} {arms:>6} arms   wall {wall:6.3f} s   cpu {cpu:6.3f} s   limit "
                f"{limit:5.2f} s   wall/limit {wall / limit:5.2f}   cpu/limit {cpu / limit:5.2f}"
            )
    load = os.getloadavg()[0]
    print(f"load average {load:.1f} on {os.cpu_count()} cores; best of {options.runs}")
    if options.json:
        options.json.write_text(json.dumps({"load": load, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
