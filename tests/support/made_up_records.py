"""The trials of the made-up study: values around a known truth, records, reports, pictures."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.contract import Artifact, Estimate, MetricSpec, Outcome, Report
from harness.journal.attempts import append_report, write_trial_json
from harness.journal.records import Closed, MeasuredAt, Opened, Record
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace
from harness.planning.plan import Plan
from tests.support.made_up_pictures import ITEMS, picture

START = 1_760_000_000.0
STEPS = (50, 100, 200)
REFERENCES: dict[str, float] = {
    "truth": 1.0,
    "source unchanged": 0.0,
    "teacher 40 steps": 0.9,
    "undistilled 4 steps": 0.25,
}

METRICS: dict[str, MetricSpec] = {
    "t2i/kd": MetricSpec(
        higher_is_better=False,
        headline=True,
        description="Unbiased kernel distance to the data.",
        follows="oracle/words",
    ),
    "t2i/fid": MetricSpec(
        higher_is_better=False, low=0, headline=True, description="Frechet distance to the data."
    ),
    "t2i/clip": MetricSpec(
        higher_is_better=True,
        low=-1,
        high=1,
        headline=True,
        description="Text-image similarity.",
        follows="oracle/words",
    ),
    "edit/fidelity": MetricSpec(
        higher_is_better=True,
        low=0,
        high=1,
        headline=True,
        description="Geometric mean of instruction following and source preservation.",
    ),
    "oracle/words": MetricSpec(
        unit="%", higher_is_better=True, low=0, high=100, description="Words read back correctly."
    ),
}


@dataclass(frozen=True)
class Options:
    """How the made-up study is shaped and what goes wrong in it."""

    design: Literal["one_factor", "full"] = "one_factor"
    replicates: int = 6
    upto: int | None = None
    """Replicates that ran; the others are pending. None: all."""
    faults: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """(arm, replicate) to `failed`, `diverged`, `killed`, `running` or `retried`."""
    other_code: frozenset[tuple[str, int]] = frozenset()
    """Trials made by other code and on another device."""
    noise: float = 0.012
    """Standard deviation of the noise a trial does not share with its replicate."""
    pictures: bool = True
    margin: float | None = 0.01


def truth(levels: Mapping[str, str]) -> dict[str, float]:
    """The values the made-up arms scatter around."""
    share, scale = float(levels["edit_share"]), float(levels["guidance.scale"])
    kind = levels["composition"]
    edits = 0.55 * (1 - math.exp(-8 * share)) - 0.04 * (scale - 2) ** 2 / 4
    edits += {"portrait": 0.012, "landscape": 0.0, "all-three": 0.0}[kind]
    distance = 0.6 + 0.35 * share**2 + 0.18 * (scale - 1.8) ** 2
    distance += {"portrait": 0.0, "landscape": 0.25, "all-three": 0.12}[kind]
    return {
        "t2i/kd": distance,
        "t2i/fid": 3.0 + 4.2 * distance,
        "t2i/clip": 0.26 + 0.018 * math.log2(scale) - 0.02 * share,
        "edit/fidelity": max(0.02, 0.05 + edits),
        "oracle/words": 62 - 8 * share + 6 * math.log2(scale),
    }


_SPREAD = {"t2i/kd": 3, "t2i/fid": 12, "t2i/clip": 0.25, "edit/fidelity": 1, "oracle/words": 150}


def _values(trial: Trial, step: int, noise: float) -> dict[str, float]:
    if trial.kind == "reference":
        quality = REFERENCES[trial.arm]
        row = {"t2i/kd": 1.8 * (1 - quality), "t2i/fid": 10 * (1 - quality) + 0.4}
        row |= {"t2i/clip": 0.2 + 0.1 * quality, "edit/fidelity": quality**1.5}
        return row | {"oracle/words": 100 * quality}
    middle = truth(trial.levels)
    found: dict[str, float] = {}
    for metric, value in middle.items():
        shared = random.Random(f"{metric}|{trial.replicate}").gauss(0, 0.02)
        own = random.Random(f"{metric}|{trial.key}").gauss(0, noise)
        late = 0.6 * math.exp(-step / 45) * (-1 if METRICS[metric].higher_is_better else 1)
        size = abs(value) if metric != "edit/fidelity" else 0.6
        made = value + late * size + _SPREAD[metric] * (shared + own)
        low, high = METRICS[metric].low, METRICS[metric].high
        found[metric] = min(max(made, low if low is not None else made), high or 1e9)
    return found


def run_trial(
    trial: Trial,
    plan: Plan,
    chosen: Options,
    workspace: Workspace,
    records: list[Record],
    clock: float,
) -> float:
    """Write what is recorded of one trial, starting at `clock`; returns when it ended."""
    upto = chosen.replicates if chosen.upto is None else chosen.upto
    if trial.kind == "trial" and trial.replicate >= upto:
        return clock
    fault = chosen.faults.get((trial.arm, trial.replicate), "")
    write = _Writer(trial, plan, chosen, workspace, records)
    if fault == "retried":
        clock = write.attempt(1, clock, "failed")
        return write.attempt(2, clock, "")
    return write.attempt(1, clock, fault)


@dataclass
class _Writer:
    trial: Trial
    plan: Plan
    chosen: Options
    workspace: Workspace
    records: list[Record]

    def attempt(self, number: int, clock: float, fault: str) -> float:
        """Write one attempt's records, reports and pictures; returns when it ended."""
        trial, plan = self.trial, self.plan
        odd = (trial.arm, trial.replicate) in self.chosen.other_code
        nonce = f"{random.Random(f'{trial.key}{number}').getrandbits(32):08x}"
        folder = self.workspace.trial(trial.key) / "attempts" / f"{number}-{nonce}"
        folder.mkdir(parents=True)
        write_trial_json(self.workspace.trial(trial.key) / "trial.json", trial)
        opened = Opened(
            at=clock,
            key=trial.key,
            attempt=number,
            nonce=nonce,
            study=plan.study,
            trial=trial,
            protocol=plan.fingerprints.protocol,
            protocol_name=plan.protocol,
            code="0d" * 32 if odd else plan.fingerprints.code,
            code_files={
                **plan.fingerprints.code_files,
                **({"evaluation/edit.py": "33"} if odd else {}),
            },
            environment={"python": "3.11.9", "torch": "2.15.0"},
            device="NVIDIA H200" if odd else "NVIDIA H100",
            host="node-1",
        )
        self.records.append(opened)
        if fault == "running":
            return clock
        seconds = 31.0 + random.Random(f"{trial.key}s").uniform(-2, 6)
        steps = [s for s in STEPS if not fault or s < STEPS[-1]]
        if trial.kind == "reference":
            steps, seconds = [0], 4.0
        reports = [self._report(folder, step) for step in steps]
        if fault == "diverged":
            outcome = Outcome(state="diverged", reason="loss above 1e4 at cycle 130")
            reports.append(Report(step=130, outcome=outcome))
        for report in reports:
            append_report(folder, clock + seconds * report.step / STEPS[-1], report)
        ended = clock + seconds * (0.6 if fault else 1.0)
        state = fault if fault in ("failed", "diverged", "killed") else "done"
        end = reports[-1].outcome
        told = {"failed": "CUDA out of memory", "killed": "SIGINT"}
        self.records.append(
            Closed.model_validate(
                {
                    "at": ended,
                    "key": trial.key,
                    "attempt": number,
                    "nonce": nonce,
                    "state": state,
                    "reason": told.get(state, end.reason if end else ""),
                    "seconds": ended - clock,
                    "gpus": 1.0,
                    "step": steps[-1],
                    "measurements": [
                        MeasuredAt(
                            step=r.step, metrics=dict(r.metrics), estimates=list(r.estimates)
                        )
                        for r in reports
                        if r.measured
                    ],
                    "artifacts": [a for r in reports for a in r.artifacts],
                }
            )
        )
        return ended

    def _report(self, folder: Path, step: int) -> Report:
        metrics = _values(self.trial, step, self.chosen.noise)
        artifacts = self._panels(folder, step, metrics) if self.chosen.pictures else ()
        value = metrics["edit/fidelity"]
        return Report(
            step=step,
            total=STEPS[-1],
            measured=True,
            metrics=metrics,
            estimates=(
                Estimate(name="edit/fidelity", value=value, lo=value - 0.02, hi=value + 0.02),
            ),
            artifacts=artifacts,
            info={"realised mixture": json.dumps({"edit": self.trial.levels.get("edit_share")})},
        )

    def _panels(
        self, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> tuple[Artifact, ...]:
        if self.trial.replicate > 0 or step not in (0, STEPS[-1]):
            return ()
        found = []
        for item, caption in ITEMS.items():
            kind = self.trial.arm if self.trial.kind == "reference" else "student"
            if kind == "source unchanged" and not item.startswith("edit"):
                continue
            good = metrics["edit/fidelity"] if item.startswith("edit") else 1.6 - metrics["t2i/kd"]
            data = picture(item, kind, min(1.0, max(0.0, good)), self.trial.key)
            path = folder / "panels" / f"{item}-{step}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            found.append(
                Artifact(
                    kind="panel",
                    path=f"panels/{path.name}",
                    step=step,
                    item=item,
                    caption=caption,
                )
            )
        return tuple(found)
