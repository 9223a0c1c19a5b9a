"""Records as lines of a journal, and back: a trial's resolved recipe stands there once.

A line of type `trial` holds what a key is the hash of. Plans and attempts name trials by key, and
add what their study calls them: the arm and its levels. Earlier versions wrote the recipe into
every record; such lines are read as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from harness.journal.records import Glanced, Opened, Planned, Record, Superseded
from harness.journal.trial import Trial
from harness.text.identifiers import NAME, NO_NAME, refusal

TRIAL = "trial"
IDENTITY = ("recipe", "replicate", "data", "kind", "rerun", "subject")
"""Members of a trial that its key is the hash of, with the schema's number."""
_CONSTANTS = (b"NaN", b"Infinity")
_AS_IT_IS = (b'{"type":"closed",', b'{"type":"superseded",')
"""How lines begin that name no trial but by key: most of a journal, read without a detour."""


@cache
def _records() -> TypeAdapter[Record]:
    return TypeAdapter(Annotated[Record, Field(discriminator="type")])


@cache
def _glancing() -> TypeAdapter[Record]:
    records = Planned | Opened | Glanced | Superseded
    return TypeAdapter(Annotated[records, Field(discriminator="type")])


def lines_of(
    record: Record, described: Collection[str], *, exclude_defaults: bool = False
) -> Iterator[tuple[str, str]]:
    """(key, line) of every trial that a record names and no line describes; ("", its own line).

    Args:
        record: any.
        described: keys that need no line, because the journals at hand have one.
        exclude_defaults: leave out what is said by its absence.
    """
    trials: list[Trial] = []
    extra: dict[str, Any] = {}
    if isinstance(record, Planned):
        trials = record.trials
        extra["levels"] = {t.arm: t.levels for t in trials if t.levels}
        extra["trials"] = [{"key": t.key, "arm": t.arm} for t in trials]
    elif isinstance(record, Opened):
        trials = [record.trial]
        extra["trial"] = {"arm": record.trial.arm, "levels": record.trial.levels}
    yielded: set[str] = set()
    for trial in trials:
        # Once in all journals of a workspace: a recipe is the largest part of a record. So a single
        # file taken out of a workspace may be unreadable; exports and bundles describe all of their
        # own.
        if trial.key not in described and trial.key not in yielded:
            yielded.add(trial.key)
            yield trial.key, _compact({"type": TRIAL, "key": trial.key, "is": trial.identity()})
    left_out = {"type", *extra}
    own_line = record.model_dump_json(exclude_defaults=exclude_defaults, exclude=left_out)
    rest = _compact(extra)[1:-1] if extra else ""
    parts = [f'"type":"{record.type}"', own_line[1:-1], rest]
    yield "", "{" + ",".join(part for part in parts if part) + "}"


class Reader:
    """Turns lines into records; those that name trials by key wait until every line is read."""

    def __init__(self, *, numbers: bool = True) -> None:
        """Without `numbers`, measurements and artifacts are left out."""
        self.described: dict[str, dict[str, Any]] = {}
        self._adapter = _records() if numbers else _glancing()
        self._trials: dict[tuple[str, str], Trial] = {}
        self._waiting: list[tuple[str, dict[str, Any]]] = []

    def read(self, line: bytes, place: str = "") -> Record | None:
        """The record of a line; None for a trial's own line, and for one that waits.

        Raises:
            ValueError: the line is no record.
        """
        _refuse_constants(line)
        if line.startswith(_AS_IT_IS):
            return self._adapter.validate_json(line)
        try:
            content = json.loads(line)
        except RecursionError:
            raise ValueError("it nests too deeply") from None
        if b"\\ud" in line.lower():
            _refuse_halves(content)
        return self.take(content, place)

    def take(self, content: Any, place: str = "") -> Record | None:
        """As `read`, of a line that was parsed already."""
        if not isinstance(content, dict):
            raise ValueError("it is no record")
        if content.get("type") not in ("planned", "opened", TRIAL):
            return self._adapter.validate_python(content)
        if content["type"] == TRIAL:
            self._describe(content)
            return None
        if _names_by_key(content):
            self._waiting.append((place, content))
            return None
        return self._adapter.validate_python(content)

    def undescribed(self) -> set[str]:
        """Keys that waiting records name and no line describes."""
        keys: set[str] = set()
        for _, content in self._waiting:
            listed = [content] if content["type"] == "opened" else content.get("trials", [])
            keys.update(str(trial.get("key")) for trial in listed if isinstance(trial, dict))
        return keys - self.described.keys()

    def describe(self, key: str, identity: dict[str, Any]) -> None:
        """Take what a key is the hash of from elsewhere.

        Raises:
            ValueError: it is not what the key is the hash of.
        """
        members = {name: identity[name] for name in IDENTITY if name in identity}
        if not _is_key(key, members):
            raise ValueError(f"it does not hash to {key}")
        self.described.setdefault(key, members)

    def waiting(self) -> Iterator[tuple[str, Record | ValueError]]:
        """(place, record) of those that waited, now that every line is read.

        A plan is read without the trials that no line describes: one damaged line is no reason to
        forget what was planned.
        """
        waited, self._waiting = self._waiting, []
        for place, content in waited:
            try:
                if missing := self._fill(content):
                    yield place, ValueError(f"no line describes {missing} of the trials it plans")
                yield place, self._adapter.validate_python(content)
            except ValueError as error:
                yield place, error

    def _describe(self, content: dict[str, Any]) -> None:
        key, identity = content.get("key"), content.get("is")
        if not isinstance(key, str) or not isinstance(identity, dict):
            raise ValueError("it describes no trial")
        members = {name: identity[name] for name in IDENTITY if name in identity}
        try:
            Trial.model_validate({"key": key, "arm": "", **members})
        except ValidationError as error:
            raise ValueError(refusal(error)) from error
        # Believed without hashing, as reading must be quick; only where two lines disagree the hash
        # decides. `reproduce` and a bundle's verifier check every key.
        before = self.described.setdefault(key, members)
        if before == members:
            return
        if not _is_key(key, before) and _is_key(key, members):
            self.described[key] = members
            raise ValueError(f"a line before it describes trial {key} as what its key is not of")
        raise ValueError(f"it describes trial {key} otherwise than a line before it")

    def _fill(self, content: dict[str, Any]) -> int:
        """Put trials in the place of their keys; how many of a plan's no line describes.

        Raises:
            ValueError: no line describes the trial of an attempt.
        """
        if content["type"] == "opened":
            named = content["trial"]
            trial = self._trial(content.get("key"), named.get("arm"), named.get("levels"))
            if trial is None:
                raise ValueError(_undescribed(content))
            content["trial"] = trial
            return 0
        listed, levels = content["trials"], content["levels"]
        trials = [
            self._trial(t.get("key"), t.get("arm"), levels.get(str(t.get("arm")), {}))
            for t in listed
        ]
        content["trials"] = [trial for trial in trials if trial is not None]
        return len(listed) - len(content["trials"])

    def _trial(self, key: Any, arm: Any, levels: Any) -> Trial | None:
        identity = self.described.get(key) if isinstance(key, str) else None
        if identity is None:
            return None
        place = key, str(arm)
        trial = self._trials.get(place)
        if trial is None or trial.levels != levels:
            naming = {"key": key, "arm": arm, "levels": levels or {}}
            trial = self._trials[place] = Trial.model_validate({**identity, **naming})
        return trial


def _names_by_key(content: dict[str, Any]) -> bool:
    """Whether trials stand in a line by their keys; earlier versions wrote them there whole."""
    if content["type"] == "opened":
        trials = [content.get("trial")]
    else:
        listed = content.get("trials")
        if not isinstance(listed, list) or not isinstance(content.get("levels"), dict):
            return False
        trials = listed
    return all(isinstance(trial, dict) and "recipe" not in trial for trial in trials)


def _is_key(key: str, identity: dict[str, Any]) -> bool:
    try:
        return Trial.model_validate({"key": key, "arm": "", **identity}).expected_key() == key
    except ValueError:  # a recipe that no key can be made of
        return False


def _undescribed(content: dict[str, Any]) -> str:
    key = content.get("key", "")
    if key and not re.fullmatch(NAME, str(key)):
        return f"key {ascii(key)[:60]} {NO_NAME}"
    return "no line describes its trial"


def _compact(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _refuse_constants(line: bytes) -> None:
    """Refuse NaN and Infinity, which are no JSON; numbers that were not finite are null here.

    Raises:
        ValueError: with the constant.
    """
    if any(word in line for word in _CONSTANTS):
        try:
            json.loads(line, parse_constant=_no_number)
        except (json.JSONDecodeError, RecursionError, UnicodeDecodeError):
            return  # the adapter says what is wrong with it


def _refuse_halves(content: Any) -> None:
    """Refuse the escape of half a letter, which nothing could be written of again.

    Raises:
        ValueError: if there is one.
    """
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")
