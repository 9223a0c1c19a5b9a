"""Code digests of recipes: what each runs and no more; what changes is stale where it runs."""

from __future__ import annotations

import ast
import json
import os
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from recipes import code_roots, source_files, subject
from recipes.code_roots import BY_STRING, limits, recipe_roots
from recipes.definitions import IMPORT_STRING, SourceFile, source_file
from recipes.objectives.settings import OBJECTIVES
from recipes.reached import Reached, Target, Tree
from recipes.recipe import Recipe
from recipes.recorded_by_file import code_by_file
from recipes.source_files import ROOT, code_below, code_of
from recipes.subject.protocols import protocol_named, protocol_names
from tests.recipes.executed_code import PROTOCOL

SETTINGS = "recipes.objectives.settings"


def _recipe(**fields) -> dict:
    small = {"cycles": 1, "batch_size": 4}
    return Recipe.model_validate({"train": small, **fields}).model_dump(mode="json")


def _files(recipe: dict) -> dict[str, str]:
    return subject.fingerprints(recipe, PROTOCOL).code_files


def _of_files() -> dict:
    data = {"sources": {"m": {"kind": "files", "path": "m.jsonl"}}, "composition": {"m": 1}}
    return _recipe(data=data)


def test_what_other_recipes_run_is_left_out():
    ours = _files(_recipe(objective={"name": "dmd"}))
    assert "recipes/objectives/dmd.py#DmdObjective" in ours
    assert "evaluation/frechet.py#frechet_distance" in ours
    paths = {name.partition("#")[0] for name in ours}
    others = {"consistency", "dp_dmd", "decoupled_dmd", "velocity_regression"}
    left_out = {f"recipes/objectives/{name}.py" for name in others}
    left_out |= {"recipes/data/rows.py", "recipes/data/files.py", "recipes/toyworld/fit_teacher.py"}
    left_out |= {f"{module.replace('.', '/')}.py" for module in code_roots.OWN}
    assert not left_out & paths
    assert all((ROOT / path).is_file() for path in (*paths, *left_out))
    assert "recipes/cycle.py#Distillation" not in _files({"row": "data"})
    assert {"recipes/data/rows.py#Rows", "recipes/data/files.py#files_digest"} <= set(
        code_of(_of_files(), ()).files
    )


def test_arms_of_two_objectives_agree_in_every_definition_of_both():
    one, two = (_files(_recipe(objective={"name": n})) for n in ("dmd", "consistency"))
    assert one != two
    assert all(one[name] == two[name] for name in one.keys() & two.keys())


def test_every_root_is_there():
    """Of every objective, family and shipped protocol; none is passed over."""
    tree = source_files.tree(files=True)
    roots = {t for name in OBJECTIVES for t in recipe_roots(_recipe(objective={"name": name}))}
    roots |= {
        t
        for family in ("toyworld", "qwen-image")
        for t in recipe_roots({"row": "", "family": family})
    }
    for protocol in subject.protocols:
        roots |= {source_files._target(name) for name in protocol_names(protocol)}
    assert len(roots) > 20
    assert [root for root in roots if not tree.has(root)] == []
    assert all(tree.has(choice) for choice in code_roots.CHOICES)
    assert tree.files.keys() >= code_roots.OWN | code_roots.FILES | code_roots.FRONTS


def test_every_source_file_is_read():
    found = {path for path, *_ in source_files.seen_files(ROOT)}
    there = {
        path.relative_to(ROOT).as_posix()
        for package in source_files.PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert found == there


# --- what looks things up by a string

DYNAMIC = {"import_module", "resolve_name", "__import__", "run_module", "run_path", "exec", "eval"}
UNSEEN = {"__init_subclass__", "__subclasses__", "globals", "vars", "register", "singledispatch"}
"""Ways to reach code that following names does not see."""
SERIALISED = {
    "computed_field", "field_serializer", "model_serializer", "validate_call", "get_type_hints",
    "get_annotations",
}  # fmt: skip
"""What reads the annotations of signatures, which do not count."""
HARMLESS = {"evaluation.import_string:resolve"}
"""Uses `vars` for a message."""


def _dynamic(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """(`module:definition`, what in it is looked up by a string, or can not be seen)."""
    for statement in tree.body:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        name = getattr(statement, "name", "") or getattr(targets[0], "id", "")
        place = f"{module}:{name}"
        for node in ast.walk(statement):
            told = getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))
            if isinstance(node, ast.Attribute) and told in ("eval", "exec"):
                continue  # a network's
            if told in DYNAMIC | SERIALISED or (told in UNSEEN and place not in HARMLESS):
                yield place, told
            if isinstance(node, ast.Constant) and IMPORT_STRING.fullmatch(str(node.value)):
                yield place, node.value
            if isinstance(node, ast.keyword) and node.arg == "metaclass":
                yield place, "__init_subclass__"
            if isinstance(node, ast.Attribute) and told == "modules" and node.value.id == "sys":
                yield place, "sys.modules"


def test_everything_that_is_looked_up_by_a_string_is_accounted_for():
    """A new registry, import string or importlib call needs a root: name it in `code_roots`."""
    found: dict[str, set[str]] = {}
    trained_by = {settings.trained_by for settings in OBJECTIVES.values()}
    for path, *_ in source_files.seen_files(ROOT):
        module = source_files.module_of(path)
        if module in code_roots.OWN:
            continue
        for place, told in _dynamic(ast.parse((ROOT / path).read_bytes()), module):
            if module != SETTINGS or told not in trained_by:
                found.setdefault(place, set()).add(told)
    assert found.keys() == BY_STRING.keys()
    assert not {told for names in found.values() for told in names} & (UNSEEN | SERIALISED)


def test_what_cannot_be_seen_would_be_found():
    text = 'import sys\nx = sys.modules["a"]\ndef f():\n    importlib.import_module("b")\n'
    text += '"recipes.a:b"\nclass C:\n    def __init_subclass__(cls): ...\n'
    found = {told for _, told in _dynamic(ast.parse(text), "recipes.x")}
    assert found == {"sys.modules", "import_module", "recipes.a:b", "__init_subclass__"}


def test_sources_of_data_are_looked_for_in_protocols_and_import_strings_alone():
    protocols = (ROOT / "evaluation" / "protocols").glob("*.yaml")
    named = {n for p in protocols for n in re.findall(r"[\w.]+:[A-Za-z_]\w+", p.read_text())}
    ours = {name for name in named if IMPORT_STRING.fullmatch(name)}
    assert len(ours) > 10
    assert ours == {name for p in subject.protocols for name in protocol_names(p)}


# --- changes


def _texts() -> dict[str, str]:
    return {
        source_files.module_of(path): (ROOT / path).read_text()
        for path, *_ in source_files.seen_files(ROOT)
    }


def _read(module: str, text: str) -> SourceFile:
    package = (ROOT / module.replace(".", "/")).is_dir()
    return source_file(text.encode(), module if package else module.rpartition(".")[0])


def _digests(changes: dict[str, str]) -> dict[str, Reached]:
    """By objective, had some modules another text; and of a reference row, and of files of data."""
    files = source_files._texts() | {m: _read(m, text) for m, text in changes.items()}
    tree, with_files = Tree(files, limits(files=False)), Tree(files, limits(files=True))
    measured_by = {source_files._target(name) for name in protocol_names(PROTOCOL)}
    asked = {name: _recipe(objective={"name": name}) for name in OBJECTIVES} | {"row": {"row": ""}}
    found = {n: tree.reached({*recipe_roots(r), *measured_by}) for n, r in asked.items()}
    found["files"] = with_files.reached({*recipe_roots(_of_files()), *measured_by})
    return found


@cache
def _unchanged() -> dict[str, Reached]:
    return _digests({})


def _touched(changes: dict[str, str]) -> set[str]:
    before = _unchanged()
    return {name for name, made in _digests(changes).items() if made.digest != before[name].digest}


def _replaced(module: str, before: str, after: str) -> dict[str, str]:
    text = _texts()[module]
    assert before in text
    return {module: text.replace(before, after)}


def test_a_new_objective_or_family_makes_no_other_trial_stale():
    more = 'class Pull(Rolled, Fakeless):\n    name: Literal["pull"] = "pull"\n\n\n'
    place = "def _named("
    assert _touched(_replaced(SETTINGS, place, more + place)) == set()
    assert _touched(_replaced(SETTINGS, "Dmd | DpDmd |", "Dmd | DpDmd | Pull |")) == set()
    family = _replaced("recipes.recipe", '"qwen-image"]', '"qwen-image", "other"]')
    assert _touched(family) == set()
    assert _touched({"recipes.families.other": "def opened(model):\n    return model\n"}) == set()


def test_settings_count_for_those_who_need_them():
    def touched(before: str, after: str) -> set[str]:
        return _touched(_replaced(SETTINGS, before, after))

    assert touched("grid: int = Field(\n        20", "grid: int = Field(\n        30") == {
        "consistency"
    }
    assert {"dmd", "dp_dmd", "decoupled_dmd"} <= touched(
        "low: float = Field(0.02", "low: float = Field(0.03"
    )
    assert touched("return rungs - 1 if", "return rungs - 2 if") >= {"dmd", "dp_dmd"}


def test_a_moved_objective_changes_nothing():
    text = _texts()["recipes.objectives.dmd"]
    moved = _replaced(SETTINGS, "recipes.objectives.dmd:", "recipes.objectives.moved:")
    before = _unchanged()["dmd"]
    files = source_files._texts() | {m: _read(m, t) for m, t in moved.items()}
    files["recipes.objectives.moved"] = _read("recipes.objectives.moved", text)
    files["recipes.objectives.dmd"] = _read("recipes.objectives.dmd", "")
    roots = [
        Target("recipes.objectives.moved", t.name) if t.module == "recipes.objectives.dmd" else t
        for t in recipe_roots(_recipe(objective={"name": "dmd"}))
    ]
    roots += [source_files._target(name) for name in protocol_names(PROTOCOL)]
    after = Tree(files, limits(files=False)).reached(roots)
    assert "recipes.objectives.moved#DmdObjective" in after.listing
    assert after.digest == before.digest


def _mutants(count: int) -> list[tuple[str, str]]:
    """(module, definition) drawn from all of both packages."""
    found = [
        (module, name)
        for module, file in sorted(source_files._texts().items())
        if module not in code_roots.OWN | code_roots.FRONTS
        for name, unit in sorted(file["units"].items())
        if unit["kind"] == "function"
    ]
    return random.Random(0).sample(found, count)


def _changed(module: str, name: str) -> str:
    """The module's text, had the function one more statement at its end."""
    text = _texts()[module]
    node = next(n for n in ast.parse(text).body if getattr(n, "name", "") == name)
    lines = text.splitlines(keepends=True)
    last = node.body[0]
    indent = " " * last.col_offset
    lines.insert(last.lineno - 1, f"{indent}print('another', end='')\n")
    return "".join(lines)


@pytest.mark.parametrize("count", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_what_changed_is_stale_where_it_runs_and_nowhere_else(count: int):
    """A sample of definitions, each changed alone, against the listings of what is run."""
    before = _unchanged()
    running = 0
    for module, name in _mutants(count):
        key = f"{module}#{name}"
        expected = {arm for arm, made in before.items() if key in made.listing}
        after = _digests({module: _changed(module, name)})
        touched = {arm for arm, made in after.items() if made.digest != before[arm].digest}
        assert touched == expected, key
        for arm in touched:
            own, new = before[arm].listing, after[arm].listing
            themselves = {k for k in own if own[k].split("-")[0] != new[k].split("-")[0]}
            assert themselves == {key}
        running += bool(touched)
    assert 0 < running < count, "of those that run and of those that do not"


def test_deleting_what_nothing_runs_changes_no_digest():
    listed = {key for made in _unchanged().values() for key in made.listing}
    changes = {}
    for module, text in _texts().items():
        dead = [
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef) and f"{module}#{node.name}" not in listed
            if f"{module}#{node.name}" not in BY_STRING
        ]
        lines = text.splitlines(keepends=True)
        for node in reversed(dead):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            del lines[first - 1 : node.end_lineno]
        if dead and module not in code_roots.OWN | code_roots.FRONTS:
            changes[module] = "".join(lines)
    assert len(changes) > 15
    assert _touched(changes) == set()


# --- caches


def _fresh() -> None:
    for kept in (source_files._code, source_files._texts, source_files.tree):
        kept.cache_clear()
    source_files._Kept.of.cache_clear()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the packages' sources, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path, *_ in source_files.seen_files(ROOT):
        target = tmp_path / "home" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / path).read_bytes())
    monkeypatch.setattr(source_files, "ROOT", tmp_path / "home")
    _fresh()
    yield tmp_path / "home"
    _fresh()


def test_what_was_found_is_kept_until_a_file_is_touched(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, names = _recipe(), protocol_names(PROTOCOL)
    first = code_of(recipe, names)
    _fresh()
    with monkeypatch.context() as patched:
        patched.setattr(source_files, "source_file", None)
        patched.setattr(source_files, "Tree", None)  # nothing is read or followed again
        assert (code_of(recipe, names).digest, code_of(recipe, names).files) == (
            first.digest, first.files,
        )  # fmt: skip
    edited = home / "evaluation" / "frechet.py"
    was = edited.stat()
    edited.write_bytes(edited.read_bytes().replace(b"return", b"yield ", 1))
    os.utime(edited, ns=(was.st_atime_ns, was.st_mtime_ns))  # as a copy with its times has
    _fresh()
    assert edited.stat().st_size == was.st_size
    assert code_of(recipe, names).digest != first.digest


def test_a_cache_that_is_not_ours_is_made_again(home: Path, tmp_path: Path):
    first = code_of(_recipe(), ()).digest
    for kept in (tmp_path / "cache" / "stillhouse").glob("*.json"):
        for held in ("", '{"found": 1}', json.dumps({"found": {}, "reader": "x"})):
            kept.write_text(held)
            _fresh()
            assert code_of(_recipe(), ()).digest == first


def test_a_file_that_cannot_be_read_is_named(home: Path):
    (home / "recipes" / "flow.py").write_text("from torch import *\n")
    with pytest.raises(ValueError, match=r"recipes/flow\.py: line 1: from torch import \*"):
        code_of(_recipe(), ())


def test_equal_roots_share_one_listing():
    one, two = (subject.fingerprints(_recipe(guidance={"scale": s}), PROTOCOL) for s in (1, 3))
    assert one.code_files is two.code_files


def test_rows_are_ruled_by_code_of_their_own():
    ruled = code_below("recipes.data.rows", "recipes.data.toyworld")
    assert {"recipes/data/rows.py#Rows", "recipes/data/files.py#files_digest"} <= set(ruled.files)
    assert "recipes/cycle.py#Distillation" not in ruled.files


def test_the_digest_by_file_is_still_there_for_what_was_recorded_with_it():
    recipe, protocol = _recipe(), protocol_named(PROTOCOL).model_dump(mode="json")
    old = code_by_file(recipe, protocol)
    assert {"recipes/cycle.py", "evaluation/frechet.py"} <= old.files.keys()
    assert f"{SETTINGS.replace('.', '/')}.py#Dmd" in old.files
    assert re.fullmatch("[0-9a-f]{32}", old.digest)
    row = code_by_file({"row": "data"}, protocol)
    assert "recipes/cycle.py" not in row.files
    earlier = subject.earlier_fingerprints(recipe, PROTOCOL)
    assert (earlier.code, earlier.code_files) == (old.digest, old.files)
    assert earlier.data == subject.fingerprints(recipe, PROTOCOL).data
