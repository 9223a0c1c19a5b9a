"""A command that writes values by item and by prompt: picked up at each measured step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.bundle.read import extract_bundle
from harness.bundle.write import write_bundle
from harness.commands.opening import answered
from harness.executors.inline import InlineExecutor
from harness.journal.history import History
from harness.journal.prompt_values import PACKED, PromptTables
from harness.journal.workspace import Workspace
from harness.report.results import write_results
from harness.running.run_study import run
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy
from tests.harness.study_files import mistakes
from tests.harness.test_command_study import STUDY
from tests.harness.trainers import COMMAND, settings

TRAINER = '''
"""Reports a score that is the mean over two categories, and a distance, at each step."""
import csv, json, pathlib, random, sys

args = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
folder, steps = pathlib.Path(args["out"]), int(args["steps"])
log = (folder / "progress.jsonl").open("a", buffering=1)
for step in range(1, steps + 1):
    rng = random.Random(f"{args['seed']} {step}")
    rows = [{"item": f"{k}{i}", "prompt": f"{k}-{i % 5}", "stratum": k, "score": rng.random()}
            for k in "ab" for i in range(12)]
    means = [sum(r["score"] for r in rows if r["stratum"] == k) / 12 for k in "ab"]
    if args["mode"] != "nothing":
        with (folder / f"items-{step}.csv").open("w", newline="") as f:
            writer = csv.DictWriter(f, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (folder / "prompts.csv").write_text(
            "prompt,fid\\n" + "".join(f"p{i},{step + rng.random()}\\n" for i in range(5)))
    log.write(json.dumps({"step": step, "total": steps, "metrics": {
        "score": sum(means) / 2, "fid": 1.0 * step}}) + "\\n")
(folder / "student").mkdir(exist_ok=True)
(folder / "student" / "weights.json").write_text(json.dumps({"score": 5.0, "cost": 2.0}))
'''
METRICS = {
    "score": {"higher_is_better": True, "headline": True},
    "fid": {"higher_is_better": False, "headline": True},
}
TABLES = {"items": "{attempt}/items-{step}.csv", "prompts": "{attempt}/prompts.csv"}


def study(folder: Path, subject: dict[str, Any] | None = None, **changes: Any) -> Path:
    from ruamel.yaml import YAML

    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").touch()
    (folder / "trainer.py").write_text(TRAINER)
    given = {"command": COMMAND, "code": ["trainer.py"], "metrics": METRICS, **TABLES}
    content = {
        **STUDY,
        "subject": {**given, **(subject or {})},
        "measure_at": [1, 2],
        "primary": "score",
        **changes,
    }
    with (folder / "study.yaml").open("w") as stream:
        YAML(typ="safe").dump(content, stream)
    return folder / "study.yaml"


def ran(file: Path) -> tuple[Workspace, History]:
    place = Workspace(file.parent / "w")
    made = load_study(file)
    done = run(OpenedStudy(made, place), executor=InlineExecutor(), echo=lambda _: None)
    assert done.exit_code == 0
    return place, History.read([place.journal])


def test_tables_of_each_step_from_workspace_results_and_bundle(tmp_path: Path) -> None:
    file = study(tmp_path / "p")
    place, history = ran(file)
    made = answered(file, place.root)
    write_results(made, tmp_path / "results")
    write_bundle(made, tmp_path / "b.zip")
    extract_bundle(tmp_path / "b.zip", tmp_path / "out")
    protocol = next(iter(history.trials.values())).complete.opened.protocol
    places = {
        "workspace": history,
        "results": History.read([tmp_path / "results"]),
        "bundle": History.read([tmp_path / "out" / "results"]),
    }
    for name, there in places.items():
        tables = PromptTables(there)
        for key, known in there.trials.items():
            measured = known.measured(protocol)
            steps = known.complete.opened.trial.recipe["train"]["steps"]
            assert [m.step for m in measured] == sorted({1, 2, steps})
            for each in measured:
                found = tables.of(key, None, protocol, "score", each.step)
                assert found is not None, name
                assert found.mean == pytest.approx(each.metrics["score"], rel=1e-12)
                assert {k: len(v) for k, v in found.values.items()} == {"a": 5, "b": 5}
            last = tables.of(key, None, protocol, "fid")
            assert last is not None, name
            assert last.pseudo
            assert all(steps <= v <= steps + 1 for v in last.values["all"].values())
            if steps > 1:  # the file of that name is written anew at each step
                assert tables.of(key, None, protocol, "fid", 1) is None
    assert (tmp_path / "results" / PACKED).stat().st_size < 20_000


def test_tables_that_are_not_there_are_told_and_nothing_fails(tmp_path: Path) -> None:
    file = study(
        tmp_path / "p", recipe={"mode": "nothing", "train": {"steps": 4}, "optimiser": None}
    )
    _, history = ran(file)
    for known in history.trials.values():
        info = known.complete.closed.info
        steps = known.complete.opened.trial.recipe["train"]["steps"]
        assert info["items not used"] == f"the trainer left no items-{steps}.csv at step {steps}"
        assert "prompts.csv" in info["prompts not used"]


def test_a_students_protocol_and_the_trainers_own_tables_go_together(tmp_path: Path) -> None:
    file = study(
        tmp_path / "p",
        {"student": "{attempt}/student", "measured_by": "harness.testing.stub_measured"},
        protocol="noisy",
        measure_at=[],
    )
    _, history = ran(file)
    for key, known in history.trials.items():
        if known.complete.opened.trial.kind == "reference":
            continue
        protocol = known.complete.opened.protocol
        found = PromptTables(history).of(key, None, protocol, "score")
        assert found is not None, PromptTables(history).why_not(key, None, protocol, "score")
        assert found.mean == pytest.approx(known.measured(protocol)[-1].metrics["score"])


def test_studies_that_name_no_tables_are_what_they_were() -> None:
    written = json.loads(settings().model_dump_json())
    assert not {"items", "prompts"} & written.keys()
    assert {"items", "prompts"} <= json.loads(settings(**TABLES).model_dump_json()).keys()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"items": "items-{step}.csv"}, "must start with {attempt}/"),
        ({"items": "{attempt}/../{step}.csv"}, "stay inside"),
        ({"items": "{attempt}/{step}.parquet"}, "its name ending in .csv"),
        ({"progress": "{attempt}/{step}.jsonl"}, "{step} has no meaning here"),
        ({"command": "x {step}"}, "only in `items` and `prompts`"),
        ({"items": "{attempt}/{resume}.csv"}, "{resume} has no meaning here"),
    ],
)
def test_names_of_tables_that_cannot_be(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        settings(**changes)
    assert told in str(error.value)


def test_a_misspelt_placeholder_is_told_in_the_study_file(tmp_path: Path) -> None:
    file = study(tmp_path / "p", {"items": "{attempt}/{recipe.train.stepz}.csv"})
    assert "no field 'stepz' in 'train'" in str(mistakes(file))
