"""A trial under a panel, from training to its kept student: which teacher its distance names."""

from __future__ import annotations

import json
from pathlib import Path

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import subject
from recipes.recipe import Recipe

PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")
TEACHERS = {
    "base": {"by_condition": {"t2i.text": 0, "other": 1}},
    "signs": {"weights": "sign_specialist", "by_condition": {"t2i.text": 1}},
}


def _context(folder: Path, cache: Path) -> Context:
    folder.mkdir()
    measurement = Measurement(protocol=PROTOCOL)
    return Context("k", 0, stream_for(0), folder, measurement, cache=cache)


def test_a_trial_and_its_kept_student_are_compared_with_their_own_panel(tmp_path: Path):
    fields = {
        "train": {"cycles": 1, "batch_size": 4},
        "objective": {"warmup_fake_updates": 1, "fake_updates": 1},
        "teachers": TEACHERS,
    }
    recipe = Recipe.model_validate(fields).model_dump(mode="json")
    first, second = (_context(tmp_path / name, tmp_path / "cache") for name in ("a", "b"))
    last = list(subject.run(recipe, first))[-1]
    assert last.info == {"fid_teacher": "distance to the trial's own panel, guided as in training"}
    again = list(subject.measure(first.folder / "student", PROTOCOL, second))[-1]
    assert again.metrics == last.metrics
    assert again.info == last.info
    assert len(list((tmp_path / "cache" / "teachers").iterdir())) == 1

    # A student kept before cards named teachers was judged by the plain base.
    path = first.folder / "student" / "card.json"
    card = json.loads(path.read_text())
    del card["teacher"], card["teacher_note"]
    path.write_text(json.dumps(card))
    older = list(
        subject.measure(
            first.folder / "student", PROTOCOL, _context(tmp_path / "c", tmp_path / "cache")
        )
    )[-1]
    assert older.info == {}
    changed = {name for name in last.metrics if older.metrics[name] != last.metrics[name]}
    assert changed == {"t2i/fid_teacher", "more/kd_teacher"}
