"""The source in a bundle: that of a trainer wherever it lies, and what the verifier says of it."""

from pathlib import Path

import pytest

from harness.analysis.answered_study import AnsweredStudy
from harness.bundle.blind import Traces
from harness.bundle.read import verify_bundle
from harness.bundle.write import write_bundle
from harness.commands.opening import answered
from harness.errors import BundleError

from .bundles import contents
from .run_place import Place
from .trainers import TRAINER

THEIRS = """\
name: theirs
question: Do more steps help?
subject:
  command: python3 trainer.py out={{attempt}} seed={{seed.init}} mode= steps={{recipe.train.steps}}
  cwd: {cwd}
  code: [trainer.py, parts/]
  metrics: {{score: {{higher_is_better: true, headline: true}}}}
recipe: {{train: {{steps: 2}}}}
factors: {{train.steps: [2, 4]}}
replicates: 2
"""
WORDS = '''\
"""A subject that digests what its file says, not its bytes."""
import harness.testing.stub_measured as stub
from harness.testing.stub_measured import *
from harness.testing.stub_measured import measure, metrics, run, Recipe

def fingerprints(recipe, protocol):
    made = stub.fingerprints(recipe, protocol)
    return made.model_copy(update={{"code": {said!r}, "code_files": {{
        "{package}/subject.py": {said!r}, "{package}/subject.py#part": "p"}}}})
'''
OURS = """\
name: ours
question: Does x help?
subject: {package}.subject
recipe: {{cycles: 2}}
factors: {{part.x: [0.0, 1.0]}}
replicates: 2
protocol: p
"""


def _theirs(project: Path, trainer: Path, cwd: str) -> AnsweredStudy:
    place = Place(project)
    (trainer / "parts").mkdir(parents=True)
    (trainer / "trainer.py").write_text(TRAINER)
    (trainer / "parts" / "loss.py").write_text("# Quillfeather wrote this\n")
    (trainer / "data.bin").write_bytes(b"much")
    (project / "studies" / "a").mkdir(parents=True)
    file = project / "studies" / "a" / "study.yaml"
    file.write_text(THEIRS.format(cwd=cwd))
    from harness.study.load import load_study

    assert place.run(load_study(file)).exit_code == 0
    return answered(file, place.workspace.root)


@pytest.mark.parametrize("where", ["in the project", "elsewhere"])
def test_a_trainers_code_goes_along_from_its_own_folder(where: str, tmp_path: Path):
    inside = where == "in the project"
    trainer = tmp_path / "p" / "lab" / "t" if inside else tmp_path / "their-trainer"
    cwd = "../../lab/t" if inside else "../../../their-trainer"
    made = _theirs(tmp_path / "p", trainer, cwd)
    file = write_bundle(made, tmp_path / "x.zip").file
    held = contents(file)
    home = "code/lab/t" if inside else "trainer"
    assert held[f"{home}/trainer.py"] == TRAINER.encode()
    assert f"{home}/parts/loss.py" in held
    assert not any(name.endswith("data.bin") for name in held)
    assert ("`trainer/`" in held["ARTIFACT.md"].decode()) is not inside
    assert "2 of 2 source files are those that the trials ran with" in verify_bundle(file)[-1]
    who = Traces(("Quillfeather",), as_it_ran=_as_it_ran(made))
    with pytest.raises(BundleError, match=r"parts/loss\.py"):
        write_bundle(made, tmp_path / "blind.zip", blind=who)


def _as_it_ran(made: AnsweredStudy) -> frozenset[str]:
    from harness.bundle.blind import traces_of

    return traces_of(made).as_it_ran


def test_a_journal_cannot_have_other_files_put_in(tmp_path: Path):
    """It lists what it likes; only the study's own `code:` reaches out of the project."""
    made = _theirs(tmp_path / "p", tmp_path / "their-trainer", "../../../their-trainer")
    for record in made.history.trials.values():
        for attempt in record.ordered:
            attempt.opened.code_files["/etc/hostname"] = "0" * 16
            attempt.opened.code_files["data.bin"] = "0" * 16
    held = contents(write_bundle(made, tmp_path / "x.zip").file)
    assert not any(name.endswith(("hostname", "data.bin")) for name in held)


def test_digests_that_are_not_of_bytes_are_compared_when_it_is_bundled(tmp_path: Path):
    package = "lab_of_words"
    place = Place(tmp_path / "p")
    home = tmp_path / "p" / package
    home.mkdir()
    (home / "subject.py").write_text(WORDS.format(said="first", package=package))
    made = place.study(OURS.replace("{package}", package))
    assert place.run(made).exit_code == 0
    found = answered(made.file, place.workspace.root)
    told = verify_bundle(write_bundle(found, tmp_path / "x.zip").file)[-1]
    assert "1 of 1 source files are those that the trials ran with" in told
    assert "0 by their bytes, 1 by the subject's digests" in told
    for record in found.history.trials.values():
        for attempt in record.ordered:
            attempt.opened.code_files[f"{package}/subject.py#part"] = "another"
    told = verify_bundle(write_bundle(found, tmp_path / "y.zip").file)[-1]
    assert told == "code       0 of 1 source files are those that the trials ran with"
