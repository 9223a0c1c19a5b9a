"""What runs is the installation that was started, whatever packages the user's folders hold."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import import_path, installation
from harness.errors import HarnessError, SubjectError
from harness.executors.base import Ended
from harness.journal.history import History

ROOT = Path(__file__).parents[2]
HEAD = """\
name: demo
question: Does x help?
subject: {subject}
factors: {{part.x: [0.0, 1.0]}}
baseline: {{part.x: 0.0}}
replicates: 1
protocol: p
"""
STUB = HEAD.format(subject="harness.testing.stub") + "recipe: {}\n"
MINE = HEAD.format(subject="mine") + "recipe: {}\n"
TOYWORLD = """\
name: toy
question: Does guidance help?
recipe:
  family: toyworld
set: {train.cycles: 3}
factors: {guidance.scale: [2.0, 4.0]}
replicates: 1
protocol: toyworld-v1
primary: t2i/kd
"""
SUBJECT = '''\
"""The stub, which also says what it and its children import."""
import multiprocessing
import sys

from harness.testing.stub import *
from harness.testing.stub import run as _run
from children import places


def run(recipe, context):
    for report in _run(recipe, context):
        if report.measured:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                told = {"child": pool.apply(places), "process": places()}
            info = {f"{who} {n}": place for who, its in told.items() for n, place in its.items()}
            report = report.model_copy(update={"info": {**report.info, **info}})
        yield report
'''
CHILDREN = """\
def places():
    import importlib, os, sys

    found = {"path": os.pathsep.join(sys.path)}
    for name in ("harness", "recipes", "evaluation"):
        try:
            found[name] = os.path.realpath(importlib.import_module(name).__file__)
        except ImportError as error:
            found[name] = str(error)
    return found
"""


def project(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").touch()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def fork(folder: Path, files: Mapping[str, str]) -> Path:
    """A checkout whose stub scores a thousand more, and whose protocols and recipes are broken."""
    skipped = shutil.ignore_patterns("__pycache__", "weights", "references")
    for package in import_path.PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", folder)
    stub = folder / "harness" / "testing" / "stub.py"
    stub.write_text(stub.read_text().replace("score = 1 +", "score = 1001 +"))
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def stillhouse(folder: Path, *words: str, safe: bool = True) -> subprocess.CompletedProcess[str]:
    """As the entry point of ROOT starts it, or, if not `safe`, with the folder one is in first."""
    at = ["-P"] if safe else []
    return subprocess.run(
        [sys.executable, *at, "-m", "harness.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def ran(folder: Path, *options: str, safe: bool = True) -> list[tuple[dict, dict[str, str]]]:
    """Metrics and facts of every trial of `study.yaml`."""
    done = stillhouse(folder, "run", "study.yaml", "--no-mlflow", *options, safe=safe)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = History.read([folder / "stillhouse-workspace" / "journal"]).trials.values()
    measured = [
        (line["report"]["metrics"], line["report"]["info"])
        for trial in trials
        for file in (folder / "stillhouse-workspace/trials" / trial.key).glob("*/*/reports.jsonl")
        for line in map(json.loads, file.read_text().splitlines())
        if line["report"]["measured"]
    ]
    assert len(measured) == 2
    return measured


EXECUTORS = pytest.mark.parametrize(
    "options",
    [("--inline",), pytest.param(("--parallel", "1"), marks=pytest.mark.slow)],
    ids=["inline", "ray"],
)


@EXECUTORS
def test_a_study_in_a_fork_is_run_by_what_was_started(tmp_path: Path, options):
    place = fork(tmp_path / "fork", {"study.yaml": STUB})
    measured = ran(place, *options)
    assert all(metrics["score"] < 10 for metrics, _ in measured), measured


@EXECUTORS
def test_a_fork_that_is_started_runs_itself(tmp_path: Path, options):
    """`python -m` puts the current folder first: the harness there is what starts."""
    place = fork(tmp_path / "fork", {"study.yaml": STUB})
    measured = ran(place, *options, safe=False)
    assert all(metrics["score"] > 1000 for metrics, _ in measured), measured


@EXECUTORS
def test_a_package_of_the_users_is_his_own(tmp_path: Path, options):
    files = {"mine.py": SUBJECT, "children.py": CHILDREN, "study.yaml": MINE}
    place = project(tmp_path / "lab", {**files, "evaluation/__init__.py": "", "recipes.py": ""})
    for _, info in ran(place, *options):
        for who in ("process", "child"):
            assert info[f"{who} harness"] == str(ROOT / "harness" / "__init__.py")
            assert info[f"{who} evaluation"] == str(place / "evaluation" / "__init__.py")
            assert info[f"{who} recipes"] == str(place / "recipes.py")


@EXECUTORS
def test_children_in_a_fork_get_the_harness_that_was_started(tmp_path: Path, options):
    files = {"mine.py": SUBJECT, "children.py": CHILDREN, "study.yaml": MINE}
    place = fork(tmp_path / "fork", files)
    for metrics, info in ran(place, *options):
        assert metrics["score"] < 10
        assert info["child harness"] == info["process harness"]
        assert info["child harness"] == str(ROOT / "harness" / "__init__.py")
        assert info["child evaluation"] == str(place / "evaluation" / "__init__.py")


@EXECUTORS
def test_the_folder_one_is_in_shadows_nothing(tmp_path: Path, options):
    """A module in the current folder, with the name of an installed one, in a trial or a child."""
    files = {"mine.py": SUBJECT, "children.py": CHILDREN, "study.yaml": MINE}
    place = project(tmp_path / "lab", files)
    elsewhere = project(tmp_path / "elsewhere", {"evaluation.py": "", "filelock.py": "1/0"})
    words = ["run", str(place / "study.yaml"), "--no-mlflow", *options]
    done = stillhouse(elsewhere, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    for _, info in ran(place, *options):  # nothing to run: reads what is there
        assert str(elsewhere) not in info["process path"].split(os.pathsep)
        assert str(elsewhere) not in info["child path"].split(os.pathsep)
        assert info["child evaluation"] == str(ROOT / "evaluation" / "__init__.py")


POISON = {
    "evaluation/__init__.py": "raise RuntimeError('the project has one, too')",
    "evaluation/measure.py": "raise RuntimeError('the project has one, too')",
    "recipes/__init__.py": "raise RuntimeError('the project has one, too')",
    "torch.py": "raise RuntimeError('no torch')",
    "numpy/__init__.py": "raise RuntimeError('no numpy')",
    "pandas.py": "raise RuntimeError('no pandas')",
    "psutil.py": "raise RuntimeError('no psutil')",
    "study.yaml": TOYWORLD,
}


@pytest.mark.parametrize("bare", [False, True], ids=["packages", "folders"])
def test_our_subject_is_ours_in_a_project_with_its_own_packages(tmp_path: Path, bare: bool):
    place = project(tmp_path / "lab", POISON)
    if bare:  # folders without __init__.py are packages, too, if nothing else is
        (place / "evaluation" / "__init__.py").unlink()
        (place / "recipes" / "__init__.py").unlink()
    done = stillhouse(place, "plan", "study.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


MEASURED = """\
name: theirs
question: Does it help?
subject: {command: python train.py, code: [train.py], student: "{attempt}/student"}
recipe: {a: 1}
factors: {a: [1, 2]}
replicates: 1
protocol: toyworld-v1
"""


def test_what_measures_a_command_is_ours(tmp_path: Path):
    place = project(tmp_path / "lab", {**POISON, "train.py": "", "study.yaml": MEASURED})
    done = stillhouse(place, "plan", "study.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_command_imports_what_its_own_folder_holds(tmp_path: Path):
    train = """\
        import json, sys, evaluation, recipes
        line = {"step": 1, "metrics": {"score": evaluation.SCORE + recipes.SCORE}}
        open(sys.argv[1] + "/progress.jsonl", "w").write(json.dumps(line))
    """
    metrics = "metrics: {score: {higher_is_better: true, headline: true}}"
    subject = '{command: ["%s", train.py, "{attempt}"], code: [train.py], %s}'
    study = MINE.replace("mine", subject % (sys.executable, metrics)).replace("part.x", "x")
    files = {"evaluation.py": "SCORE = 40", "recipes.py": "SCORE = 2", "study.yaml": study}
    place = project(tmp_path / "lab", {**files, "train.py": textwrap.dedent(train)})
    study = study.replace("recipe: {}", "recipe: {x: 0.0}").replace("protocol: p\n", "")
    (place / "study.yaml").write_text(study + "protocol: trainer\n")
    assert [metrics["score"] for metrics, _ in ran(place, "--inline")] == [42, 42]


@pytest.mark.slow
def test_our_subject_trains_with_what_is_installed(tmp_path: Path):
    place = project(tmp_path / "lab", POISON)
    done = stillhouse(place, "run", "study.yaml", "--smoke", "--parallel", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  works  ") == 2, done.stdout


CHILD = """
import concurrent.futures, multiprocessing, sys
from pathlib import Path
from harness.subjects.load import load_subject

def places(_):
    import evaluation, recipes, harness
    return [m.__file__ for m in (harness, recipes, evaluation)], sys.path

if __name__ == "__main__":
    load_subject("recipes.subject", project=Path(sys.argv[1]))
    context = multiprocessing.get_context(sys.argv[2])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        files, path = pool.submit(places, 0).result()
    print(*files, path[-1], sep="\\n")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_children_of_our_subject_import_ours(tmp_path: Path, method: str):
    place = project(tmp_path / "lab", {**POISON, "child.py": CHILD})
    done = subprocess.run(
        [sys.executable, "child.py", str(place), method],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *files, last = done.stdout.split()
    assert files == [str(ROOT / name / "__init__.py") for name in import_path.PACKAGES]
    assert last == str(place)


BOTH = """\
from harness.testing.stub import *

def run(recipe, context):
    from scores import measured
    return measured(recipe)
"""


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_process_that_would_need_both_is_refused(tmp_path: Path, command: str):
    scores = "import evaluation\n\nfrom recipes.toyworld import items\n"
    files = {"mine.py": BOTH, "scores.py": scores, "evaluation/__init__.py": "", "study.yaml": MINE}
    place = project(tmp_path / "lab", files)
    done = stillhouse(place, command, "study.yaml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{place / 'scores.py'}:3: `recipes.toyworld`" in done.stderr
    assert "study.yaml:3:" in done.stderr, "where the subject is named"
    assert "`command:`" in done.stderr
    (place / "scores.py").write_text("import evaluation\n")
    assert stillhouse(place, "plan", "study.yaml").returncode == 0


def test_a_folder_that_only_looks_like_a_package_is_refused(tmp_path: Path):
    """Python would take ours, a package, in the place of his, a folder without __init__.py."""
    files = {"mine.py": "from harness.testing.stub import *\nimport evaluation.measure\n",
             "evaluation/measure.py": "", "study.yaml": MINE}  # fmt: skip
    place = project(tmp_path / "lab", files)
    done = stillhouse(place, "plan", "study.yaml")
    assert done.returncode == 2
    assert f"{place / 'mine.py'}:2: `evaluation.measure` is in a folder without" in done.stderr
    (place / "evaluation" / "__init__.py").touch()
    assert stillhouse(place, "plan", "study.yaml").returncode == 0


def test_a_harness_of_the_projects_is_not_taken_for_ours(tmp_path: Path):
    files = {"mine.py": BOTH, "scores.py": "from harness import contract\nimport harness.extra\n",
             "harness/__init__.py": "", "harness/extra.py": "", "study.yaml": MINE}  # fmt: skip
    done = stillhouse(project(tmp_path / "lab", files), "plan", "study.yaml")
    assert done.returncode == 2
    assert f"{tmp_path / 'lab' / 'scores.py'}:2: `harness.extra`" in done.stderr


def test_a_subject_that_only_another_checkout_has_is_refused(tmp_path: Path):
    files = {"study.yaml": HEAD.format(subject="recipes.mine") + "recipe: {}\n",
             "recipes/mine.py": "from harness.testing.stub import *\n"}  # fmt: skip
    done = stillhouse(fork(tmp_path / "fork", files), "plan", "study.yaml")
    assert done.returncode == 2
    assert f"in the checkout {tmp_path / 'fork'} alone; what was started is {ROOT}" in done.stderr
    lab = project(tmp_path / "lab", {**files, "recipes/__init__.py": ""})
    assert stillhouse(lab, "plan", "study.yaml").returncode == 0, (
        "a project's own package is its own"
    )


def test_a_study_in_a_fork_is_told_who_runs_it(tmp_path: Path):
    place = fork(tmp_path / "fork", {"study.yaml": STUB})
    lab = project(tmp_path / "lab", {"study.yaml": STUB})
    told = f"run by the Stillhouse in {ROOT}, not by the checkout the study stands in, {place}"
    batch = ["slurm", "study.yaml", "--array", "2", "-o", "-"]
    for words in (
        ["plan", "study.yaml", "--json"],
        ["run", "study.yaml", "--inline", "--no-mlflow", "--json"],
        ["status", "study.yaml"],
        ["status"],
        ["report", "study.yaml", "--json"],
        batch,
    ):
        done = stillhouse(place, *words)
        assert (done.returncode, done.stderr.count(told)) == (0, 1), (words, done.stderr)
        assert told not in done.stdout
        if words in (batch, ["status"]):
            done = stillhouse(lab, *batch)
            assert (done.returncode, "run by" in done.stderr) == (0, False)


def test_a_batch_script_starts_what_wrote_it(tmp_path: Path):
    """A fork that `python -m` started is not what the environment's `stillhouse` would start."""
    place = fork(tmp_path / "fork", {"study.yaml": STUB})
    done = stillhouse(place, "slurm", "study.yaml", "--array", "2", "-o", "-", safe=False)
    assert done.returncode == 2, done.stdout
    assert f"is the installation {ROOT}; this is {place}" in done.stderr


def rule(**changes: object) -> dict[str, object]:
    given = {"root": str(ROOT), "real": str(ROOT.resolve()), "before": [], "after": [],
             "inserted": [], "packages": ["harness"],
             "host": socket.gethostname(), "digest": import_path.digest_of(str(ROOT))}  # fmt: skip
    return given | changes


WORKER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
from ray import cloudpickle
look, problem, rule = cloudpickle.loads(bytes.fromhex(sys.argv[1]))
assert "harness" not in sys.modules, "by value: nothing of ours is imported by it"
told = look(rule)
print(json.dumps([told, problem(told, rule)]))
"""


def looked(given: dict[str, object], *path: Path) -> tuple[dict, str]:
    """What a worker tells, as Ray starts one: with folders in front of its path."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(import_path)
    try:
        sent = cloudpickle.dumps((import_path.look, import_path.problem, given)).hex()
    finally:
        cloudpickle.unregister_pickle_by_value(import_path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", WORKER, sent, json.dumps([str(p) for p in path])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, problem = json.loads(done.stdout.splitlines()[-1])
    return told, problem


def test_a_worker_says_what_it_runs(tmp_path: Path):
    """By place on the same machine, by its sources on another."""
    place = fork(tmp_path / "fork", {})
    told, problem = looked(rule(inserted=[str(place)]), place)
    assert (told["root"], problem) == (str(ROOT), "")
    told, problem = looked(rule(), place)  # Ray put it there in a way that we do not know
    assert (told["root"], problem) == (str(ROOT), "")
    gone = rule(root=str(tmp_path / "gone"), real=str(tmp_path / "gone"), before=[str(place)])
    _, problem = looked(gone)
    assert problem == f"it would run {place}"
    _, problem = looked(gone | {"host": "another"})
    assert problem.startswith(f"{place} has other sources")
    there = import_path.digest_of(str(place))
    assert looked(gone | {"host": "another", "digest": there})[1] == ""


def test_a_broken_or_missing_installation_is_told(tmp_path: Path):
    broken = project(tmp_path / "broken", {"harness/__init__.py": "1 / 0"})
    _, problem = looked(rule(root=str(broken)))
    assert "cannot be imported: ZeroDivisionError" in problem
    told = import_path.problem({"host": "far", "root": ""}, rule())
    assert told == "Stillhouse is not installed there"


def test_nodes_with_another_version_are_refused_by_name():
    told = {
        "near": {"host": "here", "root": str(ROOT), "places": {}},
        "far": {"host": "there", "root": "/opt/old", "places": {}, "digest": "0" * 32},
        "mute": "GetTimeoutError: it took too long",
    }
    given = rule(host="here")
    with pytest.raises(HarnessError, match="2 of 3 nodes") as caught:
        installation.differing(told, given)
    said = str(caught.value)
    assert "near" not in said
    assert "far: /opt/old has other sources, 00000000" in said
    assert f"that was started, {ROOT} (sources {str(given['digest'])[:8]})" in said
    assert "mute: no answer (GetTimeoutError" in said


@pytest.mark.slow
def test_a_node_that_joins_later_fails_its_trial_before_it_begins(monkeypatch):
    """All were asked before the first trial; who came since says it in the trial's own record."""
    from harness.executors.tune_parts import worker_of

    monkeypatch.setattr(sys, "path", [*sys.path])
    made = object.__new__(worker_of(rule(real="/opt/started")))
    made.setup({"job": "/nowhere", "cpus": 1.0, "gpus": 0.0})
    told = made.step()
    assert told["done"]
    ((_, kind, content),) = told["events"]
    ended = Ended.model_validate(content)
    assert (kind, ended.state) == ("ended", "failed")
    assert f"does not run /opt/started, which was started: it would run {ROOT}" in ended.reason


def test_a_package_that_this_process_has_from_elsewhere_is_told(tmp_path: Path, monkeypatch):
    """Two studies in one notebook: theirs first, then one of ours."""
    other = types.ModuleType("evaluation")
    other.__file__ = str(tmp_path / "evaluation" / "__init__.py")
    monkeypatch.setitem(sys.modules, "evaluation", other)
    with pytest.raises(SubjectError, match="`evaluation` of this process is that of") as caught:
        installation.check()
    assert str(tmp_path) in str(caught.value)
    assert str(ROOT) in str(caught.value)
