"""`sync`: brings any MLflow server up to date from the journal alone. Idempotent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contract import Fingerprints
from harness.errors import HarnessError
from harness.journal.history import History
from harness.journal.records import Opened, Planned
from harness.journal.trial import Arm
from harness.journal.workspace import RESULTS, Workspace, history_folders
from harness.planning.plan import Cost, Plan, PlannedTrial
from harness.study.protocol_file import protocol_here
from harness.subjects.settings import parsed
from harness.text.secrets import without_credentials
from harness.text.spelling import last_words
from harness.tracking.mlflow_place import SETTLE_SECONDS, MlflowPlace, stamp
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.names import Remark
from harness.tracking.ownership import ElsewhereError, experiment_of

if TYPE_CHECKING:
    from harness.analysis.model import Answer

PATIENCE_SECONDS = 24 * 3600.0
"""`sync` waits for a slow server, but not for one that is not there."""


def sync(
    workspace: Workspace,
    *,
    study: str | None = None,
    uri: str | None = None,
    beside: str | None = None,
    adopt: bool = False,
    echo: Callable[[str], None],
) -> list[str]:
    """Replay one study, or all; returns warnings, empty when everything is there.

    Args:
        workspace: whose journal is replayed.
        study: the only one; None for all.
        uri: address of the server.
        beside: name of the experiment to write to, for one study.
        adopt: go on with what another workspace wrote there.
        echo: prints one line.

    Raises:
        HarnessError: if no such study was recorded, or the address is a file store.
        ElsewhereError: if the study was continued there from elsewhere.
    """
    place = MlflowPlace(workspace, uri, beside=beside, adopt=adopt)
    history = History.read(history_folders(workspace))
    if not history.planned:
        raise HarnessError(
            f"no study is recorded in {workspace.root}. Name its workspace with --workspace."
        )
    if study is not None and study not in history.planned:
        known = ", ".join(sorted(history.planned))
        raise HarnessError(
            f"study {study!r} is not recorded in {workspace.root}; there are: {known}"
        )
    names = sorted(history.planned) if study is None else [study]
    if place.beside and len(names) > 1:
        raise HarnessError(
            f"--as {place.beside} names the experiment of one study, and {len(names)} are recorded "
            f"in {workspace.root}: say which ({', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''})"
        )
    warnings = list(history.warnings)
    for name in names:
        planned = history.latest_plan(name)
        assert planned is not None, "it is among the planned"
        warnings += _sync_one(place, planned, echo)
    return warnings


def _sync_one(place: MlflowPlace, planned: Planned, echo: Callable[[str], None]) -> list[str]:
    workspace = place.workspace
    file = workspace.root.parent / planned.study_file
    history = History.read([workspace.journal, file.parent / RESULTS])
    checked = place.refuse_strangers(planned.study, history)
    plan, history, answer, problem = _analysed(planned, file, history, workspace)
    tracker = MlflowTracker(workspace, place.uri, beside=place.beside, adopt=place.adopt)
    name = experiment_of(workspace, place.uri, planned.study, place.beside)
    where = f", experiment {name}" if name != planned.study else ""
    echo(f"{planned.study}: {len(plan.trials)} trials -> {without_credentials(place.uri)}{where}")
    tracker.start(plan, history)
    if not checked:
        try:
            tracker.settle(SETTLE_SECONDS)
        except ElsewhereError:
            tracker.close(0.0)
            raise
    if answer is not None:
        page = workspace.study(planned.study) / "report.html"
        tracker.answer(answer, page if page.is_file() else None)
        tracker.complete(history, stamp(plan, history, page))
    warnings = tracker.close(PATIENCE_SECONDS)
    for remark in [text for text in warnings if isinstance(text, Remark)]:
        echo(f"  {remark}")
    warnings = [text for text in warnings if not isinstance(text, Remark)]
    for view, address in tracker.links().items():
        echo(f"  {view:9} {address}")
    return [problem, *warnings] if problem else warnings


def _analysed(
    planned: Planned, file: Path, history: History, workspace: Workspace
) -> tuple[Plan, History, Answer | None, str]:
    """The plan, the history as its study reads it, and the answer.

    Without the answer where the subject is not at hand.
    """
    from harness.analysis.answered_study import AnsweredStudy
    from harness.planning.make import make_plan
    from harness.planning.reuse import under_their_keys
    from harness.study.model import Study
    from harness.study.opened_study import OpenedStudy

    own_history = history.read_by(planned.study)
    try:
        there = protocol_here(
            str(planned.study_json.get("protocol", "")), planned.study_file, workspace.root.parent
        )
        fields = {**planned.study_json, "protocol": there, "file": file}
        study = Study.model_validate(fields)
        opened = OpenedStudy(study, workspace, history=history)
        plan = under_their_keys(make_plan(opened, check_devices=False), planned)
        answered = AnsweredStudy.of(opened, plan)
        own_history = answered.history
        if {t.trial.key for t in plan.trials} != {t.key for t in planned.trials}:
            raise HarnessError("the subject resolves this study to other trials now")
        return plan, own_history, answered.answer, ""
    except Exception as error:  # the subject may be gone, or changed in any way
        reason = last_words(str(error), 300)
        text = (
            f"{planned.study}: trials only, arms without means ({type(error).__name__}: {reason})"
        )
        return plan_from_journal(planned, own_history), own_history, None, text


def plan_from_journal(planned: Planned, history: History) -> Plan:
    """A plan with the trials as they were planned, without contrasts."""
    arms: dict[str, Arm] = {}
    factors: dict[str, dict[str, None]] = {}
    for trial in planned.trials:
        if trial.kind == "trial" and trial.arm not in arms:
            arms[trial.arm] = Arm(name=trial.arm, levels=trial.levels, recipe=trial.recipe)
            for factor, level in trial.levels.items():
                factors.setdefault(factor, {})[level] = None
    opened = [_last_opened(history, t.key) for t in planned.trials]
    last = next((o for o in reversed(opened) if o is not None), None)
    text = planned.study_json
    return Plan(
        study=planned.study,
        question=str(text.get("question", "")),
        digest=planned.digest,
        study_file=planned.study_file,
        subject=parsed(text.get("subject")),
        protocol=str(text.get("protocol", "")),
        fingerprints=Fingerprints(
            data=planned.trials[0].data if planned.trials else "",
            protocol=last.protocol if last else "",
            code=last.code if last else "",
        ),
        factors={name: list(levels) for name, levels in factors.items()},
        arms=list(arms.values()),
        trials=[PlannedTrial(trial=t, state="reuse") for t in planned.trials],
        contrasts=[],
        replicates=1 + max((t.replicate for t in planned.trials), default=0),
        primary=str(text.get("primary") or ""),
        cost=Cost(trials=0),
    )


def _last_opened(history: History, key: str) -> Opened | None:
    trial = history.trials.get(key)
    return trial.ordered[-1].opened if trial and trial.attempts else None
