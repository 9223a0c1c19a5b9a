"""Settings of teacher guidance and of the panel of teachers. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from recipes.settings import Settings


class Guidance(Settings):
    """Teacher guidance in standard form, `v_u + scale (v_c - v_u)`; 1 is conditional only."""

    scale: float = Field(
        2.0, ge=0, le=20, description="Classifier-free guidance scale of the teacher."
    )


class Teacher(Settings):
    """A frozen teacher and its weight in the panel."""

    weights: str = Field("teacher", description="Name of the family's weights.")
    share: float = Field(
        1.0, ge=0, description="Weight lambda in the panel; shares are normalised."
    )
