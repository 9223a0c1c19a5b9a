"""The base of models that are written once: frozen, and nothing in them that has no name."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """What does not change once it is made, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
