"""Recipe: everything that determines a student, as frozen pydantic models. Imports no torch.

Every leaf has a dotted path (`guidance.scale`) that a study can vary. Fields marked `simplex` hold
shares: they are normalised, and setting one rescales the others. Each part's settings stand beside
the code that reads them: `data/settings.py`, `guidance/settings.py`, `objectives/settings.py`,
`roles/settings.py`, `schedule.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recipes.data.mixture import Mixture, mixture_of
from recipes.data.settings import OWN, Data, Mixing
from recipes.data.sizes import cycles_of_epochs, refuse_small_pools
from recipes.families.qwen_image_settings import QwenImage
from recipes.guidance.checks import check_panel
from recipes.guidance.settings import Guidance, Panel, Teacher
from recipes.objectives.settings import DEFAULT, AnyObjective
from recipes.roles.settings import Roles
from recipes.schedule import Student
from recipes.settings import SIMPLEX, Settings, Simplex
from recipes.toyworld.prompts import encode

Family = Literal["toyworld", "qwen-image"]
AnyModel = QwenImage | None
LONGEST = 1_000_000
"""Most cycles of a trial."""


class Adam(Settings):
    """AdamW settings of one role."""

    lr: float = Field(gt=0, le=1, description="Learning rate.")
    beta1: float = Field(0.0, ge=0, lt=1, description="First-moment decay.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Second-moment decay.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    clip_norm: float = Field(1.0, gt=0, description="Gradient norm is clipped to this.")


class Optimiser(Settings):
    """One AdamW for the student, one for the fake score."""

    student: Adam = Field(default_factory=lambda: Adam(lr=1e-4), description="Student's.")
    fake: Adam = Field(default_factory=lambda: Adam(lr=2e-4), description="Fake score's.")


class Train(Settings):
    """How long, how wide."""

    cycles: int = Field(
        40,
        ge=1,
        le=LONGEST,
        description="Cycles: a student update + k fake updates. Not in force where `epochs` is.",
    )
    epochs: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Length instead of `cycles`: 1 is as many samples as there are distinct T2I "
        "prompts. `mixing.count` says which samples count: those of both tasks (total), or T2I "
        "samples alone (t2i), which makes it passes over the prompts.",
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Samples per update.")
    ema_decay: float = Field(0.95, ge=0, lt=1, description="Student EMA decay per cycle.")
    checkpoint_every: int = Field(20, ge=1, description="Cycles between checkpoints.")
    log_every: int = Field(5, ge=1, description="Cycles between reports.")
    max_skipped: int = Field(3, ge=0, description="Non-finite updates tolerated before divergence.")


class Recipe(Settings):
    """Everything that determines a student. Not how it is measured."""

    family: Family = Field("toyworld", description="Model family.")
    model: AnyModel = Field(
        None,
        # A trial's key is a hash of the resolved recipe: a field that came later is left out of it
        # while null, so that toy-world trials recorded before keep their keys.
        exclude_if=lambda given: given is None,
        description="Weights and picture size of qwen-image; the toy world has its own.",
    )
    data: Data = Field(default_factory=Data, description="Data composition.")
    tasks: Simplex = Field(
        default_factory=lambda: {"t2i": 0.5, "edit": 0.5},
        description="Task mixture: shares of micro-batches, T2I and edit.",
        json_schema_extra={**SIMPLEX, "components": ["t2i", "edit"]},
    )
    mixing: Mixing = Field(default_factory=Mixing, description="How the task mixture is realised.")
    guidance: Guidance = Field(default_factory=Guidance, description="Teacher guidance.")
    teachers: dict[str, Teacher] = Field(
        default_factory=lambda: {"base": Teacher()},
        description="Panel of frozen teachers by name; velocities are mixed by share.",
    )
    panel: Panel = Field(default_factory=Panel, description="How the teachers are combined.")
    student: Student = Field(default_factory=Student, description="The student.")
    roles: Roles = Field(default_factory=Roles, description="Full copies, or adapters on a base.")
    objective: AnyObjective = Field(
        default_factory=DEFAULT, description="Objective and its settings, told apart by `name`."
    )
    optimiser: Optimiser = Field(default_factory=Optimiser, description="Optimisers.")
    train: Train = Field(default_factory=Train, description="Length and width of training.")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        unknown = sorted(set(self.tasks) - {"t2i", "edit"})
        if unknown:
            raise ValueError(f"tasks: unknown {unknown}; allowed are t2i and edit")
        if not self.teachers:
            raise ValueError("teachers: at least one is needed")
        # A panel is measured too, on every category and edit type, whatever it was trained on.
        check_panel(self.teachers, self.guidance, self.student.rungs, OWN, self.data.sources)
        if self.family == "toyworld":
            self._toyworld()
        else:
            self._from_files()
        if self.student.init not in self.teachers:
            raise ValueError(
                f"student.init={self.student.init!r} is not a teacher; have {sorted(self.teachers)}"
            )
        # `mixing.count: t2i` divides the budget by the T2I share, which may be tiny.
        if self.total_cycles > LONGEST:
            raise ValueError(
                f"epochs and task mixture make {self.total_cycles:,} cycles; at most {LONGEST:,}"
            )
        if self.objective.fake_updates == 0 and self.optimiser.fake != Optimiser().fake:
            raise ValueError(
                f"optimiser.fake says nothing with objective {self.objective.name!r}, which has no "
                "fake score; leave it at its defaults (in a study of objectives, in that level)"
            )
        self.objective.check(self)
        return self

    def _toyworld(self) -> None:
        if self.model is not None:
            raise ValueError("model: the toy world has its own; leave it out, or set family")
        if self.guidance.negative:
            try:
                encode([self.guidance.negative])
            except ValueError as error:
                raise ValueError(f"guidance.negative: {error}") from None
        refuse_small_pools(self.data)

    def _from_files(self) -> None:
        """What a family has to be given that renders nothing itself."""
        if self.model is None:
            raise ValueError(f"family {self.family} needs `model: {{path: ...}}`, its weights")
        known = ["teacher", *self.model.weights]
        for name, teacher in self.teachers.items():
            if teacher.weights not in known:
                raise ValueError(
                    f"teachers.{name}.weights={teacher.weights!r} is none of {known}; give its "
                    "folder in model.weights"
                )
        asked = {"composition": ("t2i", self.data.composition)}
        if self.mixture.edits:
            asked["edit_types"] = ("edit", self.data.edit_types)
        for where, (task, shares) in asked.items():
            for name in shares:
                if self.data.origin(task, name).kind == "toyworld":
                    raise ValueError(
                        f"data.{where}: {name!r} is rendered by the toy world; family "
                        f"{self.family} needs sources of kind: files in data.sources"
                    )

    @property
    def mixture(self) -> Mixture:
        """The task mixture over the whole of training."""
        train, budget = self.train, self.train.cycles
        if train.epochs is not None:
            budget = cycles_of_epochs(train.epochs, self.data, train.batch_size)
        return mixture_of(self.tasks.get("t2i", 0.0), self.mixing, budget)

    @property
    def total_cycles(self) -> int:
        """Cycles of a trial: the budget, by cycles or by epochs, as `mixing.count` extends it."""
        return self.mixture.cycles
