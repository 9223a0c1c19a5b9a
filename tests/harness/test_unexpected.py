"""What nobody foresaw: exit code 70, one line, and the details in a file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli

BROKEN = """
import sys
from harness import cli
import harness.commands.schema as schema
class Odd(Exception):
    def __str__(self): raise ValueError("no text")
import json
def boom(*a, **k): raise {error}
json.dumps = boom
sys.argv = ["stillhouse", "schema", "-o", "http://ana:secret@host/x"]
cli.main()
"""


def broken(error: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BROKEN.format(error=error)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path), "PATH": "/bin:/usr/bin"},
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("RuntimeError('a\\n' + 'b' * 5000 + ' the end, at http://ana:secret@host')", "the end"),
        ("OSError(28, 'No space left on device')", "No space left"),
        ("Odd()", "cannot be printed"),
        ("RecursionError('too deep')", "too deep"),
        ("MemoryError()", "no message"),
    ],
)
def test_one_line_and_the_details_in_a_file(error: str, said: str, tmp_path: Path):
    done = broken(error, tmp_path)
    assert done.returncode == 70, done.stderr
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "secret" not in done.stderr
    found = re.search(r"details in (\S+);", done.stderr)
    assert found
    details = Path(found[1]).read_text()
    assert "in boom" in details
    assert "'schema'" in details
    assert "secret" not in details


def test_without_a_place_for_the_file_the_line_is_said_all_the_same(monkeypatch, capsys):
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    def boom(*args: object, **options: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr(cli, "_register", boom)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    assert "broken" in capsys.readouterr().err
