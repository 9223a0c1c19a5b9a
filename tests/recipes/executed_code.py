"""What a real run executes: every function of ours that was called, in a process of its own."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from recipes.source_files import ROOT

PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")

RUN = '''
import ast, builtins, importlib.machinery, json, sys
from pathlib import Path

root = Path(sys.argv[1])
called = set()
builtins.CALLED = called.add


class Noting(ast.NodeTransformer):
    """Every function first says that it was called, and where it stands."""

    def __init__(self, path):
        self.path = path

    def said(self, node):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return ast.parse(f"CALLED(({self.path!r}, {first}))").body[0]

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.body.insert(bool(ast.get_docstring(node)), self.said(node))
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        self.generic_visit(node)
        first = ast.Tuple([self.said(node).value, node.body], ast.Load())
        node.body = ast.Subscript(first, ast.Constant(1), ast.Load())
        return node


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, name):
        tree = ast.parse(Path(self.path).read_bytes())
        tree = Noting(Path(self.path).relative_to(root).as_posix()).visit(tree)
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] not in ("recipes", "evaluation"):
            return None
        spec = super().find_spec(name, path, target)
        if spec is not None and spec.origin:
            spec.loader = Loader(name, spec.origin)
        return spec


sys.meta_path.insert(0, Finder)

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import subject

mode, recipe, protocol, home = sys.argv[2], json.loads(sys.argv[3]), sys.argv[4], Path(sys.argv[5])


def context(folder, **more):
    folder.mkdir(parents=True)
    return Context(
        key="k", replicate=0, seed=stream_for(0), folder=folder,
        measurement=Measurement(protocol=protocol), cache=home / "cache", **more,
    )


def ran(reports):
    seen = list(reports)
    assert seen[-1].outcome is None or seen[-1].outcome.state == "done"
    return seen


if mode == "read":
    subject.protocol_fingerprint(protocol)
    subject.Recipe.model_validate(recipe).total_cycles
    print(json.dumps(sorted(called)))
    sys.exit()
first = context(home / "one", deadline=0.0 if mode == "resume" else None)
seen = ran((subject.reference if mode == "reference" else subject.run)(recipe, first))
if mode == "resume":
    kept = next(a for report in seen for a in report.artifacts if a.kind == "checkpoint")
    seen = ran(subject.run(recipe, context(home / "two", resume_from=home / "one" / kept.path)))
if mode == "measure":
    called.clear()
    seen = ran(subject.measure(home / "one" / "student", protocol, context(home / "two")))
assert seen[-1].outcome.state == "done"
print(json.dumps(sorted(called)))
'''


def executed(
    recipe: dict[str, Any], home: Path, *, mode: str = "run", protocol: str = PROTOCOL
) -> set[str]:
    """Top-level definitions of ours, `path#name`, that were called, also while importing.

    Args:
        recipe: resolved, or settings of a reference row.
        home: a folder that is not there yet.
        mode: run, resume (interrupted after a cycle), measure (of a kept student), reference, or
            read (as a plan does, without torch).
        protocol: what is measured under.
    """
    words = (str(ROOT), mode, json.dumps(recipe), protocol, str(home))
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    called = json.loads(done.stdout.splitlines()[-1])
    return {f"{path}#{_definition(path, line)}" for path, line in called}


@cache
def _lines(path: str) -> list[tuple[int, int, str]]:
    found = []
    for node in ast.parse((ROOT / path).read_bytes()).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        name = getattr(node, "name", "") or getattr(targets[0], "id", "")
        found.append((first, node.end_lineno or first, name))
    return found


def _definition(path: str, line: int) -> str:
    return next(name for first, last, name in _lines(path) if first <= line <= last)
