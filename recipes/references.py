"""Reference rows and teacher features: what shipped records hold, and how to make them afresh.

A row is plain settings; its record counts only under the protocol fingerprint and the weights it
was made with. Rows: the rendered data, the data through the autoencoder, the guided teacher at full
steps, the undistilled teacher at the student's rungs with and without guidance, and the source
returned unchanged (edits only).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.fingerprints import data_digest

if TYPE_CHECKING:
    import numpy as np

SHIPPED = Path(__file__).parent / "toyworld" / "references"
TEACHER_STEPS = 20
LARGE_TEACHER_STEPS = 40
"""Of a large family's teacher: what Qwen-Image's authors compare with (80 evaluations)."""
EDIT_ONLY = ("source-copied",)
T2I_ONLY = ("data", "autoencoder")


def teacher_settings(scale: float, weights: str = "teacher") -> dict[str, Any]:
    """The guided teacher at full steps."""
    return {
        "row": "teacher", "weights": weights, "steps": TEACHER_STEPS, "shift": 3.0,
        "scale": float(scale),
    }  # fmt: skip


def own_teacher(recipe: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The row that a trial's distance to its own teacher refers to, and what is special about it.

    None for a large family, whose teacher costs as much to sample as the student to train.

    One plainly guided teacher is the row `teacher_settings` gives. A panel, or guidance by level,
    is a row of its own, as it stands at the end of training. Where weights or scales hang on the
    student's exit rung there is no single teacher, and the student's start stands in for it.
    """
    if recipe["family"] != "toyworld":
        return None, ""
    teachers = {name: t for name, t in recipe["teachers"].items() if t["share"] > 0}
    if len(teachers) == 1:  # weights of a row are normalised: whatever varies them, it judges alone
        alone = {"share": 1.0, "by_rung": None, "by_progress": None, "by_condition": None}
        teachers = {name: {**t, **alone} for name, t in teachers.items()}
    guidance, start = recipe["guidance"], recipe["teachers"][recipe["student"]["init"]]
    by_rung = any(t["by_rung"] is not None for t in teachers.values())
    if by_rung or guidance["by_rung"] is not None:
        settings = teacher_settings(_scale(start, guidance), start["weights"])
        return settings, (
            f"{settings['weights']} at guidance {settings['scale']:g}: what judges the student "
            "hangs on its rung, so there is no single teacher"
        )
    if len(teachers) == 1 and _plain(guidance):
        (only,) = teachers.values()
        return teacher_settings(_scale(only, guidance), only["weights"]), ""
    parts = {"teachers": teachers, "guidance": guidance, "panel": recipe["panel"]}
    note = "the trial's own panel, guided as in training"
    if any(t["by_progress"] is not None for t in teachers.values()):
        note += ", as it stands at the end"
    return {"row": "teacher", "steps": TEACHER_STEPS, "shift": 3.0, **parts}, note


def _plain(guidance: Mapping[str, Any]) -> bool:
    """Whether guidance is a scale and nothing else."""
    return not any(guidance[name] for name in ("by_level", "interval", "rescale", "negative"))


def _scale(teacher: Mapping[str, Any], guidance: Mapping[str, Any]) -> float:
    own: float | None = teacher["guidance"]
    return float(guidance["scale"] if own is None else own)


def references(recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows worth showing beside a recipe, by name: those of its start, its teachers, its panel."""
    guidance, start = recipe["guidance"], recipe["teachers"][recipe["student"]["init"]]
    weights, scale = start["weights"], guidance["scale"]
    rungs, shift = recipe["student"]["rungs"], recipe["student"]["shift"]
    if recipe["family"] != "toyworld":
        return _large(recipe, weights, scale, rungs, shift)
    plain = {"row": "undistilled", "weights": weights, "steps": rungs, "shift": float(shift)}
    called = "" if weights == "teacher" else f"-{weights}"
    rows = {
        "data": {"row": "data"},
        "autoencoder": {"row": "autoencoder"},
        _teacher_name(weights, scale): teacher_settings(scale, weights),
        f"undistilled-{rungs}nfe{called}": {**plain, "scale": 1.0},
        "source-copied": {"row": "source-copied"},
    }
    if scale != 1.0:
        guided = {**plain, "scale": float(scale)}
        rows[f"undistilled-{2 * rungs}nfe-g{scale:g}{called}"] = guided
    for teacher in recipe["teachers"].values():
        if teacher["share"] > 0:
            own = _scale(teacher, guidance)
            rows[_teacher_name(teacher["weights"], own)] = teacher_settings(own, teacher["weights"])
    own_row, _ = own_teacher(recipe)
    if own_row is not None and own_row not in rows.values():
        rows[f"panel-{_hash(own_row)[:6]}"] = own_row
    return rows


def _large(
    recipe: Mapping[str, Any], weights: str, scale: float, rungs: int, shift: float
) -> dict[str, dict[str, Any]]:
    """The guided teacher at full steps, and it undistilled at the student's."""
    whole = {"family": recipe["family"], "model": recipe["model"], "weights": weights}
    few = {**whole, "row": "undistilled", "steps": rungs, "shift": float(shift), "scale": 1.0}
    full = {**few, "row": "teacher", "steps": LARGE_TEACHER_STEPS, "scale": float(scale)}
    return {
        _teacher_name(weights, scale): full,
        f"undistilled-{rungs}nfe": few,
    }


def _teacher_name(weights: str, scale: float) -> str:
    """`teacher-g2` for the base, `specialist-g2` for others."""
    return f"{weights}-g{scale:g}"


def _hash(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def compared_teacher(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The teacher that a row's distance to the teacher refers to; None for no distance.

    The unguided undistilled row stands beside arms of every scale, so it has none.
    """
    if "family" in settings:
        return None
    if settings["row"] == "teacher":
        return dict(settings)
    if settings.get("scale", 1.0) != 1.0:
        return teacher_settings(settings["scale"], settings["weights"])
    return None


def kept_metrics(settings: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that mean something for a row: a copied source has no T2I picture of its own."""
    edits = ("edit/", "more/fid_edit", "more/edit_", "more/fidelity_", "more/following_",
             "more/preservation_")  # fmt: skip
    row = settings["row"]
    if row in EDIT_ONLY:
        return {name: value for name, value in metrics.items() if name.startswith(edits)}
    if row in T2I_ONLY:
        return {name: value for name, value in metrics.items() if not name.startswith(edits)}
    return dict(metrics)


def kept_panel(settings: Mapping[str, Any], kind: str, item: str) -> bool:
    """Whether an artifact belongs to a row: panels of the task the row does not do are left out."""
    if kind != "panel":
        return True
    row = settings["row"]
    wrong = "t2i-" if row in EDIT_ONLY else "edit-" if row in T2I_ONLY else None
    return wrong is None or not item.startswith(wrong)


def record_name(settings: Mapping[str, Any], protocol: str) -> str:
    """Name of a row's record: hash of settings, protocol fingerprint and frozen weights."""
    whole = {"settings": dict(settings), "protocol": protocol, "weights": data_digest(settings)}
    return _hash(whole)[:24]


@dataclass(frozen=True)
class Record:
    """One reference row as shipped."""

    folder: Path
    metrics: dict[str, float]
    estimates: list[dict[str, Any]]
    artifacts: list[dict[str, Any]]

    def unpack(self, folder: Path) -> list[dict[str, Any]]:
        """Copy the row's files into an attempt folder; returns its artifacts."""
        for artifact in self.artifacts:
            target = folder / artifact["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / artifact["path"], target)
        return self.artifacts


def shipped(settings: Mapping[str, Any], protocol: str) -> Record | None:
    """The shipped record of a row, or None where none was made under these fingerprints."""
    if "family" in settings:
        return None  # none ships of a large family
    folder = SHIPPED / record_name(settings, protocol)
    if not (folder / "record.json").is_file():
        return None
    held = json.loads((folder / "record.json").read_text())
    return Record(folder, held["metrics"], held["estimates"], held["artifacts"])


def ship(
    settings: Mapping[str, Any], protocol: str, attempt: Path, report: Mapping[str, Any]
) -> Path:
    """Keep a finished row's report (plain data) and its panels among the shipped records."""
    folder = SHIPPED / record_name(settings, protocol)
    panels = [a for a in report["artifacts"] if a["kind"] == "panel"]
    for artifact in panels:
        target = folder / artifact["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(attempt / artifact["path"], target)
    held = {
        "settings": dict(settings),
        "protocol": protocol,
        "metrics": report["metrics"],
        "estimates": report["estimates"],
        "artifacts": panels,
    }
    (folder / "record.json").write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    return folder


def _features_name(settings: Mapping[str, Any], protocol: str) -> str:
    return f"features-{record_name(settings, protocol)}.npz"


def teacher_features(
    settings: Mapping[str, Any], protocol: str, cache: Path
) -> dict[str, np.ndarray] | None:
    """Features of the teacher's samples by category, shipped or cached; None if neither."""
    import numpy as np

    for folder in (SHIPPED, cache / "teachers"):
        path = folder / _features_name(settings, protocol)
        if path.is_file():
            with np.load(path, allow_pickle=False) as held:
                return {name: held[name].astype(np.float32) for name in held.files}
    return None


def keep_teacher_features(
    settings: Mapping[str, Any],
    protocol: str,
    cache: Path,
    features: Mapping[str, np.ndarray],
    *,
    folder: Path | None = None,
) -> Path:
    """Write features under a temporary name and rename; several trials may do so at once."""
    import os

    import numpy as np

    home = folder or cache / "teachers"
    home.mkdir(parents=True, exist_ok=True)
    path = home / _features_name(settings, protocol)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as handle:
        np.savez_compressed(handle, **dict(features))
    temporary.replace(path)
    return path
