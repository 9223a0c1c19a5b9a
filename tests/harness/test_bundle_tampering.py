"""A bundle whose numbers were changed is found out, although its checksums were made afresh."""

import json
import re
from pathlib import Path

import pytest

from harness.bundle.read import unpacked_bundle, verify_bundle
from harness.bundle.write import write_bundle
from harness.commands.opening import answered
from harness.errors import BundleError

from .bundles import contents, rewritten, small, studied

STUDIES = Path(__file__).parents[2] / "studies"
JOURNAL, ANSWER = "results/journal.jsonl", "results/answer.json"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Trials have noise of their own: without any, nothing has an interval."""
    folder = tmp_path_factory.mktemp("tampering")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUB_SPREAD", "0.05")
        return small(studied(folder / "p"), folder / "demo.zip")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch):
    """The bundle of a study whose records are in git, without source."""
    monkeypatch.setattr("harness.bundle.contents.source", lambda made: {})

    def made(name: str) -> Path:
        found = answered(STUDIES / name / "study.yaml", tmp_path / "w")
        return write_bundle(found, tmp_path / f"{name}.zip").file

    return made


def _journal(change):
    def made(held):
        lines = held[JOURNAL].decode().splitlines()
        for i, line in enumerate(lines):
            record = json.loads(line)
            if change(record):
                lines[i] = json.dumps(record)
                return {JOURNAL: ("\n".join(lines) + "\n").encode()}
        raise AssertionError("nothing to change")

    return made


def _answer(change):
    def made(held):
        answer = json.loads(held[ANSWER])
        change(answer)
        return {ANSWER: json.dumps(answer).encode()}

    return made


def _text(name, old, new):
    def made(held):
        changed = re.sub(old, new, held[name].decode(), count=1)
        assert changed.encode() != held[name]
        return {name: changed.encode()}

    return made


def _better(record):
    if record["type"] == "closed" and record.get("measurements"):
        record["measurements"][-1]["metrics"]["score"] += 0.01
        return True
    return False


def _recipe(record):
    if record["type"] == "trial":
        record["is"]["recipe"]["cycles"] = 99
        return True
    return False


def _failed(record):
    if record["type"] == "closed" and record["state"] == "done":
        record["state"] = "failed"
        return True
    return False


def _margin(record):
    if record["type"] == "planned":
        record["frozen"]["study_json"]["contrasts"][0]["margin"] = 0.2
        return True
    return False


def _first_recipe(held):
    name = next(n for n in held if n.startswith("recipes/"))
    return {name: held[name].replace(b'"cycles":2', b'"cycles":3')}


def _verdict(**changes):
    return _answer(lambda a: a["verdicts"][0].update(changes))


def _all_values(answer):
    cell = answer["arms"][0]["cells"]["score"]
    cell["mean"] += 0.1
    cell["values"] = {r: v + 0.1 for r, v in cell["values"].items()}


CASES = {
    "a value in the journal": (_journal(_better), ANSWER),
    "a recipe in the journal": (_journal(_recipe), "recipes/"),
    "a state in the journal": (_journal(_failed), ANSWER),
    "a frozen margin": (_journal(_margin), ANSWER),
    "a stored recipe": (_first_recipe, "recipes/"),
    "values of the answer": (_answer(_all_values), ANSWER),
    "a difference": (_verdict(difference=0.7), ANSWER),
    "a p value": (_verdict(p=0.5), ANSWER),
    "an adjusted p": (_verdict(p_adjusted=0.04), ANSWER),
    "an interval": (_verdict(lo=0.1), ANSWER),
    "a verdict": (_verdict(verdict="harms"), ANSWER),
    "a number of replicates": (_verdict(n=5), ANSWER),
    "a method": (_verdict(method="by eye"), ANSWER),
    "how many were left": (_verdict(left=1), ANSWER),
    "a level": (_verdict(level=0.95), ANSWER),
    "a spread": (_answer(lambda a: a["verdicts"][0]["spread"].update(seeds=0.001)), ANSWER),
    "other rules": (_answer(lambda a: a.update(rules=1)), ANSWER),
    "an error rate": (_answer(lambda a: a.update(alpha=0.1)), ANSWER),
    "a sentence": (_verdict(words="x is wonderful"), "ARTIFACT.md"),
    "the arms of a contrast": (_text("bundle.json", r": 1\.0", ": 0.9"), ANSWER),
    "a table": (_text("results/trials.csv", r"1\.\d+", "1.5"), "results/trials.csv"),
    "the report's table": (_text("report/tables/arms.csv", "a", "b"), "report/tables/arms.csv"),
    "no report": (lambda held: {"report/report.html": None}, "report/report.html"),
    "an unknown record": (lambda h: {JOURNAL: h[JOURNAL] + b'{"type":"x"}\n'}, JOURNAL),
    "a cut journal": (lambda h: {JOURNAL: h[JOURNAL][:-9]}, JOURNAL),
    "a nonce that leads out": (
        lambda h: {JOURNAL: h[JOURNAL].replace(b'"nonce":"', b'"nonce":"../../')},
        JOURNAL,
    ),
    "another schema": (_text("bundle.json", '"schema": 2', '"schema": 3'), "bundle.json"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_changed_is_named(case: str, file: Path, tmp_path: Path):
    change, member = CASES[case]
    changed = rewritten(file, tmp_path / "x.zip", change(contents(file)))
    with pytest.raises(BundleError) as found:
        verify_bundle(changed)
    assert found.value.member.startswith(member), found.value
    with pytest.raises(BundleError):
        unpacked_bundle(changed, tmp_path / "cache")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != changed]


def test_what_was_not_changed_is_verified(file: Path, tmp_path: Path):
    assert verify_bundle(rewritten(file, tmp_path / "x.zip", {}))


def test_a_wrong_line_is_named(file: Path, tmp_path: Path):
    held = contents(file)
    lines = held[JOURNAL].split(b"\n")
    number = next(i for i, line in enumerate(lines) if b'"attempt":1' in line)
    lines[number] = lines[number].replace(b'"attempt":1', b'"attempt":"first"')
    with pytest.raises(BundleError) as found:
        verify_bundle(rewritten(file, tmp_path / "x.zip", {JOURNAL: b"\n".join(lines)}))
    assert (found.value.member, found.value.line) == (JOURNAL, number + 1)


def test_checksums_find_every_changed_byte_of_what_is_not_recomputed(file: Path, tmp_path: Path):
    changes = {"report/report.html": b"<html></html>"}
    with pytest.raises(BundleError, match=r"report\.html.*bytes"):
        verify_bundle(rewritten(file, tmp_path / "x.zip", changes, sums=False))


@pytest.mark.parametrize("study", ["data-composition", "objective-composition"])
def test_intervals_and_p_of_shipped_studies_are_recomputed(study, shipped, tmp_path: Path):
    file = shipped(study)
    answer = json.loads(contents(file)[ANSWER])
    declared = [i for i, v in enumerate(answer["verdicts"]) if v["planned"]]
    assert all("df" in answer["verdicts"][i]["method"] for i in declared)
    unsure = max(declared, key=lambda i: answer["verdicts"][i]["p"])
    for field in ("lo", "hi", "p"):
        changed = json.loads(contents(file)[ANSWER])
        verdict = changed["verdicts"][unsure]
        verdict[field] += 1e-5
        text = json.dumps(changed).encode()
        with pytest.raises(BundleError, match=rf"{verdict['id']}: {field} is"):
            verify_bundle(rewritten(file, tmp_path / "x.zip", {ANSWER: text}))


def test_a_bundle_by_earlier_rules_is_checked_up_to_its_verdicts(file, tmp_path):
    """Its own verifier works verdicts out; everything else is checked here, too."""
    held = contents(file)
    manifest = json.loads(held["bundle.json"]) | {"schema": 1}
    answer = json.loads(held[ANSWER])
    del answer["rules"]
    earlier = {
        "bundle.json": json.dumps(manifest).encode(),
        ANSWER: json.dumps(answer).encode(),
    }
    told = verify_bundle(rewritten(file, tmp_path / "x.zip", earlier))
    assert any("earlier rules" in line and "verify.py" in line for line in told)
    _all_values(answer)
    earlier[ANSWER] = json.dumps(answer).encode()
    copied = rewritten(file, tmp_path / "y.zip", earlier)
    with pytest.raises(BundleError, match="not the journal's"):
        verify_bundle(copied)
