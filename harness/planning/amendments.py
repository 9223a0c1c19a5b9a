"""What the first run of a study froze, and what its file says otherwise since.

The first `planned` record of a study fixes its primary metric, contrasts, margins, alpha and
replicates; every later record carries that along, so that losing the first one unfreezes nothing.
Where attempts are recorded but no plan is, that is said, and nothing counts as planned.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.journal.history import History
from harness.journal.records import Frozen, Planned, Spending
from harness.journal.trial import canonical
from harness.planning.plan import AmendedPath, Amendment, Kind, day
from harness.study.kinds import KINDS
from harness.study.opened_study import OpenedStudy

if TYPE_CHECKING:
    from harness.journal.trial import Arm
    from harness.planning.plan import Plan
    from harness.study.model import Contrast, Study
    from harness.study.planned_contrast import PlannedContrast

UNJUDGED = ("file", "recipe", "name", "budget", "resources")
"""Parts of a study that say where things lie or what may be spent, not what is asked."""
DECIDING = ("metric", "margin", "expect")
"""Parts of a contrast that decide its verdict beside what it compares; its claim does not."""
AUTHORED = ("factors", "set", "base", "where", "design", "resolution", "baseline", "arms")
"""Parts of a study that its arms come from."""
MOST_SHOWN = 120
_ABSENT = object()


def contrasts_in(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The contrasts that a study's recorded JSON declares: a record may hold anything there."""
    listed = content.get("contrasts")
    found = listed if isinstance(listed, list) else []
    return [c for c in found if isinstance(c, Mapping) and isinstance(c.get("id"), str)]


def frozen_of(history: History, study: str) -> Frozen | None:
    """What the study's first run froze; None if nothing of it is recorded.

    Where attempts of the study are recorded without any plan, the answer is an empty `lost` record.
    """
    records = history.planned.get(study, [])
    if records:
        # Frozen for good: who wants an honest new start gives the study another name. That
        # workspace and results were deleted altogether, nothing can notice.
        return min((record.frozen or frozen_in(record) for record in records), key=lambda f: f.at)
    opened = [a.opened for t in history.trials.values() for a in t.attempts.values()]
    starts = [record.at for record in opened if record.study == study]
    return Frozen(at=min(starts), digest="", study_json={}, lost=True) if starts else None


@dataclass(frozen=True)
class KnownArms:
    """The arms of a plan by what they are, whatever the study calls them."""

    recipes: Mapping[str, str]
    """Arm -> digest of its recipe."""
    names: Mapping[str, str]
    """Arm -> what the first run called the arm of the same trials."""


def known_arms(
    arms: Iterable[Arm],
    keys: Mapping[tuple[str, int], str] | None = None,
    history: History | None = None,
    study: str = "",
) -> KnownArms:
    """The arms of a plan, told by recipes and, where a history is given, by their trials' keys.

    Args:
        arms: of the plan.
        keys: (arm, replicate) -> key of its trial.
        history: where earlier plans of the study are recorded.
        study: its name.
    """
    recipes = {arm.name: hashlib.sha256(arm.canonical_recipe()).hexdigest() for arm in arms}
    once: dict[str, str] = {}
    for record in sorted(history.planned.get(study, []) if history else [], key=lambda r: r.at):
        for trial in record.trials:
            once.setdefault(trial.key, trial.arm)
    names = {arm: once[key] for (arm, _), key in (keys or {}).items() if key in once}
    return KnownArms(recipes, names)


def frozen_with(
    history: History,
    study: Study,
    contrasts: Iterable[PlannedContrast],
    arms: Sequence[Arm],
    spending: Spending | None = None,
) -> Frozen:
    """What a plan record written now has to carry along: the earlier one, else this study.

    With the levels of its looks, where the study begins as one that runs until it is decided.
    """
    known = frozen_of(history, study.name)
    if known is not None and not (known.lost and not known.study_json):
        return known
    listed, recipes = list(contrasts), known_arms(arms).recipes
    return Frozen(
        at=known.at if known else time.time(),
        digest=study.digest(),
        study_json=content_of(study),
        arms=[arm.name for arm in arms],
        cells={contrast.id: cells_digest(contrast) for contrast in listed},
        compared={contrast.id: compared_digest(contrast, recipes) for contrast in listed},
        lost=known is not None,
        spending=spending,
    )


def content_of(study: Study) -> dict[str, Any]:
    """The study as its plan record holds it."""
    return study.model_dump(mode="json", exclude={"file"})


def cells_digest(contrast: PlannedContrast, names: Mapping[str, str] | None = None) -> str:
    """Digest of the names of the arms a contrast compares and of their weights.

    Args:
        contrast: resolved to arms.
        names: arm -> what it was called before; others keep their names.
    """
    once = names or {}
    pairs = [(once.get(a, a), once.get(b, b)) for a, b in contrast.pairs]
    weights = {once.get(arm, arm): w for arm, w in contrast.weights.items()}
    content: list[Any] = [sorted(pairs), sorted(weights.items())]
    if contrast.kind != "difference":
        content.append(_parts(contrast, once))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def compared_digest(contrast: PlannedContrast, recipes: Mapping[str, str]) -> str:
    """Digest of what a contrast compares, by the arms' recipes: names and order are not in it."""
    text = json.dumps([contrast.kind, _parts(contrast, recipes)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parts(contrast: PlannedContrast, told: Mapping[str, str]) -> list[Any]:
    """Every part with its cells, in an order of its own; weights to twelve digits.

    The sign of an interaction, and of either effect in `more`, follows the order of the levels. The
    test is two-sided, so that it is none of what is compared, unless a direction is expected.
    """
    unsigned = contrast.traits.unsigned and not contrast.expect
    found = []
    for part in contrast.parts:
        cells = [sorted((told.get(arm, arm), w) for arm, w in cell.items()) for cell in part.cells]
        cells.sort()
        sign = -1.0 if unsigned and cells and cells[0][0][1] < 0 else 1.0
        turned = [[(arm, f"{sign * w:.12g}") for arm, w in cell] for cell in cells]
        found.append((part.name, sorted(turned)))
    return sorted(found)


def amendments(study: Study, arms: Iterable[str], history: History) -> list[Amendment]:
    """Every change since the first run, step by step, in the order of the runs that had them."""
    frozen = frozen_of(history, study.name)
    if frozen is None or not frozen.study_json:
        return []
    found: list[Amendment] = []
    before, known = frozen.study_json, frozen.arms
    later = [r for r in history.planned.get(study.name, []) if r.at > frozen.at and r.study_json]
    for record in sorted(later, key=lambda record: record.at):
        names = _arms(record)
        found += _steps(before, record.study_json, known, names, record.at)
        before, known = record.study_json, names or known
    return [*found, *_steps(before, content_of(study), known, list(arms), None)]


def amended(
    study: Study,
    contrast: Contrast,
    planned: PlannedContrast,
    frozen: Frozen | None,
    arms: KnownArms | None = None,
) -> str:
    """Why a contrast is not one of those planned before the first run; empty if it is.

    Args:
        study: as it is now.
        contrast: as the study has it now.
        planned: the same, resolved to arms.
        frozen: what the first run froze.
        arms: the arms of now; None where they are known by name alone.
    """
    if frozen is None or not (frozen.study_json or frozen.lost):
        return ""
    first = f"the first run ({day(frozen.at)})"
    if frozen.lost:
        return f"no record says what was planned before {first}"
    written = {str(c["id"]): c for c in contrasts_in(frozen.study_json)}
    before = written.get(contrast.id)
    if before is None:
        return f"added after {first}"
    now = contrast.model_dump(mode="json")
    changed = [
        f"{part} {_short(one)} -> {_short(other)}"
        for part, one, other in _settings(study, frozen, before, now)
        if not _equal(one, other)
    ]
    renamed = [
        f"{part} {_short(before.get(part))} -> {_short(now.get(part))}"
        for part in _naming()
        if not _equal(before.get(part) or {}, now.get(part) or {})
    ]
    same = _compares_the_same(study, planned, frozen, arms, named_alike=not renamed)
    if not same and not renamed and not changed:
        return f"compares other arms than before {first}"
    listed = changed if same else [*renamed, *changed]
    return f"changed after {first}: {', '.join(listed)}" if listed else ""


def _naming() -> list[str]:
    """Parts of a contrast that name what it compares: another name for the same is no change.

    `sooner` is not among them: it holds settings, too, which are told one by one.
    """
    from harness.study.model import Contrast

    others = ("id", "claim", "sooner", *DECIDING)
    return [name for name in Contrast.model_fields if name not in others]


def _settings(
    study: Study, frozen: Frozen, before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """What decides beside the arms, as it was and as it is."""
    for part in DECIDING:
        yield part, before.get(part), now.get(part)
    one, other = (given.get("sooner") or {} for given in (before, now))
    if isinstance(one, Mapping):
        for part in ("threshold", "falls"):
            yield part, one.get(part), other.get(part)
    if any(now.get(traits.key) for traits in KINDS.values() if traits.over_training):
        then = frozen.study_json.get("measure_at")
        cycles = sorted(set(then)) if isinstance(then, list) else then
        yield "measure_at", cycles, sorted(set(study.measure_at))


def _compares_the_same(
    study: Study,
    planned: PlannedContrast,
    frozen: Frozen,
    arms: KnownArms | None,
    *,
    named_alike: bool,
) -> bool:
    """Whether a contrast compares what it did at the first run, whatever it is called now."""
    then = frozen.compared.get(planned.id)
    if then is not None and arms is not None:
        if compared_digest(planned, arms.recipes) == then:
            return True
        # Nothing that its author wrote is another: a recipe has a field or a default that it had
        # not. Whether its trials count is the keys' matter.
        content = content_of(study)
        untouched = all(_equal(content.get(p), frozen.study_json.get(p)) for p in AUTHORED)
        return named_alike and untouched
    known = frozen.cells.get(planned.id)
    if named_alike and known in (None, cells_digest(planned)):
        return True
    return known is not None and arms is not None and known == cells_digest(planned, arms.names)


def frozen_in(record: Planned) -> Frozen:
    """What a plan record would freeze if it is the first."""
    content = record.study_json if "factors" in record.study_json else {}
    return Frozen(at=record.at, digest=record.digest, study_json=content, arms=_arms(record))


def _arms(record: Planned) -> list[str]:
    return list(dict.fromkeys(t.arm for t in record.trials if t.kind == "trial"))


def _steps(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    arms_before: list[str],
    arms_now: list[str],
    at: float | None,
) -> Iterator[Amendment]:
    for path, one, two in _changes((), _asked(before), _asked(now)):
        kind: Kind = "added" if one is _ABSENT else "removed" if two is _ABSENT else "changed"
        dotted = ".".join(path)
        yield Amendment(path=dotted, kind=kind, before=_short(one), now=_short(two), at=at)
    if arms_before and arms_now:
        if new := [name for name in arms_now if name not in set(arms_before)]:
            yield Amendment(path="arms", kind="added", now=_listed(new), at=at)
        if gone := [name for name in arms_before if name not in set(arms_now)]:
            yield Amendment(path="arms", kind="removed", before=_listed(gone), at=at)


def _asked(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a study asks, as nested mappings; contrasts by id, and defaults where nothing is said.

    A record of an earlier version lacks the fields of a later one: those had their defaults.
    """
    from harness.study.model import Contrast, StudyFile

    found = {
        name: content.get(
            name, None if info.is_required() else info.get_default(call_default_factory=True)
        )
        for name, info in StudyFile.model_fields.items()
        if name not in UNJUDGED
    }
    usual = {
        name: info.get_default(call_default_factory=True)
        for name, info in Contrast.model_fields.items()
    }
    found["contrasts"] = {
        str(c["id"]): {k: v for k, v in {**usual, **c}.items() if k != "id"}
        for c in contrasts_in(found)
    }
    found["protocol"] = Path(str(found["protocol"])).name
    found["recipe"] = content.get("base", {})
    return found


def _changes(
    path: tuple[str, ...], before: Any, now: Any
) -> Iterator[tuple[AmendedPath, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _changes((*path, key), before.get(key, _ABSENT), now.get(key, _ABSENT))
    elif before is _ABSENT or now is _ABSENT or not _equal(before, now):
        yield path, before, now


def _equal(one: Any, other: Any) -> bool:
    try:
        return canonical(one) == canonical(other)  # 1 and 1.0 are the same level
    except ValueError:  # a record holds a number that no study can
        return bool(one == other)


def _short(value: Any) -> str:
    if value is _ABSENT:
        return ""
    if isinstance(value, Mapping):  # what is not given needs no telling
        value = {k: v for k, v in value.items() if v not in ("", None, {}, [])}
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def as_recorded(plan: Plan, opened: OpenedStudy) -> Plan:
    """The plan once it is recorded: with what the first run froze, and its amendments as run."""
    study, history = opened.study, opened.history
    fixed = frozen_fields(study, frozen_of(history, study.name))
    changes = amendments(study, [arm.name for arm in plan.arms], history)
    if plan.adaptive is not None and (known := frozen_of(history, study.name)) is not None:
        fixed["adaptive"] = plan.adaptive.model_copy(update={"spending": known.spending})
    return plan.model_copy(update={**fixed, "amendments": changes})


def frozen_fields(study: Study, frozen: Frozen | None) -> dict[str, Any]:
    """What the first run fixed for good, of a study that ran already."""
    written = frozen.study_json if frozen is not None else {}
    alpha, replicates = written.get("alpha"), written.get("replicates")
    if frozen is not None and frozen.spending is not None:
        replicates = frozen.spending.at_most
    return {
        "alpha": alpha if isinstance(alpha, float) and 0 < alpha < 1 else study.alpha,
        "frozen_at": frozen.at if frozen is not None else None,
        "frozen_replicates": replicates if isinstance(replicates, int) else None,
        "frozen_contrasts": len(contrasts_in(written)) if "contrasts" in written else None,
    }
