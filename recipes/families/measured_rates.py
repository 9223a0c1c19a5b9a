"""Rates that `benchmarks/gpu.py` measured on a card, for plans. Imports no torch.

A rate is operations a second of a whole cycle, or of a sample, of one row; recomputed operations
are counted, as `qwen_image_cost` counts them. It applies to the network's width, picture size and
roles it was measured with, whatever the number of layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recipes.data.files import ROOT
from recipes.recipe import Recipe

RESULTS = ROOT / "benchmarks" / "results"


class Measured(BaseModel):
    """A cost as the benchmark writes it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    family: str
    width: int
    pixels: int
    task: Literal["t2i", "edit"]
    roles: str
    rank: int
    adapters: str
    activation_checkpointing: bool
    training_rate: float = Field(gt=0, lt=1e17, allow_inf_nan=False)
    sampling_rate: float = Field(gt=0, lt=1e17, allow_inf_nan=False)


class Record(BaseModel):
    """What a plan reads of the benchmark's file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = Field(alias="schema")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    device: Literal["cuda"]
    tiny: Literal[False]
    card: dict[str, str | float | bool | None]
    costs: tuple[Measured, ...]


@dataclass(frozen=True)
class Rates:
    """Operations a second by task, and where they were seen."""

    card: str
    date: str
    file: str
    training: Mapping[str, float]
    sampling: Mapping[str, float]


def rates_for(recipe: Recipe, width: int, folder: Path | None = None) -> Rates | None:
    """The newest rates that apply to a recipe on a network of a width; None where there are none.

    Args:
        recipe: of a large family; its adapters are trained in float32.
        width: of the transformer's hidden states.
        folder: of the benchmark's results; default the repository's.
    """
    model, roles = recipe.model, recipe.roles
    if model is None or roles.kind != "adapters":
        return None
    for name, record in _records(folder or RESULTS):
        found = {
            cost.task: cost
            for cost in record.costs
            if (cost.family, cost.width, cost.pixels) == (recipe.family, width, model.pixels)
            and (cost.roles, cost.rank, cost.adapters) == (roles.kind, roles.rank, "float32")
            and cost.activation_checkpointing == roles.activation_checkpointing
        }
        if set(found) == {"t2i", "edit"}:
            return Rates(
                card=str(record.card.get("name", "an unnamed card")),
                date=record.date,
                file=name,
                training={task: cost.training_rate for task, cost in found.items()},
                sampling={task: cost.sampling_rate for task, cost in found.items()},
            )
    return None


@cache
def _records(folder: Path) -> tuple[tuple[str, Record], ...]:
    """Readable records of cards, the newest first."""
    found = []
    for file in folder.glob("gpu-*.json"):
        try:
            found.append((file.name, Record.model_validate_json(file.read_bytes())))
        except (OSError, ValidationError):
            continue  # of another version, or no card's: a plan goes by its assumptions
    return tuple(sorted(found, key=lambda pair: (pair[1].date, pair[0]), reverse=True))
