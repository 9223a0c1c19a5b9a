"""Settings of the objectives, one model each, told apart by `name`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recipes.settings import Settings


class Renoise(Settings):
    """Noise levels at which student samples are judged: uniform in [low, high], then shifted."""

    low: float = Field(0.02, ge=0, lt=1, description="Smallest noise level t.")
    high: float = Field(0.98, gt=0, le=1, description="Largest noise level t.")
    shift: float = Field(2.5, gt=0, description="t -> s t / (1 + (s - 1) t); 1 leaves t uniform.")

    @model_validator(mode="after")
    def _ordered(self) -> Renoise:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        return self


class Dmd(Settings):
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

    @property
    def renoises(self) -> bool:
        """Whether its student samples with fresh noise between rungs, as it was trained."""
        return self.rollout == "renoise"
