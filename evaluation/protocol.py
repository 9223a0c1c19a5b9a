"""Protocols: how something is measured, as a versioned YAML file with a fingerprint.

A changed protocol is a new version; numbers measured under another fingerprint are never mixed.
Loading a protocol and computing its fingerprint import no torch, scipy or pandas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import rfc8785
from pydantic import Field, JsonValue, PositiveInt, ValidationError, model_validator

from evaluation.filed import edit_files, place, reference_files
from evaluation.import_string import resolve
from evaluation.items import Item, check_items, item_set_hash
from evaluation.kept_digests import digest_of_files
from evaluation.limited_yaml import plain_yaml
from evaluation.protocol_parts import (
    IMPORT_STRING,
    Component,
    Diversity,
    EditScoring,
    Intervals,
    ItemSet,
    Manifold,
    Part,
    References,
    Sampler,
)

PROTOCOLS = Path(__file__).parent / "protocols"
FILED_REFERENCES = "evaluation.filed:reference_images"
FILED_EDITS = "evaluation.filed:edit_pictures"
PROSE: dict[str, Any] = {
    "description": True,
    "extractor": {"fetch": True},
    "clip": {"fetch": True},
    "oracle": {"fetch": True},
    "references": {"captions": True},
}
"""Fields for readers, and what no recorded number hangs on: left out of the fingerprint."""


class Protocol(Part):
    """How something is measured."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="Name without the version.")
    version: PositiveInt = Field(description="Raised with every change that moves a number.")
    description: str = Field(default="", description="For readers; not in the fingerprint.")
    resolution: PositiveInt = Field(description="Side of the square pictures that are measured.")
    resize: Literal["refuse", "bicubic-antialias"] = Field(
        default="refuse", description="What happens to pictures of another size."
    )
    items: ItemSet = Field(description="What is asked of a student.")
    sampler: Sampler = Field(description="How it is sampled.")
    references: References = Field(description="What distances are measured to.")
    extractor: Component = Field(description="Features behind the distances.")
    clip: Component = Field(description="Text-image similarity.")
    oracle: Component | None = Field(default=None, description="Reads attributes back.")
    edit_pictures: str | None = Field(
        default=None,
        pattern=IMPORT_STRING,
        description="Callable(items) -> (source, truth, mask) of edit items.",
    )
    digests: str | None = Field(
        default=None,
        pattern=IMPORT_STRING,
        description="Callable() -> mapping of names to digests of everything the numbers hang on "
        "(extractor, clip, oracle, renderer); torch-free.",
    )
    edit_scoring: EditScoring = Field(default=EditScoring(), description="Preservation.")
    diversity: Diversity = Field(default=Diversity(), description="Repeated draws.")
    manifold: Manifold = Field(default=Manifold(), description="Nearest-neighbour metrics.")
    intervals: Intervals = Field(default=Intervals(), description="Intervals.")

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        if not self.items.t2i and not self.items.edit:
            raise ValueError("items.t2i and items.edit are both empty: nothing would be measured")
        if self.items.edit and (self.edit_pictures is None or self.oracle is None):
            raise ValueError("edit items need edit_pictures and an oracle that says what followed")
        shared = set(self.references.teacher_draws) & set(range(self.diversity.draws))
        if shared:
            raise ValueError(
                f"references.teacher_draws {sorted(shared)} are also drawn from the student; "
                f"use draws from {self.diversity.draws} on, such as 1000"
            )
        return self

    @property
    def protocol_id(self) -> str:
        """Name and version, such as `toyworld-v1`: what evaluation noise is seeded with."""
        # A metric that is new therefore leaves the version alone: another one would seed other
        # noise and move every number, while columns beside numbers that stay move none. Results
        # recorded before have empty cells there until they are measured again.
        return f"{self.name}-v{self.version}"

    def load_items(self) -> tuple[Item, ...]:
        """Make the item set and check it against the counts.

        Raises:
            ValueError: an item is malformed or repeated, or a category has another count.
        """
        self._check_item_file()
        further = {} if self.items.file is None else {"file": self.items.file}
        made = resolve(self.items.factory)(
            t2i=dict(self.items.t2i), edit=dict(self.items.edit), **further
        )
        items = check_items([Item.model_validate(dict(fields)) for fields in made])
        for task, counts in (("t2i", self.items.t2i), ("edit", self.items.edit)):
            found: dict[str, int] = {}
            for item in items:
                if item.task == task:
                    found[item.category] = found.get(item.category, 0) + 1
            if found != dict(counts):
                raise ValueError(
                    f"{self.items.factory} made {task} items {found}; the protocol asks for "
                    f"{dict(counts)}"
                )
        return items

    def load_digests(self) -> dict[str, str]:
        """Digests of what the numbers hang on, compared with those the protocol names.

        Raises:
            ValueError: a digest differs from the one written in the protocol.
        """
        found: Mapping[str, str] = resolve(self.digests)() if self.digests else {}
        for role in ("extractor", "clip", "oracle"):
            component: Component | None = getattr(self, role)
            if component is None or component.digest is None:
                continue
            if found.get(role) != component.digest:
                fetch = f"; run: {component.fetching}" if component.fetch else ""
                raise ValueError(
                    f"{self.protocol_id}: {role} has digest {found.get(role)}; the protocol was "
                    f"written for {component.digest}{fetch}"
                )
        return dict(found)

    def missing(self) -> tuple[str, ...]:
        """Files that measuring needs and that are not on this machine, one line each."""
        parts: dict[str, tuple[JsonValue, str]] = {}
        if self.items.file is not None:
            parts["item set"] = (self.items.file, "")
        parts["reference pictures"] = (self.references.args.get("folder"), "")
        for role in ("extractor", "clip", "oracle"):
            component: Component | None = getattr(self, role)
            if component is not None:
                parts[role] = (component.args.get("path"), component.fetching)
        absent = [
            f"{what}: {place(path)}" + (f" ({fetch})" if fetch else "")
            for what, (path, fetch) in parts.items()
            if isinstance(path, str) and not place(path).exists()
        ]
        gone = sorted(str(path) for path in self._edit_files().values() if not path.is_file())
        if gone:
            absent.append(f"pictures of edits: {len(gone)}, the first is {gone[0]}")
        return tuple(absent)

    def _reference_files(self) -> dict[str, Path]:
        """Reference pictures that are files, by category and name; what is not here is left out."""
        folder = self.references.args.get("folder")
        if self.references.factory != FILED_REFERENCES or not isinstance(folder, str):
            return {}
        found: dict[str, Path] = {}
        for category in self.items.t2i:
            if (place(folder) / category).is_dir():
                files = reference_files(folder, category, self.references.per_category)
                found |= {f"{category}/{file.name}": file for file in files}
        return found

    def _edit_files(self) -> dict[str, Path]:
        """Pictures that edit items name, by item and role, here or not."""
        file = self.items.file
        if self.edit_pictures != FILED_EDITS or file is None or not place(file).is_file():
            return {}
        return {
            f"{item.item_id} {role}": path
            for item in self.load_items()
            if item.task == "edit"
            for role, path in edit_files(item, file).items()
        }

    def _pictures(self) -> dict[str, str]:
        """Digests of pictures that are measured with, where they are files.

        Raises:
            ValueError: one differs from the digest that is declared.
        """
        found = {}
        for what, files, declared in (
            ("references", self._reference_files(), self.references.digest),
            ("edits", self._edit_files(), self.items.pictures),
        ):
            there = {name: file for name, file in files.items() if file.is_file()}
            if not there:
                continue
            digest = digest_of_files(there)
            if declared is None:
                found[what] = digest
            elif digest != declared:
                raise ValueError(
                    f"{self.protocol_id}: pictures of {what} have digest {digest}; the protocol "
                    f"was written for {declared}"
                )
        return found

    def _check_item_file(self) -> None:
        """Refuse an item file that is not the declared one."""
        if self.items.file is None or self.items.digest is None:
            return
        path = place(self.items.file)
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != self.items.digest:
            raise ValueError(
                f"{self.protocol_id}: {path} has sha256 {found}; the protocol was written for "
                f"{self.items.digest}"
            )

    def _items_digest(self) -> str:
        """What stands for the item set; a file that is not here is no error in a plan."""
        if self.items.file is not None:
            there = place(self.items.file).is_file()
            if self.items.digest is not None:
                if there:
                    self._check_item_file()
                return self.items.digest
            if not there:
                return "not here"
        return item_set_hash(self.load_items())

    def fingerprint(self) -> str:
        """Sha256 (hex) over canonical JSON of the protocol, its item set and its digests."""
        content: dict[str, Any] = {
            "protocol": self.model_dump(mode="json", exclude=PROSE),
            "items": self._items_digest(),
            "digests": self.load_digests(),
        }
        # Absent without any, as younger fields are: fingerprints that were recorded stay.
        pictures = self._pictures()
        if pictures:
            content["pictures"] = pictures
        return hashlib.sha256(rfc8785.dumps(content)).hexdigest()


def load_protocol(name_or_path: str | Path) -> Protocol:
    """Load `evaluation/protocols/<name>.yaml`, or a YAML file of your own.

    Raises:
        ValueError: no such protocol, malformed YAML, or unknown, missing or wrong fields.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PROTOCOLS / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(available_protocols())
        raise ValueError(f"no protocol {str(name_or_path)!r}; known: {known}, or give a .yaml file")
    content = plain_yaml(path)
    try:
        protocol = Protocol.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ValueError(f"{path}: {faults}") from error
    if path.stem != protocol.protocol_id:
        raise ValueError(
            f"{path}: the file must be called {protocol.protocol_id}.yaml, after name and version"
        )
    return protocol


def available_protocols() -> tuple[str, ...]:
    """Names of the protocols that ship."""
    return tuple(sorted(path.stem for path in PROTOCOLS.glob("*.yaml")))
