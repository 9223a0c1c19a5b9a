"""Keys and fingerprints that must be the same with every version of a library that is allowed.

`python -m tests.compat.golden` prints those of this installation, `--write` keeps them in
golden.json. A recipe whose meaning changed has other keys: then, and only then, they are written
anew. It imports what `plan` imports, so that an environment of the lowest versions is small.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from harness.journal.workspace import Workspace
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy
from harness.subjects.load import load_subject as subject_of

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("golden.json")
STUDIES = ("quickstart", "task-mixture", "objective-composition")


def golden() -> dict[str, Any]:
    """Study -> digest, keys of its first trials, fingerprints of data and protocol."""
    from harness.journal.history import History
    from harness.planning.make import make_plan

    found: dict[str, Any] = {}
    for name in STUDIES:
        study = load_study(ROOT / "studies" / name / "study.yaml")
        subject = subject_of(study.subject, project=ROOT)
        plan = make_plan(
            OpenedStudy(study, Workspace(ROOT / "none"), subject=subject, history=History())
        )
        kinds = {t.trial.kind: t.trial for t in reversed(plan.trials)}
        found[name] = {
            "digest": study.digest(),
            "keys": {kind: trial.key for kind, trial in sorted(kinds.items())},
            "all": _digest([t.trial.key for t in plan.trials]),
            "data": plan.fingerprints.data,
            "protocol": plan.fingerprints.protocol,
            "code": plan.fingerprints.code,
        }
    return found


def _digest(content: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


if __name__ == "__main__":
    made = golden()
    if "--write" in sys.argv:
        kept = {name: {k: v for k, v in of.items() if k != "code"} for name, of in made.items()}
        FILE.write_text(json.dumps(kept, indent=1) + "\n")
    else:
        print(json.dumps(made))
