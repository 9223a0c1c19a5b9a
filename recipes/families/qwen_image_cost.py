"""What a trial of Qwen-Image costs before any has run: operations, time, memory. Imports no torch.

Operations of one forward are exact for the linear layers and attention (checked against torch's own
counter), a cycle's forwards are those its objective declares, and time assumes a share of one
device's peak. Not counted: autoencoder, optimiser, data, judge; they are small beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from recipes.families.qwen_image_files import folder_of
from recipes.limited_json import json_object
from recipes.objectives.counts import declared
from recipes.recipe import Recipe

if TYPE_CHECKING:
    from recipes.families.qwen_image_settings import QwenImage

PEAK = 989e12
"""Operations a second of an H100 SXM, bfloat16 without sparsity."""
SHARE, SHARE_LOW, SHARE_HIGH = 0.4, 0.25, 0.55
"""Assumed share of the peak: what large transformers are commonly trained at, and a wide range."""
PUBLISHED = {
    "num_layers": 60,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "joint_attention_dim": 3584,
    "in_channels": 64,
    "out_channels": 16,
    "patch_size": 2,
}
"""Qwen-Image's transformer, where its config.json is not here."""
ENCODER = 8.3e9
"""Parameters of Qwen2.5-VL-7B with its vision part."""
PROMPT_TOKENS, SEEN_TOKENS = 120, 196
"""Assumed tokens of a text without the template's head, and of a 384 px source beside it."""
LIVE = 40
"""Activations of one block while its gradient is taken, in hidden states of d: assumed."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer."""

    layers: int
    width: int
    text_width: int
    channels: int
    out_channels: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From a diffusers config."""
        out = config["patch_size"] ** 2 * (config.get("out_channels") or config["in_channels"])
        return cls(
            config["num_layers"],
            config["num_attention_heads"] * config["attention_head_dim"],
            config["joint_attention_dim"],
            config["in_channels"],
            out,
        )

    @property
    def parameters(self) -> float:
        """Weights of all linear layers: 24 d^2 a block for two streams, 12 d^2 of modulation."""
        d = self.width
        ends = d * (self.channels + self.text_width + self.out_channels + 256 + d + 2 * d)
        return self.layers * 36 * d * d + ends

    def forward(self, tokens: int, text: int) -> float:
        """Operations (multiply and add counted apart) of one forward on one row."""
        d, whole = self.width, tokens + text
        block = 12 * d * d * whole + 12 * d * d + 2 * whole * whole * d
        ends = d * (tokens * (self.channels + self.out_channels) + text * self.text_width)
        return 2.0 * (self.layers * block + ends + d * (256 + d + 2 * d))


def shape_of(settings: QwenImage) -> Shape:
    """Sizes of the transformer in the settings' folder; the published ones where it is not here."""
    config = folder_of(settings.path) / "transformer" / "config.json"
    try:
        return Shape.of(PUBLISHED | json_object(config))
    except ValueError:
        return Shape.of(PUBLISHED)


@dataclass(frozen=True)
class Work:
    """What a trial computes and holds."""

    cycle: float
    """Forwards of one cycle in F, a backward counted by what it costs."""
    t2i: float
    """Operations of one forward on one T2I row."""
    edit: float
    """The same of an edit row, whose source doubles the picture's tokens."""
    trained: Mapping[str, float]
    """Operations of training by task, and of the text encoder (`text`)."""
    measured: Mapping[str, float]
    """Operations of one measurement by task."""
    memory: float
    """Bytes on one device at the peak of training."""
    width: int
    """Of the transformer's hidden states."""

    @property
    def training(self) -> float:
        """Operations of training."""
        return sum(self.trained.values())

    @property
    def measuring(self) -> float:
        """Operations of one measurement."""
        return sum(self.measured.values())


def work(recipe: Recipe, pictures: Mapping[str, int]) -> Work | None:
    """Operations and memory of one trial; None where the objective declares no counts.

    Args:
        recipe: of family qwen-image.
        pictures: pictures of one measurement by task, t2i and edit.
    """
    model = recipe.model
    assert model is not None
    counts = declared(recipe.objective, recipe.student.rungs, recipe.guidance.scale)
    if counts is None:
        return None
    counts["teacher"] = counts.get("teacher", 0.0) * teachers_at_work(recipe)
    shape = shape_of(model)
    seen = SEEN_TOKENS if model.sees_source else 0
    t2i = shape.forward(model.tokens, PROMPT_TOKENS)
    edit = shape.forward(2 * model.tokens, PROMPT_TOKENS + seen)
    mixture = recipe.mixture
    share = float(mixture.mean)
    cycle = sum(count * _times(role, recipe) for role, count in counts.items())
    # A fake update of the warm-up makes its own sample.
    fresh = (recipe.student.rungs + 1) / 2 + _times("fake.grad", recipe)
    forwards = mixture.cycles * cycle + recipe.objective.warmup_fake_updates * fresh
    updates = mixture.cycles * (1 + recipe.objective.fake_updates)
    text = 2 * ENCODER * 2 * (PROMPT_TOKENS + (1 - share) * seen)  # each text and its empty one
    size = recipe.train.batch_size
    rungs = recipe.student.rungs
    return Work(
        cycle=cycle,
        t2i=t2i,
        edit=edit,
        trained={
            "t2i": size * forwards * share * t2i,
            "edit": size * forwards * (1 - share) * edit,
            "text": size * updates * text,
        },
        measured={
            "t2i": rungs * pictures.get("t2i", 0) * t2i,
            "edit": rungs * pictures.get("edit", 0) * edit,
        },
        memory=memory_of(recipe, shape, edits=mixture.edits),
        width=shape.width,
    )


def teachers_at_work(recipe: Recipe) -> float:
    """Mean number of teachers that judge a row, over rungs, training and sources of data."""
    share = float(recipe.mixture.mean)
    parts = (("t2i", share, recipe.data.composition), ("edit", 1 - share, recipe.data.edit_types))
    panel, rungs = recipe.teachers.values(), range(recipe.student.rungs)
    progress = [(i + 0.5) / 20 for i in range(20)]
    total = 0.0
    for task, weight, shares in parts:
        for label, part in shares.items() if weight else ():
            at_work = mean(
                sum(t.weight(rung, p, task, label) > 0 for t in panel)
                for rung in rungs
                for p in progress
            )
            total += weight * part * at_work
    return min(total, 1.0) if recipe.panel.mix == "hard" else total


def _times(role: str, recipe: Recipe) -> float:
    """Forwards that one of a role is worth: adapters need no gradient of the base's weights."""
    if not role.endswith(".grad"):
        return 1.0
    backward = 1.0 if recipe.roles.kind == "adapters" else 2.0
    return 1.0 + backward + (1.0 if recipe.roles.activation_checkpointing else 0.0)


def memory_of(recipe: Recipe, shape: Shape, *, edits: bool) -> float:
    """Bytes: frozen networks, trained weights with their optimisers, activations."""
    model, roles = recipe.model, recipe.roles
    assert model is not None
    each = 2 if model.dtype == "bfloat16" else 4
    d, layers = shape.width, shape.layers
    trained_roles = 2 if recipe.objective.fake_updates else 1
    frozen = {t.weights for t in recipe.teachers.values() if t.share > 0}
    if roles.kind == "adapters":
        frozen.add(recipe.teachers[recipe.student.init].weights)
        pair = {"attention": 16 * d, "mlp": 20 * d, "attention+mlp": 36 * d, "all": 50 * d}
        factors = roles.rank * layers * pair[roles.targets]
        # Weight, gradient and two moments a role, and the student's average, float32.
        trained = factors * (16 * trained_roles + 4)
    else:
        trained = shape.parameters * (4 * each * trained_roles + each)
    networks = len(frozen) * shape.parameters * each + ENCODER * each
    seen = SEEN_TOKENS if edits and model.sees_source else 0
    tokens = (2 if edits else 1) * model.tokens + PROMPT_TOKENS + seen
    hidden = recipe.train.batch_size * tokens * d * each
    kept = layers + LIVE if roles.activation_checkpointing else layers * LIVE
    if getattr(recipe.objective, "gradient", "") == "full_rollout":
        kept *= recipe.student.rungs  # the graph of every rung is held until the end
    return networks + trained + hidden * kept
