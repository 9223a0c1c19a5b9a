"""Finds a study's subject and checks that it keeps the contract, before anything is spent."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from harness import installation
from harness.contract import Fingerprints, MetricSpec, Subject
from harness.errors import SubjectError
from harness.subjects import project_imports
from harness.subjects.settings import CommandSettings, StudentsSettings

Digests = Callable[[Mapping[str, Any], str], Fingerprints]

REQUIRED = {
    "Recipe": "a pydantic model of what can be varied",
    "metrics": "a mapping of metric name to MetricSpec",
    "fingerprints": "a function (recipe, protocol) -> Fingerprints",
    "run": "a function (recipe, context) -> iterator of Reports",
}


def load_subject(
    spec: str | CommandSettings | StudentsSettings, *, project: Path | None = None
) -> Subject:
    """The subject a study names: a module, someone else's command, or students of others.

    Args:
        spec: dotted module, e.g. `recipes.subject`, or `module:attribute` for an object that offers
            the names of `Subject`; or the settings of a command or of students.
        project: folder that relative paths of settings start from, usually the project of the
            study file. It is put on `sys.path`: first, or last where the subject is ours (see
            `harness.installation`).

    Raises:
        SubjectError: if it cannot be imported, or lacks a part of the contract.
    """
    if isinstance(spec, str):
        return _module(spec, project)
    if isinstance(spec, CommandSettings):
        from harness.subjects.command import command_subject

        measuring = _module(spec.measured_by, project) if spec.student is not None else None
        return cast(Subject, command_subject(spec, project or Path.cwd(), measuring))
    from harness.subjects.checkpoints import StudentsSubject

    measuring = _module(spec.measured_by, project)
    return cast(Subject, StudentsSubject(spec, project or Path.cwd(), measuring))


def model_of(subject: Subject, base: Mapping[str, Any]) -> type[BaseModel]:
    """The model of recipes like `base`.

    Raises:
        HarnessError: if the subject cannot make one.
    """
    made = getattr(subject, "recipe_model", None)
    model: type[BaseModel] = made(base) if made is not None else subject.Recipe
    return model


def digests_of_references(subject: Subject) -> Digests:
    """What gives the digests of reference rows: whoever makes them, so that trainers share them."""
    own: Digests = getattr(subject, "reference_fingerprints", subject.fingerprints)
    return own


def data_of(
    subject: Subject, recipe: Mapping[str, Any], replicate: int, prints: Fingerprints
) -> str | None:
    """Data digest of a trial; None where the subject has no such replicate."""
    own = getattr(subject, "data_of", None)
    found: str | None = prints.data if own is None else own(recipe, replicate)
    return found


def _module(name: str, project: Path | None) -> Subject:
    ours = installation.arrange(name, project)
    if not ours and project is not None:
        project_imports.refuse_both(name, project)
    module_name, _, attribute = name.partition(":")
    try:
        found: object = importlib.import_module(module_name)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
    except Exception as error:  # a subject's import may raise anything
        raise SubjectError(
            f"subject {name!r} cannot be imported: {type(error).__name__}: {error}. "
            "Give `package.module` or `package.module:object`, importable from the study's project."
        ) from error
    if ours:
        installation.check()
    problems = _problems(found)
    if problems:
        raise SubjectError(
            f"subject {name!r} breaks the contract (harness/contract.py): " + "; ".join(problems)
        )
    if getattr(found, "own_code_digest", False):
        return cast(Subject, found)
    from harness.subjects.source import HashedSubject

    return cast(Subject, HashedSubject(found, module_name, project))


def _problems(found: object) -> list[str]:
    missing = [
        f"it lacks `{name}`, {what}" for name, what in REQUIRED.items() if not hasattr(found, name)
    ]
    if missing:
        return missing
    problems = []
    recipe = getattr(found, "Recipe")  # noqa: B009 - `found` is any object
    if not (isinstance(recipe, type) and issubclass(recipe, BaseModel)):
        problems.append(f"`Recipe` must be a pydantic model, it is {recipe!r}")
    metrics = getattr(found, "metrics")  # noqa: B009
    if not isinstance(metrics, Mapping) or not metrics:
        problems.append("`metrics` must be a mapping with at least one metric")
    else:
        bad = [str(k) for k, v in metrics.items() if not isinstance(v, MetricSpec)]
        unnamed = [repr(k) for k in metrics if not isinstance(k, str)]
        if unnamed:
            problems.append(f"names in `metrics` must be text: {', '.join(unnamed)}")
        elif bad:
            problems.append(f"`metrics` of {', '.join(bad)} must be MetricSpec")
        elif not any(spec.headline for spec in metrics.values()):
            problems.append("`metrics` marks none as headline")
    problems += [
        f"`{name}` must be callable"
        for name in ("fingerprints", "run")
        if not callable(getattr(found, name))
    ]
    return problems
