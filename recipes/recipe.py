"""Recipe: everything that determines a student, as frozen pydantic models. Imports no torch.

Every leaf has a dotted path (`guidance.scale`) that a study can vary. Fields marked `simplex` hold
shares: they are normalised, and setting one rescales the others.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _simplex(shares: dict[str, float]) -> dict[str, float]:
    """Normalise shares to sum one and drop zeros; refuse what is not a mixture."""
    for name, share in shares.items():
        if not math.isfinite(share) or share < 0:
            raise ValueError(f"share {name}={share} must be finite and at least 0")
    total = math.fsum(shares.values())
    if total <= 0:
        raise ValueError(f"shares {shares} sum to 0; at least one must be positive")
    # Twelve digits keep 0.3 + 0.7 and 3:7 on the same key.
    return {name: round(share / total, 12) for name, share in shares.items() if share > 0}


Simplex = Annotated[dict[str, float], AfterValidator(_simplex)]
SIMPLEX = {"simplex": True}

CATEGORIES = ("landscape", "portrait", "text")
EDIT_TYPES = ("scene", "enhance", "object", "text", "identity", "style")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Frozen):
    """Data composition: which prompts and edit cases the student sees. Prompt-only for T2I."""

    composition: Simplex = Field(
        default_factory=lambda: dict.fromkeys(CATEGORIES, 1.0),
        description="Shares of T2I prompts by category: landscape, portrait, text.",
        json_schema_extra={**SIMPLEX, "components": list(CATEGORIES)},
    )
    edit_types: Simplex = Field(
        default_factory=lambda: dict.fromkeys(EDIT_TYPES, 1.0),
        description="Shares of edit cases by type.",
        json_schema_extra={**SIMPLEX, "components": list(EDIT_TYPES)},
    )

    @model_validator(mode="after")
    def _known(self) -> Data:
        for given, allowed in ((self.composition, CATEGORIES), (self.edit_types, EDIT_TYPES)):
            unknown = sorted(set(given) - set(allowed))
            if unknown:
                raise ValueError(f"unknown {unknown}; allowed are {list(allowed)}")
        return self


class Guidance(_Frozen):
    """Teacher guidance in standard form, `v_u + scale (v_c - v_u)`; 1 is conditional only."""

    scale: float = Field(
        2.0, ge=0, le=20, description="Classifier-free guidance scale of the teacher."
    )


class Renoise(_Frozen):
    """Noise levels at which student samples are judged: uniform in [low, high], then shifted."""

    low: float = Field(0.02, ge=0, lt=1, description="Smallest noise level t.")
    high: float = Field(0.98, gt=0, le=1, description="Largest noise level t.")
    shift: float = Field(2.5, gt=0, description="t -> s t / (1 + (s - 1) t); 1 leaves t uniform.")

    @model_validator(mode="after")
    def _ordered(self) -> Renoise:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        return self


class Dmd(_Frozen):
    """Distribution matching in the DMD2 style, without GAN. Prompt-only: needs no target images."""

    name: Literal["dmd"] = Field("dmd", description="Which objective.")
    normaliser: Literal["x0_teacher", "none"] = Field(
        "x0_teacher", description="Per sample: mean |x - x0_teacher|, or none."
    )
    rollout: Literal["ode", "renoise"] = Field(
        "ode", description="Between rungs: Euler step, or fresh noise on the clean prediction."
    )
    exit_rungs: Literal["stratified", "one"] = Field(
        "stratified",
        description="Every rung in each batch, or one random rung for the whole batch.",
    )
    fake_updates: int = Field(4, ge=1, le=100, description="Fake-score updates per cycle (k).")
    warmup_fake_updates: int = Field(
        20, ge=0, description="Fake-score updates before the first cycle."
    )
    renoise: Renoise = Field(default_factory=Renoise, description="Where samples are judged.")


class Adam(_Frozen):
    """AdamW settings of one role."""

    lr: float = Field(gt=0, le=1, description="Learning rate.")
    beta1: float = Field(0.0, ge=0, lt=1, description="First-moment decay.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Second-moment decay.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    clip_norm: float = Field(1.0, gt=0, description="Gradient norm is clipped to this.")


class Optimiser(_Frozen):
    """One AdamW for the student, one for the fake score."""

    student: Adam = Field(default_factory=lambda: Adam(lr=1e-4), description="Student's.")
    fake: Adam = Field(default_factory=lambda: Adam(lr=2e-4), description="Fake score's.")


class Student(_Frozen):
    """The few-step student: its sampling noise levels."""

    rungs: int = Field(
        4, ge=1, le=64, description="Sampling steps = network evaluations per image."
    )
    shift: float = Field(3.0, gt=0, description="Shift of the rungs towards noise.")
    init: str = Field("base", description="Teacher (by name in `teachers`) it starts from.")


class Teacher(_Frozen):
    """A frozen teacher and its weight in the panel."""

    weights: str = Field("teacher", description="Name of the family's weights.")
    share: float = Field(
        1.0, ge=0, description="Weight lambda in the panel; shares are normalised."
    )


class Train(_Frozen):
    """How long, how wide."""

    cycles: int = Field(
        40, ge=1, le=1_000_000, description="Cycles: a student update + k fake updates."
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Samples per update.")
    ema_decay: float = Field(0.95, ge=0, lt=1, description="Student EMA decay per cycle.")
    checkpoint_every: int = Field(20, ge=1, description="Cycles between checkpoints.")
    log_every: int = Field(5, ge=1, description="Cycles between reports.")
    max_skipped: int = Field(3, ge=0, description="Non-finite updates tolerated before divergence.")


class Recipe(_Frozen):
    """Everything that determines a student. Not how it is measured."""

    family: Literal["toyworld"] = Field("toyworld", description="Model family.")
    data: Data = Field(default_factory=Data, description="Data composition.")
    tasks: Simplex = Field(
        default_factory=lambda: {"t2i": 0.5, "edit": 0.5},
        description="Task mixture: shares of micro-batches, T2I and edit.",
        json_schema_extra={**SIMPLEX, "components": ["t2i", "edit"]},
    )
    guidance: Guidance = Field(default_factory=Guidance, description="Teacher guidance.")
    teachers: dict[str, Teacher] = Field(
        default_factory=lambda: {"base": Teacher()},
        description="Panel of frozen teachers by name; velocities are mixed by share.",
    )
    student: Student = Field(default_factory=Student, description="The student.")
    objective: Dmd = Field(default_factory=Dmd, description="Objective and its settings.")
    optimiser: Optimiser = Field(default_factory=Optimiser, description="Optimisers.")
    train: Train = Field(default_factory=Train, description="Length and width of training.")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        unknown = sorted(set(self.tasks) - {"t2i", "edit"})
        if unknown:
            raise ValueError(f"tasks: unknown {unknown}; allowed are t2i and edit")
        if not self.teachers:
            raise ValueError("teachers: at least one is needed")
        if sum(t.share for t in self.teachers.values()) <= 0:
            raise ValueError("teachers: shares sum to 0; at least one must be positive")
        if self.student.init not in self.teachers:
            raise ValueError(
                f"student.init={self.student.init!r} is not a teacher; have {sorted(self.teachers)}"
            )
        return self
