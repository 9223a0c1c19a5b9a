"""Bundles over seeds and prompts, with every kind of contrast: whatever is changed is found."""

from __future__ import annotations

import copy
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.bundle.read import verify_bundle
from harness.bundle.verify.prompt_rows import PROMPTS
from harness.errors import BundleError

from .bundles import contents, rewritten, small, studied

ANSWER, MANIFEST = "results/answer.json", "bundle.json"
STUDY = """\
name: demo
question: Does x help?
subject: tests.support.stub_prompts
recipe: {recipe}
factors:
  x: {{levels: [0.0, 0.1, 0.5], ordered: true}}
  by_prompt: [0.1, 0.2]
baseline: {{x: 0.0, by_prompt: 0.1}}
design: full
replicates: 4
protocol: {protocol}
primary: score
measure_at: [1, 2, 3]
contrasts:
  - {{id: H1, claim: x helps, a: {{x: 0.5}}, b: {{x: 0.0}}, expect: higher, margin: 0.3}}
  - {{id: H2, claim: a little harms, a: {{x: 0.1}}, b: {{x: 0.0}}, metric: cost, expect: lower}}
  - {{id: rise, trend: x}}
  - {{id: both, interaction: [x, by_prompt], levels: {{x: [0.0, 0.5]}}}}
  - {{id: which, more: [x, by_prompt]}}
  - {{id: top, best: x}}
  - {{id: melt, collapse: {{x: 0.1}}, margin: 0.4}}
  - {{id: first, sooner: {{a: {{x: 0.5}}, b: {{x: 0.0}}, threshold: 1.02}}}}
"""
WORDS = {"claim", "notes", "a", "b", "words", "aliases", "id", "amended", "factor", "keys", "unit"}
"""Of a verdict, what is told and not worked out, or is looked for elsewhere."""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    return small(studied(folder / "p", STUDY, "{steps: 3}"), folder / "demo.zip")


@pytest.fixture(scope="module")
def held(file: Path) -> dict[str, bytes]:
    return contents(file)


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inside:
        if key in WORDS:
            continue
        if isinstance(child, dict | list) and child:
            yield from leaves(child, (*path, key))
        elif not isinstance(child, dict | list):
            yield (*path, key)


OTHER = {
    "verdict": "equivalent",
    "kind": "difference",
    "method": "by eye",
    "metric": "other",
    "expectation": "contrary to expectation",
}


def changed(content: Any, path: tuple) -> Any:
    """A copy in which one value is another, by as little as must be found."""
    made = copy.deepcopy(content)
    at = made
    for key in path[:-1]:
        at = at[key]
    old = at[path[-1]]
    if isinstance(old, bool):
        at[path[-1]] = not old
    elif isinstance(old, int):
        at[path[-1]] = old + 1
    elif isinstance(old, float):
        at[path[-1]] = old * (1 + 1e-6) if old else 1e-6
    elif isinstance(old, str):
        new = OTHER.get(path[-1], "x")
        at[path[-1]] = new if new != old else "undecided" if new == "equivalent" else "x"
    else:
        at[path[-1]] = 0.5
    return made


def passing(file: Path, folder: Path, member: str, content: Any, paths) -> list[tuple]:
    """Those of the paths whose change nobody finds."""
    found = []
    for path in paths:
        copied = {member: json.dumps(changed(content, path)).encode()}
        try:
            verify_bundle(rewritten(file, folder / "x.zip", copied))
            found.append(path)
        except BundleError:
            pass
    return found


def test_it_is_verified_without_stillhouse_and_judges_every_kind(file: Path, tmp_path: Path, held):
    answer = json.loads(held[ANSWER])
    declared = {v["id"]: v for v in answer["verdicts"] if v["planned"]}
    kinds = {"difference", "trend", "interaction", "more", "best", "collapse", "sooner"}
    assert {v["kind"] for v in declared.values()} == kinds
    assert all(v["n_prompts"] == 24 for name, v in declared.items() if name != "first")
    assert declared["rise"]["parts"]
    assert {v["verdict"] for v in declared.values()} > {"best", "improves", "undecided"}
    assert declared["H1"]["sizes"].keys() == {"d_z"}
    assert declared["H2"]["sizes"].keys() == {"d_z", "log_ratio"}
    script = tmp_path / "verify.py"
    script.write_bytes(held["verify.py"])
    words = [sys.executable, "-I", "-S", str(script), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measurements have values by prompt" in done.stdout


def test_every_number_and_verdict_of_a_declared_contrast_is_worked_out(file, held, tmp_path):
    answer = json.loads(held[ANSWER])
    declared = [i for i, v in enumerate(answer["verdicts"]) if v["planned"]]
    random.Random(5).shuffle(declared)
    chosen: dict[tuple, tuple] = {}  # each field once, of some contrast or other
    for i in declared:
        for path in leaves(answer["verdicts"][i]):
            shape = tuple(part for part in path if not str(part).isdigit())
            chosen.setdefault(shape, ("verdicts", i, *path))
    assert len(chosen) > 30
    assert passing(file, tmp_path, ANSWER, answer, chosen.values()) == []


def test_every_number_of_the_table_of_arms_and_the_frame_is_worked_out(file, held, tmp_path):
    answer = json.loads(held[ANSWER])
    paths = [("arms", 1, "cells", *p) for p in leaves(answer["arms"][1]["cells"])]
    paths += [(name,) for name in ("alpha", "rules", "protocol")]
    loose = next(i for i, v in enumerate(answer["verdicts"]) if v["factor"])
    paths += [("verdicts", loose, name) for name in ("p_adjusted", "level", "lo", "verdict")]
    paths += [("interactions", 0, name) for name in ("p_adjusted", "level", "hi")]
    assert passing(file, tmp_path, ANSWER, answer, paths) == []


def test_what_a_contrast_weighs_is_worked_out(file, held, tmp_path):
    manifest = json.loads(held[MANIFEST])
    paths = []
    for i, contrast in enumerate(manifest["contrasts"]):
        listed = [p for p in leaves(contrast) if p[-1] not in ("name", "level")]
        # Of `best` only the clearest pair of levels is told in numbers.
        cells = [p for p in listed if p[0] == "parts" and contrast["kind"] != "best"]
        listed = [path for path in listed if path[0] != "parts"] + random.Random(i).sample(
            cells, min(2, len(cells))
        )
        paths += [("contrasts", i, *path) for path in listed]
    assert passing(file, tmp_path, MANIFEST, manifest, paths) == []


def _rows(held) -> list[str]:
    return gzip.decompress(held[PROMPTS]).decode().splitlines()


def _packed(lines: list[str]) -> dict[str, bytes]:
    return {PROMPTS: gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0)}


def _swapped_values(line: str) -> str:
    """Two prompts' values exchanged: every mean stays what it was."""
    head, brace, rest = line.partition('"{')
    body, end, tail = rest.rpartition('}"')
    parts = [part.rpartition(":") for part in body.split(",")]
    values = [value for *_, value in parts]
    values[0], values[1] = values[1], values[0]
    new = ",".join(f"{name}:{value}" for (name, _, _), value in zip(parts, values, strict=True))
    return head + brace + new + end + tail


@pytest.mark.parametrize("seed", range(8))
def test_values_by_prompt_are_worked_out(file, held, tmp_path, seed: int):
    """Of the last step: what no number rests on, in between, is only held against its mean."""
    lines, rng = _rows(held), random.Random(seed)
    last = [n for n, line in enumerate(lines) if ",3,score," in line]
    number = rng.choice(last)
    ways = [
        _swapped_values(lines[number]),
        lines[number].replace(",no,", ",yes,"),
        lines[number].replace(",0.25,", ",0.26,").replace(",0.75,", ",0.74,"),
        lines[number].replace(",12,", ",13,"),
        lines[number].replace(",3,score", ",4,score"),
        lines[number].replace(":1", ":2"),
        lines[number].replace(":0", ":NaN"),
        None,
    ]
    way = ways[seed]
    assert way != lines[number]
    made = [*lines[:number], *([way] if way else []), *lines[number + 1 :]]
    with pytest.raises(BundleError) as found:
        verify_bundle(rewritten(file, tmp_path / "x.zip", _packed(made)))
    assert found.value.member in (PROMPTS, ANSWER), found.value


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"no gzip",
        lambda raw: raw + b"more",
        lambda raw: gzip.compress(gzip.decompress(raw) + b'a,"b\n'),
        lambda raw: gzip.compress(gzip.decompress(raw).replace(b"weight", b"other", 1)),
        lambda raw: gzip.compress(b"\xff\xfe" + gzip.decompress(raw)),
        lambda raw: gzip.compress(gzip.decompress(raw) + b" " * 2**28),
        lambda raw: None,
    ],
)
def test_damaged_values_by_prompt_are_refused(file, held, tmp_path, spoil):
    with pytest.raises(BundleError) as found:
        verify_bundle(rewritten(file, tmp_path / "x.zip", {PROMPTS: spoil(held[PROMPTS])}))
    assert found.value.member in (PROMPTS, ANSWER)
