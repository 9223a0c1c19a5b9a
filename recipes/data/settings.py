"""Settings of the data: composition of prompts and of edit cases. Imports no torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from recipes.settings import SIMPLEX, Settings, Simplex

CATEGORIES = ("landscape", "portrait", "text")
EDIT_TYPES = ("scene", "enhance", "object", "text", "identity", "style")


class Data(Settings):
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
