"""What goes into a bundle: records, recipes, items, report, tables, environment."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bundling.verifier import MANIFEST, SCHEMA
from harness.contract import Artifact, ArtifactKind
from harness.journal import Attempt
from harness.report import facts
from harness.report.page import report_files
from harness.report.results import counting, packed, result_files
from harness.trial import canonical

if TYPE_CHECKING:
    from harness.commands.answered import Answered
    from harness.plan import PlannedContrast

Members = dict[str, bytes | Path]
"""Name in the archive to content, or to the file that holds it."""
LOCK = "requirements.lock"


def recorded(
    made: Answered, kinds: Collection[ArtifactKind], sources: Mapping[str, Any]
) -> Members:
    """Everything about a study but its source and what explains it.

    Args:
        made: the study, answered.
        kinds: kinds of artifacts that go along where their files are still there.
        sources: what the manifest says of the source files; see `source.compared`.

    Raises:
        NotJudgedError: no trial of the study has a result yet.
    """
    found: Members = {}

    def kept(attempt: Attempt) -> list[Artifact]:
        folder = f"trials/{attempt.opened.key}/attempts/{attempt.folder_name}"
        listed = attempt.closed.artifacts if attempt.closed else []
        going = []
        for artifact in listed:
            files = _files(made, attempt, artifact) if artifact.kind in kinds else {}
            if files:
                going.append(artifact)
                found.update({f"{folder}/{name}": file for name, file in files.items()})
        return going

    results = result_files(made.answer, made.plan, made.history, kept)
    found |= {f"results/{name}": text.encode() for name, text in results.items()}
    values = packed(made.answer, made.plan, made.history)
    found |= {f"results/{name}": content for name, content in values.items()}
    report = report_files(
        made.answer, made.plan, made.study, made.history, made.workspace, portable=True
    )
    found |= {f"report/{name}": text.encode() for name, text in report.items()}
    for planned in made.plan.trials:
        trial, record = planned.trial, made.history.trials.get(planned.trial.key)
        if record is not None and counting(record):
            found[f"recipes/{trial.key}.json"] = canonical(trial.identity())
    found["environment/versions.json"] = _json(
        {name: values for name, values in facts.environment(made.plan, made.history)}
    )
    found[MANIFEST] = _json(
        {
            "schema": SCHEMA,
            "study": made.answer.study,
            "study_digest": made.plan.digest,
            "artifacts": sorted(kinds),
            "contrasts": [_contrast(contrast) for contrast in made.plan.contrasts],
            "sources": dict(sources),
        }
    )
    return found


def _contrast(contrast: PlannedContrast) -> dict[str, Any]:
    """What the verifier needs to judge a contrast: its kind, and every part's cells."""
    kept = ("id", "metric", "kind", "expect", "margin", "threshold", "falls")
    told = contrast.model_dump(include={*kept})
    return {**told, "parts": [part.model_dump() for part in contrast.parts]}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _files(made: Answered, attempt: Attempt, artifact: Artifact) -> dict[str, Path]:
    """Path below the attempt to file; links are left out, a CSV beside a table goes along."""
    root = made.workspace.trial(attempt.opened.key) / "attempts" / attempt.folder_name
    place = root / artifact.path
    candidates = sorted(place.rglob("*")) if place.is_dir() else [place]
    if artifact.kind in ("items", "prompts"):
        candidates.append(place.with_suffix(".csv"))
    return {
        file.relative_to(root).as_posix(): file
        for file in candidates
        if file.is_file() and not file.is_symlink()
    }
