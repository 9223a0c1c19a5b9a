"""Settings of the roles: full copies, or adapters on one frozen base. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recipes.settings import Settings

Targets = Literal["attention", "mlp", "attention+mlp", "all"]


class Roles(Settings):
    """How student, fake score and teachers hold their weights."""

    kind: Literal["copies", "adapters"] = Field(
        "copies",
        description="Every role a full copy, or low-rank adapters on one frozen base network.",
    )
    rank: int = Field(16, ge=1, le=4096, description="Rank of the adapters.")
    alpha: float | None = Field(
        None, gt=0, description="Adapters are scaled by alpha / rank; null means alpha = rank."
    )
    targets: Targets = Field(
        "attention+mlp",
        description="Linear layers that get an adapter: those of attention, of the feed-forward "
        "parts, of both, or every one of the network.",
    )
    activation_checkpointing: bool = Field(
        False, description="Recompute each block in the backward pass instead of keeping it."
    )

    @property
    def scaling(self) -> float:
        """Factor on the product of an adapter's factors."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @model_validator(mode="after")
    def _meant(self) -> Roles:
        if self.kind == "copies":
            for name in ("rank", "alpha", "targets"):
                given = getattr(self, name)
                if given != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name}={given!r} says nothing with kind=copies; leave it out, or set "
                        "roles.kind to adapters"
                    )
        return self
