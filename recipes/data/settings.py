"""Settings of the data: sources, composition, set size, task mixture. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from recipes.settings import SIMPLEX, Settings, Simplex

CATEGORIES = ("landscape", "portrait", "text")
EDIT_TYPES = ("scene", "enhance", "object", "text", "identity", "style")
OWN = {"t2i": CATEGORIES, "edit": EDIT_TYPES}
"""Sources that need no entry in `data.sources`: what the toy world renders, by task."""

TaskName = Literal["t2i", "edit"]


class WorldSource(Settings):
    """A category or edit type of the toy world under another name."""

    kind: Literal["toyworld"] = Field("toyworld", description="Rendered by the toy world.")
    task: TaskName = Field("t2i", description="Whether its rows are prompts or edits.")
    category: str = Field(description="Category (t2i) or edit type (edit) of the toy world.")

    @model_validator(mode="after")
    def _known(self) -> WorldSource:
        refuse_unknown([self.category], OWN[self.task], "category")
        return self


class Columns(Settings):
    """Which columns of a file hold what; null finds them by their usual names."""

    prompt: str | None = Field(
        None, description="Prompt or instruction; null: prompt, instruction, caption or text."
    )
    source: str | None = Field(
        None, description="Source image of an edit; null: source, source_img or image."
    )
    target: str | None = Field(
        None, description="Edited image, checked where it is there; null: target or target_img."
    )
    mask: str | None = Field(
        None, description="Edited region, checked where it is there; null: mask or mask_img."
    )


class FileSource(Settings):
    """Rows on disk; a row is an item."""

    kind: Literal["files"] = Field("files", description="Files on disk.")
    task: TaskName = Field("t2i", description="Prompts only, or source images with instructions.")
    path: str = Field(
        description="A .jsonl, .json, .csv, .tsv or .txt file (a prompt a line), each also as .gz; "
        "a .parquet file; a pattern (data/train-*.parquet) or a folder of such files, all of one "
        "kind; or a folder of pictures, with metadata.jsonl, .csv or .parquet, or with a .txt or "
        ".json beside each. ~ and $VARIABLES are expanded; a relative path starts at the folder "
        "that holds `recipes`."
    )
    columns: Columns = Field(default_factory=Columns, description="Which columns hold what.")
    category: str | None = Field(
        None,
        exclude_if=lambda given: given is None,
        description="Category or edit type that its rows show, for teachers weighted by condition; "
        "null where the family reads it from the text, as the toy world does.",
    )
    digest: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12,64}$",
        exclude_if=lambda given: given is None,
        description="Stands for the content in trial keys, so that a plan made without the files "
        "has the keys of the run. Null: told by the files. Read for large families only.",
    )

    @model_validator(mode="after")
    def _read(self) -> FileSource:
        named = self.columns.model_dump(exclude={"prompt"}, exclude_none=True)
        if self.task == "t2i" and named:
            raise ValueError(f"columns {sorted(named)} are read for task: edit only")
        return self


AnySource = Annotated[WorldSource | FileSource, Field(discriminator="kind")]


class Data(Settings):
    """Data composition: which prompts and edit cases the student sees. Prompt-only for T2I."""

    sources: dict[str, AnySource] = Field(
        default_factory=dict,
        description="Sources by name, for use in `composition` (t2i) and `edit_types` (edit); the "
        "toy world's own categories and edit types need no entry.",
    )
    composition: Simplex = Field(
        default_factory=lambda: dict.fromkeys(CATEGORIES, 1.0),
        validate_default=True,
        description="Shares of T2I prompts by source: landscape, portrait, text, or a name in "
        "`sources`.",
        json_schema_extra={**SIMPLEX, "components": list(CATEGORIES), "open": True},
    )
    edit_types: Simplex = Field(
        default_factory=lambda: dict.fromkeys(EDIT_TYPES, 1.0),
        validate_default=True,
        description="Shares of edit cases by type, or by a name in `sources`.",
        json_schema_extra={**SIMPLEX, "components": list(EDIT_TYPES), "open": True},
    )
    size: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Distinct T2I prompts of a trial, drawn by a seed of the replicate; a smaller "
        "set is part of a larger one. Null: all there are.",
    )
    total: Literal["fixed", "per_source"] = Field(
        "fixed",
        description="fixed: `size` prompts in all, divided by composition. per_source: `size` "
        "prompts of each source, so the set grows with their number. Either way a sample comes "
        "from a source in proportion to its share.",
    )
    max_bad_share: float = Field(
        0.01, ge=0, le=1, description="Share of bad rows in a file above which a trial refuses."
    )

    @field_validator("composition", "edit_types")
    @classmethod
    def _in_one_order(cls, shares: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        """The toy world's own, then by name: keys know no order, so draws must not either."""
        own = CATEGORIES if info.field_name == "composition" else EDIT_TYPES
        place = {name: number for number, name in enumerate(own)}
        ordered = sorted(shares, key=lambda name: (place.get(name, len(own)), name))
        return {name: shares[name] for name in ordered}

    @model_validator(mode="after")
    def _known(self) -> Data:
        taken = sorted(set(self.sources) & {*CATEGORIES, *EDIT_TYPES})
        if taken:
            raise ValueError(f"sources: {taken} already name parts of the toy world; rename them")
        for task, shares in (("t2i", self.composition), ("edit", self.edit_types)):
            named = [name for name, source in self.sources.items() if source.task == task]
            refuse_unknown(shares, (*OWN[task], *named), f"{task} source")
        return self

    def origin(self, task: TaskName, name: str) -> WorldSource | FileSource:
        """The source of a component of `composition` or `edit_types`."""
        if name in OWN[task]:
            return WorldSource(task=task, category=name)
        return self.sources[name]


class Piece(Settings):
    """A constant share of edits up to some progress."""

    until: float = Field(gt=0, le=1, description="Share of training at which the piece ends.")
    edit: float | None = Field(
        None, ge=0, le=1, description="Share of edits; null: that of `tasks`."
    )


class Ramp(Settings):
    """A share of edits that moves linearly over training."""

    start: float | None = Field(
        None, ge=0, le=1, description="Share of edits at the start; null: that of `tasks`."
    )
    end: float | None = Field(
        None, ge=0, le=1, description="Share of edits at the end; null: that of `tasks`."
    )


class Mixing(Settings):
    """How the shares of `tasks` are realised."""

    by: Literal["micro_batch", "sample"] = Field(
        "micro_batch",
        description="micro_batch: an update is of one task. sample: every update holds rows of "
        "both tasks in the exact share, as two micro-batches weighted by their rows.",
    )
    count: Literal["total", "t2i"] = Field(
        "total",
        description="total: the budget counts updates of either task. t2i: it counts T2I student "
        "updates (or rows), and training is extended until there are exactly as many.",
    )
    schedule: tuple[Piece, ...] | Ramp | None = Field(
        None, description="Share of edits over training: pieces or a ramp; null: that of `tasks`."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Mixing:
        if isinstance(self.schedule, tuple):
            ends = [piece.until for piece in self.schedule]
            if not ends or ends != sorted(set(ends)) or ends[-1] != 1:
                raise ValueError(
                    f"schedule: pieces end at {ends}; give ends in rising order, the last one 1"
                )
        return self


def refuse_unknown(given: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Refuse a name that is not allowed.

    Raises:
        ValueError: with the nearest spelling and all that is allowed.
    """
    known = list(allowed)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown {what} {name!r}{hint}; allowed: {', '.join(known)}")
