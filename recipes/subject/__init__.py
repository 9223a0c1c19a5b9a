"""The subject: the one place where training, measuring and the harness's contract meet.

Importing it imports no torch; that happens inside `run`, `measure` and `reference`, which
`training.py` and `measuring.py` hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.catalogue import catalogue
from evaluation.protocol import available_protocols
from harness.contract import Context, Expected, Fingerprints, Measurement, MetricSpec, Report
from recipes.fingerprints import data_digest, used_files
from recipes.recipe import Recipe
from recipes.references import references as _references
from recipes.source_files import Code, code_of
from recipes.subject.protocols import protocol_fingerprint, protocol_named, protocol_names

__all__ = [
    "Context",
    "Measurement",
    "Recipe",
    "arm_label",
    "default_protocol",
    "earlier_fingerprints",
    "examine",
    "expected_cost",
    "fingerprints",
    "gap",
    "measure",
    "metrics",
    "missing",
    "prompt_tables",
    "protocols",
    "recompute",
    "reference",
    "references",
    "run",
    "scope",
]

PROTOCOL = "toyworld-v1"
default_protocol = PROTOCOL
protocols = available_protocols()
own_code_digest = True
"""`fingerprints` follows every definition that a trial runs: by file, dead code would count. Not in
`__all__`: a module that takes everything from here has source of its own."""

metrics: Mapping[str, MetricSpec] = {
    name: MetricSpec(
        unit=info.unit,
        higher_is_better=info.higher_is_better,
        low=info.lo if info.lo != float("-inf") else None,
        high=info.hi if info.hi != float("inf") else None,
        headline=info.headline,
        follows=info.follows,
        description=info.description,
    )
    for name, info in catalogue(protocol_named(PROTOCOL)).items()
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Digests of training data and frozen weights, protocol, and the definitions it runs."""
    code = code_of(recipe, protocol_names(protocol))
    made = _shared(_data_of(recipe), protocol_fingerprint(protocol), code)
    files = _data_files(recipe)
    return made.model_copy(update={"data_files": files}) if files else made


@lru_cache(maxsize=4096)
def _shared(data: str, protocol: str, code: Code) -> Fingerprints:
    """One object for equal digests: thousands of arms may share a listing of hundreds of names."""
    return Fingerprints(data=data, protocol=protocol, code=code.digest, code_files=code.files)


def earlier_fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """The same with the code digest that was recorded before this release, by file."""
    from recipes.recorded_by_file import code_by_file

    # Recorded trials of that release are judged by the digest of its kind, or all would be stale.
    code = code_by_file(recipe, protocol_named(protocol).model_dump(mode="json"))
    made = fingerprints(recipe, protocol)
    return made.model_copy(update={"code": code.digest, "code_files": code.files})


def _data_of(recipe: Mapping[str, Any]) -> str:
    if recipe.get("family", "toyworld") == "toyworld":
        return data_digest(recipe)
    from recipes.families import qwen_image_files

    return qwen_image_files.digest(recipe)


def _data_files(recipe: Mapping[str, Any]) -> dict[str, str]:
    """`source/file` -> digest of the files that data are read from, to say which one changed."""
    used = used_files(recipe)
    if not used:
        return {}
    from recipes.data.files import MissingSourceError, files_listing

    found: dict[str, str] = {}
    for name, source in used.items():
        if source.get("digest"):
            continue  # it stands for the files, here or not
        with contextlib.suppress(MissingSourceError):
            found |= {f"{name}/{file}": digest for file, digest in files_listing(source).items()}
    return found


def examine(student: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a student from elsewhere is sampled.

    Raises:
        ValueError: `measure` would refuse it.
    """
    from recipes.student_folder import examined

    return examined(student, settings).card


def arm_label(path: str, value: Any) -> str:
    """Short label of a level: guidance.scale 2.0 is g2, tasks.edit 0.5 is e0.5."""
    prefixes = {"guidance.scale": "g", "tasks.edit": "e", "tasks.t2i": "t", "train.cycles": "c"}
    last = path.rsplit(".", 1)[-1]
    text = f"{value:g}" if isinstance(value, int | float) else str(value)
    return f"{prefixes.get(path, last + '-')}{text}"


def scope(recipe: Mapping[str, Any], protocol: str) -> str:
    """What a verdict is a claim about."""
    made = Recipe.model_validate(dict(recipe))
    cycles = made.total_cycles
    if made.model is not None:
        return f"on {made.model.repository} ({made.model.pixels} px), {cycles} cycles"
    return f"on the toy world (24 px, 1.9 M parameters), {cycles} cycles"


def missing(recipe: Mapping[str, Any], protocol: str) -> tuple[str, ...]:
    """Weights, data and item sets that a trial needs and that are not on this machine."""
    absent: tuple[str, ...] = ()
    if recipe["family"] != "toyworld":
        from recipes.families import qwen_image_files

        measured = protocol_named(protocol).items
        absent = qwen_image_files.missing(recipe, edits=bool(measured.edit))
    return (*absent, *protocol_named(protocol).missing())


def expected_cost(
    recipe: Mapping[str, Any], protocol: str, resources: Mapping[str, float]
) -> Expected | None:
    """What one trial will cost, without any having run; None where nothing can be said."""
    from recipes.subject.costing import expected

    return expected(Recipe.model_validate(dict(recipe)), protocol_named(protocol), resources)


def references(recipe: Mapping[str, Any], protocol: str) -> Mapping[str, Mapping[str, Any]]:
    """Reference rows worth showing beside a recipe, by name; see `recipes.references`."""
    return _references(recipe)


def gap(recipe: Mapping[str, Any], protocol: str) -> tuple[str, str] | None:
    """Rows of the recipe's teacher and of data; None where no plain teacher judges alone."""
    from recipes.references import own_teacher

    teacher, special = own_teacher(recipe)
    rows = _references(recipe)
    named = [name for name, settings in rows.items() if settings == teacher and not special]
    return (named[0], "data") if named and "data" in rows else None


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Distil a student and measure it; resumable, and bit-exact on CPU."""
    from recipes.subject.training import trained

    return trained(recipe, context)


def measure(student: Path, protocol: str, context: Context) -> Iterator[Report]:
    """Measure a kept student (folder written by `run`) under a protocol, without training."""
    from recipes.subject.measuring import measured_student

    return measured_student(student, protocol, context)


def recompute(
    folder: Path, step: int, recipe: Mapping[str, Any], protocol: str, cache: Path
) -> Mapping[str, float]:
    """Numbers again from the items and features stored in an attempt folder, sampling nothing."""
    from recipes.subject.measuring import recomputed_numbers

    return recomputed_numbers(folder, step, protocol, cache)


def prompt_tables(
    folder: Path, step: int, recipe: Mapping[str, Any], protocol: str, cache: Path
) -> Mapping[str, str]:
    """Values by prompt from the items and features stored in an attempt folder, as CSV texts."""
    from recipes.subject.measuring import stored_prompt_tables

    return stored_prompt_tables(folder, step, recipe, protocol, cache)


def reference(settings: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Produce one reference row, from the shipped records where their fingerprints match."""
    from recipes.subject.measuring import measured_reference

    return measured_reference(settings, context)
