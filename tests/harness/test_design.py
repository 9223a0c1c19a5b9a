"""Designs: which arms there are, in which order, under which names, with which recipes."""

import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Subject
from harness.journal.labels import label_of
from harness.study.arms import arms, combinations, layout, mixtures
from harness.study.load import load_study
from harness.study.resolver import RecipeError, Resolver
from harness.subjects.load import load_subject
from harness.testing import stub
from tests.harness.study_files import study, write

STUB = load_subject("harness.testing.stub")
TWO = """\
recipe: {part: {x: 0.5, y: 1}, mixture: {a: 3, b: 1}}
factors:
  part.x: [0.0, 1.0, 2.0]
  part.y: [1, 2]
baseline: {part.x: 1.0, part.y: 2}
"""


def levels(folder: Path, body: str) -> list[tuple[str, ...]]:
    return [tuple(c.values()) for c in combinations(study(folder, body))]


def test_full_is_every_combination_with_the_baseline_first(tmp_path: Path) -> None:
    assert levels(tmp_path, TWO) == [
        ("1", "2"), ("0", "1"), ("0", "2"), ("1", "1"), ("2", "1"), ("2", "2"),
    ]  # fmt: skip


def test_one_factor_changes_one_thing_at_a_time(tmp_path: Path) -> None:
    assert levels(tmp_path, TWO + "design: one_factor\n") == [
        ("1", "2"), ("0", "2"), ("2", "2"), ("1", "1"),
    ]  # fmt: skip


def test_explicit_is_the_list_filled_from_the_baseline(tmp_path: Path) -> None:
    body = TWO + "design: explicit\narms: [{part.x: 2}, {}, {part.x: 0, part.y: 1}, {part.x: 2}]\n"
    assert levels(tmp_path, body) == [("1", "2"), ("2", "2"), ("0", "1")]


@pytest.mark.parametrize("design", ["full", "one_factor"])
def test_where_applies_to_every_design(tmp_path: Path, design: str) -> None:
    body = TWO + f"design: {design}\nwhere: [part.x < 2 or part.y == 1]\n"
    assert ("2", "2") not in levels(tmp_path, body)
    assert levels(tmp_path, body)[0] == ("1", "2")


def test_arms_are_resolved_recipes_and_the_baseline_is_marked(tmp_path: Path) -> None:
    made = arms(study(tmp_path, TWO + "set: {cycles: 7}\n"), STUB)
    assert [arm.baseline for arm in made] == [True] + [False] * 5
    assert made[0].name == "x1-y2"
    assert made[0].recipe["part"] == {"x": 1.0, "y": 2}
    assert made[0].recipe["cycles"] == 7
    assert made[0].recipe["fault_replicate"] == -1, "defaults are part of a resolved recipe"
    assert made[0].recipe["mixture"] == {"a": 0.75, "b": 0.25}


def test_order_and_names_do_not_depend_on_anything_but_the_file(tmp_path: Path) -> None:
    one = [a.model_dump() for a in arms(study(tmp_path, TWO), STUB)]
    assert one == [a.model_dump() for a in arms(study(tmp_path, TWO), STUB)]
    fewer = arms(study(tmp_path, TWO.replace("[0.0, 1.0, 2.0]", "[1.0, 0.0]")), STUB)
    names = {a.name: a.recipe for a in arms(study(tmp_path, TWO), STUB)}
    assert {a.name: a.recipe for a in fewer}.items() <= names.items()


def test_the_subject_may_name_levels(tmp_path: Path) -> None:
    def arm_label(path: str, value: Any) -> str:
        return {"part.x": "x=", "part.y": "why"}[path] + f"{value:g}"

    named = SimpleNamespace(**{k: getattr(stub, k) for k in dir(stub)}, arm_label=arm_label)
    assert isinstance(named, Subject)
    assert arms(study(tmp_path, TWO), named)[0].name == "x_1-why2"


def test_identical_recipes_are_one_arm(tmp_path: Path) -> None:
    body = """\
        recipe: {}
        factors:
          look: {levels: {plain: {part.x: 0}, same: {part.x: 0.0, part.y: 0}, other: {part.x: 1}}}
          mixture: ["1:0", "2:0"]
        """
    file = write(tmp_path, body.replace('"1:0", "2:0"', "{a: 1}, {a: 2}"))
    made = layout(load_study(file), STUB)
    assert [arm.levels["look"] for arm in made.arms] == ["plain", "other"]
    assert len(made.cells) == 6
    assert {len(found) for found in made.shared.values()} == {4, 2}


def test_names_are_unique_and_short(tmp_path: Path) -> None:
    long = ", ".join(f"{'n' * 60}{i}: {{part.x: {i}}}" for i in range(3))
    body = f"recipe: {{}}\nfactors:\n  one: {{levels: {{{long}}}}}\n  fault: [{'f' * 60}, g]\n"
    names = [arm.name for arm in arms(study(tmp_path, body), STUB)]
    assert len(set(names)) == 6
    assert max(len(name) for name in names) <= 100


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1.0, "1"), (0.5, "0.5"), (1e-4, "0.0001"), (True, "on"), (False, "off"), (None, "none"),
        ("9:1", "9:1"), ("", "empty"), ({"portrait": 1}, "portrait"),
        ({"portrait": 1, "text": 0, "landscape": 0.5}, "portrait+0.5landscape"),
        ({"kind": "dmd"}, "dmd"), ([1, 2.0], "1+2"), ({"a": 0}, "map-b1e8bb"),
    ],
)  # fmt: skip
def test_labels_are_short_and_stable(value: Any, label: str) -> None:
    found = label_of(value)
    assert found == label or (label.startswith("map-") and found.startswith("map-"))


def test_structured_values_have_distinct_labels() -> None:
    one = label_of({"kind": "dmd", "k": 4, "deep": {"x": 1}})
    two = label_of({"kind": "dmd", "k": 5, "deep": {"x": 1}})
    assert one.startswith("dmd-")
    assert one != two


# resolving --------------------------------------------------------------------------------


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tasks(_Base):
    t2i: float = Field(1.0, ge=0)
    edit: float = Field(0.0, ge=0)


class Dmd(_Base):
    kind: Literal["dmd"] = "dmd"
    updates: int = 4


class Gan(_Base):
    kind: Literal["gan"] = "gan"
    weight: float


class Panel(_Base):
    shares: dict[str, float] = Field(
        default_factory=lambda: {"x": 1.0, "y": 1.0}, json_schema_extra={"simplex": True}
    )


class Rich(_Base):
    tasks: Tasks = Field(default_factory=Tasks, json_schema_extra={"simplex": True})
    mix: dict[str, float] = Field(
        default_factory=lambda: {"p": 1.0},
        json_schema_extra={"simplex": True, "components": ["l", "p", "t"]},
    )
    objective: Dmd | Gan = Field(default_factory=Dmd)
    panels: dict[str, Panel] = Field(default_factory=lambda: {"base": Panel()})
    extra: Dmd | None = None
    sizes: tuple[int, ...] = (1, 2)


def test_one_component_rescales_the_others() -> None:
    resolver = Resolver(Rich, {"mix": {"l": 1, "p": 1, "t": 2}, "tasks": {"t2i": 1, "edit": 1}})
    assert resolver.resolve({"tasks.edit": 0.3})["tasks"] == {"t2i": 0.7, "edit": 0.3}
    assert resolver.resolve({"mix.t": 0.0})["mix"] == {"l": 0.5, "p": 0.5}
    assert resolver.resolve({"mix.l": 0.2, "mix.p": 0.2})["mix"] == {"l": 0.2, "p": 0.2, "t": 0.6}


def test_a_ratio_is_in_the_order_of_the_declared_components() -> None:
    resolver = Resolver(Rich, {})
    assert resolver.resolve({"tasks": "9:1"})["tasks"] == {"t2i": 0.9, "edit": 0.1}
    assert resolver.resolve({"mix": "0:1:3"})["mix"] == {"p": 0.25, "t": 0.75}


def test_a_model_keeps_its_zeros_and_takes_missing_components_as_zero() -> None:
    resolver = Resolver(Rich, {"tasks": {"edit": 5}})
    assert resolver.resolve({})["tasks"] == {"t2i": 0.0, "edit": 1.0}
    assert resolver.resolve({"tasks.t2i": 0.25})["tasks"] == {"t2i": 0.25, "edit": 0.75}


def test_components_dropped_by_the_base_can_still_be_set() -> None:
    resolver = Resolver(Rich, {"mix": {"p": 1}})
    assert resolver.unknown("mix.t") is None
    assert resolver.resolve({"mix.t": 0.5})["mix"] == {"p": 0.5, "t": 0.5}


def test_nested_mixtures_in_named_maps() -> None:
    resolver = Resolver(Rich, {"panels": {"base": {"shares": {"x": 3, "y": 1}}, "two": {}}})
    made = resolver.resolve({"panels.base.shares.x": 0.5})
    assert made["panels"]["base"]["shares"] == {"x": 0.5, "y": 0.5}
    assert made["panels"]["two"]["shares"] == {"x": 0.5, "y": 0.5}


def test_unions_are_assigned_whole() -> None:
    resolver = Resolver(Rich, {})
    made = resolver.resolve({"objective": {"kind": "gan", "weight": 0.5}})
    assert made["objective"] == {"kind": "gan", "weight": 0.5}
    assert resolver.unknown("objective.updates") is None
    assert "no field 'weight' in 'objective'" in (resolver.unknown("objective.weight") or "")


class Told(_Base):
    objective: Annotated[Dmd | Gan, Field(discriminator="kind")] = Field(default_factory=Dmd)


def test_a_branch_told_by_a_field_is_judged_alone() -> None:
    resolver = Resolver(Told, {})
    assert resolver.resolve({"objective.updates": 3})["objective"]["updates"] == 3
    made = resolver.resolve({"objective": {"kind": "gan", "weight": 0.5}})
    assert made["objective"] == {"kind": "gan", "weight": 0.5}
    for given, path, said in (
        ({"kind": "gann"}, ("objective", "kind"), "did you mean 'gan'? allowed: dmd, gan"),
        ({"kind": "dmd", "weight": 1.0}, ("objective", "weight"), "allowed: kind, updates"),
        ({"kind": "gan"}, ("objective",), "'weight' is missing"),
    ):
        with pytest.raises(RecipeError) as error:
            resolver.resolve({"objective": given})
        assert [f.path for f in error.value.faults] == [path]
        assert said in str(error.value)


def test_paths_into_what_is_off_are_known_from_the_model() -> None:
    resolver = Resolver(Rich, {})
    assert resolver.unknown("extra.updates") is None
    assert resolver.resolve({"extra.updates": 2})["extra"] == {"kind": "dmd", "updates": 2}
    assert "did you mean 'updates'" in (resolver.unknown("extra.update") or "")
    assert "did you mean 'tasks.edit'" in (resolver.unknown("task.edit") or "")


def test_resolving_a_resolved_recipe_changes_nothing() -> None:
    resolver = Resolver(Rich, {"mix": {"l": 1, "p": 1, "t": 1}})
    once = resolver.resolve({"tasks.edit": 0.3, "mix.t": 0.1})
    assert Resolver(Rich, once).resolve({}) == once


def test_after_set_the_base_has_the_values() -> None:
    resolver = Resolver(Rich, {"tasks": "1:1"}).after({"tasks.edit": 0.2, "sizes": [3]})
    assert resolver.base["tasks"] == {"t2i": 0.8, "edit": 0.2}
    assert resolver.resolve({"tasks.t2i": 0.6})["tasks"] == {"t2i": 0.6, "edit": 0.4}
    assert resolver.resolve({})["sizes"] == [3]


@pytest.mark.parametrize(
    ("assignments", "path", "said"),
    [
        ({"mix": {"q": 1}}, ("mix",), "no component 'q'"),
        ({"mix.p": 2}, ("mix", "p"), "from 0 to 1"),
        ({"mix.p": 0.7, "mix.t": 0.7}, ("mix", "p"), "more than 1"),
        ({"sizes": [1, "a"]}, ("sizes", "1"), "valid integer"),
        ({"sizes": 3}, ("sizes",), "valid array"),
        ({"objective": {"kind": "gan"}}, ("objective",), "'weight' is missing"),
        ({"objective": {"kind": "dmd", "update": 1}}, ("objective", "update"), "unknown key"),
        ({"tasks": None}, ("tasks",), "not a mixture"),
    ],
)
def test_refused_assignments_say_where(
    assignments: dict[str, Any], path: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RecipeError) as error:
        Resolver(Rich, {}).resolve(assignments)
    assert any(f.path == path and said in f.message for f in error.value.faults), error.value


def test_mixtures_that_factors_change_are_listed(tmp_path: Path) -> None:
    body = textwrap.dedent("""\
        recipe: {mixture: {a: 3, b: 1}}
        factors: {mixture.b: [0.0, 0.5], part.x: [1]}
        """)
    made = study(tmp_path, body)
    assert mixtures(made, STUB) == {
        "mixture": {"b0-x1": {"a": 1.0}, "b0.5-x1": {"a": 0.5, "b": 0.5}}
    }
    assert mixtures(study(tmp_path, "recipe: {}\nfactors: {part.x: [1]}\n"), STUB) == {}
