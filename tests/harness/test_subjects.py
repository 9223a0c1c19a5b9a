import textwrap
from pathlib import Path

import pytest

from harness.errors import SubjectError
from harness.subjects.load import load_subject


def module(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return name


def test_loads_a_module_and_an_object(tmp_path: Path):
    text = """
        from harness.testing import stub as inner
        class Holder:
            stub = inner
    """
    name = module(tmp_path, "holding_a_subject", text)
    from harness.testing import stub

    assert load_subject("harness.testing.stub") is stub
    assert load_subject(f"{name}:Holder.stub", project=tmp_path) is stub


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise OSError('no GPU driver')", "OSError: no GPU driver"),
        ("x = 1", "lacks `Recipe`"),
        (
            """
            Recipe = dict
            metrics = {}
            fingerprints = run = 3
            """,
            "`fingerprints` must be callable",
        ),
        (
            """
            from harness.testing.stub import Recipe, fingerprints, run
            metrics = {"score": "better"}
            """,
            "`metrics` of score must be MetricSpec",
        ),
        (
            """
            from harness.contract import MetricSpec
            from harness.testing.stub import Recipe, fingerprints, run
            metrics = {"score": MetricSpec()}
            """,
            "none as headline",
        ),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, told: str):
    name = module(tmp_path, f"wrong_subject_{abs(hash(text))}", text)
    with pytest.raises(SubjectError, match="subject") as caught:
        load_subject(name, project=tmp_path)
    assert told in str(caught.value)
    assert name in str(caught.value)


def test_missing_module_and_attribute(tmp_path: Path):
    with pytest.raises(SubjectError, match="cannot be imported"):
        load_subject("no.such.subject")
    with pytest.raises(SubjectError, match="cannot be imported"):
        load_subject("harness.testing.stub:nothing")
