"""A progress file read while it grows, and texts with placeholders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.subjects.placeholders import PlaceholderError, filled, placeholders
from harness.subjects.trainer import LONGEST_LINE, ProgressFile


def _append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as stream:
        stream.write(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "progress.jsonl"


@given(st.integers(1, 40), st.integers(1, 7))
def test_lines_survive_any_cut(tmp_path_factory: pytest.TempPathFactory, cut: int, n: int) -> None:
    """Whatever the writes and reads are, each line comes once, whole, in order."""
    file = tmp_path_factory.mktemp("p") / "progress.jsonl"
    lines = [{"step": i, "metrics": {"é": i / 7}} for i in range(n)]
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    progress, found = ProgressFile(file), []
    for start in range(0, len(data), cut):
        _append(file, data[start : start + cut])
        found += list(progress.read())
    assert [(line.step, line.metrics) for line in found] == [(i, {"é": i / 7}) for i in range(n)]
    assert progress.complaint() == ""


def test_nothing_is_there_yet(file: Path) -> None:
    progress = ProgressFile(file)
    assert list(progress.read(last=True)) == []
    _append(file, '{"step": 1')
    assert list(progress.read()) == []
    assert [line.step for line in progress.read(last=True)] == []
    assert progress.ignored == 1


def test_a_last_line_needs_no_end(file: Path) -> None:
    _append(file, '{"step": 1}')
    progress = ProgressFile(file)
    assert list(progress.read()) == []
    assert [line.step for line in progress.read(last=True)] == [1]


def test_flat_lines_and_what_is_no_number(file: Path) -> None:
    _append(file, '{"step": 3, "total": 9, "loss": 0.5, "lr": "x", "ok": true, "n": null}\n')
    _append(file, '{"step": 4, "metrics": {"a": NaN, "b": Infinity}, "loss": 1}\n')
    first, second = ProgressFile(file).read()
    assert (first.step, first.total, first.metrics) == (3, 9, {"loss": 0.5})
    assert math.isnan(second.metrics["a"])
    assert second.metrics["b"] == math.inf
    assert "loss" not in second.metrics


@pytest.mark.parametrize(
    "line",
    ["epoch 1", "[1]", "{}", '{"step": -1}', '{"step": 1.5}', '{"step": true}', '{"step": "1"}',
     "[" * 100_000, b"\xff\xfe", '{"step": 2, "diverged": "\\ud800"}', '{"step": 2, "\\uDfff": 1}'],
)  # fmt: skip
def test_odd_lines_are_counted_and_passed_over(file: Path, line: str | bytes) -> None:
    _append(file, line)
    _append(file, '\n{"step": 5}\n')
    progress = ProgressFile(file)
    assert [found.step for found in progress.read()] == [5]
    assert progress.ignored == 1
    assert progress.complaint().startswith("1 line(s) of progress.jsonl ignored, the first: ")


def test_a_step_back_is_odd_and_a_new_file_is_read_anew(file: Path) -> None:
    _append(file, '{"step": 5}\n{"step": 4}\n')
    progress = ProgressFile(file)
    assert [line.step for line in progress.read()] == [5]
    assert "step 4 after step 5" in progress.complaint()
    file.write_text('{"step": 6}\n')
    assert [line.step for line in progress.read()] == [6]


def test_a_line_without_end_is_given_up(file: Path) -> None:
    progress = ProgressFile(file)
    _append(file, "x" * (LONGEST_LINE + 1))
    assert list(progress.read()) == []
    assert "longer than" in progress.complaint()
    _append(file, '\n{"step": 1}\n')
    assert [line.step for line in progress.read()] == [1]


@given(st.text(alphabet="ab{}.$' "))
def test_texts_without_placeholders_come_back_as_they_were(text: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert filled(doubled, lambda name: "never") == text


@given(st.text())
def test_values_are_never_read_again(value: str) -> None:
    assert filled("a {key} b", lambda name: value) == f"a {value} b"


@pytest.mark.parametrize(
    "text",
    ["{", "}", "a {key", "{key}}", "{}", "{key!r}", "{key:3}", "{recipe}", "{recipe.}", "{seed.}",
     "{seed.a b}", "{keys}"],
)  # fmt: skip
def test_braces_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(PlaceholderError, match=r"column \d"):
        placeholders(text)
