"""The panel of teachers: weights in both readings and by condition, mixing, who is run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.journal.seeds import stream_for
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.families.base import Condition
from recipes.guidance.panel import TeacherPanel
from recipes.guidance.settings import Guidance, Panel, Teacher
from recipes.ledger import Ledger
from recipes.recipe import Recipe
from tests.recipes.tiny import SHAPE, TinyFamily, TinySource

F64 = torch.float64
LABELS = ("landscape", "text", "portrait", "text")
RUNGS = torch.tensor([3, 2, 1, 0])
ANCHORED = {"base": {"by_rung": [1, 1, 0, 0]}, "other": {"by_rung": [0, 0, 1, 1]}}


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _asked(task: str = "t2i") -> tuple[torch.Tensor, torch.Tensor, Condition]:
    source = _normal(4, *SHAPE, seed=3) if task == "edit" else None
    text = _normal(4, 1, 8, seed=1)
    condition = Condition(text, torch.zeros_like(text), source, LABELS)
    return _normal(4, *SHAPE), torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=F64), condition


def _panel(teachers: dict, scale: float = 2.0, mix: str = "soft") -> TeacherPanel:
    family = TinyFamily()
    weights = {"base": "teacher", "other": "specialist", "third": "fake"}
    return TeacherPanel(
        family,
        {name: family.network(weights[name]) for name in teachers},
        {name: Teacher.model_validate(t) for name, t in teachers.items()},
        Guidance(scale=scale),
        Panel.model_validate({"mix": mix}),
    )


def _counted(panel: TeacherPanel) -> list[Ledger]:
    ledgers = []
    for network, _ in panel.members:
        ledgers.append(Ledger())
        ledgers[-1].watch("teacher", network)
    return ledgers


def test_mixing_velocities_is_equation_5_on_scores():
    """Row by row: sum_m lambda_m s_m with s = -(z + (1 - t) v) / t."""
    z, t, condition = _asked()
    teachers = {"base": {"share": 1, "by_rung": [4, 3, 2, 1]}, "other": {"share": 2}, "third": {}}
    panel = _panel(teachers)
    v = panel.velocity(z, t, condition, RUNGS)
    for i, rung in enumerate(RUNGS.tolist()):
        raw = {"base": [4, 3, 2, 1][rung], "other": 2, "third": 1}
        score = torch.zeros_like(z[i])
        for (network, _), weight in zip(panel.members, raw.values(), strict=True):
            row = slice(i, i + 1)
            v_c = network(z[row], t[row], condition.text_BLD[row], None)
            v_u = network(z[row], t[row], condition.empty_BLD[row], None)
            guided = (v_u + 2.0 * (v_c - v_u))[0].detach()
            score += weight / sum(raw.values()) * -(z[i] + (1 - t[i]) * guided) / t[i]
        torch.testing.assert_close(-(z[i] + (1 - t[i]) * v[i]) / t[i], score)


def test_early_rungs_anchored_in_the_base():
    """Reading A: k is the exit rung. Rungs 0 and 1 are the base's, 2 and 3 the specialist's."""
    z, t, condition = _asked()
    panel = _panel(ANCHORED)
    assert panel.weights(condition, RUNGS).tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    alone = {name: _panel({name: {}}).velocity(z, t, condition) for name in ANCHORED}
    expected = torch.cat([alone["other"][:2], alone["base"][2:]])
    torch.testing.assert_close(panel.velocity(z, t, condition, RUNGS), expected)


def test_stages_of_training():
    """Reading B: k is how far training is; a stage holds up to its end, the last at the end too."""
    pieces = {"b": {"until": 1.0, "share": 3}, "a": {"until": 0.5, "share": 0}}
    panel = _panel({"base": {}, "other": {"by_progress": pieces}})
    z, t, condition = _asked()
    early, base = (p.velocity(z, t, condition, None, 0.2) for p in (panel, _panel({"base": {}})))
    torch.testing.assert_close(early, base)
    assert not torch.allclose(panel.velocity(z, t, condition, None, 0.8), base)
    for progress, weight in ((0.0, 0.0), (0.499, 0.0), (0.5, 0.75), (0.99, 0.75), (1.0, 0.75)):
        assert panel.weights(condition, None, progress)[1].tolist() == [weight] * 4


@pytest.mark.parametrize(
    ("by_condition", "task", "weights"),
    [
        ({"text": 1.0}, "t2i", [0, 0.5, 0, 0.5]),
        ({"text": 1.0}, "edit", [0, 0.5, 0, 0.5]),
        ({"t2i.text": 1.0}, "edit", [0, 0, 0, 0]),
        ({"t2i.text": 3.0, "text": 1.0, "t2i": 1.0}, "t2i", [0.5, 0.75, 0.5, 0.75]),
        ({"t2i.text": 3.0, "text": 1.0, "t2i": 1.0}, "edit", [0, 0.5, 0, 0.5]),
        ({"landscape": 0.0, "other": 1.0}, "t2i", [0, 0.5, 0.5, 0.5]),
    ],
)
def test_routing_by_condition_takes_the_most_specific_label(by_condition, task, weights):
    panel = _panel({"base": {}, "other": {"by_condition": by_condition}})
    assert panel.weights(_asked(task)[2])[1].tolist() == weights


def test_hard_mixing_asks_the_heaviest_teacher_alone():
    z, t, condition = _asked()
    teachers = {
        "base": {"by_rung": [3, 1, 1, 1]},
        "other": {"by_rung": [2, 1, 3, 3]},
    }
    panel = _panel(teachers, mix="hard")
    assert panel.weights(condition, RUNGS).tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    torch.testing.assert_close(
        panel.velocity(z, t, condition, RUNGS), _panel(ANCHORED).velocity(z, t, condition, RUNGS)
    )


@given(
    st.lists(st.floats(0, 10), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    st.sampled_from(["soft", "hard"]),
)
def test_weights_of_every_row_sum_to_one(first, second, mix):
    panel = _panel({"base": {"by_rung": first}, "other": {"by_rung": second}}, mix=mix)
    weights = panel.weights(_asked()[2], RUNGS)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(0), torch.ones(4, dtype=F64))


@pytest.mark.parametrize(
    ("teachers", "scale", "forwards"),
    [
        ({"base": {}, "other": {}}, 2.0, [2.0, 2.0]),
        ({"base": {}, "other": {"guidance": 1.0}}, 2.0, [2.0, 1.0]),
        (ANCHORED, 2.0, [1.0, 1.0]),
        (ANCHORED, 1.0, [0.5, 0.5]),
        ({"base": {"by_rung": [1, 1, 1, 1]}, "other": {"by_rung": [0, 0, 0, 1]}}, 2.0, [2.0, 0.5]),
        ({"base": {}, "other": {"by_condition": {"edit": 1}}}, 2.0, [2.0]),
    ],
)
def test_teachers_judge_only_the_rows_they_weigh_on(teachers, scale, forwards):
    z, t, condition = _asked()
    panel = _panel(teachers, scale)
    ledgers = _counted(panel)
    panel.velocity(z, t, condition, RUNGS)
    counted = [sum(ledger.forwards(4).values()) for ledger in ledgers]
    assert [count for count in counted if count] == forwards
    assert panel.forwards(t, condition, RUNGS) == sum(forwards)


def test_a_cycle_of_an_anchored_panel_costs_what_one_teacher_does():
    """Stratified exits: half the rows to each teacher, 2 F in all, as declared."""
    recipe = Recipe.model_validate(
        {
            "teachers": {
                "base": ANCHORED["base"],
                "other": {"weights": "specialist", **ANCHORED["other"]},
            },
            "train": {"batch_size": 8},
            "objective": {"warmup_fake_updates": 0, "fake_updates": 2},
        }
    )
    family = TinyFamily(torch.float32)
    trial = Distillation(recipe, family, Draws(recipe, TinySource(), SHAPE, stream_for(0)))
    trial.cycle()
    counted = trial.ledger.forwards(8)
    assert counted["teacher"] == 2.0
    assert counted == trial.objective.forwards(4, recipe.guidance.scale)


def test_a_row_without_a_teacher_or_without_what_routes_it_is_an_error():
    _, _, condition = _asked()
    only_text = _panel({"base": {"by_condition": {"text": 1}}})
    with pytest.raises(ValueError, match="no teacher judges t2i rows of label landscape"):
        only_text.weights(condition)
    with pytest.raises(AssertionError, match="label of every row"):
        only_text.weights(replace(condition, labels=()))
    with pytest.raises(AssertionError, match="exit rung of every row"):
        _panel(ANCHORED).weights(condition)


HALVES = {"a": {"until": 0.5, "share": 0}, "b": {"until": 1, "share": 1}}


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        ({"base": {"share": 0}}, "sum to 0"),
        ({"base": {"by_rung": [1, 0, 1, 1]}}, "sum to 0 for .* at rung 1"),
        ({"base": {"by_rung": [1, 1]}}, "teachers.base.by_rung has 2 entries"),
        ({"base": {"by_rung": [1, 1, 1, -1]}}, "at least 0"),
        ({"base": {"by_condition": {"text": float("nan")}}}, "finite"),
        ({"base": {"by_condition": {"cats": 1, "other": 1}}}, "unknown .'cats'."),
        ({"base": {"by_condition": {"t2i.scene": 1, "other": 1}}}, "unknown .'t2i.scene'."),
        ({"base": {"by_condition": {"t2i": 1}}}, "sum to 0 for edit"),
        ({"base": {"by_progress": HALVES}}, "progress is below 0.5"),
        ({"base": {"by_progress": {"a": {"until": 0.5, "share": 1}}}}, "largest must be 1"),
        ({"base": {"guidance": 30}}, "less than or equal to 20"),
    ],
)
def test_panels_that_leave_rows_without_a_teacher_are_refused(teachers: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({"teachers": teachers})


def test_two_teachers_may_complete_each_other():
    stages = {"a": {"until": 0.5, "share": 1}, "b": {"until": 1, "share": 0}}
    Recipe.model_validate(
        {
            "teachers": {
                "base": {"by_progress": stages},
                "signs": {"weights": "specialist", "by_progress": HALVES},
            }
        }
    )


def test_routing_by_a_data_source_is_refused():
    """Measuring knows what a picture shows, not which file its prompt might have come from."""
    data = {
        "sources": {"signs": {"kind": "toyworld", "category": "text"}},
        "composition": {"signs": 1},
    }
    for label in ("signs", "t2i.signs"):
        teachers = {"base": {}, "other": {"by_condition": {label: 1, "other": 0}}}
        with pytest.raises(ValueError, match=r"\['signs'\] are data sources; rows are routed by"):
            Recipe.model_validate({"data": data, "teachers": teachers})
