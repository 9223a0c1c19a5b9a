"""Every command that Stillhouse prints works as pasted: from any folder, with any name."""

import html
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

STUDY = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {fault: raise, fault_replicate: 1}
factors: {part.x: [0.0, 1.0]}
baseline: {part.x: 0.0}
replicates: 2
protocol: p
contrasts:
  - {id: H1, claim: x helps, a: {part.x: 1.0}, b: {part.x: 0.0}, expect: higher}
"""
BIN = Path(sys.executable).parent
QUOTED = r"'[^']*'|\"[^\"]*\"|\\."
COMMAND = re.compile(
    rf"(?<![\w/.-])((?:stillhouse|sbatch) (?:{QUOTED}|[^`;'\"\n])+?)(?=`|;|$)", re.MULTILINE
)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k != "STILLHOUSE_WORKSPACE"}
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, "PATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=120,
    )


def commands(text: str) -> list[str]:
    """The command lines in a text, up to a backtick, a semicolon, or the end of the line."""
    return list(dict.fromkeys(found.strip() for found in COMMAND.findall(text)))


def quick(line: str) -> str:
    """The same, without Ray and MLflow, which would only take minutes; read as it is first."""
    assert subprocess.run(["bash", "-c", f"true {line}"], check=False).returncode == 0, line
    words = line.partition("  #")[0]
    if " run " in line:
        return f"{words} --inline --no-mlflow"
    return f"{words} --help" if " sync " in line else words


def quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


class Lab:
    """A project with names that mean something to a shell, run from `at`."""

    def __init__(self, root: Path, at: str, workspace: str) -> None:
        self.project = root / "ana's lab & $co"
        folder = self.project / "my study; no. 1"
        folder.mkdir(parents=True)
        (self.project / "pyproject.toml").touch()
        self.file = folder / "the `study`.yaml"
        self.file.write_text(STUDY)
        self.at = {"project": self.project, "study": folder, "elsewhere": root / "else where"}[at]
        self.at.mkdir(exist_ok=True)
        self.place = f" --workspace {quoted(root / workspace)}" if workspace else ""
        self.workspace = root / workspace if workspace else self.project / "stillhouse-workspace"
        self.study = quoted(os.path.relpath(self.file, self.at))

    def say(self, line: str, *codes: int) -> str:
        done = shell(f"stillhouse {line}{self.place}", self.at)
        assert done.returncode in (codes or (0,)), done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("at", "workspace"),
    [("study", ""), ("elsewhere", ""), ("elsewhere", "w s")],
)
def test_printed_commands_work_as_pasted(at: str, workspace: str, tmp_path: Path):
    lab = Lab(tmp_path, at, workspace)
    said = {"plan before": lab.say(f"plan {lab.study}")}
    said["nothing yet"] = lab.say(f"status {lab.study}", 2)
    said["fit"] = lab.say(f"plan {lab.study} --fit hours=1", 2)
    said["run"] = lab.say(f"run {lab.study} --inline --no-mlflow", 1)
    said["plan"] = lab.say(f"plan {lab.study}")
    said["status"] = lab.say(f"status {lab.study}")
    said["status of all"] = lab.say("status", 0, 2)
    said["no such trial"] = lab.say("show ffffffff", 2)
    said["slurm"] = lab.say(f"slurm {lab.study} --array 2")
    said["bundle"] = lab.say(f"bundle {lab.study} -o './-b undle.zip'")
    said["stopped"] = lab.say(f"run {lab.study} --inline --no-mlflow --hours 0", 4)
    told = {line for text in said.values() for line in commands(text)}
    words = {line.split()[1] for line in told if line.startswith("stillhouse")}
    assert words >= {"run", "status", "report", "logs", "reproduce", "bundle", "sync"}
    assert not [line for line in told if re.search(r"\b(STUDY|KEY|NAME|ADDRESS|FILE)\b", line)]
    for line in sorted(told):
        if line.startswith("sbatch"):
            assert shell(line.replace("sbatch", "bash -n", 1), lab.at).returncode == 0, line
            continue
        done = shell(quick(line), lab.at)
        expected = (0, 1, 4) if " run " in line else (0,)
        assert done.returncode in expected, f"{line}\n{done.stdout}{done.stderr}"


def test_commands_on_the_report_work_in_the_project(tmp_path: Path):
    lab = Lab(tmp_path, "elsewhere", "w s")
    lab.say(f"run {lab.study} --inline --no-mlflow", 1)
    folder = lab.workspace / "studies/demo"
    page = re.search(r'<div class="cmd">(.*?)</div>', (folder / "report.html").read_text(), re.S)
    assert page
    listed = [html.unescape(c) for c in re.findall("<code>(.*?)</code>", page[1])]
    assert len(listed) == 4
    text = (folder / "report.md").read_text()
    for line in listed:
        assert line in text
        done = shell(quick(line), lab.project)
        assert done.returncode == (1 if " run " in line else 0), line + done.stdout + done.stderr
        assert not (lab.project / "stillhouse-workspace").exists(), "the named workspace is used"


def test_commands_of_a_bundle_work_where_it_is_unpacked(tmp_path: Path):
    lab = Lab(tmp_path, "project", "")
    lab.say(f"run {lab.study} --inline --no-mlflow", 1)
    lab.say(f"bundle {lab.study} -o b.zip")
    with zipfile.ZipFile(lab.project / "b.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    page = (tmp_path / "unpacked/ARTIFACT.md").read_text()
    tried = set()
    for line in commands(page):
        if "--verify" in line or "--level measure" in line:  # no student: it says so, exit 3
            continue
        done = shell(quick(line), tmp_path / "unpacked/code")
        expected = (0, 1) if " run " in line else (0,)
        assert done.returncode in expected, f"{line}\n{done.stdout}{done.stderr}"
        tried.add(line.split()[1])
    assert tried == {"plan", "reproduce", "run"}
    assert re.search(r"KEY\b", page) is None
