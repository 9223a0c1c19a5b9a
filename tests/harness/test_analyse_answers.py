"""The whole answer: verdicts, worst cases, guard, tables, on made-up studies and by hand."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from harness.analysis.answer import answer
from harness.analysis.model import Answer
from harness.journal.history import History
from harness.journal.records import Closed, MeasuredAt, Opened
from harness.report import tables
from harness.text.printable import latex
from tests.support.made_up import MadeUp, make_up
from tests.support.made_up_records import METRICS, Options

BASE, LITTLE, NONE = (f"portrait-e{share}-g2" for share in ("0.5", "0.1", "0"))


def made(tmp_path, **options) -> tuple[MadeUp, Answer]:
    study = make_up(tmp_path, Options(pictures=False, **options))
    return study, answer(study.plan, study.study, study.history, metrics=METRICS)


def verdict(found: Answer, name: str):
    return next(v for v in found.verdicts if v.id == name)


def row(found: Answer, name: str):
    return next(r for r in found.arms if r.arm == name)


def test_verdicts_of_a_complete_study_in_words(tmp_path):
    study, found = made(tmp_path)
    h12 = verdict(found, "H12")
    assert h12.verdict == "improves"
    assert h12.expectation == "as expected"
    assert h12.n == 6
    assert h12.method == "paired t, 5 df"
    differences = [
        row(found, BASE).cells["edit/fidelity"].values[r]
        - row(found, LITTLE).cells["edit/fidelity"].values[r]
        for r in range(6)
    ]
    assert list(h12.per_replicate.values()) == pytest.approx(differences)
    assert h12.difference == pytest.approx(sum(differences) / 6)
    assert h12.words.startswith("edit_share=0.5 improves edit/fidelity over edit_share=0.1")
    assert (h12.left, h12.p_adjusted) == (h12.left, pytest.approx(h12.left * h12.p))
    over = f"over 6 seeds, on exactly these prompts, p < 0.001 as one of {h12.left}"
    for part in (f"{100 * (1 - 0.05 / h12.left):.3g} % interval", over, study.plan.scope):
        assert part in h12.words
    assert set(h12.keys) == {*row(found, BASE).keys.values(), *row(found, LITTLE).keys.values()}
    assert verdict(found, "H3").verdict == "harms"
    assert verdict(found, "H7").verdict == "equivalent"
    assert "60 of 60 trials done" in found.headline
    assert found.warnings == []


def test_contrary_to_expectation_never_changes_the_verdict(tmp_path):
    study, before = made(tmp_path)
    flipped = [
        c.model_copy(update={"expect": "lower" if c.expect else ""}) for c in study.plan.contrasts
    ]
    plan = study.plan.model_copy(update={"contrasts": flipped})
    after = answer(plan, study.study, study.history, metrics=METRICS)
    assert verdict(after, "H12").expectation == "contrary to expectation"
    for one, two in zip(before.verdicts, after.verdicts, strict=True):
        assert (one.verdict, one.p_adjusted) == (two.verdict, two.p_adjusted)


def test_a_failure_costs_its_pair_and_no_more(tmp_path):
    _, found = made(tmp_path, faults={(BASE, 2): "failed"})
    h12 = verdict(found, "H12")
    assert (h12.verdict, h12.n, h12.n_planned) == ("improves", 5, 6)
    assert h12.method == "paired t, 4 df"
    assert any(f"1 trial failed, without a part in this: {BASE} (r2)" in n for n in h12.notes)


def test_a_diverged_loser_changes_nothing_and_a_winner_is_filled_in(tmp_path):
    _, kept = made(tmp_path / "a", faults={(LITTLE, 2): "diverged"})
    assert verdict(kept, "H12").verdict == "improves"
    assert any(f"{LITTLE} (r2)" in note for note in verdict(kept, "H12").notes)
    _, filled = made(tmp_path / "b", faults={(BASE, 2): "diverged", (BASE, 4): "diverged"})
    h12 = verdict(filled, "H12")  # the worst difference seen still speaks for it
    assert (h12.verdict, h12.n, h12.worst_case) == ("improves", 4, None)


def test_a_study_stopped_after_whole_replicates_is_a_smaller_study(tmp_path):
    _, found = made(tmp_path, upto=4)
    h12 = verdict(found, "H12")
    assert (h12.verdict, h12.n) == ("improves", 4)
    assert "interim: 2 of 6 replicates have not run" in h12.notes
    assert h12.worst_case is None
    assert found.headline.startswith("Interim, 40 of 60 trials done")
    assert len([r for r in found.arms if r.kind == "arm"]) == 10


def test_one_replicate_decides_nothing(tmp_path):
    _, found = made(tmp_path, upto=1)
    assert {v.verdict for v in found.verdicts} == {"undecided"}
    assert "one replicate" in verdict(found, "H12").words


def test_nothing_run_is_an_answer_too(tmp_path):
    _, found = made(tmp_path, replicates=2, upto=0)
    assert found.headline == "No answer yet, 0 of 20 trials done."
    assert {v.verdict for v in found.verdicts} == {"undecided"}
    assert all(r.states == {"pending": 2} for r in found.arms if r.kind == "arm")
    assert found.pareto == []


def test_the_guard_names_code_device_and_files_beside_the_verdict(tmp_path):
    _, found = made(tmp_path, other_code=frozenset({(LITTLE, 0)}))
    notes = " ".join(verdict(found, "H12").notes)
    assert "evaluation/edit.py" in notes
    assert "NVIDIA H100 (11 trials), NVIDIA H200 (1 trial)" in notes
    assert "code differs" not in " ".join(verdict(found, "H3").notes)
    assert any("1 of 64 results were made by other code" in w for w in found.warnings)


def test_environments_that_differ_are_named(tmp_path):
    study, _ = made(tmp_path, replicates=2)
    key = next(t.trial.key for t in study.plan.trials if t.trial.arm == LITTLE)
    attempt = study.history.trials[key].latest
    assert attempt is not None
    attempt.opened = attempt.opened.model_copy(
        update={"environment": {"python": "3.11.9", "torch": "2.14.0"}}
    )
    found = answer(study.plan, study.study, study.history, metrics=METRICS)
    assert "torch 2.14.0 / 2.15.0" in " ".join(verdict(found, "H12").notes)


def test_other_protocol_fingerprints_are_never_mixed_in(tmp_path):
    study, _ = made(tmp_path)
    marks = study.plan.fingerprints.model_copy(update={"protocol": "77" * 32})
    plan = study.plan.model_copy(update={"fingerprints": marks})
    found = answer(plan, study.study, study.history, metrics=METRICS)
    assert all(r.cells["edit/fidelity"].n == 0 for r in found.arms)
    assert {v.verdict for v in found.verdicts} == {"undecided"}
    assert any("not measured under this protocol" in w for w in found.warnings)
    assert row(found, BASE).states == {"unmeasured": 6}
    trial = next(t.trial for t in plan.trials if t.trial.arm == BASE)
    again(study.history, trial, plan.fingerprints.protocol, 0.125)
    found = answer(plan, study.study, study.history, metrics=METRICS)
    assert row(found, BASE).cells["edit/fidelity"].values == {0: 0.125}
    assert row(found, BASE).states == {"done": 1, "unmeasured": 5}


def again(history: History, trial, protocol, value):
    """Measure a kept student under another protocol."""
    place = {"key": trial.key, "attempt": 9, "nonce": "9"}
    history.add(
        Opened(at=1, study="s", mode="measure", trial=trial, protocol=protocol, code="c", **place)
    )
    measured = MeasuredAt(step=200, metrics={"edit/fidelity": value})
    history.add(Closed(at=2, state="done", measurements=[measured], **place))


def test_compute_counts_failures_and_attempts_cut_off(tmp_path):
    faults = {(BASE, 0): "retried", (LITTLE, 1): "failed", (NONE, 0): "running"}
    study, found = made(tmp_path, replicates=2, faults=faults)
    closed = [a.closed for t in study.history.trials.values() for a in t.ordered]
    assert found.seconds_all == pytest.approx(sum(c.seconds for c in closed if c))
    assert found.seconds_failed == pytest.approx(
        sum(c.seconds for c in closed if c and c.state == "failed")
    )
    assert (found.attempts, found.attempts_failed, found.attempts_cut_off) == (25, 2, 1)
    assert found.gpu_hours == pytest.approx(found.seconds_all / 3600)
    assert found.failures["edit_share=0.1"] == {"failed": 1}


def test_exploratory_comparisons_leave_out_declared_ones_and_are_adjusted_together(tmp_path):
    _, found = made(tmp_path)
    exploratory = [v for v in found.verdicts if not v.planned]
    same = [v for v in exploratory if v.metric == "edit/fidelity" and v.factor == "edit_share"]
    assert {v.a for v in same} == {"edit_share=0", "edit_share=0.3", "edit_share=1"}
    assert all(v.p_adjusted >= v.p for v in exploratory)
    assert found.effects
    assert found.interactions == []


def test_a_full_design_has_interactions(tmp_path):
    _, found = made(tmp_path, design="full", replicates=2)
    assert len(found.interactions) == 5 * 2 + 5 * 2 + 2 * 2
    assert all(i.n == 2 and i.lo < i.difference < i.hi for i in found.interactions)


def test_a_diverged_trial_never_counts_though_it_was_measured_before(tmp_path):
    study, found = made(tmp_path, faults={(LITTLE, 2): "diverged"})
    assert study.history.trials[row(found, LITTLE).keys[2]].measured("5f" * 32)
    assert 2 not in row(found, LITTLE).cells["edit/fidelity"].values
    assert row(found, LITTLE).trial_states[2] == "diverged"


def test_the_answer_survives_json(tmp_path):
    _, found = made(tmp_path, replicates=3)
    assert Answer.model_validate(json.loads(found.model_dump_json())) == found
    assert "NaN" not in found.model_dump_json()


def test_tables_show_every_arm_with_keys_and_only_complete_winners(tmp_path):
    _, whole = made(tmp_path / "a")
    assert len(tables.best_arms(whole, "edit/fidelity")) == 1
    _, found = made(tmp_path / "b", faults={(LITTLE, 2): "diverged"})
    assert tables.best_arms(found, "edit/fidelity") == set()
    arms, trials = tables.arm_table(found), tables.trial_table(found)
    content = list(csv.DictReader(io.StringIO(tables.to_csv(arms))))
    assert len(content) == 14
    little = next(r for r in content if r["arm"] == LITTLE)
    assert little["states"] == "diverged:1 done:5"
    assert little["keys"].split() == list(row(found, LITTLE).keys.values())
    assert float(little["edit/fidelity"]) == row(found, LITTLE).cells["edit/fidelity"].mean
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(trials))))
    assert len(rows) == 64
    assert {r["state"] for r in rows} == {"done", "diverged"}
    markdown = tables.to_markdown(arms)
    assert "5/6 (1 diverged)" in markdown
    assert row(found, BASE).keys[0][:8] in markdown


def test_latex_escapes_and_keeps_all_keys_in_comments(tmp_path):
    _, found = made(tmp_path, replicates=2)
    text = tables.to_latex(tables.verdict_table(found))
    assert r"edit\_share=0.5" in text
    assert all(key in text for key in verdict(found, "H12").keys)
    assert latex("50 % & {a_b} <x> ~") == (
        r"50 \% \& \{a\_b\} \textless{}x\textgreater{} \textasciitilde{}"
    )
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_analysing_imports_no_heavy_statistics_until_asked():
    """`run` and `status` import these modules; scipy.stats, statsmodels and pandas take seconds."""
    code = (
        "import sys, harness.analysis.answer, harness.report.page, harness.reproduce.entry\n"
        "heavy = {'scipy.stats', 'statsmodels', 'pandas', 'matplotlib', 'torch', 'ray', 'mlflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
