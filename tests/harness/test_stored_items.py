"""Trials recorded without values by prompt get them from their stored items when exported."""

import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.commands.export import command
from harness.journal.history import History
from harness.journal.prompt_values import PACKED, PromptTables
from tests.support import stub_prompts

from .test_prompt_values import PROTOCOL, every, run


def export(place, to: Path):
    words = [str(place.folder / "study.yaml"), "--workspace", str(place.workspace.root)]
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [*words, "--to", str(to)])
    assert done.exit_code == 0, done.output
    return done.output


def test_what_was_recorded_without_is_made_and_stays(tmp_path):
    place = run(tmp_path / "p", "{tables: stored, steps: 2}")
    assert set(every(place.history()).values()) == {None}
    records = {f: f.read_bytes() for f in place.workspace.root.rglob("*.jsonl")}
    assert "values by prompt of 12 measurements" in export(place, tmp_path / "results")
    assert records == {f: f.read_bytes() for f in records}, "no record is touched"
    for history in (place.history(), History.read([tmp_path / "results"])):
        for metric in ("score", "cost"):
            for key, found in every(history, metric).items():
                assert found is not None
                assert found.pseudo == (metric == "cost")
                value = history.trials[key].measured(PROTOCOL)[-1].metrics["score"]
                assert metric == "cost" or found.mean == pytest.approx(value, rel=1e-12)
    assert "values by prompt" not in export(place, tmp_path / "again"), "once"
    assert (tmp_path / "results" / PACKED).read_bytes() == (
        tmp_path / "again" / PACKED
    ).read_bytes()


def test_new_ones_go_beside_those_that_are_there(tmp_path):
    place = run(tmp_path / "p", "{tables: stored}")
    export(place, tmp_path / "results")
    place.run(place.study(text_of(place).replace("replicates: 3", "replicates: 4")))
    assert "of 2 measurements" in export(place, tmp_path / "results")
    assert len(every(place.history())) == 8
    assert None not in every(place.history()).values()


def text_of(place) -> str:
    """The study file, its braces those of a template."""
    return (place.folder / "study.yaml").read_text().replace("{", "{{").replace("}", "}}")


def test_what_cannot_be_made_is_said_and_the_rest_is_exported(tmp_path, monkeypatch):
    place = run(tmp_path / "p", "{tables: none}")
    said = export(place, tmp_path / "results")
    assert "none of " in said
    assert "FileNotFoundError" in said
    assert "none of 3 more" in said
    assert not (tmp_path / "results" / PACKED).exists()
    monkeypatch.setattr(stub_prompts, "prompt_tables", lambda *_: {"items": "item,score\na,x\n"})
    assert "'x' is no number" in export(place, tmp_path / "results")
    monkeypatch.setattr(
        stub_prompts, "prompt_tables", lambda *_: {"items": "item,score\na,1\nb,2\n"}
    )
    assert "was reported" in export(place, tmp_path / "results"), "not those of this measurement"
    assert set(every(place.history()).values()) == {None}


def test_without_the_attempts_nothing_is_asked(tmp_path):
    place = run(tmp_path / "p", "{tables: stored}")
    shutil.rmtree(place.workspace.root / "trials")
    assert "values by prompt" not in export(place, tmp_path / "results")


def test_another_protocol_of_that_name_makes_none(tmp_path, monkeypatch):
    place = run(tmp_path / "p", "{tables: stored}")
    history = place.history()
    key = next(iter(history.trials))
    for attempt in history.trials[key].ordered:
        assert PromptTables(history).of(key, attempt.opened.code, PROTOCOL, "score") is None
    made = stub_prompts.fingerprints
    from harness.commands.opening import answered
    from harness.report.stored_items import fill_in_prompt_values

    before = answered(place.folder / "study.yaml", place.workspace.root)
    monkeypatch.setattr(
        stub_prompts,
        "fingerprints",
        lambda *a: made(*a).model_copy(update={"protocol": "changed"}),
    )
    done = fill_in_prompt_values(before, ["score"], lambda _: None)
    assert done.made == 0
    assert "protocol p is another now" in done.left[0]
