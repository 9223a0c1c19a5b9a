"""Checkpoints from elsewhere compared in pairs over prompts: answer, page, MLflow, bundle."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from harness import cli
from harness.analysis import sentences
from harness.analysis.inference import SAME_PROMPTS, ByPrompt, estimate, one_group
from harness.analysis.model import Answer, Verdict
from harness.bundle.read import verify_bundle
from harness.commands.opening import answered
from harness.errors import BundleError
from harness.journal.prompt_values import PromptValues
from harness.report.facts import markdown
from harness.report.tables import arm_table, verdict_table
from harness.tracking.projection import Projection

from .bundles import contents, rewritten, small
from .run_place import Place

STUDY = """\
name: strangers
question: Which is better?
subject:
  measured_by: tests.support.stub_prompts
  students: [{students}]
recipe: {{arm: a}}
factors: {{arm: [a, b, c]}}
baseline: {{arm: a}}
replicates: 1
protocol: p
contrasts:
  - {{id: H1, a: {{arm: b}}, b: {{arm: a}}, margin: 0.02}}
  - {{id: H2, a: {{arm: c}}, b: {{arm: a}}, metric: cost}}
"""
RECIPES = {"a": {"x": 0.0}, "b": {"x": 0.1}, "c": {"x": 0.2}}
STRATA = {"hills": 0.75, "signs": 0.25}


def checkpoint(folder: Path, recipe: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def measured(place: Place, recipes: dict[str, dict]) -> Answer:
    for name, recipe in recipes.items():
        checkpoint(place.folder / name, recipe)
    listed = ", ".join(f"{{{{path: {n}, levels: {{{{arm: {n}}}}}}}}}" for n in recipes)
    found = place.run(place.study(STUDY.replace("{students}", listed)))
    assert found.exit_code == 0
    assert found.answer is not None
    return found.answer


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    made = Place(tmp_path_factory.mktemp("checkpoints") / "project")
    made.answer = measured(made, RECIPES)
    return made


def declared(found: Answer) -> dict[str, Verdict]:
    return {v.id: v for v in found.verdicts if v.declared}


def items(place: Place, key: str) -> dict[str, dict[str, list[float]]]:
    """Stratum to prompt to the scores of its items, as the trial wrote them."""
    (file,) = (place.workspace.root / "trials" / key).rglob("items-1.csv")
    found: dict[str, dict[str, list[float]]] = {}
    for row in csv.DictReader(file.open()):
        of = found.setdefault(row["stratum"], {}).setdefault(row["prompt"], [])
        of.append(float(row["score"]))
    return found


def table(values) -> PromptValues:
    return PromptValues({"all": 1.0}, {"all": {f"p{i}": float(v) for i, v in enumerate(values)}})


def test_a_pair_of_checkpoints_is_the_paired_t_over_prompts():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 12), rng.normal(0, 1, 12)
    arrays = ByPrompt.of({("a", 0): table(a), ("b", 0): table(b)})
    values = {"a": {0: float(a.mean())}, "b": {0: float(b.mean())}}
    cells = one_group([{"a": 1.0, "b": -1.0}])
    found = estimate(values, cells, arrays, checkpoints=True)
    known = stats.ttest_rel(a, b)
    assert found.p() == pytest.approx(known.pvalue, rel=1e-10)
    assert found.interval(0.05) == pytest.approx(tuple(known.confidence_interval()), rel=1e-10)
    assert found.interval(0.05, narrow=True) is None, "on these prompts it is what it is"
    assert estimate(values, cells, arrays).interval(0.05) is None, "a recipe needs replicates"


def test_several_of_a_label_make_a_claim_over_seeds_and_prompts():
    rng = np.random.default_rng(1)
    trials = {(arm, r): table(rng.normal(0, 1, 9)) for arm in "ab" for r in range(3)}
    values = {a: {r: trials[a, r].mean for r in range(3)} for a in "ab"}
    cells = one_group([{"a": 1.0, "b": -1.0}])
    arrays = ByPrompt.of(trials)
    assert estimate(values, cells, arrays, checkpoints=True) == estimate(values, cells, arrays)


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"a": [1, 2, 3]}, "values by prompt of b r0: there are none"),
        ({"a": [1, 2, 3], "b": [2, 3, 4]}, SAME_PROMPTS),
        ({}, "no values by prompt are recorded"),
    ],
)
def test_what_cannot_be_judged_says_why(tables, why):
    arrays = ByPrompt.of({(n, 0): table(v) for n, v in tables.items()}) if tables else None
    cells = one_group([{"a": 1.0, "b": -1.0}])
    found = estimate({"a": {0: 2.0}, "b": {0: 3.0}}, cells, arrays, checkpoints=True)
    assert (found.difference, found.interval(0.05), found.p(), found.why) == (-1, None, None, why)


def test_the_verdict_is_scipys_paired_t_in_every_stratum(place: Place):
    """Two strata of fixed weights: Welch-Satterthwaite over the paired t of each."""
    h1 = declared(place.answer)["H1"]
    keys = {row.arm: row.keys[0] for row in place.answer.arms}
    a, b = items(place, keys["a"]), items(place, keys["b"])
    variance = fourth = difference = 0.0
    for stratum, weight in STRATA.items():
        psi = [_linear(of[stratum]) for of in (b, a)]
        known = stats.ttest_rel(*psi)
        ends = known.confidence_interval()
        half = (ends.high - ends.low) / 2 / stats.t.ppf(0.975, known.df)
        part = (weight * half) ** 2
        variance, fourth = variance + part, fourth + part**2 / known.df
        difference += weight * (np.mean(psi[0]) - np.mean(psi[1]))
    df = variance**2 / fourth
    half = stats.t.ppf(1 - (1 - h1.level) / 2, df) * math.sqrt(variance)
    assert h1.difference == pytest.approx(difference, rel=1e-7)
    assert (h1.lo, h1.hi) == pytest.approx((difference - half, difference + half), rel=1e-6)
    p = 2 * stats.t.sf(abs(difference) / math.sqrt(variance), df)
    assert h1.p == pytest.approx(p, rel=1e-4)
    assert (h1.spread.prompts, h1.spread.prompts_df) == pytest.approx((math.sqrt(variance), df))


def _linear(prompts: dict[str, list[float]]) -> list[float]:
    """Values by prompt whose mean is the mean over items, though prompts have 1, 2 or 3 of them."""
    whole = fmean(v for row in prompts.values() for v in row)
    total = sum(map(len, prompts.values()))
    share = len(prompts) / total
    return [whole + share * len(row) * (fmean(row) - whole) for row in prompts.values()]


def test_the_answer_says_that_it_is_about_these_checkpoints(place: Place):
    found = declared(place.answer)
    for v in found.values():
        assert (v.about, v.n, v.n_prompts, v.narrow) == ("checkpoints", 1, 24, None)
        assert "these checkpoints, over 24 prompts" in v.words
        assert v.spread.seeds is None
        assert v.method.startswith("over prompts alone; ")
        assert v.notes == []
    assert {v.verdict for v in found.values()} == {"improves"}
    assert found["H2"].level == 0.975, "a family of two, both decided at once"
    assert "jackknife" in found["H2"].method
    assert sentences.reached(found["H2"]) == "improves these checkpoints, over 24 prompts"
    assert place.answer.about == "checkpoints"


def test_every_pair_that_nobody_declared_is_compared_too(place: Place):
    others = [v for v in place.answer.verdicts if not v.declared]
    assert sorted((v.metric, v.a, v.b) for v in others) == [
        ("cost", "arm=b", "arm=a"),
        ("cost", "arm=c", "arm=b"),
        ("score", "arm=c", "arm=a"),
        ("score", "arm=c", "arm=b"),
    ]
    assert all(v.about == "checkpoints" and v.lo is not None for v in others)


def test_no_page_table_or_tag_speaks_of_seeds(place: Place):
    made = answered(place.folder / "study.yaml", place.workspace.root)
    page = markdown(made.answered_by(place.answer), portable=True)
    said = page[: page.index("## How to read this")]
    assert "over seeds" not in said
    assert "1 seed" not in said
    assert "these checkpoints, over 24 prompts" in said
    assert "standard error: prompts " in said
    assert "about these checkpoints, over prompts" in verdict_table(place.answer).title
    assert "interval of these checkpoints, over 24 prompts]" in arm_table(place.answer).title
    html = (place.workspace.root / "studies" / "strangers" / "report.html").read_text()
    assert "over prompts, of these checkpoints" in html
    assert "share their seeds" not in html


def test_mlflow_is_told_that_it_is_about_these_checkpoints(place: Place):
    plan = answered(place.folder / "study.yaml", place.workspace.root).plan
    project = Projection(plan, ["score", "cost"], place.folder)
    assert project.verdict_line(place.answer) == (
        "H1: improves these checkpoints, over 24 prompts; "
        "H2: improves these checkpoints, over 24 prompts"
    )
    assert project.claimed(place.answer).endswith("; claims of these checkpoints, over 24 prompts")
    arm = next(row for row in place.answer.arms if row.arm == "b")
    tags = project.arm(arm, place.answer, 0.0, 0).tags
    assert tags["stillhouse.scope"].endswith("; intervals of these checkpoints, over 24 prompts")


def test_the_plan_does_not_ask_for_replicates(place: Place):
    plan = answered(place.folder / "study.yaml", place.workspace.root).plan
    told = "checkpoints measured once each: a claim about these, over the prompts they share"
    assert [c.notes for c in plan.contrasts] == [[told], [told]]


def test_without_values_by_prompt_it_is_undecided_and_says_why(tmp_path: Path):
    recipes = {name: {**recipe, "tables": "none"} for name, recipe in RECIPES.items()}
    h1 = declared(measured(Place(tmp_path / "p"), recipes))["H1"]
    assert (h1.verdict, h1.lo, h1.about) == ("undecided", None, "checkpoints")
    assert "(no values by prompt are recorded)" in h1.words
    assert "these checkpoints, on exactly these prompts" in h1.words


def test_the_verifier_works_it_out_and_finds_what_was_changed(place: Place, tmp_path: Path):
    made = answered(place.folder / "study.yaml", place.workspace.root)
    file = small(made, tmp_path / "x.zip")
    held = contents(file)
    (tmp_path / "verify.py").write_bytes(held["verify.py"])
    script = [sys.executable, "-I", "-S", str(tmp_path / "verify.py"), str(file)]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 come out of the values again" in done.stdout
    h1 = ("verdicts", 0)
    for path, value in (
        ((*h1, "p"), 0.01),
        ((*h1, "lo"), 0.0),
        ((*h1, "about"), "recipes"),
        ((*h1, "spread", "prompts"), 0.1),
        ((*h1, "spread", "seeds"), 0.1),
        ((*h1, "n_prompts"), 23),
        (("arms", 0, "cells", "score", "hi"), 3.0),
        (("about",), "recipes"),
        (("about",), "x"),
    ):
        answer = json.loads(held["results/answer.json"])
        at = answer
        for key in path[:-1]:
            at = at[key]
        assert at[path[-1]] != value
        at[path[-1]] = value
        changed = {"results/answer.json": json.dumps(answer).encode()}
        with pytest.raises(BundleError):
            verify_bundle(rewritten(file, tmp_path / "y.zip", changed))


def test_measure_prints_sentences_a_table_and_json(tmp_path: Path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        checkpoint(tmp_path / name / "student", RECIPES[name])
    cli._register()
    given = ["measure", "a/student", "b/student", "--no-mlflow"]
    given += ["--measured-by", "tests.support.stub_prompts"]
    told = CliRunner().invoke(cli.app, given)
    assert told.exit_code == 0, told.output
    _, _, pairs = told.output.partition("checkpoints in pairs:\n")
    sentence, head, row = pairs.strip().splitlines()
    assert "arm=b improves score over arm=a" in sentence
    assert "these checkpoints, over 24 prompts" in sentence
    assert head.split()[0] == "metric"
    assert row.split()[:4] == ["cost", "arm=b", "-", "arm=a"]
    assert "Claims are about these checkpoints" in told.output
    again = CliRunner().invoke(cli.app, [*given, "--json"])
    found = json.loads(again.stdout.splitlines()[-1])["pairs"]
    assert [(p["metric"], p["a"], p["b"], p["n_prompts"]) for p in found] == [
        ("score", "arm=b", "arm=a", 24),
        ("cost", "arm=b", "arm=a", 24),
    ]
    assert all(p["about"] == "checkpoints" and p["p"] < 1 for p in found)
