"""Settings of the objectives, one model each, told apart by `name`. Imports no torch.

A new objective adds its model here and to the union at the end. `trained_by` names the class that
trains it, so that a trial imports no other objective and its code digest covers none.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args

from pydantic import BeforeValidator, Field, model_validator

from recipes.schedule import Student, shifted
from recipes.settings import Settings

Gradient = Literal["selected_rung", "full_rollout"]


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

    @property
    def lowest(self) -> float:
        """Smallest level after the shift."""
        return shifted(self.low, self.shift)


class WithStudent(Protocol):
    """What an objective asks of the recipe it stands in."""

    @property
    def student(self) -> Student:
        """The student that the objective trains."""
        ...


class ObjectiveSettings(Settings):
    """What the settings of every objective answer; the defaults fit one that rolls nothing out."""

    trained_by: ClassVar[str]
    """`module:class` of the objective, made from these settings."""
    rolls: ClassVar[bool] = False
    """Whether the student's own rollout is part of it."""
    judges: ClassVar[bool] = False
    """Whether student samples are re-noised and judged there."""

    @property
    def renoises(self) -> bool:
        """Whether its student samples with fresh noise between rungs, as it was trained."""
        return False

    @property
    def prompt_only(self) -> bool:
        """True where no target images are needed; else the data must offer them."""
        return True

    def check(self, recipe: WithStudent) -> None:
        """Refuse a recipe in which the objective cannot work.

        Raises:
            ValueError: what was given, what is allowed, what to do.
        """


class Rolled(ObjectiveSettings):
    """Objectives whose student visits its own states."""

    rolls: ClassVar[bool] = True
    rollout: Literal["ode", "renoise"] = Field(
        "ode", description="Between rungs: Euler step, or fresh noise on the clean prediction."
    )
    exit_rungs: Literal["stratified", "one"] = Field(
        "stratified",
        description="Every rung in each batch, or one random rung for the whole batch.",
    )

    @property
    def renoises(self) -> bool:
        """Whether its student samples with fresh noise between rungs, as it was trained."""
        return self.rollout == "renoise"

    def first_exit(self, rungs: int) -> int:
        """Smallest exit rung; exits are drawn from it to the last."""
        return 0


class Matching(Rolled):
    """Objectives that compare teacher and fake score on re-noised student samples."""

    judges: ClassVar[bool] = True
    normaliser: Literal["x0_teacher", "xt_teacher", "none"] = Field(
        "x0_teacher",
        description="Per sample: mean |x - x0_teacher|, mean |x_t - x0_teacher|, or none.",
    )
    gradient: Gradient = Field(
        "selected_rung",
        description="Through the forward at the exit rung, or through every rung to the end.",
    )
    fake_updates: int = Field(4, ge=1, le=100, description="Fake-score updates per cycle (k).")
    warmup_fake_updates: int = Field(
        20, ge=0, description="Fake-score updates before the first cycle."
    )
    renoise: Renoise = Field(default_factory=Renoise, description="Where samples are judged.")

    def first_exit(self, rungs: int) -> int:
        """Smallest exit rung; a full rollout leaves at the last."""
        return rungs - 1 if self.gradient == "full_rollout" else 0


class Fakeless(ObjectiveSettings):
    """Objectives without a fake score: none is built, run or kept."""

    @property
    def fake_updates(self) -> int:
        return 0

    @property
    def warmup_fake_updates(self) -> int:
        return 0


class Regression(Settings):
    """DMD's regression on (noise, teacher's ODE sample) pairs, mean squared error in latents."""

    weight: float = Field(0.0, ge=0, description="Weight beside the matching loss; 0 is off.")
    teacher_steps: int = Field(
        20, ge=1, le=1000, description="Steps of the guided teacher's ODE that makes a pair."
    )


class Dmd(Matching):
    """Distribution matching in the DMD2 style, without GAN. Prompt-only: needs no target images."""

    trained_by: ClassVar[str] = "recipes.objectives.dmd:DmdObjective"
    name: Literal["dmd"] = Field("dmd", description="Which objective.")
    regression: Regression = Field(
        default_factory=Regression, description="Optional regression on the teacher's own samples."
    )

    @model_validator(mode="after")
    def _paired(self) -> Dmd:
        if self.regression.weight > 0 and self.renoises:
            raise ValueError(
                f"regression.weight={self.regression.weight} needs rollout: ode; with rollout: "
                "renoise a sample does not follow from its noise; set the weight to 0 or use ode"
            )
        return self


class DpDmd(Matching):
    """DP-DMD: the first step keeps the teacher's diversity, the others match. Prompt-only."""

    trained_by: ClassVar[str] = "recipes.objectives.dp_dmd:DpDmdObjective"
    name: Literal["dp_dmd"] = Field("dp_dmd", description="Which objective.")
    gradient: Gradient = Field(
        "full_rollout",
        description="Of the matching loss: through rungs 2 to last, or the exit rung among them.",
    )
    diversity_weight: float = Field(
        0.05, gt=0, description="Weight lambda of the first step's velocity loss."
    )
    teacher_steps: int = Field(
        30, ge=2, le=1000, description="Steps of the teacher's whole ODE, of which some are run."
    )
    anchor_steps: int = Field(
        5, ge=1, description="Teacher steps K from the noise to the anchor state."
    )

    @model_validator(mode="after")
    def _inside(self) -> DpDmd:
        if self.anchor_steps > self.teacher_steps:
            raise ValueError(
                f"anchor_steps={self.anchor_steps} must be at most "
                f"teacher_steps={self.teacher_steps}"
            )
        return self

    def first_exit(self, rungs: int) -> int:
        """The first rung is the anchor's; matching begins at the second."""
        return max(1, super().first_exit(rungs))

    def check(self, recipe: WithStudent) -> None:
        """One rung cannot be split into a diverse step and matching steps."""
        if recipe.student.rungs < 2:
            raise ValueError("objective dp_dmd needs student.rungs >= 2, given 1; use dmd for one")


class DecoupledDmd(Matching):
    """Decoupled DMD: matching and guidance judged at levels of their own. Prompt-only."""

    trained_by: ClassVar[str] = "recipes.objectives.decoupled_dmd:DecoupledDmdObjective"
    name: Literal["decoupled_dmd"] = Field("decoupled_dmd", description="Which objective.")
    ca_below_rung: bool = Field(
        True,
        description="Guidance (CFG augmentation) only at levels cleaner than the student's rung.",
    )

    def check(self, recipe: WithStudent) -> None:
        """Below the last rung there must be levels left."""
        last = recipe.student.levels.levels[-1]
        if self.ca_below_rung and last <= self.renoise.lowest:
            raise ValueError(
                f"objective.renoise starts at level {self.renoise.lowest:.3g}, not below the last "
                f"rung at {last:.3g}; lower renoise.low or set ca_below_rung: false"
            )


class Consistency(Fakeless):
    """Consistency distillation (LCM). Needs target images, unless `clean: teacher`."""

    trained_by: ClassVar[str] = "recipes.objectives.consistency:ConsistencyObjective"
    name: Literal["consistency"] = Field("consistency", description="Which objective.")
    grid: int = Field(
        20, ge=1, le=1000, description="Levels of the teacher's ODE grid; a multiple of the rungs."
    )
    clean: Literal["data", "teacher"] = Field(
        "data", description="Clean latents: target images of the data, or teacher samples."
    )
    target_decay: float = Field(
        0.0, ge=0, lt=1, description="EMA decay of the target network; 0 is the student itself."
    )
    huber: float = Field(1e-3, ge=0, description="Pseudo-Huber constant c; 0 is squared error.")

    @property
    def renoises(self) -> bool:
        """Clean predictions are re-noised between rungs: the map was trained on noised data."""
        return True

    @property
    def prompt_only(self) -> bool:
        """Teacher samples stand in for target images."""
        return self.clean == "teacher"

    def check(self, recipe: WithStudent) -> None:
        """Every rung must be a level of the grid, or sampling asks what was never trained."""
        if self.grid % recipe.student.rungs:
            raise ValueError(
                f"objective.grid={self.grid} must be a multiple of "
                f"student.rungs={recipe.student.rungs}, so that every rung is trained"
            )


class VelocityRegression(Rolled, Fakeless):
    """On-policy regression of velocities on the teacher panel. Prompt-only."""

    trained_by: ClassVar[str] = "recipes.objectives.velocity_regression:VelocityRegressionObjective"
    name: Literal["velocity_regression"] = Field(
        "velocity_regression", description="Which objective."
    )
    teacher_steps: int = Field(
        1,
        ge=1,
        le=100,
        description="Teacher steps from a rung to the next; their mean velocity is the target.",
    )

    @model_validator(mode="after")
    def _one_path(self) -> VelocityRegression:
        if self.teacher_steps > 1 and self.renoises:
            raise ValueError(
                f"teacher_steps={self.teacher_steps} needs rollout: ode; with rollout: renoise the "
                "student predicts the clean picture from a rung and takes no step to the next, "
                "whose mean velocity it would learn; set teacher_steps to 1 or use ode"
            )
        return self


def _named(given: Any) -> Any:
    """Settings without a name are DMD's."""
    return {"name": "dmd", **given} if isinstance(given, dict) else given


AnyObjective = Annotated[
    Dmd | DpDmd | DecoupledDmd | Consistency | VelocityRegression,
    Field(discriminator="name"),
    BeforeValidator(_named),
]

OBJECTIVES: dict[str, type[ObjectiveSettings]] = {
    settings.model_fields["name"].default: settings
    for settings in get_args(get_args(AnyObjective)[0])
}
"""Settings of every objective by name."""

DEFAULT = Dmd
"""Settings of a recipe that names no objective."""
