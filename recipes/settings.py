"""What every settings model shares: frozen, nothing extra, simplex values. Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every settings model: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
