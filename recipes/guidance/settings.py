"""Settings of teacher guidance and of the panel of teachers. Imports no torch.

Guidance is one number unless it varies with the rung or with the noise level:

    guidance: {scale: 3.0, interval: {low: 0.2, high: 0.9}, rescale: 0.7}
    guidance: {by_rung: [1.0, 2.0, 3.0, 3.0]}
    guidance: {by_level: {late: {below: 0.3, scale: 1.0}, early: {below: 1.0, scale: 4.0}}}

A teacher's weight in the panel is `share`, times what is given by rung (the paper's step index k as
the student's exit rung: reading A), by training progress (k as the stage of training: reading B)
and by condition; the weights of a row are then normalised. Base-anchored early rungs, the same in
training time, and routing by condition:

    teachers:
      base: {by_rung: [1, 1, 0, 0]}
      specialist: {weights: specialist, by_rung: [0, 0, 1, 1]}

    teachers:
      base: {by_progress: {anchor: {until: 0.5, share: 1}, end: {until: 1, share: 0}}}
      specialist:
        weights: specialist
        by_progress: {anchor: {until: 0.5, share: 0}, end: {until: 1, share: 1}}

    teachers:
      base: {by_condition: {t2i.text: 0, other: 1}}
      specialist: {weights: specialist, by_condition: {t2i.text: 1}}

A level of a study that adds a teacher or a piece assigns the whole map, as written above.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recipes.settings import Settings

OTHER = "other"
"""The label that stands for all labels not named."""


class Interval(Settings):
    """Noise levels t at which the teacher is guided; elsewhere it is conditional only."""

    low: float = Field(0.0, ge=0, lt=1, description="Smallest guided noise level t.")
    high: float = Field(1.0, gt=0, le=1, description="Largest guided noise level t.")

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        return self


class LevelScale(Settings):
    """Guidance scale of the noise levels from the next lower piece's bound up to its own."""

    below: float = Field(gt=0, le=1, description="Holds for t < below; a piece at 1 includes 1.")
    scale: float = Field(ge=0, le=20, description="Guidance scale there.")


class ProgressShare(Settings):
    """Weight of a teacher during a stage of training."""

    until: float = Field(gt=0, le=1, description="Holds while the share of cycles done is below.")
    share: float = Field(ge=0, allow_inf_nan=False, description="Weight during that stage.")


class Guidance(Settings):
    """Teacher guidance in standard form, `v_u + scale (v_c - v_u)`; 1 is conditional only."""

    scale: float = Field(
        2.0, ge=0, le=20, description="Classifier-free guidance scale of the teacher."
    )
    by_rung: tuple[float, ...] | None = Field(
        None, description="Instead of `scale`: one scale for each exit rung, noisiest first."
    )
    by_level: dict[str, LevelScale] | None = Field(
        None,
        description="Instead of `scale`: pieces by the noise level t at which samples are judged.",
    )
    interval: Interval | None = Field(
        None, description="Guide only at these noise levels (Kynkäänniemi et al., 2404.07724)."
    )
    rescale: float = Field(
        0.0,
        ge=0,
        le=1,
        description="phi of Lin et al. (2305.08891, Eqs. 15-16), on the clean prediction: share of "
        "the guided prediction that is scaled to the conditional one's standard deviation.",
    )
    negative: str = Field(
        "", description="Text in the place of the empty prompt; a caption the family can encode."
    )

    @model_validator(mode="after")
    def _one_of(self) -> Guidance:
        if self.by_rung is not None and self.by_level is not None:
            raise ValueError("by_rung and by_level both replace scale; give one and null the other")
        if self.by_level is not None and self.interval is not None:
            raise ValueError(
                "by_level and interval both choose noise levels; give a piece of by_level scale 1 "
                "instead of an interval"
            )
        for scale in self.by_rung or ():
            if not 0 <= scale <= 20:
                raise ValueError(f"by_rung: scale {scale} must be within 0 and 20")
        if self.by_level is not None:
            check_pieces("by_level", [piece.below for piece in self.by_level.values()])
        return self


class Teacher(Settings):
    """A frozen teacher and its weight lambda in the panel."""

    weights: str = Field("teacher", description="Name of the family's weights.")
    share: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Weight lambda in the panel; shares are normalised.",
    )
    by_rung: tuple[float, ...] | None = Field(
        None, description="Factor of the weight for each exit rung, noisiest first (reading A)."
    )
    by_progress: dict[str, ProgressShare] | None = Field(
        None, description="Factor of the weight by stage of training (reading B)."
    )
    by_condition: dict[str, float] | None = Field(
        None,
        description="Factor of the weight by label: `t2i.text` or `edit.text`, `text` for both, "
        "`t2i` or `edit` for a task, `other` for the rest (0 where absent). The first that is "
        "named in this order holds. A label is a category or edit type, also for rows of files.",
    )
    guidance: float | None = Field(
        None, ge=0, le=20, description="Guidance scale of this teacher instead of the recipe's."
    )

    @model_validator(mode="after")
    def _weights(self) -> Teacher:
        factors = {
            "by_rung": self.by_rung or (),
            "by_condition": (self.by_condition or {}).values(),
        }
        for name, given in factors.items():
            if any(not 0 <= factor < float("inf") for factor in given):
                raise ValueError(f"{name}: weights {list(given)} must be finite and at least 0")
        if self.by_progress is not None:
            check_pieces("by_progress", [piece.until for piece in self.by_progress.values()])
        return self

    def weight(self, rung: int | None, progress: float, task: str, label: str | None) -> float:
        """Lambda for one row, not yet normalised.

        Args:
            rung: exit rung of the row; needed where a weight is given by rung.
            progress: share of the cycles done, in [0, 1].
            task: t2i or edit.
            label: category or edit type of the row; needed where a weight is given by condition.
        """
        weight = self.share
        if self.by_rung is not None:
            assert rung is not None, "weights by rung need the exit rung of every row"
            weight *= self.by_rung[rung]
        if self.by_progress is not None:
            pieces = sorted(self.by_progress.values(), key=lambda piece: piece.until)
            weight *= next((p.share for p in pieces if progress < p.until), pieces[-1].share)
        if self.by_condition is not None:
            assert label is not None, "weights by condition need the label of every row"
            names = (f"{task}.{label}", label, task, OTHER)
            weight *= next((self.by_condition[n] for n in names if n in self.by_condition), 0.0)
        return weight


class Panel(Settings):
    """How the teachers of a row are combined."""

    mix: Literal["soft", "hard"] = Field(
        "soft",
        description="soft: mean of velocities weighted by lambda; hard: the teacher of the largest "
        "lambda alone (of equals, the first by name).",
    )


def check_pieces(name: str, bounds: list[float]) -> None:
    """Refuse pieces that leave a gap or meet twice.

    Raises:
        ValueError: there are none, two share a bound, or none reaches 1.
    """
    if not bounds or max(bounds) != 1.0 or len(set(bounds)) != len(bounds):
        raise ValueError(f"{name}: bounds {sorted(bounds)} must differ, and the largest must be 1")
