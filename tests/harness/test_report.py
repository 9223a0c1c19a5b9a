"""The page: self-contained, complete, deterministic, well-formed, and right about its numbers."""

from __future__ import annotations

import base64
import html.parser
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.analysis.answer import answer
from harness.report import facts, panels
from harness.report.page import render, write_report
from tests.support.made_up import MadeUp, make_up
from tests.support.made_up_records import METRICS, Options

FAULTS = {
    ("portrait-e0.1-g2", 2): "diverged",
    ("portrait-e1-g2", 3): "failed",
    ("portrait-e0.3-g2", 1): "retried",
}
VOID = {"meta", "link", "br", "img", "rect", "circle", "line"}


class Page(html.parser.HTMLParser):
    """Collects text, attributes and unclosed tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.images: list[str] = []
        self.urls: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.skip = False
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.skip = tag == "style"
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data"):
                (self.images if tag == "img" else self.urls).append(value or "")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        self.skip = False
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data):
        if not self.skip:
            self.words.append(data)


def drawn(made: MadeUp) -> tuple[str, Page]:
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    text = render(made.answered(found))
    return text, Page(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeUp:
    return make_up(tmp_path_factory.mktemp("made"), Options(faults=FAULTS))


@pytest.fixture(scope="module")
def page(made) -> tuple[str, Page]:
    return drawn(made)


def test_it_loads_nothing_and_needs_nothing(page):
    text, parsed = page
    assert parsed.tags & {"script", "link", "iframe", "object", "form", "a"} == set()
    assert parsed.urls == []
    assert all(uri.startswith("data:image/png;base64,") for uri in parsed.images)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"(https?:)?//[a-z]", text.replace("base64,", "")[: text.index("<main>")])


def test_it_is_well_formed(page):
    _, parsed = page
    assert parsed.problems == []
    assert parsed.open == []


def test_it_says_the_answer_with_symbols_and_every_section(made, page):
    _, parsed = page
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    assert found.question in parsed.text
    assert found.headline in parsed.text
    for verdict in found.verdicts:
        if verdict.planned:
            assert verdict.words in parsed.text
            assert verdict.claim in parsed.text
    for title in ("Answer", "Every arm", "What each factor does", "Trade-off", "Results"):
        assert title in parsed.text
    for title in ("The same items, every arm", "Learning curves", "Compute", "Reproduce"):
        assert title in parsed.text
    for symbol in "\u25b2\u25bc\u25a0\u25cb":
        assert symbol in parsed.text


def test_every_planned_trial_is_there_with_its_key_and_state(made, page):
    text, parsed = page
    for planned in made.plan.trials:
        assert planned.trial.key in text
        assert planned.trial.key[:8] in parsed.text
    assert "5/6" in parsed.text
    assert "1 diverged" in parsed.text
    assert "1 failed" in parsed.text


def test_no_winner_is_starred_while_a_competitor_is_missing(page, tmp_path):
    assert 'class="best"' not in page[0]
    complete = make_up(tmp_path, Options(pictures=False, replicates=2))
    assert drawn(complete)[0].count('class="best"') == 4


def test_the_same_inputs_give_the_same_bytes(made, tmp_path):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)

    def files() -> dict[str, bytes]:
        page = write_report(made.answered(found))
        assert page.name == "report.html"
        folder = page.parent
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    first = files()
    assert first == files()
    assert set(first) == {
        "report.html",
        "report.md",
        "results/journal.jsonl",
        "results/answer.json",
        *(f"tables/{name}.csv" for name in ("trials", "effects")),
        *(
            f"tables/{name}.{kind}"
            for name in ("arms", "verdicts", "agreement")
            for kind in ("csv", "tex", "md")
        ),
    }
    again = make_up(tmp_path, Options(faults=FAULTS))
    assert drawn(again)[0].encode() == first["report.html"]


def test_text_from_users_is_escaped(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    nasty = found.model_copy(update={"question": "<script>alert(1)</script> & more"})
    text = render(made.answered(nasty))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_panels_show_references_first_and_the_last_step(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    sheet = panels.sheet(made.answered(found))
    assert sheet is not None
    assert [row.label for row in sheet.rows][:4] == [
        "truth",
        "source unchanged",
        "teacher 40 steps",
        "undistilled 4 steps",
    ]
    assert len(sheet.rows) == 14
    assert [item for item, _ in sheet.items][-1] == "edit-scene-005"
    source = sheet.rows[1]
    assert [p is None for p in source.pictures] == [True] * 4 + [False] * 2
    assert all(p is not None and p.hard_pixels for p in sheet.rows[0].pictures)


def test_large_pictures_are_scaled_down(made, tmp_path):
    from PIL import Image

    copied = make_up(tmp_path, Options(replicates=1))
    for file in tmp_path.rglob("landscape-004-*.png"):
        Image.open(file).resize((320, 240)).save(file)
    found = answer(copied.plan, copied.study, copied.history, metrics=METRICS)
    sheet = panels.sheet(copied.answered(found))
    assert sheet is not None
    picture = sheet.rows[0].pictures[0]
    assert picture is not None
    assert not picture.hard_pixels
    raw = base64.b64decode(picture.uri.partition(",")[2])
    assert Image.open(io.BytesIO(raw)).size == (192, 144)


def test_a_study_without_pictures_or_results_still_has_a_page(tmp_path):
    nothing = make_up(tmp_path, Options(upto=0, replicates=2, pictures=False))
    text, parsed = drawn(nothing)
    assert "No answer yet" in parsed.text
    assert "The same items" not in parsed.text
    assert parsed.problems == []
    assert "Nothing has run yet" not in text  # the references have


def test_warnings_stand_beside_the_verdicts(tmp_path):
    other = frozenset({("portrait-e0.1-g2", 0)})
    made = make_up(tmp_path, Options(replicates=2, pictures=False, other_code=other))
    _, parsed = drawn(made)
    assert "Read this beside the verdicts" in parsed.text
    assert parsed.text.index("evaluation/edit.py") < parsed.text.index("Every arm")


def test_compute_paragraph_counts_failures(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    text = facts.compute(found)
    assert "65 attempts" in text
    assert "2 attempts whose result does not count" in text
    assert "NVIDIA H100" in text
    assert "GPU-hours" in text


def test_reproduce_lines_name_a_trial_that_is_done(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    what, line = facts.commands(found, made.plan)[0]
    key = line.split()[-1]
    assert "portrait-e0.5-g2" in what
    assert made.history.trials[key].state == "done"


def test_the_report_command_answers_from_records(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: few\nquestion: Does x help?\nsubject: harness.testing.stub\nrecipe: {cycles: 1}\n"
        "factors: {part.x: [0.0, 1.0]}\nreplicates: 2\nprotocol: v1\nprimary: score\n"
        "contrasts: [{id: H1, a: {part.x: 1.0}, b: {part.x: 0.0}}]\n"
    )
    command = [sys.executable, "-m", "harness.cli", "report", str(study)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No answer yet, 0 of 4 trials done.")
    page = Path(done.stdout.strip().splitlines()[-1].removeprefix("report").strip())
    assert "Does x help?" in page.read_text()
