"""Reproducing a real trial of the toy world on every rung: a tiny one, trained and measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.journal.history import History
from harness.journal.prompt_values import PromptTables
from harness.journal.workspace import Workspace
from harness.reproduce.entry import reproduction
from harness.running.run_study import run
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy

PROTOCOL = Path(__file__).parent / "toyworld-tiny-v1.yaml"
STUDY = f"""
name: tiny
question: Does a real trial come out again?
recipe: {{}}
set:
  train.cycles: 2
  train.batch_size: 4
  train.checkpoint_every: 1
  objective.warmup_fake_updates: 1
  objective.fake_updates: 2
factors:
  guidance.scale: [1.0, 3.0]
baseline: {{guidance.scale: 1.0}}
replicates: 2
reruns: 1
protocol: {PROTOCOL}
contrasts:
  - {{id: G, claim: guidance changes edits, a: {{guidance.scale: 3.0}}, b: {{guidance.scale: 1.0}},
     metric: edit/fidelity}}
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Workspace:
    root = tmp_path_factory.mktemp("tiny")
    (root / "pyproject.toml").touch()
    (root / "study.yaml").write_text(STUDY)
    workspace = Workspace(root / "stillhouse-workspace")
    study = load_study(root / "study.yaml")
    done = run(OpenedStudy(study, workspace), executor="inline", echo=lambda _: None)
    assert done.exit_code == 0
    return workspace


def key_of(workspace: Workspace, kind: str = "trial") -> str:
    trials = History.read([workspace.journal]).trials.values()
    return next(t.key for t in trials if t.ordered[0].opened.trial.kind == kind)


@pytest.mark.parametrize("depth", ["record", "tables", "measure", "train"])
def test_every_depth_reproduces(ran, depth):
    found = reproduction(key_of(ran), workspace=ran, depth=depth, echo=lambda _: None)
    expected = "as recorded" if depth == "record" else "bit-equal"
    assert (found.decision, found.exit_code) == (expected, 0), found.reason
    if depth == "tables":
        count = int(found.reason.split()[0])
        assert count > 20  # every number but the distances to its own teacher


def test_a_rerun_of_a_real_trial_has_its_numbers(ran):
    history = History.read([ran.journal])
    rerun = history.trials[key_of(ran, "rerun")]
    trial = rerun.ordered[0].opened.trial
    protocol = rerun.ordered[0].opened.protocol
    (same,) = [
        t
        for t in history.trials.values()
        if (other := t.ordered[0].opened.trial).kind == "trial"
        and other.recipe == trial.recipe
        and other.replicate == trial.replicate
    ]
    assert rerun.measured(protocol)[-1].metrics == same.measured(protocol)[-1].metrics
    found = reproduction(rerun.key, workspace=ran, depth="measure", echo=lambda _: None)
    assert found.decision == "bit-equal"


def test_tampered_items_are_found_by_the_numbers_that_rest_on_them(ran, tmp_path):
    import pandas as pd

    copied = tmp_path / "stillhouse-workspace"
    shutil.copytree(ran.root, copied)
    (tmp_path / "pyproject.toml").touch()
    workspace = Workspace(copied)
    key = key_of(workspace)
    file = next(workspace.trial(key).rglob("items.parquet"))
    table = pd.read_parquet(file)
    table.loc[table["task"] == "edit", "following"] *= 0.9
    table.to_parquet(file, index=False)
    found = reproduction(key, workspace=workspace, depth="tables", echo=lambda _: None)
    assert (found.decision, found.exit_code) == ("not reproduced", 1)
    assert "edit/following" in {v.metric for v in found.values}


def test_the_claim_and_fresh_seeds_of_a_real_study(ran):
    found = reproduction(workspace=ran, contrast="G", depth="measure", echo=lambda _: None)
    assert found.decision == "bit-equal"
    assert len(found.parts) == 4
    fresh = reproduction(key_of(ran), workspace=ran, fresh_seeds=1, echo=lambda _: None)
    assert fresh.decision == "not judged"  # two recorded replicates are too few to judge by
    assert json.loads(fresh.model_dump_json())["parts"][0]["reason"] == "measured"


def test_prompt_tables_of_stored_items_are_those_that_measuring_wrote(ran):
    """So trials recorded without them can be read again."""
    from recipes import subject

    history = History.read([ran.journal])
    known = history.trials[key_of(ran)]
    opened, measured = known.complete.opened, known.measured(known.complete.opened.protocol)[-1]
    folder = ran.trial(known.key) / "attempts" / known.complete.folder_name
    made = subject.prompt_tables(
        folder, measured.step, opened.trial.recipe, opened.protocol_name, ran.cache
    )
    home = folder / f"measured-{measured.step:07d}"
    assert made["items"] == (home / "by-item.csv").read_text()
    assert made["prompts"] == (home / "by-prompt.csv").read_text()
    tables = PromptTables(history)
    for metric in ("edit/fidelity", "t2i/clip", "t2i/kd", "t2i/fid", "t2i/fid_teacher"):
        found = tables.of(known.key, None, opened.protocol, metric)
        assert found is not None, tables.why_not(known.key, None, opened.protocol, metric)
        assert found.pseudo == (metric not in ("edit/fidelity", "t2i/clip"))
