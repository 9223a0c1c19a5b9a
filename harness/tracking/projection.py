"""Journal records -> what MLflow should show, as plain data. Imports no mlflow.

States: done and diverged end as FINISHED (a diverged trial is a result; the state tag says so),
failed as FAILED, killed as KILLED, an open attempt is RUNNING.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from harness.analysis.model import Answer, ArmRow
from harness.analysis.sentences import reach, reached
from harness.contract import Artifact, Report
from harness.journal.environment import git_commit, user_name
from harness.journal.records import Closed, Opened
from harness.journal.trial import SHORT, Trial
from harness.journal.workspace import in_project
from harness.planning.plan import Plan
from harness.study.planned_contrast import PlannedContrast
from harness.text.spelling import keeping_end
from harness.tracking.names import MOST_NAMES, for_mlflow
from harness.tracking.ownership import WORKSPACE
from harness.tracking.run_write import (
    STUDY,
    TAG,
    DataSet,
    LoggedPicture,
    Point,
    RunWrite,
    Status,
    shorten,
)

KEPT_PREFIXES = ("oracle/", "train/", "cost/")
MORE = "more/"
STATUS: dict[str, Status] = {
    "done": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "killed": "KILLED",
}
# Okabe-Ito without its black and yellow, then Tol's muted set: told apart by colour-blind readers
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255"),
)
RECORDS = "results"
"""Folder of the study's run with journal and answer, from which `reproduce` finds any trial."""
COMMIT = "mlflow.source.git.commit"
REFERENCE_COLOUR = "#777777"
STUDY_COLOUR = "#222222"


class Projection:
    """Maps the records of one study to runs. Pure, apart from reading files when asked to write."""

    def __init__(
        self,
        plan: Plan,
        headline: Collection[str],
        project: Path,
        declared: Collection[str] | None = None,
        workspace: str = "",
    ) -> None:
        """Take the metrics of the first table and all that are declared, where they are known.

        Runs are tagged with the workspace that writes them; an attempt, in its record, may be of
        another one.
        """
        self.plan = plan
        self._workspace = workspace
        self.headline = tuple(headline)
        self._declared = None if declared is None else frozenset(declared)
        self._taken = {"n_done", "n_planned"}  # by what is written of an arm
        self._taken |= {name + end for name in headline for end in (".lo", ".hi", ".n")}
        self._commit = git_commit(project)
        self._user = user_name()
        file = Path(plan.study_file)
        self._source = in_project(file) if file.is_absolute() else plan.study_file
        arms = [a.name for a in plan.arms]
        self._colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(arms)}
        self._trials = {t.trial.key: t.trial for t in plan.trials}

    def metric(self, name: str) -> str:
        """As MLflow shows it: headline and log metrics under their name, others under `more/`."""
        name_there = for_mlflow(name)
        own = name.startswith(MORE) and (self._declared is None or name in self._declared)
        own_name = (name in self.headline and name not in self._taken) or own
        if own_name or name.startswith(KEPT_PREFIXES):
            return name_there
        if MORE + name in (self._declared or ()):  # that name is given already
            return f"{MORE}:more:{name_there}"
        return MORE + name_there

    def points(
        self, metrics: Mapping[str, float | None], step: int, at: float, *, measured: bool
    ) -> list[Point]:
        """Points of finite numbers; of a monstrous report the headline and the first by name."""
        # One NaN keeps MLflow's page of the run, or of the whole experiment, from loading (its
        # issues 15535 and 16555).
        names = [n for n, value in metrics.items() if value is not None and math.isfinite(value)]
        if len(names) > MOST_NAMES:
            names = sorted(names, key=lambda n: (n not in self.headline, n))[:MOST_NAMES]
        ms = _ms(at)
        return [
            Point(self.metric(n), value, step, ms, measured)
            for n in names
            if (value := metrics[n]) is not None
        ]

    def opened(self, record: Opened, *, live: bool = True, rerun: bool = False) -> RunWrite:
        """An attempt began: the run exists, is running, and says what it is."""
        trial = self._trials.get(record.key, record.trial)
        tags = self._common(trial.kind, trial.arm) | {
            TAG + "replicate": str(trial.replicate),
            TAG + "key": trial.key,
            TAG + "short": trial.short,
            TAG + "state": "running",
            TAG + "attempt": f"{record.attempt}-{record.nonce}",
            TAG + "protocol": record.protocol,
            TAG + "code": record.code,
            TAG + "device": record.device,
            TAG + "host": record.host,
            TAG + "made_in": record.workspace if record.workspace != self._workspace else "",
        }
        tags[COMMIT] = record.environment.get("git", self._commit if live else "")
        return RunWrite(
            ident=trial.key,
            name=trial.short,
            nested=trial.kind != "reference",
            start_ms=_ms(record.at),
            tags=tags,
            params=self._params(trial),
            datasets=self._datasets(trial, record),
            files={"recipe.json": _identity_json(trial)},
            status="RUNNING",
            rerun=rerun,
        )

    def report(self, key: str, report: Report, folder: Path, at: float) -> RunWrite:
        """Metrics at their step; pictures only of measurements."""
        write = RunWrite(ident=key)
        write.points = self.points(report.metrics, report.step, at, measured=report.measured)
        if report.measured:
            write.pictures = _pictures(report.artifacts, folder, report.step, at)
        return write

    def closed(self, record: Closed, folder: Path) -> RunWrite:
        """The attempt ended: final values, pictures, state."""
        points = [
            point
            for m in record.measurements
            for point in self.points(m.metrics, m.step, record.at, measured=True)
        ]
        tags: dict[str, str] = {TAG + "state": record.state}
        tags[TAG + "reason"] = keeping_end(record.reason, 500)
        info = sorted(record.info.items())
        tags |= {f"{TAG}info.{for_mlflow(name)}": shorten(text, 500) for name, text in info[:20]}
        return RunWrite(
            ident=record.key,
            tags=tags,
            points=points,
            pictures=_pictures(record.artifacts, folder, record.step, record.at),
            status=STATUS[record.state],
            end_ms=_ms(record.at),
        )

    def interrupted(self, key: str, at: float) -> RunWrite:
        """An attempt without a closing record whose driver is gone."""
        reason = "interrupted: the driver ended without closing the attempt"
        tags = {TAG + "state": "killed", TAG + "reason": reason}
        return RunWrite(ident=key, tags=tags, status="KILLED", end_ms=_ms(at))

    def study_opened(self, at: float) -> RunWrite:
        """The parent run of the study."""
        plan = self.plan
        tags = self._common("study", "") | {
            TAG + "state": "running",
            TAG + "digest": plan.digest,
            TAG + "protocol": plan.fingerprints.protocol,
            TAG + "protocol_name": plan.protocol,
            TAG + "code": plan.fingerprints.code,
        }
        tags[COMMIT] = self._commit
        return RunWrite(ident=STUDY, name=plan.study, start_ms=_ms(at), tags=tags, status="RUNNING")

    def arm(self, row: ArmRow, answer: Answer, began: float, at: float) -> RunWrite:
        """An arm with its means and intervals, at step = replicates done.

        Always ended, so that no run is left running for ever: FINISHED when every replicate ended,
        FAILED where one failed, else KILLED (more is to come).
        """
        # Arms are runs of their own, with mean and interval, because MLflow's grouping averages the
        # runs of the page that is loaded: wrong above a hundred.
        at_ms, points, words = _ms(at), [], []
        for name, cell in row.cells.items():
            metric = self.metric(name)
            values = {"": cell.mean, ".lo": cell.lo, ".hi": cell.hi, ".n": float(cell.n)}
            if name not in self.headline:
                values = {"": cell.mean}
            for suffix, value in values.items():
                if value is not None and math.isfinite(value):
                    points.append(Point(metric + suffix, value, row.n_done, at_ms, True))
            if name in self.headline:
                words.append(_estimate(name, cell.mean, cell.lo, cell.hi, cell.n, row.n_planned))
        for name, count in (("n_done", row.n_done), ("n_planned", row.n_planned)):
            points.append(Point(name, float(count), row.n_done, at_ms, True))
        complete = row.n_done + row.states.get("diverged", 0) >= row.n_planned
        states = ", ".join(f"{n} {state}" for state, n in sorted(row.states.items()))
        keys = " ".join(f"{r}:{key[:SHORT]}" for r, key in sorted(row.keys.items()))
        write = self.arm_row(row.arm, began)
        write.tags |= {
            TAG + "state": "done" if row.n_done == row.n_planned else states or "pending",
            TAG + "states": states,
            TAG + "keys": shorten(keys),
            TAG + "baseline": "yes" if row.baseline else "",
            TAG + "estimate": shorten("; ".join(words)),
            TAG + "verdict": self._verdicts_of(row.arm, answer),
            TAG + "scope": self._estimated(row, answer),
            TAG + "protocol": answer.protocol,
            TAG + "code": self.plan.fingerprints.code,
        }
        write.params, write.points, write.end_ms = dict(row.levels), points, at_ms
        write.status = "FAILED" if row.states.get("failed") else "KILLED"
        if complete:
            write.status = "FINISHED"
        return write

    def _estimated(self, row: ArmRow, answer: Answer) -> str:
        """The scope with what the arm's intervals reach over."""
        cells = [cell for name, cell in row.cells.items() if name in self.headline]
        reaches = [(cell.n, cell.n_prompts) for cell in cells if cell.lo is not None]
        return _scoped(answer.scope, f"intervals {reach(reaches)}" if reaches else "")

    def arm_row(self, arm: str, began: float) -> RunWrite:
        """The run of an arm, without numbers."""
        levels = next((a.levels for a in self.plan.arms if a.name == arm), {})
        return RunWrite(
            ident="arm/" + arm,
            name=arm,
            start_ms=_ms(began),
            tags=self._common("arm", arm),
            params=dict(levels),
        )

    def verdict_line(self, answer: Answer) -> str:
        """All declared verdicts in one tag, each with what it reaches over."""
        words = [f"{v.id}: {reached(v)}" for v in answer.verdicts if v.declared]
        return shorten("; ".join(words))

    def claimed(self, answer: Answer) -> str:
        """The scope with what the study's verdicts reach over."""
        verdicts = [v for v in answer.verdicts if v.declared and v.lo is not None]
        over = reach((v.n, v.n_prompts) for v in verdicts)
        return _scoped(answer.scope, f"claims {over}" if verdicts else "")

    def _verdicts_of(self, arm: str, answer: Answer) -> str:
        verdicts = {v.id: reached(v) for v in answer.verdicts if v.declared}
        words = []
        for contrast in self.plan.contrasts:
            part = _part_in(contrast, arm)
            if part and contrast.id in verdicts:
                words.append(f"{contrast.id} ({part}): {verdicts[contrast.id]}")
        return shorten("; ".join(words))

    def _common(self, kind: str, arm: str) -> dict[str, str]:
        colour = STUDY_COLOUR if kind == "study" else self._colours.get(arm, REFERENCE_COLOUR)
        return {
            TAG + "kind": kind,
            TAG + "study": self.plan.study,
            TAG + "arm": arm,
            TAG + "scope": shorten(self.plan.scope),
            WORKSPACE: self._workspace,
            "mlflow.source.name": self._source,
            "mlflow.source.type": "LOCAL",
            "mlflow.user": self._user,
            "mlflow.runColor": colour,
        }

    def _params(self, trial: Trial) -> dict[str, str]:
        # What varies, and no more: each field of a recipe would be a column that is the same in all
        # rows.
        return dict(trial.levels) if trial.kind != "reference" else {}

    def _datasets(self, trial: Trial, record: Opened) -> tuple[DataSet, ...]:
        protocol = record.protocol_name or self.plan.protocol or "protocol"
        # MLflow refuses a digest of more than 36 characters.
        evaluation = DataSet(_word(Path(protocol).stem), record.protocol[:36], "evaluation")
        if trial.kind == "reference":
            return (evaluation,)
        return (DataSet("training-data", trial.data[:36], "training"), evaluation)


def _ms(at: float) -> int:
    return round(at * 1000)


def _word(text: str) -> str:
    return re.sub(r"[^\w\-.]+", "_", text) or "_"


def _identity_json(trial: Trial) -> bytes:
    value = trial.identity()
    value |= {"key": trial.key, "arm": trial.arm, "levels": trial.levels}
    return json.dumps(value, indent=2, sort_keys=True).encode()


def study_files(report: Path | None) -> dict[str, bytes | Path]:
    """What the study's run carries: the report, what lies beside it, and its compact records."""
    if report is None:
        return {}
    # Some 10 KiB a trial, from which anybody who reaches the server can reproduce one; weights are
    # not uploaded.
    beside = [report, *sorted(report.parent.glob("*.*"))]
    files: dict[str, bytes | Path] = {
        f.name: f for f in beside if f.suffix in (".html", ".md", ".csv", ".tex")
    }
    files |= {f"{RECORDS}/{f.name}": f for f in report.parent.glob(f"{RECORDS}/*.json*")}
    return files


def _pictures(
    artifacts: Collection[Artifact], folder: Path, step: int, at: float
) -> list[LoggedPicture]:
    pictures = []
    for panel in artifacts:
        if panel.kind != "panel":
            continue
        name = for_mlflow(panel.item or Path(panel.path).stem)
        name += f" draw {panel.draw}" if panel.draw else ""
        where = step if panel.step is None else panel.step
        pictures.append(LoggedPicture("panels/" + name, folder / panel.path, where, _ms(at)))
    return pictures


def _estimate(
    name: str, mean: float | None, lo: float | None, hi: float | None, n: int, planned: int
) -> str:
    if mean is None:
        return f"{name} - ({n}/{planned})"
    interval = "" if lo is None or hi is None else f" [{lo:.4g}, {hi:.4g}]"
    return f"{name} {mean:.4g}{interval} ({n}/{planned})"


def _scoped(scope: str, over: str) -> str:
    return shorten("; ".join(text for text in (scope, over) if text))


def _part_in(contrast: PlannedContrast, arm: str) -> str:
    """How an arm takes part in a contrast: by its side, or by the contrast's kind; else empty."""
    if not contrast.traits.sides:
        return contrast.kind if arm in contrast.arms() else ""
    if not contrast.traits.linear:  # a part is a side
        named = [p.name for p in contrast.parts if any(arm in cell for cell in p.cells)]
    elif contrast.pairs:
        named = ["ab"[s] for s in (0, 1) if any(pair[s] == arm for pair in contrast.pairs)]
    else:
        weight = contrast.arm_weights().get(arm)
        named = [] if weight is None else ["a" if weight > 0 else "b"]
    return f"side {'+'.join(dict.fromkeys(named))}" if named else ""
