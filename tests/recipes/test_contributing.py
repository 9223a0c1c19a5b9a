"""The objective that CONTRIBUTING adds, taken from its text and run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from recipes.ledger import Ledger
from recipes.objectives import base, counts, matching, on_policy, settings
from recipes.schedule import Rungs
from tests.recipes import plain

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


def test_the_objective_of_the_guide_passes_the_test_of_the_guide():
    section = TEXT[TEXT.index("**An objective.**") : TEXT.index("**A metric.**")]
    objective, fields, test = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    names = {"Literal": Literal, "Field": Field, "Rungs": Rungs}
    for module in (base, counts, matching, on_policy, settings, plain):
        names |= vars(module)
    # Not in the union here; another objective that rolls out draws the same micro-batch.
    batch_for = plain.batch_for
    names["batch_for"] = lambda _, task: batch_for({"name": "velocity_regression"}, task)
    for code in (fields, objective, test):
        exec(compile(code, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    names["test_student_gradient_is_the_pull"]()
    made = names["PullObjective"](names["Pull"](teacher_steps=3))
    batch, nets = names["batch_for"](None, "t2i"), plain.networks()
    ledger = Ledger()
    ledger.watch("student", nets.student)
    ledger.watch("teacher", nets.teachers.members[0][0])
    made.student_loss(batch, nets)
    assert ledger.forwards(8) == pytest.approx(made.forwards(4, 2.5))
