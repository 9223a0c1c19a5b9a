"""A made-up finished study with pictures: what the report and its tests are drawn from.

Nothing was trained. Values follow a simple model of three factors (share of editing data,
composition, guidance) plus noise shared by the arms of a replicate and noise of their own, so the
truth behind every verdict is known. The pictures are drawn, then blurred and speckled by quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.model import Answer
from harness.analysis.observed import PromptReader
from harness.contract import Fingerprints
from harness.journal.history import History
from harness.journal.lines import lines_of
from harness.journal.records import Planned, Record
from harness.journal.trial import Arm, Trial, key_of
from harness.journal.workspace import Workspace
from harness.planning.plan import Cost, Plan, PlannedTrial
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.study.planned_contrast import PlannedContrast
from harness.subjects.identity import identity_of
from tests.support.made_up_records import METRICS, REFERENCES, START, STEPS, Options, run_trial

__all__ = ["BASELINE", "FACTORS", "METRICS", "MadeUp", "Options", "make_up"]

FACTORS: dict[str, list[str]] = {
    "edit_share": ["0", "0.1", "0.3", "0.5", "0.7", "1"],
    "composition": ["landscape", "portrait", "all-three"],
    "guidance.scale": ["1", "2", "4"],
}
BASELINE = {"edit_share": "0.5", "composition": "portrait", "guidance.scale": "2"}


@dataclass
class MadeUp:
    """A made-up study: what `answer` and `write_report` take."""

    workspace: Workspace
    study: Study
    plan: Plan
    history: History

    def answered(self, answer: Answer, by_prompt: PromptReader | None = None) -> AnsweredStudy:
        """The study opened, with an answer."""
        opened = OpenedStudy(self.study, self.workspace, history=self.history)
        return AnsweredStudy(opened, self.plan, self.history, by_prompt).answered_by(answer)


def make_up(root: Path, options: Options | None = None) -> MadeUp:
    """Write a made-up study's workspace below `root` and return what was made."""
    chosen = options or Options()
    workspace = Workspace(root)
    workspace.ensure_usable(0)
    study = _study(chosen)
    plan = _plan(study, chosen)
    records: list[Record] = []
    records.append(
        Planned(
            at=START,
            study=study.name,
            digest=plan.digest,
            study_json=study.model_dump(mode="json", exclude={"file"}),
            trials=[t.trial for t in plan.trials],
        )
    )
    clock = START
    for planned in plan.trials:
        clock = run_trial(planned.trial, plan, chosen, workspace, records, clock)
    described: set[str] = set()
    with (workspace.journal / "made-up.jsonl").open("w", encoding="utf-8") as journal:
        for record in records:
            made = list(lines_of(record, described))
            described.update(key for key, _ in made)
            journal.writelines(f"{line}\n" for _, line in made)
    return MadeUp(workspace, study, plan, History.read([workspace.journal]))


def _study(chosen: Options) -> Study:
    contrast: dict[str, Any] = {"metric": "edit/fidelity", "margin": chosen.margin}
    return Study.model_validate(
        {
            "name": "task-mixture",
            "question": "Does editing data help or hurt text-to-image when both are distilled "
            "together?",
            "subject": "tests.support.made_up",
            "recipe": {},
            "factors": {name: {"levels": levels} for name, levels in FACTORS.items()},
            "design": chosen.design,
            "baseline": BASELINE,
            "replicates": chosen.replicates,
            "protocol": "toyworld-v1",
            "primary": "edit/fidelity",
            "measure_at": list(STEPS),
            "contrasts": [
                {
                    "id": "H12",
                    "claim": "A balanced mixture edits better than 9:1",
                    "a": {"edit_share": "0.5"},
                    "b": {"edit_share": "0.1"},
                    "expect": "higher",
                    **contrast,
                },
                {
                    "id": "H3",
                    "claim": "Editing data costs text-to-image quality",
                    "a": {"edit_share": "0.5"},
                    "b": {"edit_share": "0"},
                    "metric": "t2i/kd",
                    "expect": "higher",
                },
                {
                    "id": "H7",
                    "claim": "More than a balanced share brings nothing",
                    "a": {"edit_share": "0.7"},
                    "b": {"edit_share": "0.5"},
                    **contrast,
                    "margin": None if chosen.margin is None else 3 * chosen.margin,
                },
                {
                    "id": "H10",
                    "claim": "Portrait-only edits better than all three categories",
                    "a": {"composition": "portrait"},
                    "b": {"composition": "all-three"},
                    "expect": "higher",
                    **contrast,
                },
            ],
        },
        strict=False,
    )


def _levels(design: str) -> list[dict[str, str]]:
    if design == "full":
        return [
            {"edit_share": e, "composition": c, "guidance.scale": g}
            for e in FACTORS["edit_share"]
            for c in FACTORS["composition"]
            for g in FACTORS["guidance.scale"]
        ]
    found = [dict(BASELINE)]
    for factor, levels in FACTORS.items():
        found += [{**BASELINE, factor: v} for v in levels if v != BASELINE[factor]]
    return found


def _arm(levels: dict[str, str]) -> Arm:
    name = f"{levels['composition']}-e{levels['edit_share']}-g{levels['guidance.scale']}"
    recipe = {
        "tasks": {"edit": float(levels["edit_share"])},
        "data": {"composition": levels["composition"]},
        "guidance": {"scale": float(levels["guidance.scale"])},
        "train": {"cycles": STEPS[-1]},
    }
    return Arm(name=name, levels=levels, recipe=recipe, baseline=levels == BASELINE)


def _plan(study: Study, chosen: Options) -> Plan:
    arms = [_arm(levels) for levels in _levels(chosen.design)]
    arms.sort(key=lambda arm: not arm.baseline)
    data, maker = "d" * 64, identity_of(study.subject)
    trials = [
        Trial(
            key=key_of({"row": name}, 0, data, "reference", subject=maker),
            kind="reference",
            arm=name,
            replicate=0,
            recipe={"row": name},
            data=data,
            subject=maker,
        )
        for name in REFERENCES
    ]
    trials += [
        Trial(
            key=key_of(arm.recipe, r, data, subject=maker),
            arm=arm.name,
            levels=arm.levels,
            replicate=r,
            recipe=arm.recipe,
            data=data,
            subject=maker,
        )
        for r in range(chosen.replicates)
        for arm in arms
    ]
    return Plan(
        study=study.name,
        question=study.question,
        digest=study.digest(),
        study_file="studies/task-mixture/study.yaml",
        subject=study.subject,
        protocol=study.protocol,
        fingerprints=Fingerprints(
            data=data,
            protocol="5f" * 32,
            code="c0" * 32,
            code_files={"recipes/cycle.py": "11", "evaluation/edit.py": "22"},
        ),
        factors=FACTORS,
        arms=arms,
        trials=[PlannedTrial(trial=t, state="reuse") for t in trials],
        contrasts=[_contrast(c, arms, study.primary) for c in study.contrasts],
        replicates=chosen.replicates,
        primary=study.primary,
        scope="on the toy world, 1.4 M parameters",
        cost=Cost(trials=0, seconds_per_trial=None),
    )


def _contrast(contrast: Any, arms: list[Arm], primary: str) -> PlannedContrast:
    pairs = []
    for one in arms:
        if not contrast.a.items() <= one.levels.items():
            continue
        wanted = {**one.levels, **contrast.b}
        pairs += [(one.name, other.name) for other in arms if other.levels == wanted]
    return PlannedContrast(
        id=contrast.id,
        claim=contrast.claim,
        metric=contrast.metric or primary,
        expect=contrast.expect,
        margin=contrast.margin,
        pairs=pairs,
    )
