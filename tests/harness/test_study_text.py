"""What the text of a study file may hold: tags, words, letters, lengths; told at its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.commands import reproduce, status
from harness.errors import HarnessError
from harness.study.from_checkpoints import CheckpointStudyFile
from harness.study.load import load_study
from harness.study.yaml_file import name_in
from harness.subjects.any_recipe import by_schema
from harness.text.bounded_file import UnreadableError, limited_text
from tests.harness.study_files import mistakes, write


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ("recipe: {}\nfactors: {part.x: !linspace [0.0, 1.0, 5]}\n", (5, 19), "tag !linspace"),
        ("recipe: {}\nfactors: !every {part.x: [0.0, 1.0]}\n", (5, 10), "tag !every"),
        ("recipe: {}\nfactors: {part.x: !!omap [0.0, 1.0]}\n", (5, 19), "2002:omap"),
        ("recipe: !include {part: {x: 1}}\nfactors: {part.x: [0.0]}\n", (4, 9), "!include"),
        ("recipe: {!env colour: red}\nfactors: {part.x: [0.0]}\n", (4, 10), "!env"),
        ('recipe: {fault: "\\uD800"}\nfactors: {part.x: [0.0]}\n', (4, 17), "half of a surrogate"),
        ('recipe: {"\\uDFFF": 1}\nfactors: {part.x: [0.0]}\n', (4, 10), "half of a surrogate"),
    ],
)
def test_what_would_be_lost_without_a_word_is_a_mistake(
    body: str, place: tuple[int, int], said: str, tmp_path: Path
):
    error = mistakes(write(tmp_path, body))
    (problem,) = error.problems
    assert (problem.line, problem.column) == place
    assert said in problem.message
    str(error).encode()


def test_the_same_in_a_recipe_file(tmp_path: Path):
    (tmp_path / "base.yaml").write_text("part: !scaled {x: 1.0}\nfault: !!pairs [a]\n")
    error = mistakes(write(tmp_path, "recipe: base.yaml\nfactors: {part.x: [0.0, 1.0]}\n"))
    assert [(p.line, p.column) for p in error.problems] == [(1, 7), (2, 8)]


COMMAND = """\
name: demo
question: q
subject:
  command: python t.py {recipe.flip}
  code: [t.py]
  metrics: {s: {headline: true}}
"""


@pytest.mark.parametrize(
    ("recipe", "levels", "places"),
    [
        ("{flip: on}", "[1]", [(7, 16)]),
        ("{flip: true}", "[true, Off]", [(8, 24)]),
        ("{flip: 'off'}", "[NO, 'off']", [(8, 18)]),
        ("base.yaml", "['off', 'on']", [(2, 7)]),
    ],
)
def test_words_that_were_once_true_or_false_are_asked_about(
    recipe: str, levels: str, places: list[tuple[int, int]], tmp_path: Path
):
    """Where nothing says of what kind a value is; a field that is text takes them as text."""
    (tmp_path / "t.py").touch()
    (tmp_path / "base.yaml").write_text("x: 1\nflip: yes\n")
    body = f"recipe: {recipe}\nfactors: {{flip: {levels}}}\n"
    error = mistakes(write(tmp_path, body, COMMAND))
    told = [p for p in error.problems if "write true or false" in p.message]
    assert [(p.line, p.column) for p in told] == places
    fine = body.replace(recipe, "{flip: 'on'}").replace(levels, "['on', \"off\"]")
    assert load_study(write(tmp_path, fine, COMMAND)).base == {"flip": "on"}


def test_tags_on_values_and_quoted_words_stay_as_they_are(tmp_path: Path):
    body = "recipe: {fault: 'on', seconds: !!float 0}\nfactors: {part.x: [0.0, !!float 1]}\n"
    made = load_study(write(tmp_path, body))
    assert made.base["fault"] == "on"
    assert list(made.levels()["part.x"]) == ["0", "1"]


def test_escaped_pairs_are_letters(tmp_path: Path):
    head = 'name: demo\nquestion: "\\uD83D\\uDE00?"\nsubject: harness.testing.stub\n'
    made = load_study(write(tmp_path, "recipe: {}\nfactors: {part.x: [0.0]}\n", head))
    assert made.question == "\U0001f600?"
    json.loads(made.model_dump_json())


def test_yaml_1_1_is_refused(tmp_path: Path):
    head = "%YAML 1.1\n---\nname: demo\nquestion: q\nsubject: harness.testing.stub\n"
    error = mistakes(write(tmp_path, "recipe: {}\nfactors: {part.x: [0.0]}\n", head))
    assert "YAML 1.2" in error.problems[0].message


def test_a_name_that_no_record_can_hold_is_refused(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(HarnessError, match="not UTF-8"):
        load_study(write(folder, "recipe: {}\nfactors: {part.x: [0.0]}\n"))


DEEP = "name: a\nx: " + "[" * 50_000
LONG = "# " + "x" * 3_000_000
ALIASES = "\n".join(
    ["name: bomb", "a: &a [x]"]
    + [
        f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
)


@pytest.fixture(params=["deep", "long", "aliases", "endless", "pipe", "bytes", "folder"])
def odd(request, tmp_path: Path) -> Path:
    file = tmp_path / "odd.yaml"
    texts = {"deep": DEEP, "long": LONG, "aliases": ALIASES}
    if request.param in texts:
        file.write_text(texts[request.param])
    elif request.param == "endless":
        file.symlink_to("/dev/zero")
    elif request.param == "pipe":
        os.mkfifo(file)
    elif request.param == "bytes":
        file.write_bytes(b"name: \xff\xfe")
    else:
        file.mkdir()
    return file


def call(command, *words: str):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


def test_files_that_cannot_be_studies_are_refused_wherever_they_are_read(odd: Path, tmp_path: Path):
    with pytest.raises(HarnessError):
        load_study(odd)
    assert name_in(odd) in ("odd", "bomb")
    with pytest.raises(HarnessError):
        CheckpointStudyFile(odd)
    with pytest.raises(HarnessError, match="recipe_schema"):
        by_schema(odd)
    for command, words in (
        (status.command, [str(odd)]),
        (reproduce.command, ["ffffffff", "--study", str(odd)]),
    ):
        done = call(command, *words, "--workspace", str(tmp_path / "w"))
        assert isinstance(done.exception, HarnessError | SystemExit), done.exception
        assert done.exit_code != 0


def test_the_reader_reads_so_much_and_no_more(tmp_path: Path):
    file = tmp_path / "text"
    file.write_text("ab")
    assert limited_text(file, 2) == "ab"
    with pytest.raises(UnreadableError, match="at most 1 bytes"):
        limited_text(file, 1)
    with pytest.raises(UnreadableError, match="No such file"):
        limited_text(tmp_path / "gone")
    with pytest.raises(UnreadableError, match="no file can have this name"):
        limited_text(Path("a\0b"))


def test_status_of_a_deep_file_is_no_traceback(tmp_path: Path):
    file = tmp_path / "deep.yaml"
    file.write_text(DEEP)
    (tmp_path / "stillhouse-workspace/journal").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    words = [sys.executable, "-m", "harness.cli", "status", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "never ran" in done.stderr


def test_a_schema_whose_defaults_no_record_can_hold(tmp_path: Path):
    file = tmp_path / "recipe.schema.json"
    file.write_text('{"properties": {"mode": {"default": "\\ud800"}}}')
    with pytest.raises(HarnessError, match="no JSON Schema"):
        by_schema(file)
