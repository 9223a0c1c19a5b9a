"""Bundles of studies that ran until decided: levels, looks and verdicts are worked out again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.spending import calibrated
from harness.bundle.read import verify_bundle
from harness.bundle.verify.looks import Looks
from harness.commands.opening import answered
from harness.errors import BundleError
from harness.study.load import load_study

from .bundles import contents, rewritten, small
from .run_place import Place

JOURNAL, ANSWER = "results/journal.jsonl", "results/answer.json"
KINDS = """\
name: demo
question: Does x help?
subject: tests.support.stub_prompts
recipe: {recipe}
factors:
  x: {{levels: [0.0, 0.1, 0.5, 0.001], ordered: true}}
baseline: {{x: 0.0}}
design: one_factor
replicates: 7
protocol: {protocol}
primary: score
measure_at: [1, 2, 3]
contrasts:
  - {{id: H1, claim: x helps, a: {{x: 0.5}}, b: {{x: 0.0}}, expect: higher, margin: 0.1}}
  - {{id: H2, claim: a little harms, a: {{x: 0.1}}, b: {{x: 0.0}}, metric: cost, expect: lower}}
  - {{id: tiny, a: {{x: 0.001}}, b: {{x: 0.0}}, expect: higher}}
  - {{id: same, a: {{x: 0.001}}, b: {{x: 0.0}}, margin: 0.2}}
  - {{id: rise, trend: x}}
  - {{id: top, best: x}}
  - {{id: melt, collapse: {{x: 0.1}}, margin: 0.4}}
  - {{id: first, sooner: {{a: {{x: 0.5}}, b: {{x: 0.0}}, threshold: 1.02}}}}
"""
NOISY = """\
name: looks
question: Which x help?
subject: tests.harness.noisy_subject
recipe: {{x: 0.0, spread: 1.0, salt: {salt}, fault: {fault}}}
factors:
  x: {{path: x, levels: {{base: 0.0, far: 5.0, near: 0.001, mid: 1.5}}}}
design: one_factor
baseline: {{x: base}}
replicates: 8
contrasts:
  - {{id: far, a: {{x: far}}, b: {{x: base}}, metric: score}}
  - {{id: near, a: {{x: near}}, b: {{x: base}}, metric: score}}
"""


def noisy(place: Place, *, salt: int = 15, fault: str = "false") -> AnsweredStudy:
    file = place.folder / "study.yaml"
    file.write_text(NOISY.format(salt=salt, fault=fault))
    place.run(load_study(file), until_decided=True)
    return answered(file, place.workspace.root)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Every kind of contrast, decided at one look or another, futile, or open to the end."""
    folder = tmp_path_factory.mktemp("looks")
    place = Place(folder / "p")
    made = place.study(KINDS, "{steps: 3}")
    place.run(made, until_decided=True)
    return small(answered(made.file, place.workspace.root), folder / "demo.zip")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Over seeds alone: one contrast that is decided early, one that is given up as futile."""
    folder = tmp_path_factory.mktemp("plain")
    return small(noisy(Place(folder / "p"), salt=1), folder / "demo.zip")


INVENTED = "its numbers are others than the look after {} saw (p = 0.001; harms)"


@pytest.mark.parametrize("which", ["file", "plain"])
def test_levels_looks_and_verdicts_are_worked_out(which: str, request, tmp_path: Path):
    bundled = request.getfixturevalue(which)
    held = contents(bundled)
    script = tmp_path / "verify.py"
    script.write_bytes(held["verify.py"])
    words = [sys.executable, "-I", "-S", str(script), str(bundled)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(held[ANSWER])
    planned = [v for v in answer["verdicts"] if v["planned"]]
    assert len({v["n_planned"] for v in planned}) > 1, "contrasts end at looks of their own"
    taken = len(_looks(held))
    assert f"verdicts   {len(planned)} come out of the values again" in done.stdout
    assert f"looks      {taken} say what they must" in done.stdout
    assert "not worked out" not in done.stdout
    assert "tables and verdicts agree" in done.stdout


def _plans(held: dict[str, bytes]) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in held[JOURNAL].decode().splitlines()]
    return [r for r in records if r["type"] == "planned"]


def _looks(held: dict[str, bytes]) -> list[dict[str, Any]]:
    return _plans(held)[-1]["looks"]


def _in_plans(change: Callable[[dict[str, Any]], None]) -> Callable:
    """Every planned record changed alike."""

    def made(held: dict[str, bytes]) -> dict[str, bytes]:
        lines = [json.loads(line) for line in held[JOURNAL].decode().splitlines()]
        for record in lines:
            if record["type"] == "planned":
                change(record)
        return {JOURNAL: "".join(json.dumps(r) + "\n" for r in lines).encode()}

    return made


def _in_spending(change: Callable[[dict[str, Any]], None]) -> Callable:
    return _in_plans(lambda record: change(record["frozen"]["spending"]))


def _in_looks(change: Callable[[list[dict[str, Any]]], Any]) -> Callable:
    def made(record: dict[str, Any]) -> None:
        if record.get("looks"):
            change(record["looks"])

    return _in_plans(made)


def _in_outcome(state: str, /, **changes: Any) -> Callable:
    """The first outcome of such a state has other numbers."""

    def made(looks: list[dict[str, Any]]) -> None:
        said = next(o for k in looks for o in k["outcomes"].values() if o["state"] == state)
        said.update(changes)

    return _in_looks(made)


def _times(state: str, name: str, factor: float) -> Callable:
    def made(looks: list[dict[str, Any]]) -> None:
        every = (o for k in looks for o in k["outcomes"].values())
        said = next(o for o in every if o["state"] == state and name in o)
        said[name] *= factor

    return _in_looks(made)


def _in_answer(change: Callable[[dict[str, Any]], Any]) -> Callable:
    def made(held: dict[str, bytes]) -> dict[str, bytes]:
        answer = json.loads(held[ANSWER])
        change(answer)
        return {ANSWER: json.dumps(answer).encode()}

    return made


def _raised(spending: dict[str, Any]) -> None:
    """Every look but the first spends as if there were no other."""
    n_all, first = spending["at_most"], spending["first"]
    for alpha, row in zip(spending["alphas"], spending["levels"], strict=True):
        row[:] = [row[0], *(alpha for _ in range(first, n_all))]


def _most_that_may_be(spending: dict[str, Any]) -> None:
    n_all, first = spending["at_most"], spending["first"]
    for alpha, row in zip(spending["alphas"], spending["levels"], strict=True):
        row[:] = [alpha * (n / n_all) ** 2 for n in range(first, n_all + 1)]


def _one_record_alone(held: dict[str, bytes]) -> dict[str, bytes]:
    lines = held[JOURNAL].decode().splitlines()
    record = next(r for r in map(json.loads, lines) if r["type"] == "planned")
    record["looks"] = []
    for row in record["frozen"]["spending"]["levels"]:
        row[-1] *= 1.001
    return {JOURNAL: "\n".join([*lines, json.dumps(record), ""]).encode()}


def _verdict(**changes: Any) -> Callable:
    return _in_answer(lambda a: a["verdicts"][0].update(changes))


def _less(name: str, by: Any) -> Callable:
    return _in_answer(lambda a: a["verdicts"][0].update({name: a["verdicts"][0][name] - by}))


CASES = {
    "no levels": _in_plans(lambda r: r["frozen"].pop("spending")),
    "no levels and no looks": _in_plans(lambda r: (r["frozen"].pop("spending"), r.pop("looks", 0))),
    "no looks": _in_plans(lambda r: r.pop("looks", None)),
    "levels of other records": _one_record_alone,
    "a level above what may be spent": _in_spending(_raised),
    "levels as if each look were the only one": _in_spending(_most_that_may_be),
    "another first level": _in_spending(
        lambda s: [row.__setitem__(0, row[0] * 0.9) for row in s["levels"]]
    ),
    "levels that fall with alpha": _in_spending(lambda s: s["levels"][0].reverse()),
    "fewer replicates at most": _in_spending(
        lambda s: (s.update(at_most=s["at_most"] - 1), [row.pop() for row in s["levels"]])
    ),
    "levels that are no numbers": _in_spending(lambda s: s["levels"][0].__setitem__(1, "small")),
    "fewer alphas": _in_spending(lambda s: s["alphas"].pop()),
    "a look less": _in_looks(lambda looks: looks.pop()),
    "a look less in front": _in_looks(lambda looks: looks.pop(0)),
    "a look after another number": _in_looks(lambda looks: looks[-1].update(replicates=8)),
    "a look that was not the last": _in_looks(lambda looks: looks[-1].pop("over")),
    "a look that was the last": _in_looks(lambda looks: looks[0].update(over=True)),
    "an arm that went on": _in_looks(
        lambda looks: next(k for k in looks if k.get("dropped")).pop("dropped")
    ),
    "an arm that stopped": _in_looks(lambda looks: looks[0].update(dropped=["no such arm"])),
    "a contrast not told of": _in_looks(
        lambda looks: [k["outcomes"].pop(next(iter(looks[0]["outcomes"]))) for k in looks[:1]]
    ),
    "a state": _in_outcome("decided", state="futile"),
    "an open one decided": _in_outcome("open", state="decided"),
    "a state that is none": _in_outcome("open", state="won"),
    "a verdict of a look": _in_outcome("decided", verdict="harms"),
    "a level of a look": _times("decided", "level", 1.001),
    "a p of a look": _times("open", "p", 1.001),
    "a difference of a look": _times("decided", "difference", 1.001),
    "an interval of a look": _times("decided", "lo", 1.001),
    "replicates judged on": _less("n_planned", 1),
    "replicates": _less("n", 1),
    "left": _in_answer(lambda a: a["verdicts"][0].update(left=a["verdicts"][0]["left"] + 1)),
    "a level": _less("level", 1e-6),
    "the level without looks": _verdict(level=0.95),
    "a verdict": _verdict(verdict="harms"),
    "p without looking": _in_answer(
        lambda a: a["verdicts"][0].update(p_adjusted=a["verdicts"][0]["p"])
    ),
    "replicates at most": _in_answer(lambda a: a.update(replicates=a["replicates"] + 1)),
    "replicates of an arm": _in_answer(
        lambda a: a["arms"][1].update(n_planned=a["arms"][1]["n_planned"] + 1)
    ),
    "an invented note": lambda held: {
        **_in_outcome("decided", verdict="harms")(held),
        **_in_answer(
            lambda a: [
                v["notes"].append(INVENTED.format(n)) for v in a["verdicts"] for n in range(9)
            ]
        )(held),
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("which", ["file", "plain"])
def test_what_was_changed_is_found(case: str, which: str, request, tmp_path: Path):
    bundled = request.getfixturevalue(which)
    changes = CASES[case](contents(bundled))
    copied = rewritten(bundled, tmp_path / "x.zip", changes)
    with pytest.raises(BundleError) as found:
        verify_bundle(copied)
    assert found.value.member in (JOURNAL, ANSWER), found.value


def test_levels_added_to_the_journal_of_another_study_skip_nothing(tmp_path: Path):
    """Whoever adds levels to a journal gets the verdicts of a fixed study worked out by them."""
    place = Place(tmp_path / "p")
    path = place.folder / "study.yaml"
    path.write_text(NOISY.format(salt=1, fault="false"))
    place.run(load_study(path))
    bundled = small(answered(path, place.workspace.root), tmp_path / "b.zip")
    assert verify_bundle(bundled)
    spending = json.loads(calibrated(8, 0.05, 2, cells=60).model_dump_json())
    added = _in_plans(lambda r: r["frozen"].update(spending=spending))(contents(bundled))
    with pytest.raises(BundleError) as found:
        verify_bundle(rewritten(bundled, tmp_path / "x.zip", added))
    assert found.value.member in (JOURNAL, ANSWER)


def test_a_study_before_its_first_look_is_verified(tmp_path: Path):
    made = noisy(Place(tmp_path / "p"), fault="true")
    assert made.answer.headline.startswith("Interim, no look yet")
    bundled = small(made, tmp_path / "b.zip")
    told = verify_bundle(bundled)
    assert any(line.startswith("looks      0 say") for line in told)
    for change in (_verdict(verdict="improves"), _less("level", 1e-4), _less("n_planned", 1)):
        with pytest.raises(BundleError):
            verify_bundle(rewritten(bundled, tmp_path / "x.zip", change(contents(bundled))))


def test_a_look_that_decided_by_other_numbers_is_told_or_refused(tmp_path: Path, monkeypatch):
    """A trial that failed before the look was run again after it."""
    place = Place(tmp_path / "p")
    monkeypatch.setenv("NOISY_FAILS", "5.0 1")
    verify_bundle(small(noisy(place), tmp_path / "failed.zip"))
    monkeypatch.delenv("NOISY_FAILS")
    made = noisy(place)
    by_id = {v.id: v for v in made.answer.verdicts if v.planned}
    assert by_id["far"].verdict == "undecided"
    bundled = small(made, tmp_path / "b.zip")
    assert verify_bundle(bundled)
    silent = _in_answer(lambda a: a["verdicts"][0].update(notes=[]))
    cases = [silent, _verdict(verdict="improves"), _times("futile", "p", 1.001)]
    for change in cases:
        with pytest.raises(BundleError):
            verify_bundle(rewritten(bundled, tmp_path / "x.zip", change(contents(bundled))))


def test_a_contrast_taken_out_after_a_look_leaves_the_rest_verified(tmp_path: Path):
    place = Place(tmp_path / "p")
    made = noisy(place, salt=1)
    text = made.study.file.read_text()
    made.study.file.write_text("".join(t for t in text.splitlines(True) if "id: near" not in t))
    place.run(load_study(made.study.file))
    again = answered(made.study.file, place.workspace.root)
    assert [v.id for v in again.answer.verdicts if v.planned] == ["far"]
    bundled = small(again, tmp_path / "b.zip")
    assert verify_bundle(bundled)
    changed = _times("decided", "p", 1.001)(contents(bundled))
    copied = rewritten(bundled, tmp_path / "x.zip", changed)
    with pytest.raises(BundleError):
        verify_bundle(copied)


@pytest.mark.parametrize(("at_most", "family"), [(3, 1), (7, 3), (12, 8)])
def test_levels_between_are_those_of_the_records(at_most: int, family: int):
    spending = calibrated(at_most, 0.05, family, cells=40)
    again = Looks(json.loads(spending.model_dump_json()), [])
    for n in range(3, at_most + 1):
        for share in (1e-5, 0.001, 0.0123, 0.05 / 3, 0.05, 0.3, 1.0):
            assert again.level(n, share) == pytest.approx(spending.level(n, share), rel=1e-12)
            assert again.alpha_of(n, share) == pytest.approx(spending.alpha_of(n, share), rel=1e-9)
    assert again.alpha_of(3, 0.0) == 0.0


@pytest.mark.parametrize("options", [{}, {"until_decided": True, "at_most": 4}])
def test_what_has_no_interval_yet_is_verified(options: dict[str, Any], tmp_path: Path, monkeypatch):
    """One replicate of each kind; or what ran before a look that was not taken."""
    place = Place(tmp_path / "p")
    made = place.study(KINDS.replace("replicates: 7", "replicates: 1"), "{steps: 3}")
    if options:
        monkeypatch.setattr("harness.running.batches._too_few", lambda *_: "not now")
    place.run(made, **options)
    found = answered(made.file, place.workspace.root)
    assert all(v.verdict == "undecided" for v in found.answer.verdicts if v.planned)
    assert verify_bundle(small(found, tmp_path / "b.zip"))
