"""Settings of the Qwen-Image family: where its weights lie, picture size, precision. No torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from recipes.settings import Settings

PATCH = 16
"""Pixels a side of one token: 8 of the autoencoder times 2 of packing."""
BASE_TOKENS, MOST_TOKENS = 256, 8192
BASE_SHIFT, MOST_SHIFT = 0.5, 0.9
"""Of Qwen-Image's scheduler: log of the shift, linear in the picture's tokens between them."""


class QwenImage(Settings):
    """A local folder in diffusers' layout, and how it is used. Never fetched by itself."""

    path: str = Field(
        description="Folder with transformer, vae, text_encoder, tokenizer (and processor for "
        "edits). ~ and $VARIABLES are expanded; a relative path starts at the folder that holds "
        "`recipes`."
    )
    repository: str = Field(
        "Qwen/Qwen-Image-Edit-2509", description="Where the weights come from; told when missing."
    )
    weights: dict[str, str] = Field(
        default_factory=dict,
        description="Folders of further transformers by name, for `teachers.*.weights`; `teacher` "
        "is the one in `path`.",
    )
    pixels: int = Field(
        1024, ge=PATCH, le=4096, multiple_of=PATCH, description="Side of the square pictures."
    )
    text_tokens: int = Field(
        512, ge=1, le=1024, description="Most tokens of a prompt; the rest is cut off."
    )
    sees_source: bool = Field(
        True, description="Edits: the text encoder reads the source picture beside the text."
    )
    dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="Precision of the frozen networks; adapters are float32."
    )
    digest: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12,64}$",
        description="Stands for all weights in trial keys, e.g. the commit of the repository, so "
        "that a plan made without them has the keys of the run. Null: told by what is there.",
    )

    @model_validator(mode="after")
    def _own_name(self) -> QwenImage:
        if "teacher" in self.weights:
            raise ValueError("weights: `teacher` is the transformer in `path`; choose another name")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of one picture."""
        return (self.pixels // PATCH) ** 2

    @property
    def dynamic_shift(self) -> float:
        """The shift that Qwen-Image's scheduler takes at this size; for `student.shift`.

        Its exponential form, e^mu / (e^mu + 1/t - 1), is the static shift by e^mu. The scheduler
        also stretches the levels to end at 0.02 (`shift_terminal`); rungs are not stretched.
        """
        slope = (MOST_SHIFT - BASE_SHIFT) / (MOST_TOKENS - BASE_TOKENS)
        return math.exp(BASE_SHIFT + slope * (self.tokens - BASE_TOKENS))
