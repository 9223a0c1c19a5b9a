"""Qwen-Image's text: hidden states of Qwen2.5-VL without the template's head, padded and masked.

As the diffusers pipelines embed it: the last hidden state of a chat template around the text, the
system part cut off. Edits may show the source picture to the encoder too, at 384 x 384 pixels.
Legend: B batch, C channels, H height, W width, L text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.families.qwen_image_settings import QwenImage

_HEAD, _TAIL = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n"
_TAIL += "<|im_start|>assistant\n"
DRAW = _HEAD.format(
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:"
)
EDIT = _HEAD.format(
    "Describe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. "
    "Generate a new image that meets the user's requirements while maintaining consistency with "
    "the original input where appropriate."
)
SHOWN = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>"
"""Where the source picture stands in an edit's text."""
DRAW_HEAD, EDIT_HEAD = 34, 64
"""Tokens of the two heads, cut off; fixed numbers in the pipelines, whatever the tokenizer."""
SEEN_PIXELS = 384
"""Side at which the encoder sees a source."""


class QwenImageText:
    """Texts, and for edits pictures, to masked embeddings.

    Args:
        settings: how many tokens a text may have, and whether sources are shown.
        home: folder that holds text_encoder, tokenizer and processor.
        dtype: precision of the encoder.
        device: where it runs.
        sees: whether edits will be asked for.
    """

    def __init__(
        self,
        settings: QwenImage,
        home: Path,
        dtype: torch.dtype,
        device: torch.device,
        *,
        sees: bool,
    ) -> None:
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor

        self.settings = settings
        self.device = device
        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            home / "tokenizer", local_files_only=True
        )
        self.processor: Any = None
        if sees and settings.sees_source:
            self.processor = Qwen2VLProcessor.from_pretrained(
                home / "processor", local_files_only=True
            )
        encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            home / "text_encoder", dtype=dtype, local_files_only=True
        )
        self.encoder: Any = encoder.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def __call__(
        self, texts: Sequence[str], sources_BCHW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) and mask (B, L) bool; L is the longest text's length.

        Args:
            texts: prompts, or with sources instructions.
            sources_BCHW: pictures in [-1, 1], one a text.
        """
        shown = sources_BCHW is not None and self.settings.sees_source
        if shown:
            assert self.processor is not None, "edits were not announced when the family was loaded"
            head = EDIT_HEAD
            inputs = self.processor(
                text=[f"{EDIT}{SHOWN}{text}{_TAIL}" for text in texts],
                images=_pictures(sources_BCHW),
                padding=True,
                return_tensors="pt",
            )
        else:
            head = DRAW_HEAD
            inputs = self.tokenizer(
                [f"{DRAW}{text}{_TAIL}" for text in texts],
                max_length=self.settings.text_tokens + head,
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
        inputs = inputs.to(self.device)
        states = self.encoder(**inputs, output_hidden_states=True).hidden_states[-1]
        rows = [
            state[mask.bool()][head:]
            for state, mask in zip(states, inputs["attention_mask"], strict=True)
        ]
        mask_BL = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(row), dtype=torch.bool, device=self.device) for row in rows],
            batch_first=True,
        )
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask_BL


def _pictures(sources_BCHW: Tensor | None) -> list[Any]:
    """Sources as the pictures that the processor reads, 384 x 384 pixels."""
    from PIL import Image

    assert sources_BCHW is not None
    pixels = ((sources_BCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    return [
        Image.fromarray(row.permute(1, 2, 0).numpy()).resize(
            (SEEN_PIXELS, SEEN_PIXELS), Image.Resampling.LANCZOS
        )
        for row in pixels
    ]
