"""The same items side by side: pictures of every arm, references first, as data inside the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.model import Answer, ArmRow
from harness.analysis.observed import contributing
from harness.contract import Artifact
from harness.journal.attempts import folder_of, read_reports
from harness.journal.pictures import picture_as_shown

# 8 x 24 pictures of at most 192 pixels: the page is one file that is mailed.
MOST_ITEMS = 8
MOST_ROWS = 24
MOST_PIXELS = 192
"""Larger pictures are scaled down to this width; smaller than 64 are shown with hard pixels."""
_FIRST = ("truth", "source", "teacher", "undistilled")


@dataclass(frozen=True)
class PanelPicture:
    """One embedded picture."""

    uri: str
    hard_pixels: bool
    alt: str


@dataclass(frozen=True)
class Row:
    """Pictures of one arm or reference, in the order of the items."""

    label: str
    kind: str
    baseline: bool
    key: str
    replicate: int
    pictures: list[PanelPicture | None]


@dataclass(frozen=True)
class Sheet:
    """Items as columns, references and arms as rows."""

    items: list[tuple[str, str]]
    rows: list[Row]
    notes: list[str]


def sheet(answered: AnsweredStudy) -> Sheet | None:
    """Pick items that most rows have and embed their pictures; None where there are none."""
    answer = answered.answer
    candidates: list[tuple[ArmRow, int, dict[str, tuple[Path, Artifact]]]] = []
    for row in _ordered(answer):
        for replicate, key in row.keys.items():
            done = row.trial_states.get(replicate) == "done"
            panels = _panels(answered, key) if done else {}
            if panels:
                candidates.append((row, replicate, panels))
                break
    chosen = _most_telling(answer, [row for row, _, _ in candidates])
    notes = []
    if len(chosen) < len(candidates):
        notes.append(
            f"{len(candidates) - len(chosen)} of {len(candidates)} rows are left out for space"
        )
    candidates = [
        item for item in candidates if item[0].arm in chosen or item[0].kind == "reference"
    ]
    items = _pick([set(panels) for _, _, panels in candidates])
    if not items:
        return None
    captions = {a.item: a.caption for _, _, panels in candidates for _, a in panels.values()}
    rows = [
        Row(
            row.arm,
            row.kind,
            row.baseline,
            row.keys[replicate],
            replicate,
            [_embed(panels.get(item), row.arm) for item in items],
        )
        for row, replicate, panels in candidates
    ]
    if any(r.replicate for r in rows):
        notes.append("a row whose first replicate has no pictures shows another one")
    return Sheet([(item, captions.get(item, "")) for item in items], rows, notes)


def _ordered(answer: Answer) -> list[ArmRow]:
    references = [row for row in answer.arms if row.kind == "reference"]

    def rank(row: ArmRow) -> int:
        places = [i for i, word in enumerate(_FIRST) if row.arm.lower().startswith(word)]
        return places[0] if places else len(_FIRST)

    references.sort(key=rank)
    return references + [row for row in answer.arms if row.kind == "arm"]


def _most_telling(answer: Answer, rows: Sequence[ArmRow]) -> set[str]:
    """All arms if they fit; else the baseline, the trade-off's front, then the plan's order."""
    arms = [row.arm for row in rows if row.kind == "arm"]
    room = max(1, MOST_ROWS - sum(row.kind == "reference" for row in rows))
    front = {p.arm for p in answer.pareto if p.on_front}
    first = {row.arm for row in rows if row.baseline}
    arms.sort(key=lambda a: (a not in first, a not in front))
    return {row.arm for row in rows if row.kind == "reference"} | set(arms[:room])


def _panels(answered: AnsweredStudy, key: str) -> dict[str, tuple[Path, Artifact]]:
    """Item to file of a trial's last panels (first draw); empty unless the trial counts."""
    record = answered.history.trials.get(key)
    panels: dict[str, tuple[Path, Artifact]] = {}
    for attempt in contributing(record, answered.plan.fingerprints.protocol) if record else []:
        folder = folder_of(answered.workspace, attempt)
        listed = [a for line in read_reports(folder) for a in line.report.artifacts]
        listed += attempt.closed.artifacts if attempt.closed else []
        for artifact in listed:
            if artifact.kind != "panel" or artifact.draw != 0 or not artifact.item:
                continue
            file = folder / artifact.path
            before = panels.get(artifact.item)
            newer = before is None or (artifact.step or 0) >= (before[1].step or 0)
            if newer and file.suffix.lower() == ".png" and file.is_file():
                panels[artifact.item] = (file, artifact)
    return panels


def _pick(rows: Sequence[set[str]]) -> list[str]:
    """Up to MOST_ITEMS items that most rows have, taking turns between kinds of items."""
    shared = {item: sum(item in row for row in rows) for row in rows for item in row}
    kinds: dict[str, list[str]] = {}
    for item in sorted(shared, key=lambda i: (-shared[i], i)):
        kinds.setdefault(re.sub(r"[\W_]*\d+$", "", item), []).append(item)
    chosen: list[str] = []
    while len(chosen) < MOST_ITEMS and any(kinds.values()):
        for listed in kinds.values():
            if listed and len(chosen) < MOST_ITEMS:
                chosen.append(listed.pop(0))
    return sorted(chosen, key=lambda i: (i.startswith("edit"), i))


def _embed(panel: tuple[Path, Artifact] | None, label: str) -> PanelPicture | None:
    if panel is None:
        return None
    file, artifact = panel
    data = file.read_bytes()
    # A PNG's width stands at a fixed place in its first chunk, so most need no decoding.
    width = int.from_bytes(data[16:20], "big") if data[:8] == b"\x89PNG\r\n\x1a\n" else 0
    if width > MOST_PIXELS:
        try:
            data = _smaller(data)
        except ValueError:  # a trainer's file that is no picture
            return None
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    return PanelPicture(uri, 0 < width < 64, f"{label}: {artifact.caption or artifact.item}")


def _smaller(data: bytes) -> bytes:
    from PIL import Image

    image = picture_as_shown(data)
    height = max(1, round(image.height * MOST_PIXELS / image.width))
    small = image.resize((MOST_PIXELS, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, format="PNG", optimize=True)
    return out.getvalue()
