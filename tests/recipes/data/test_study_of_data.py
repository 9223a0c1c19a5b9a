"""Data as a factor: leave one source out, composition of edits, through the harness's own plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.planning.printed import lines_of
from harness.study.arms import arms
from harness.study.load import load_study
from recipes import subject
from tests.harness.study_files import plan, write

HEAD = """\
name: sources
question: Which source can be left out?
subject: recipes.subject
protocol: toyworld-v1
primary: t2i/kd
recipe: {data: {composition: {landscape: 1, portrait: 1, text: 2}, size: 60}}
"""
LEAVE_ONE_OUT = """\
factors:
  sources:
    levels:
      all: {data.composition: {landscape: 1, portrait: 1, text: 2}}
      no-landscape: {data.composition.landscape: 0}
      no-portrait: {data.composition.portrait: 0}
      no-text: {data.composition.text: 0}
"""


def _study(folder: Path, body: str, head: str = HEAD):
    return load_study(write(folder, body, head))


def test_leaving_one_source_out_rescales_the_others(tmp_path: Path):
    found = {
        arm.levels["sources"]: arm.recipe["data"]["composition"]
        for arm in arms(_study(tmp_path, LEAVE_ONE_OUT), subject)
    }
    assert found == {
        "all": {"landscape": 0.25, "portrait": 0.25, "text": 0.5},
        "no-landscape": {"portrait": pytest.approx(1 / 3), "text": pytest.approx(2 / 3)},
        "no-portrait": {"landscape": pytest.approx(1 / 3), "text": pytest.approx(2 / 3)},
        "no-text": {"landscape": 0.5, "portrait": 0.5},
    }


def test_the_plan_prints_the_resolved_shares(tmp_path: Path):
    planned = plan(_study(tmp_path, LEAVE_ONE_OUT))
    text = "\n".join(lines_of(planned, "study.yaml"))
    assert "data.composition" in text
    assert "portrait 0.3333 text 0.6667" in text
    assert "landscape 0.5 portrait 0.5" in text


def test_a_file_is_a_component_like_any_other(tmp_path: Path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "x"}\n')
    source = f"{{mine: {{kind: files, path: '{tmp_path}/mine.jsonl'}}}}"
    head = HEAD.replace("landscape: 1, portrait: 1, text: 2}, size: 60", "landscape: 1, mine: 1}")
    head = head.replace("recipe: {data: {", f"recipe: {{data: {{sources: {source}, ").replace(
        "mine: 1}}}}", "mine: 1}}}"
    )
    body = "factors: {data.composition.mine: [0.0, 0.25, 1.0]}\n"
    found = [
        arm.recipe["data"]["composition"] for arm in arms(_study(tmp_path, body, head), subject)
    ]
    assert found == [{"landscape": 1}, {"landscape": 0.75, "mine": 0.25}, {"mine": 1}]


def test_a_factor_on_one_edit_type_keeps_the_rest_in_proportion(tmp_path: Path):
    body = "factors: {data.edit_types.text: [0.0, 0.5]}\n"
    none, half = (arm.recipe["data"]["edit_types"] for arm in arms(_study(tmp_path, body), subject))
    assert none == {
        name: pytest.approx(0.2) for name in ("scene", "enhance", "object", "identity", "style")
    }
    assert half["text"] == 0.5
    assert half["scene"] == pytest.approx(0.1)


def test_an_unknown_source_is_refused_with_the_nearest_name(tmp_path: Path):
    levels = "{a: {data.composition: {portrait: 1}}, b: {data.composition: {portrat: 1}}}"
    with pytest.raises(HarnessError, match="did you mean 'portrait'"):
        _study(tmp_path, f"factors: {{c: {{levels: {levels}}}}}\n")
