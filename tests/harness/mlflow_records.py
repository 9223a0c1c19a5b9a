"""Hand-made plans, attempts and answers for the tests of the MLflow projection."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from harness.analysis.model import Answer, ArmRow, Cell, Verdict
from harness.contract import Artifact, Fingerprints, Outcome, Report
from harness.journal.history import History
from harness.journal.records import Closed, MeasuredAt, Opened, Planned, Record
from harness.journal.trial import Arm, Trial, key_of
from harness.journal.workspace import Workspace
from harness.journal.writer import Journal
from harness.planning.plan import Cost, Plan, PlannedTrial
from harness.study.planned_contrast import PlannedContrast
from harness.tracking.tracker import Tracker

T0 = 1_790_000_000.0


def plan_of(arms: int = 2, replicates: int = 2, study: str = "demo") -> Plan:
    """Arms x0, x1, ... of the stub, and one reference row."""
    made = [
        Arm(name=f"x{i}", levels={"part.x": str(i)}, recipe={"part": {"x": i}}, baseline=i == 0)
        for i in range(arms)
    ]
    settings = {"row": "teacher"}
    key = key_of(settings, 0, "stub-data", "reference", subject="stub")
    trials = [
        Trial(
            key=key,
            kind="reference",
            arm="teacher",
            replicate=0,
            recipe=settings,
            data="stub-data",
            subject="stub",
        )
    ]
    for replicate in range(replicates):
        for arm in made:
            key = key_of(arm.recipe, replicate, "stub-data", subject="stub")
            trials.append(
                Trial(
                    key=key,
                    arm=arm.name,
                    levels=arm.levels,
                    replicate=replicate,
                    recipe=arm.recipe,
                    data="stub-data",
                    subject="stub",
                )
            )
    return Plan(
        study=study,
        question="Does x help?",
        digest="ab" * 32,
        study_file="studies/demo/study.yaml",
        subject="harness.testing.stub",
        protocol="p1",
        fingerprints=Fingerprints(data="stub-data", protocol="stub-p1", code="stub-code"),
        factors={"part.x": [str(i) for i in range(arms)]},
        arms=made,
        trials=[PlannedTrial(trial=t, state="new") for t in trials],
        contrasts=[PlannedContrast(id="H1", claim="x helps", metric="score", pairs=[("x1", "x0")])],
        replicates=replicates,
        primary="score",
        scope="on a stub",
        cost=Cost(trials=len(trials)),
    )


class Recorder:
    """A driver in miniature: keeps the journal and tells a tracker, in the driver's order."""

    def __init__(self, workspace: Workspace, plan: Plan, tracker: Tracker | None) -> None:
        self.workspace, self.plan, self.tracker = workspace, plan, tracker
        self.clock = T0
        self.history = History()
        workspace.ensure_usable()
        self.journal = Journal(workspace.journal)
        trials = [t.trial for t in plan.trials]
        self.record(
            Planned(
                at=T0,
                study=plan.study,
                digest=plan.digest,
                study_json={"subject": plan.subject, "protocol": plan.protocol},
                study_file=plan.study_file,
                trials=trials,
            )
        )

    def record(self, record: Record) -> None:
        self.journal.append(record)
        self.history.add(record)

    def open(self, trial: Trial, attempt: int = 1) -> tuple[Opened, Path]:
        nonce = f"n{attempt}"
        opened = Opened(
            at=self._tick(),
            key=trial.key,
            attempt=attempt,
            nonce=nonce,
            study=self.plan.study,
            trial=trial,
            protocol="stub-p1",
            code="stub-code",
            device="a cpu",
            host="here",
        )
        folder = self.workspace.trial(trial.key) / "attempts" / f"{attempt}-{nonce}"
        folder.mkdir(parents=True)
        self.record(opened)
        if self.tracker is not None:
            self.tracker.opened(opened)
        return opened, folder

    def report(self, opened: Opened, folder: Path, report: Report) -> None:
        at = self._tick()
        fields = report.model_dump(mode="json")
        fields["metrics"] = {k: None if v != v else v for k, v in report.metrics.items()}
        with (folder / "reports.jsonl").open("a") as handle:
            handle.write(json.dumps({"at": at, "report": fields}) + "\n")
        if self.tracker is not None:
            self.tracker.report(opened.key, opened.attempt, report, folder, at)

    def close(self, opened: Opened, folder: Path, state: str, metrics: dict[str, float]) -> Closed:
        measured = [MeasuredAt(step=3, metrics=dict(metrics))] if metrics else []
        artifacts = [
            Artifact(kind="panel", path=f.name, step=3, item=f.stem, caption=f"a {f.stem}")
            for f in sorted(folder.glob("*.png"))
        ]
        closed = Closed.model_validate(
            {
                "at": self._tick(),
                "key": opened.key,
                "attempt": opened.attempt,
                "nonce": opened.nonce,
                "state": state,
                "reason": "" if state == "done" else f"asked to be {state}",
                "seconds": 1.0,
                "step": 3,
                "measurements": [m.model_dump() for m in measured],
                "artifacts": [a.model_dump() for a in artifacts],
                "info": {"device": "a cpu"},
            }
        )
        self.record(closed)
        if self.tracker is not None:
            self.tracker.closed(closed, folder)
        return closed

    def whole(self, trial: Trial, attempt: int = 1, first: int = 1, panels: int = 0) -> None:
        """An attempt from its opening to `done`: three cycles, then a measurement."""
        opened, folder = self.open(trial, attempt)
        for step in range(first, 4):
            self.report(
                opened, folder, Report(step=step, total=3, metrics={"train/loss": 1 / step})
            )
        for index in range(panels):
            Image.new("RGB", (24, 24), (40 * index, 90, 10)).save(folder / f"item{index}.png")
        metrics = measured_of(trial)
        last = Report(step=3, metrics=metrics, measured=True, outcome=Outcome(state="done"))
        self.report(opened, folder, last)
        self.close(opened, folder, "done", metrics)

    def _tick(self) -> float:
        self.clock += 0.125
        return self.clock


def measured_of(trial: Trial) -> dict[str, float]:
    """What a finished trial measures; `odd` is neither a headline nor a log."""
    x = float(trial.levels.get("part.x", 9))
    return {"score": 1 + 0.5 * x + 0.01 * trial.replicate, "cost": 2.0, "odd": 7.0}


def answer_of(plan: Plan) -> Answer:
    """An answer as if every trial had ended well."""
    rows = []
    for arm in plan.arms:
        mine = {t.trial.replicate: t.trial for t in plan.trials if t.trial.arm == arm.name}
        cells = {}
        for name in ("score", "cost"):
            values = {r: measured_of(t)[name] for r, t in mine.items()}
            mean = sum(values.values()) / len(values)
            cells[name] = Cell(
                mean=mean, lo=mean - 0.1, hi=mean + 0.1, n=len(values), values=values
            )
        rows.append(
            ArmRow(
                arm=arm.name,
                levels=arm.levels,
                baseline=arm.baseline,
                n_planned=len(mine),
                n_done=len(mine),
                states={"done": len(mine)},
                keys={r: t.key for r, t in mine.items()},
                cells=cells,
            )
        )
    verdict = Verdict(
        id="H1",
        claim="x helps",
        metric="score",
        planned=True,
        n=plan.replicates,
        n_planned=plan.replicates,
        difference=0.5,
        verdict="improves",
        words="x1 scores 0.5 higher [0.4, 0.6].",
    )
    return Answer(
        study=plan.study,
        question=plan.question,
        scope="on a stub",
        protocol="stub-p1",
        primary="score",
        headline="H1 improves: 2 of 2 replicates.",
        metrics={"score": {}, "cost": {}},
        arms=rows,
        verdicts=[verdict],
        effects=[],
    )
