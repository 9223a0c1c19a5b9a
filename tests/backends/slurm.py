"""Stand-ins for Slurm's commands: `srun` executes its command, `scontrol requeue` leaves a note.

And for `ray`, which they start: its `symmetric-run` refuses a machine where any Ray runs, and its
`stop` ends every Ray of the user. Here both look at this test's Ray only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.backends.project import ROOT, Project

SRUN = """#!/usr/bin/env bash
while [[ "$1" == -* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1" = requeue ] && echo "$2" >>"$SHIM_FOLDER/requeued"
"""
STILLHOUSE = """#!/usr/bin/env bash
exec {python} -m harness.cli "$@"
"""
RAY = """#!{python}
import os, sys, psutil
mine = os.environ["RAY_TMPDIR"]
if sys.argv[1] == "stop":
    running = psutil.process_iter(["cmdline"])
    found = [p for p in running if mine in " ".join(p.info["cmdline"] or ())]
    for process in found:
        process.terminate()
    for process in psutil.wait_procs(found, timeout=10)[1]:
        process.kill()
    sys.exit()
import ray._private.services
ray._private.services.find_gcs_addresses = lambda *_, **__: set()
from ray.scripts.scripts import main
sys.argv[0] = "ray"
main()
"""


class Slurm:
    """A folder of stand-ins, and jobs that see nothing else of Slurm."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.folder = folder
        folder.mkdir(parents=True)
        scripts = {"srun": SRUN, "scontrol": SCONTROL, "stillhouse": STILLHOUSE, "ray": RAY}
        for name, text in scripts.items():
            file = folder / name
            file.write_text(text.replace("{python}", sys.executable))
            file.chmod(0o755)

    def write(self, *options: str) -> Path:
        """The script of the study, as the command writes it."""
        file = self.project.folder / "job.sbatch"
        path = f"{self.folder}:{os.environ['PATH']}"
        self.project.environment |= {"PATH": path}
        done = self.project.call("slurm", str(self.project.file), "-o", str(file), *options)
        assert done.returncode == 0, done.stderr
        return file

    def start(self, script: Path, restarts: int = 0, **variables: str) -> subprocess.Popen[str]:
        """Start a job as `sbatch` would, with Slurm's variables."""
        process = subprocess.Popen(
            ["bash", str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.project.folder,
            start_new_session=True,
            env=self.project.surroundings()
            | {
                "SLURM_JOB_ID": str(os.getpid()),
                "SLURM_JOB_NUM_NODES": "1",
                "SLURM_RESTART_COUNT": str(restarts),
                "SHIM_FOLDER": str(self.folder),
                "PYTHONPATH": str(ROOT),
                **variables,
            },
        )
        self.project.processes.append(process)
        return process

    @property
    def requeued(self) -> int:
        """How often a job asked to be put back."""
        file = self.folder / "requeued"
        return len(file.read_text().split()) if file.exists() else 0
