"""The joined subject on the shipped weights: trained, measured, resumed, measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract import Context, Measurement, Report
from harness.journal import attempts
from harness.journal.seeds import stream_for
from recipes import subject
from recipes.recipe import Recipe

PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")


def _recipe(**train) -> dict:
    small = {"cycles": 3, "batch_size": 4, "checkpoint_every": 1, "log_every": 1, **train}
    fields = {"train": small, "objective": {"warmup_fake_updates": 1, "fake_updates": 2}}
    return Recipe.model_validate(fields).model_dump(mode="json")


def _context(folder: Path, cache: Path, **more) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        key="k",
        replicate=0,
        seed=stream_for(0),
        folder=folder,
        measurement=Measurement(protocol=PROTOCOL),
        cache=cache,
        **more,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache) -> tuple[Path, list[Report]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, list(subject.run(_recipe(), _context(folder, cache)))


def test_a_trial_ends_with_a_measurement_of_every_headline_metric(whole):
    _, reports = whole
    last = reports[-1]
    assert last.outcome is not None
    assert last.outcome.state == "done"
    headline = {name for name, spec in subject.metrics.items() if spec.headline}
    assert headline <= set(last.metrics)
    assert not last.non_finite()
    assert {e.name for e in last.estimates} >= {"t2i/kd", "edit/fidelity"}


def test_every_artifact_exists_and_kinds_are_complete(whole):
    folder, reports = whole
    artifacts = [a for report in reports for a in report.artifacts]
    kinds = {a.kind for a in artifacts}
    assert kinds == {"checkpoint", "items", "prompts", "features", "panel", "student"}
    kept = [a for a in artifacts if a.kind != "checkpoint"]
    assert all((folder / a.path).exists() for a in kept)
    assert (folder / "measured-0000003" / "items.csv").is_file()


def test_realised_shares_and_forwards_are_logged(whole):
    _, reports = whole
    logs = [r.metrics for r in reports if "train/share_t2i" in r.metrics][-1]
    assert logs["train/share_t2i"] + logs["train/share_edit"] == pytest.approx(1)
    assert logs["cost/forwards_student.grad"] == 1
    assert logs["cost/forwards_teacher"] == 2


def test_a_killed_trial_resumes_to_the_same_bits(whole, tmp_path, cache):
    broken = tmp_path / "first"
    trial = subject.run(_recipe(), _context(broken, cache))
    for report in trial:
        found = [a for a in report.artifacts if a.kind == "checkpoint"]
        if report.step == 2 and found:
            break
    trial.close()
    resumed = list(
        subject.run(
            _recipe(), _context(tmp_path / "second", cache, resume_from=broken / found[0].path)
        )
    )
    assert resumed[0].info["resumed"].startswith("at cycle 2")
    assert resumed[-1].metrics == whole[1][-1].metrics


def test_a_checkpoint_copied_into_the_next_attempt_resumes(whole, tmp_path, cache):
    """What the harness copies of a killed attempt is all that the next one needs."""
    broken, following = tmp_path / "first", tmp_path / "second"
    broken.mkdir()
    following.mkdir()
    for report in subject.run(_recipe(), _context(broken, cache)):
        attempts.append_report(broken, 0.0, report)
        if any(a.kind == "checkpoint" for a in report.artifacts):
            break
    copied = attempts.continue_from(broken, following)
    resumed = list(subject.run(_recipe(), _context(following, cache, resume_from=copied[0].path)))
    assert resumed[0].info["resumed"] == f"at cycle {copied[0].step}"
    assert resumed[-1].metrics == whole[1][-1].metrics


def test_past_its_deadline_a_trial_ends_at_a_checkpoint_and_resumes(whole, tmp_path, cache):
    reports = list(
        subject.run(_recipe(checkpoint_every=100), _context(tmp_path / "1", cache, deadline=1.0))
    )
    last = reports[-1]
    assert (last.step, last.outcome) == (1, None)
    (kept,) = [a.path for a in last.artifacts if a.kind == "checkpoint"]
    context = _context(tmp_path / "2", cache, resume_from=tmp_path / "1" / kept)
    resumed = list(subject.run(_recipe(checkpoint_every=100), context))
    assert resumed[-1].metrics == whole[1][-1].metrics


def test_a_damaged_last_checkpoint_falls_back_and_says_so(whole, tmp_path, cache):
    folder, _ = whole
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.glob("checkpoint-*"):
        (copy / path.name).write_bytes(path.read_bytes())
    last = sorted(copy.glob("*.pt"))[-1]
    last.write_bytes(b"garbage")
    reports = list(subject.run(_recipe(), _context(tmp_path / "again", cache, resume_from=last)))
    assert "damaged" in reports[0].info["resumed"]
    assert reports[-1].metrics == whole[1][-1].metrics


def test_the_kept_student_measures_to_the_same_bits(whole, tmp_path, cache):
    folder, reports = whole
    again = list(subject.measure(folder / "student", PROTOCOL, _context(tmp_path / "m", cache)))
    assert again[-1].metrics == reports[-1].metrics


def test_a_copied_source_follows_nothing_and_keeps_everything(tmp_path, cache):
    rows = subject.references(_recipe(), PROTOCOL)
    last = list(subject.reference(rows["source-copied"], _context(tmp_path / "r", cache)))[-1]
    assert last.metrics["edit/following"] < 0.2
    assert last.metrics["edit/preservation"] > 0.8
    assert not any(name.startswith("t2i/") for name in last.metrics)


def test_fingerprints_react_to_what_they_cover():
    recipe = _recipe()
    base = subject.fingerprints(recipe, PROTOCOL)
    other = Recipe.model_validate({"teachers": {"base": {"weights": "specialist"}}})
    assert subject.fingerprints(other.model_dump(), PROTOCOL).data != base.data
    assert subject.fingerprints(recipe, "toyworld-v1").protocol != base.protocol
    assert "recipes/objectives/dmd.py#DmdObjective" in base.code_files
    assert "evaluation/frechet.py#frechet_distance" in base.code_files


def test_a_trial_after_another_in_a_warm_process_gives_the_same_bits(whole, tmp_path, cache):
    """Frozen networks are shared by the trials of a process; none may leave a trace in them."""
    other = Recipe.model_validate({**_recipe(), "guidance": {"scale": 4.0}, "tasks": {"edit": 1}})
    list(subject.run(other.model_dump(mode="json"), _context(tmp_path / "other", cache)))
    again = list(subject.run(_recipe(), _context(tmp_path / "again", cache)))
    assert again[-1].metrics == whole[1][-1].metrics
