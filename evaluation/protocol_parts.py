"""Sections of a protocol file, as frozen models. Imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, PositiveInt
from pydantic import NonNegativeInt as Count

ROOT = Path(__file__).parent.parent
IMPORT_STRING = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"


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
        default=None,
        description="Command that fetches or makes its weights, typed in the folder that holds "
        "`evaluation`; shown when missing.",
    )

    @property
    def fetching(self) -> str:
        """`fetch` as it can be typed in any folder; empty where there is none."""
        return f"cd {shlex.quote(str(ROOT))} && {self.fetch}" if self.fetch else ""


class ItemSet(Part):
    """Which items, and how many of each category."""

    factory: str = Field(
        pattern=IMPORT_STRING,
        description="Callable(t2i=counts, edit=counts) -> mappings with the fields of an Item; "
        "torch-free.",
    )
    file: str | None = Field(
        default=None,
        # Absent while it is not given, as fields younger than the first recorded fingerprints are:
        # else every protocol would have another one.
        exclude_if=lambda given: given is None,
        description="File of items, handed to the factory (and to `edit_pictures`) as `file`.",
    )
    digest: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        exclude_if=lambda given: given is None,
        description="Sha256 of that file: stands for it in the fingerprint, here or not.",
    )
    pictures: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        exclude_if=lambda given: given is None,
        description="Digest of the pictures that edits in that file name: stands for them in the "
        "fingerprint, here or not. Null: told by the pictures that are here.",
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
        description="Callable(category, count) -> uint8 pictures (count, 3, H, W); with `args`, a "
        "callable that makes one from them.",
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict,
        exclude_if=lambda given: not given,
        description="Keyword arguments of the factory.",
    )
    digest: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        exclude_if=lambda given: given is None,
        description="Digest of reference pictures in files: stands for them in the fingerprint, "
        "here or not. Null: told by the pictures that are here.",
    )
    captions: str | None = Field(
        default=None,
        pattern=IMPORT_STRING,
        exclude_if=lambda given: given is None,
        description="Callable(category, count) -> captions of the pictures that the factory gives, "
        "where they are made of the item set's own prompts: leaving a prompt out leaves its "
        "reference pictures out, too. Changes no number, only how far claims reach.",
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
    resamples: PositiveInt = Field(
        default=2000,
        description="Bootstrap resamples, once; read by nothing, but part of every fingerprint.",
    )
    groups: int = Field(
        default=24,
        ge=2,
        description="Most jackknife groups of a category: of prompts, or of items.",
    )
