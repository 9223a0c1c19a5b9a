"""Words of trainers, bundles, journals and folder names at every exit: read, never obeyed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.text.printable import code, csv_cell, latex, markdown, printable, shown
from harness.text.terminal import Terminal

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066\r\x08"
MARKUP = "<img src=x onerror=alert(1)> [here](http://evil.example) ![p](http://evil.example/p.png)"
FORMULA = '=HYPERLINK("http://evil.example","x")'
EFFECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

TRAINER = """
import json, pathlib, sys
out, word = sys.argv[1:3]
if word.startswith("bad"):
    sys.stderr.write({said!r})
    sys.exit(3)
with open(out, "w") as stream:
    stream.write(json.dumps({{"step": 1, "metrics": {{"score": float(len(word))}}}}) + "\\n")
print({said!r})
"""
STUDY = """
name: words
question: "Does {markup} help?"
subject:
  command: [{python!r}, trainer.py, "{{attempt}}/p.jsonl", "{{recipe.word}}"]
  code: [trainer.py]
  progress: "{{attempt}}/p.jsonl"
  metrics: {{score: {{headline: true, higher_is_better: true}}}}
recipe: {{word: x}}
factors:
  word: {levels}
baseline: {{word: x}}
replicates: 1
contrasts:
  - {{id: H1, claim: "{markup}", a: {{word: {formula}}}, b: {{word: x}}}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study file of a project whose folder has a name with escapes; it has run."""
    home = tmp_path_factory.mktemp("words") / "a\x1b[31mb" / "studies" / "words"
    home.mkdir(parents=True)
    (home.parents[1] / "pyproject.toml").touch()
    said = f"{ESCAPES} {MARKUP} {FORMULA}\n"
    (home / "trainer.py").write_text(TRAINER.format(said=said))
    levels = ["x", FORMULA, MARKUP, "bad"]
    text = STUDY.format(
        python=sys.executable,
        levels=json.dumps(levels),
        formula=json.dumps(FORMULA),
        markup=MARKUP,
    )
    (home / "study.yaml").write_text(text)
    done = cli("run", str(home / "study.yaml"), "--inline", "--no-mlflow")
    assert done.returncode == 1, done.stderr
    assert "bad" in done.stdout
    assert not EFFECT.search(done.stdout + done.stderr)
    return home / "study.yaml"


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, errors="surrogateescape",
        env=os.environ | {"PYTHONUTF8": "1"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def keys(lab: Path) -> list[str]:
    root = lab.parents[2] / "stillhouse-workspace"
    found = [x for f in (root / "journal").glob("*.jsonl") for x in f.read_text().splitlines()]
    closed = [json.loads(x) for x in found if '"closed"' in x]
    return [r["key"] for r in sorted(closed, key=lambda r: r["state"])]  # done first


COMMANDS = {
    "plan": ["plan", "FILE", "--arms"],
    "plan json": ["plan", "FILE", "--json"],
    "run": ["run", "FILE", "--inline", "--no-mlflow"],
    "status": ["status", "FILE"],
    "status json": ["status", "FILE", "--json"],
    "report": ["report", "FILE"],
    "show": ["show", "FAILED", "--workspace", "PLACE"],
    "logs": ["logs", "FAILED", "--workspace", "PLACE"],
    "reproduce": ["reproduce", "DONE", "--workspace", "PLACE"],
    "reproduce nothing": ["reproduce", "ESCAPES", "--workspace", "PLACE"],
    "export": ["export", "FILE"],
    "bundle": ["bundle", "FILE", "--output", "OUT"],
    "verify": ["bundle", "--verify", "OUT"],
    "slurm": ["slurm", "FILE", "--array", "2", "--output", "-"],
    "measure": ["measure", "ESCAPES"],
    "sync": ["sync", "ESCAPES", "--workspace", "PLACE"],
    "ui": ["ui", "--workspace", "PLACE"],
    "doctor": ["doctor", "FILE", "--no-mlflow"],
    "schema": ["schema", "ESCAPES"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_a_strangers_escapes(name: str, lab: Path) -> None:
    stand_ins = {
        "FILE": str(lab),
        "PLACE": str(lab.parents[2] / "stillhouse-workspace"),
        "FAILED": keys(lab)[-1],
        "DONE": keys(lab)[0],
        "ESCAPES": "a\x1b[2J\x9bb",
        "OUT": str(lab.parents[3] / "bundle.zip"),
    }
    done = cli(*(stand_ins.get(word, word) for word in COMMANDS[name]))
    assert done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert not EFFECT.search(done.stdout + done.stderr), (done.stdout, done.stderr)
    if name in ("show", "logs"):
        assert "owned" in done.stdout, "the trainer's words are there"
    if "json" in name and done.stdout:
        json.loads(done.stdout)


def test_tables_and_pages_show_words_as_they_are(lab: Path) -> None:
    place = lab.parents[2] / "stillhouse-workspace"
    assert cli("report", str(lab)).returncode == 0
    files = [f for f in (place / "studies" / "words").rglob("*") if f.is_file()]
    for file in files:
        if file.suffix in (".md", ".html", ".csv", ".tex"):
            assert not EFFECT.search(file.read_text()), file
        if file.suffix == ".md":
            text = file.read_text()
            assert "<img" not in text, file
            text = re.sub(r"\[[a-z ]+\]\(/docs/statistics\.md#[a-z]+\)", "", text)  # our own
            assert not re.search(r"(?<!\\)\]\(", text), file
        if file.suffix == ".html":
            assert "<img src=x" not in file.read_text()
        if file.suffix == ".csv":
            for row in csv.reader(io.StringIO(file.read_text())):
                for cell in row:
                    assert not re.match(r"[=+@]|-[^0-9]", cell), cell
    assert any(FORMULA.replace('"', '""') in f.read_text() for f in files if f.suffix == ".csv")


def test_a_bundle_of_such_a_study_is_sound(lab: Path, tmp_path: Path) -> None:
    """Its verifier, with Python alone, knows the form of the words in the tables, too."""
    import zipfile

    out = tmp_path / "b.zip"
    made = cli("bundle", str(lab), "--output", str(out))
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(out) as archive:
        (tmp_path / "verify.py").write_bytes(archive.read("verify.py"))
        assert "<img" not in archive.read("ARTIFACT.md").decode()
    command = [sys.executable, "-I", str(tmp_path / "verify.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("given", "seen"), [
    ("plain text, 5 °C – ünïcode 漢字 👩‍🔬", "plain text, 5 °C – ünïcode 漢字 👩‍🔬"),
    ("a\x1b[31mb", "a\\u001b[31mb"),
    ("a\nb\r\n\tc", "a b c"),
    ("\u202ex", "\\u202ex"),
    ("\ud800", "\\ud800"),
    ("\U000e0041", "\\udb40\\udc41"),
])  # fmt: skip
def test_printable(given: str, seen: str) -> None:
    assert printable(given) == seen
    assert printable(seen) == seen


def test_json_stays_the_same_json() -> None:
    value = {"a": "x\u202ey\u2028z\U000e0041"}
    assert json.loads(shown(json.dumps(value, ensure_ascii=False))) == value


@pytest.mark.parametrize(("given", "seen"), [
    ("mean 0.3 [-0.1, 0.5], p < 0.001", "mean 0.3 [-0.1, 0.5], p < 0.001"),
    ("-0.012", "-0.012"),
    ("train_loss_x", "train_loss_x"),
    ("<script>x</script>", "&lt;script>x&lt;/script>"),
    ("[x](http://y)", "[x\\](http://y)"),
    ("![x](y)", "\\![x\\](y)"),
    ("# head", "\\# head"),
    ("**b** `c` _i_ | d", "\\*\\*b\\*\\* \\`c\\` \\_i\\_ \\| d"),
    ("1. item", "1\\. item"),
    ("&lt;b>", "&amp;lt;b>"),
    ("x\n\n# y", "x # y"),
])  # fmt: skip
def test_markdown(given: str, seen: str) -> None:
    assert markdown(given) == seen


def test_code_holds_backticks() -> None:
    assert code("stillhouse run x") == "`stillhouse run x`"
    assert code("a`b``c") == "``` a`b``c ```"


@pytest.mark.parametrize(("given", "seen"), [
    ("=1+1", "'=1+1"), ("+x", "'+x"), ("-x", "'-x"), ("@x", "'@x"), (" =x", "' =x"),
    ("\t=x", "'\t=x"), ("-0.5", "-0.5"), ("+1e3", "+1e3"), (-0.5, -0.5), (None, ""), ("x=1", "x=1"),
    ("\uff1dx", "'\uff1dx"),
])  # fmt: skip
def test_cells(given: object, seen: object) -> None:
    assert csv_cell(given) == seen


def test_latex_runs_nothing() -> None:
    assert latex("\\input{/etc/passwd}\n%x") == r"\textbackslash{}input\{/etc/passwd\} \%x"


def test_a_stream_shows_effects() -> None:
    below = io.StringIO()
    Terminal(below).write("a\x1b[0m\r\nb http://ada:hunter2@h/\n")
    assert below.getvalue() == "a\\u001b[0m\nb http://h/\n"


def test_the_live_view_of_a_terminal_obeys_no_trainer(lab: Path, tmp_path: Path) -> None:
    """A terminal of its own; the trial that fails says its words there."""
    import pty

    place = str(tmp_path / "w")
    words = ["run", str(lab), "--inline", "--no-mlflow", "--workspace", place]
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words],
        stdin=writer, stdout=writer, stderr=writer, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(writer)
    seen = b""
    while True:
        try:
            piece = os.read(reader, 2**16)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(reader)
    assert process.wait() == 1, seen
    assert b"failed" in seen
    assert b"\x1b[?25l" in seen, "the view is live: it hides the cursor"
    assert b"\x1b]0;" not in seen
    assert b"\x1b[2J" not in seen
    assert "\u202e".encode() not in seen
