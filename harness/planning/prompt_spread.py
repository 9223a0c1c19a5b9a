"""How much a contrast's difference varies over prompts, as the last report found it.

Reading every trial's values by prompt takes numpy and time that `plan` has not got. So the answer
records, for each contrast, what it made of them, beside the other results; `plan` reads that. Each
record names the numbers it was computed from by digest: where one of them is another today, because
a trial was run again or measured otherwise, the record says nothing any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.journal.records import PromptSpread
from harness.journal.workspace import RESULTS
from harness.planning import power
from harness.planning.pilot import Groups, Values

if TYPE_CHECKING:
    from harness.journal.workspace import Workspace
    from harness.study.model import Study

FILE = "prompt-spread.json"
_DIGITS = 9


def assumed(spread: PromptSpread) -> power.PlannedPrompts:
    """What to plan with: the variance as large as it may well be.

    It and the seeds' are taken so large each, which together is more careful than the one in
    five pilots that either promises.
    """
    n = len(spread.replicates)
    variance = spread.variance * power.assured(spread.df) ** 2
    return power.PlannedPrompts(
        added=max(0.0, variance - spread.both),
        shared=spread.both * n,
        df=spread.df,
        number=spread.prompts,
        strata=spread.strata,
    )


def digests(
    metric: str, protocol: str, groups: Groups, values: Values, keys: Mapping[tuple[str, int], str]
) -> dict[int, str]:
    """Replicate -> digest of what it contributes to the contrast, where it has a whole cell.

    Args:
        metric: what is compared.
        protocol: fingerprint it was measured under.
        groups: the contrast's cells.
        values: arm -> replicate -> value.
        keys: (arm, replicate) -> trial key.
    """
    found = {}
    for r in sorted({r for row in values.values() for r in row}):
        lines = [
            [
                [keys.get((arm, r), ""), sign * w, f"{values[arm][r]:.{_DIGITS}g}"]
                for arm, w in cell.items()
            ]
            for sign, cells in groups
            for cell in cells
            if all(r in values.get(arm, {}) for arm in cell)
        ]
        if lines:
            text = json.dumps([metric, protocol, sorted(lines)])
            found[r] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def to_text(spreads: Sequence[PromptSpread]) -> str:
    """What the file holds."""
    rows = [spread.model_dump() for spread in spreads]
    return json.dumps({"version": 1, "contrasts": rows}) + "\n"


def read_spreads(folders: Iterable[Path]) -> list[PromptSpread]:
    """The records of some folders of results. A file that holds something else is as none."""
    found = []
    for folder in folders:
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            found += [PromptSpread.model_validate(row) for row in content["contrasts"]]
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            continue
    return found


def recorded_for(study: Study, workspace: Workspace) -> list[PromptSpread]:
    """What the workspace's last report of a study, and the results beside its file, say."""
    return read_spreads([workspace.study(study.name) / RESULTS, study.file.parent / RESULTS])


def spread_still_valid(
    spreads: Iterable[PromptSpread], metric: str, today: Mapping[int, str]
) -> PromptSpread | None:
    """The record of most replicates all of whose numbers are today's."""
    known = set(today.values())
    fit = [s for s in spreads if s.metric == metric and s.replicates and known >= {*s.replicates}]
    return max(fit, key=lambda s: len(s.replicates), default=None)
