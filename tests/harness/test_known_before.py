"""A contrast declared with its results at hand is told from one declared beforehand."""

from __future__ import annotations

import json
from pathlib import Path

from tests.harness.reproduce_lab import CLAIM, Lab


def warned(lab: Lab, study: str) -> list[str]:
    answer = json.loads((lab.workspace.study(study) / "results" / "answer.json").read_text())
    return [text for text in answer["warnings"] if "was declared when" in text]


def test_a_renamed_study_declares_with_the_numbers_at_hand(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", more=CLAIM)
    text = lab.file.read_text()
    assert warned(lab, "again") == []
    lab.run_other("later", text.replace("name: again", "name: later"))
    (told,) = warned(lab, "later")
    assert "contrast H1 was declared when 2 of 2 of its replicates had results" in told


def test_sharing_one_side_or_running_on_is_no_knowledge(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", more=CLAIM)
    text = lab.file.read_text().replace("name: again", "name: later")
    lab.run_other("later", text.replace("1.0", "2.0"))
    assert warned(lab, "later") == [], "only the baseline is shared"
    lab.run()
    assert warned(lab, "again") == [], "its own results came after its first run"
