"""Guidance: formulas in float64 against plain readings, who pays for it, what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recipes.families.base import Condition
from recipes.guidance.panel import TeacherPanel
from recipes.guidance.scales import guided_rows, scales_of
from recipes.guidance.settings import Guidance
from recipes.ledger import Ledger
from recipes.recipe import Recipe
from tests.recipes.tiny import SHAPE, TinyFamily

F64 = torch.float64
ROWS = 8


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _asked(edit: bool = False) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    """States, levels 1/8 .. 1, and a condition whose empty prompt is not zero."""
    text, empty = _normal(ROWS, 1, 8, seed=1), _normal(1, 1, 8, seed=2).expand(ROWS, 1, 8)
    source = _normal(ROWS, *SHAPE, seed=3) if edit else None
    t = torch.arange(1, ROWS + 1, dtype=F64) / ROWS
    return _normal(ROWS, *SHAPE), t, Condition(text, empty, source)


def _panel(negative=None, **guidance) -> TeacherPanel:
    family = TinyFamily()
    networks = {"base": family.network("teacher")}
    settings = Guidance.model_validate(guidance)
    return TeacherPanel(family, networks, {"base": 1.0}, settings, None, negative)


def _plain(panel: TeacherPanel, z, t, condition, scales, other) -> torch.Tensor:
    """v_u + w (v_c - v_u), one row at a time."""
    ((network, _),) = panel.members
    rows = []
    for i, w in enumerate(scales):
        row = slice(i, i + 1)
        source = None if condition.source_BCHW is None else condition.source_BCHW[row]
        v_c = network(z[row], t[row], condition.text_BLD[row], source)
        v_u = network(z[row], t[row], other[row], source)
        rows.append((v_u + w * (v_c - v_u)).detach())
    return torch.cat(rows)


PIECES = {"late": {"below": 0.25, "scale": 1.0}, "mid": {"below": 0.75, "scale": 3.0},
          "early": {"below": 1.0, "scale": 5.0}}  # fmt: skip


@pytest.mark.parametrize("edit", [False, True])
@pytest.mark.parametrize(
    ("guidance", "scales"),
    [
        ({"scale": 2.5}, [2.5] * 8),
        ({"by_rung": [1.0, 2.0, 3.0, 0.0]}, [1, 1, 2, 2, 3, 3, 0, 0]),
        ({"by_level": PIECES}, [1, 3, 3, 3, 3, 5, 5, 5]),
        ({"scale": 4.0, "interval": {"low": 0.25, "high": 0.625}}, [1, 4, 4, 4, 4, 1, 1, 1]),
        ({"by_rung": [1.0, 2.0, 3.0, 0.0], "interval": {"low": 0.5}}, [1, 1, 1, 2, 3, 3, 0, 0]),
    ],
)
def test_every_row_is_guided_by_its_own_scale(edit: bool, guidance: dict, scales: list):
    z, t, condition = _asked(edit)
    rungs = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    panel = _panel(**guidance)
    expected = _plain(panel, z, t, condition, scales, condition.empty_BLD)
    torch.testing.assert_close(panel.velocity(z, t, condition, rungs), expected)


@pytest.mark.parametrize(
    ("guidance", "forwards", "calls"),
    [
        ({"scale": 1.0}, 1.0, 1),
        ({"scale": 2.0}, 2.0, 1),
        ({"by_level": PIECES}, 1 + 7 / 8, 1),
        ({"scale": 2.0, "interval": {"low": 0.2, "high": 0.3}}, 1 + 1 / 8, 1),
        ({"scale": 2.0, "interval": {"low": 0.26, "high": 0.27}}, 1.0, 1),
    ],
)
def test_only_guided_rows_pay_the_unconditional_forward(guidance: dict, forwards, calls):
    z, t, condition = _asked()
    panel = _panel(**guidance)
    ledger = Ledger()
    ledger.watch("teacher", panel.members[0][0])
    panel.velocity(z, t, condition)
    assert ledger.forwards(ROWS) == {"teacher": forwards}
    assert ledger.calls == {"teacher": calls}
    assert panel.forwards(t, condition) == forwards


def test_levels_that_training_uses_meet_their_bounds_in_float32():
    """0.9 as a float32 is below 0.9; a rung that is named as a bound must still be inside."""
    t = torch.tensor([0.9, 0.3])
    inside = scales_of(Guidance(scale=3.0, interval={"low": 0.9, "high": 1.0}), t, None)
    assert inside.tolist() == [3.0, 1.0]
    pieces = {"low": {"below": 0.3, "scale": 1.0}, "high": {"below": 1.0, "scale": 2.0}}
    assert scales_of(Guidance(by_level=pieces), t, None).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescaling_is_lins_equation_on_the_clean_prediction(phi: float):
    z, t, _ = _asked()
    v_c, v_u, w = _normal(ROWS, *SHAPE, seed=5), _normal(ROWS, *SHAPE, seed=6), 4.0
    found = guided_rows(z, t, v_c, v_u, torch.full((ROWS,), w, dtype=F64), phi)
    for i in range(ROWS):
        x_pos = z[i] - t[i] * v_c[i]
        x_cfg = z[i] - t[i] * (v_u[i] + w * (v_c[i] - v_u[i]))
        x_rescaled = x_cfg * x_pos.std() / x_cfg.std()  # Eq. 15
        x_final = phi * x_rescaled + (1 - phi) * x_cfg  # Eq. 16
        torch.testing.assert_close(found[i], (z[i] - x_final) / t[i])
        if phi == 1.0:
            torch.testing.assert_close((z[i] - t[i] * found[i]).std(), x_pos.std())


@given(st.floats(0, 1))
def test_rescaling_leaves_an_unguided_row_alone(phi: float):
    z, t, condition = _asked()
    plain, rescaled = _panel(scale=1.0), _panel(scale=1.0, rescale=phi)
    assert torch.equal(rescaled.velocity(z, t, condition), plain.velocity(z, t, condition))


def test_the_panel_rescales_guided_rows_only():
    z, t, condition = _asked()
    interval = {"low": 0.5, "high": 1.0}
    rescaled = _panel(scale=4.0, interval=interval, rescale=1.0).velocity(z, t, condition)
    plain = _panel(scale=4.0, interval=interval).velocity(z, t, condition)
    torch.testing.assert_close(rescaled[:3], plain[:3])
    assert all(not torch.allclose(a, b) for a, b in zip(rescaled[3:], plain[3:], strict=True))


def test_a_negative_prompt_takes_the_place_of_the_empty_one():
    z, t, condition = _asked(edit=True)
    negative = _normal(1, 8, seed=9)
    panel = _panel(negative, scale=3.0)
    other = negative.expand(ROWS, 1, 8)
    expected = _plain(panel, z, t, condition, [3.0] * ROWS, other)
    torch.testing.assert_close(panel.velocity(z, t, condition), expected)


def test_the_toy_world_encodes_a_negative_caption():
    from recipes.families.toyworld import shared
    from recipes.guidance.settings import Panel, Teacher

    caption = 'a red sign that says "TO"'
    family = shared()
    panel = TeacherPanel.load(family, {"base": Teacher()}, Guidance(negative=caption), Panel())
    assert panel.negative_LD is not None
    assert torch.equal(panel.negative_LD, family.condition([caption]).text_BLD[0])


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        ({"by_rung": [1, 1, 2, 2], "by_level": PIECES}, "both replace scale"),
        ({"by_level": PIECES, "interval": {"low": 0.1}}, "piece of by_level scale 1"),
        ({"by_rung": [1, 2, 3]}, "guidance.by_rung has 3 entries, but student.rungs is 4"),
        ({"by_rung": [1, 2, 3, 21]}, "scale 21.0 must be within 0 and 20"),
        ({"by_level": {"a": {"below": 0.5, "scale": 1}}}, r"\[0.5\] must differ"),
        ({"by_level": {}}, "must differ"),
        ({"interval": {"low": 0.7, "high": 0.2}}, "low=0.7 must be below high=0.2"),
        ({"rescale": 1.5}, "less than or equal to 1"),
        ({"negative": "a red sign"}, "guidance.negative: unknown .* nearest known one is 'a red"),
    ],
)
def test_guidance_that_cannot_be_meant_is_refused(guidance: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({"guidance": guidance})
