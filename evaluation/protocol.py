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
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic import NonNegativeInt as Count
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from evaluation.import_string import resolve
from evaluation.items import Item, check_items, item_set_hash

PROTOCOLS = Path(__file__).parent / "protocols"
IMPORT_STRING = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
PROSE: dict[str, Any] = {
    "description": True,
    "extractor": {"fetch": True},
    "clip": {"fetch": True},
    "oracle": {"fetch": True},
}
"""Fields for readers; they change no number and are left out of the fingerprint."""


class Part(BaseModel):
    """Base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Component(Part):
    """Something the protocol uses, by import string."""

    factory: str = Field(
        pattern=IMPORT_STRING, description="package.module:callable that makes it."
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the factory."
    )
    digest: str | None = Field(
        default=None,
        description="Sha256 of its weights. None accepts what is there; the fingerprint still "
        "holds the digest that was found.",
    )
    probe: str | None = Field(
        default=None, description="Expected probe hash of an extractor; None skips the check."
    )
    fetch: str | None = Field(
        default=None, description="Command that fetches or makes its weights; shown when missing."
    )


class ItemSet(Part):
    """Which items, and how many of each category."""

    factory: str = Field(
        pattern=IMPORT_STRING,
        description="Callable(t2i=counts, edit=counts) -> mappings with the fields of an Item; "
        "torch-free.",
    )
    t2i: dict[str, PositiveInt] = Field(default_factory=dict, description="Prompts per category.")
    edit: dict[str, PositiveInt] = Field(default_factory=dict, description="Cases per edit type.")


class Sampler(Part):
    """How a student is sampled."""

    nfe: PositiveInt = Field(description="Network evaluations per picture; guidance counts double.")
    noise_shape: tuple[PositiveInt, ...] = Field(
        min_length=1, description="Shape of the initial noise of one sample."
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further settings, handed to the generator unread."
    )


class References(Part):
    """What distances are measured to."""

    factory: str = Field(
        pattern=IMPORT_STRING,
        description="Callable(category, count) -> uint8 pictures (count, 3, H, W).",
    )
    per_category: int = Field(ge=2, description="Reference pictures per prompt category.")
    teacher_draws: tuple[Count, ...] = Field(
        default=(),
        description="Draws with which a teacher is sampled for the distance to it; not among the "
        "student's draws, or a teacher would be at distance 0 from itself.",
    )


class EditScoring(Part):
    """How preservation is computed; the formula is in `evaluation.edit`."""

    preservation_scale: PositiveFloat = Field(
        default=0.3, description="Rmse on [0, 1] pixels at which preservation reaches 0."
    )
    mask_dilation_px: Count = Field(
        default=1, description="Pixels by which the edit mask is grown."
    )
    min_kept_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Kept share of the frame below which the true result is the reference.",
    )
    whole_frame: Literal["truth", "oracle"] = Field(
        default="truth",
        description="What judges an edit below that share: pixels against the true result, or the "
        "oracle's `kept` where it is finite.",
    )


class Diversity(Part):
    """Several draws of a few prompts."""

    per_category: Count = Field(default=0, description="Prompts per category drawn repeatedly.")
    draws: int = Field(default=2, ge=2, description="Draws of each of them.")


class Manifold(Part):
    """Settings of precision, recall, density and coverage."""

    k: PositiveInt = Field(default=5, description="Which nearest neighbour gives the radius.")
    max_blocks: PositiveInt = Field(
        default=8, description="Most disjoint blocks of the reference that are averaged."
    )


class Intervals(Part):
    """Settings of the intervals within one checkpoint."""

    level: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence level.")
    resamples: PositiveInt = Field(default=2000, description="Bootstrap resamples over items.")
    groups: int = Field(default=24, ge=2, description="Jackknife groups per category.")


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
        return f"{self.name}-v{self.version}"

    def load_items(self) -> tuple[Item, ...]:
        """Make the item set and check it against the counts.

        Raises:
            ValueError: an item is malformed or repeated, or a category has another count.
        """
        made = resolve(self.items.factory)(t2i=dict(self.items.t2i), edit=dict(self.items.edit))
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
                fetch = f"; run: {component.fetch}" if component.fetch else ""
                raise ValueError(
                    f"{self.protocol_id}: {role} has digest {found.get(role)}; the protocol was "
                    f"written for {component.digest}{fetch}"
                )
        return dict(found)

    def fingerprint(self) -> str:
        """Sha256 (hex) over canonical JSON of the protocol, its item set and its digests."""
        content = {
            "protocol": self.model_dump(mode="json", exclude=PROSE),
            "items": item_set_hash(self.load_items()),
            "digests": self.load_digests(),
        }
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
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        protocol = Protocol.model_validate(content)
    except YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
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
