"""Task mixture: exact counts, schedules, by sample and by micro-batch."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.journal.seeds import stream_for
from recipes.data.draws import Draws
from recipes.data.mixture import Mixture
from recipes.data.settings import Mixing
from recipes.recipe import Recipe
from tests.recipes.tiny import SHAPE, TinySource

starts = st.floats(0, 1, exclude_max=True)
part = st.one_of(st.none(), st.integers(0, 100).map(lambda n: n / 100))


@st.composite
def schedules(draw: st.DrawFn):
    if draw(st.booleans()):
        return draw(st.one_of(st.none(), st.builds(dict, start=part, end=part)))
    ends = sorted(draw(st.sets(st.integers(1, 99), max_size=3)))
    return [{"until": end / 100, "edit": draw(part)} for end in [*ends, 100]]


def _share(schedule, usual: float, progress: float) -> float:
    """T2I share, read plainly."""
    if schedule is None:
        return 1 - usual

    def edit(value):
        return usual if value is None else value

    if isinstance(schedule, dict):
        a, b = edit(schedule["start"]), edit(schedule["end"])
        return 1 - (a + (b - a) * progress)
    return 1 - next(edit(p["edit"]) for p in schedule if progress < p["until"])


def _mixture(edit: float, budget: int = 40, **mixing) -> Mixture:
    return Mixture(
        round(1 - edit, 12), Mixing.model_validate_json(Mixing(**mixing).model_dump_json()), budget
    )


@settings(max_examples=60, deadline=None)
@given(schedules(), st.integers(0, 100), starts, st.integers(1, 9), st.integers(1, 60))
def test_rows_given_stay_within_one_of_the_integral_of_the_share(
    schedule, percent: int, start: float, size: int, budget: int
):
    edit = percent / 100
    mixture = _mixture(edit, budget, by="sample", schedule=schedule)
    given_rows = itertools.accumulate(
        mixture.t2i_rows(start, cycle, size) for cycle in range(budget)
    )
    fine, due = 50, 0.0  # midpoints: exact for ramps, and for pieces up to one step of the sum
    for cycle, rows in enumerate(given_rows):
        points = [(cycle + (i + 0.5) / fine) / budget for i in range(fine)]
        due += size * math.fsum(_share(schedule, edit, p) for p in points) / fine
        assert abs(rows - due) < 1 + 4 * size / fine
        assert 0 <= mixture.t2i_rows(start, cycle, size) <= size


@settings(max_examples=60, deadline=None)
@given(schedules(), st.integers(0, 99), starts, st.integers(1, 5), st.integers(1, 40))
def test_a_fixed_t2i_count_is_met_to_the_row(
    schedule, percent: int, start: float, size: int, budget: int
):
    assume(_mixture(percent / 100, budget, schedule=schedule).mean > 0)  # else it is refused
    mixture = _mixture(percent / 100, budget, count="t2i", schedule=schedule)
    rows = [mixture.t2i_rows(start, cycle, size) for cycle in range(mixture.cycles)]
    assert sum(rows) == size * budget
    assert all(0 <= count <= size for count in rows)
    assert sum(mixture.is_t2i(start, cycle) for cycle in range(mixture.cycles)) == budget


@pytest.mark.parametrize(
    ("edit", "cycles"), [(0.0, 40), (0.1, 45), (0.5, 80), (0.6, 100), (0.9, 400)]
)
def test_a_fixed_t2i_count_extends_training(edit: float, cycles: int):
    tasks = {"t2i": 1 - edit, "edit": edit}
    assert (
        Recipe.model_validate({"tasks": tasks, "mixing": {"count": "t2i"}}).total_cycles == cycles
    )
    assert Recipe.model_validate({"tasks": tasks}).total_cycles == 40


def test_a_schedule_lengthens_by_its_mean_share():
    thirds = {"tasks": {"t2i": 1, "edit": 2}, "mixing": {"count": "t2i"}}
    assert Recipe.model_validate(thirds).total_cycles == 120
    late = [{"until": 0.5, "edit": 0.0}, {"until": 1.0, "edit": 0.5}]  # T2I share 0.75 on average
    recipe = Recipe.model_validate(
        {"mixing": {"count": "t2i", "schedule": late}, "train": {"cycles": 30}}
    )
    assert recipe.total_cycles == 40


def test_a_scheduled_micro_batch_follows_its_piece():
    late = [{"until": 0.5, "edit": 0.0}, {"until": 1.0}]
    mixture = _mixture(1.0, 20, schedule=late)
    assert [mixture.is_t2i(0.3, cycle) for cycle in range(20)] == [True] * 10 + [False] * 10
    assert mixture.edits
    assert not _mixture(0.0, 20).edits


def test_a_ramp_ends_where_it_says():
    mixture = _mixture(0.5, 100, schedule={"start": 0.0, "end": 1.0})
    tasks = [mixture.is_t2i(0.3, cycle) for cycle in range(100)]
    assert sum(tasks[:20]) >= 17
    assert sum(tasks[80:]) <= 3


def test_arms_with_different_schedules_share_the_uniform():
    """Where their shares agree, so do their tasks: golden-ratio draws do not remember."""
    plain = _mixture(0.5, 40)
    late = _mixture(0.5, 40, schedule=[{"until": 0.5, "edit": 0.0}, {"until": 1.0}])
    after = range(20, 40)
    assert [plain.is_t2i(0.7, c) for c in after] == [late.is_t2i(0.7, c) for c in after]


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        ({"schedule": [{"until": 0.5, "edit": 0.0}]}, "the last one 1"),
        ({"schedule": [{"until": 0.9}, {"until": 0.2}, {"until": 1.0}]}, "rising"),
        ({"schedule": []}, "the last one 1"),
        ({"count": "t2i", "schedule": {"start": 1.0, "end": 1.0}}, "above 0"),
        ({"by": "batch"}, "micro_batch"),
    ],
)
def test_bad_mixing_is_refused(mixing: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({"mixing": mixing})


# Draws under a mixture by sample


def _draws(replicate: int = 0, **fields) -> Draws:
    train = {"batch_size": 8, "cycles": 12}
    recipe = Recipe.model_validate({"train": train, "mixing": {"by": "sample"}, **fields})
    return Draws(recipe, TinySource(), SHAPE, stream_for(replicate))


def test_every_update_is_split_in_the_share():
    draws = _draws(tasks={"t2i": 0.75, "edit": 0.25})
    for cycle in range(12):
        found = draws.batches("student", cycle, 0)
        assert [(b.task, b.noise_BCHW.shape[0], w) for b, w in found] == [
            ("t2i", 6, 0.75),
            ("edit", 2, 0.25),
        ]
    assert draws.shares()["t2i"] == 0.75


def test_an_uneven_share_is_exact_over_time():
    draws = _draws(tasks={"t2i": 0.7, "edit": 0.3}, train={"batch_size": 8, "cycles": 50})
    for cycle in range(50):
        sizes = {b.task: b.noise_BCHW.shape[0] for b, _ in draws.batches("student", cycle, 0)}
        assert sizes["t2i"] in (5, 6)
    assert draws.realised["t2i"] == 280


def test_rows_of_a_split_update_are_those_of_the_whole_one():
    """Noise and level belong to the row, whichever task it is given."""
    whole = _draws(mixing={"by": "micro_batch"}).batch("student", 3, 0)
    parts = [b for b, _ in _draws().batches("student", 3, 0)]
    assert [p.task for p in parts] == ["t2i", "edit"]
    for name in ("noise_BCHW", "renoise_t_B", "renoise_BCHW"):
        joined = [row for p in parts for row in getattr(p, name)]
        assert all(map(_same, joined, getattr(whole, name)))
    # Rungs are as even within each task: half of eight rows over four rungs is one each.
    assert [p.exits_B.tolist() for p in parts] == [[3, 2, 1, 0]] * 2


def _same(a, b) -> bool:
    return bool((a == b).all())


@pytest.mark.parametrize("by", ["sample", "micro_batch"])
def test_workers_that_take_cycles_in_any_order_see_the_same_batches(by: str):
    fields = {
        "tasks": {"t2i": 0.6, "edit": 0.4},
        "mixing": {"by": by, "count": "t2i", "schedule": {"start": 0.0, "end": 0.8}},
    }
    one = _draws(**fields)
    total = one.recipe.total_cycles
    assert total > 12
    workers = [_draws(**fields) for _ in range(3)]
    seen = {}
    for cycle in reversed(range(total)):
        seen[cycle] = workers[cycle % 3].batches("student", cycle, 0)
    for cycle in range(total):
        ours = one.batches("student", cycle, 0)
        assert len(ours) == len(seen[cycle])
        for (a, weight), (b, other) in zip(ours, seen[cycle], strict=True):
            assert (a.task, weight, a.condition.labels) == (b.task, other, b.condition.labels)
            assert _same(a.condition.text_BLD, b.condition.text_BLD)
            assert _same(a.noise_BCHW, b.noise_BCHW)
    assert one.realised == sum((w.realised for w in workers), start=type(one.realised)())
    assert one.realised["t2i"] == 12 * 8
