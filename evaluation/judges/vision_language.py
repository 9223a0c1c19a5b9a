"""A local vision-language model as the oracle: yes-or-no questions, answered with a probability.

The score of a question is p(yes) / (p(yes) + p(no)) of the next token: graded, without sampling,
independent of the batch. Words are asked for one by one, those that the prompt puts in quotes. A
judge is a network: its bias is part of every number, and its folder part of the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.filed import place
from evaluation.items import Item

QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
SHOWN_PIXELS = 448
SHOWS = "Does the picture show this: {}? Answer yes or no."
SPELT = "Is the word {} written in the picture, every letter right? Answer yes or no."
FOLLOWED = (
    "The first picture was edited into the second by the instruction: {}. Was the instruction "
    "carried out in the second picture? Answer yes or no."
)
KEPT = (
    "The first picture was edited into the second by the instruction: {}. Is everything that the "
    "instruction does not speak of still the same? Answer yes or no."
)


class VisionLanguageJudge(nn.Module):
    """Reads pictures with a Qwen2.5-VL from a local folder."""

    def __init__(self, path: str, dtype: str = "bfloat16") -> None:
        """Load model and processor from one folder.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        super().__init__()
        from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor

        home = place(path)
        if not (home / "config.json").is_file():
            raise FileNotFoundError(f"no judge at {home}")
        self.model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            home, dtype=getattr(torch, dtype), local_files_only=True
        )
        self.processor: Any = Qwen2VLProcessor.from_pretrained(home, local_files_only=True)
        tokens = self.processor.tokenizer
        self.yes, self.no = (
            [tokens.encode(w, add_special_tokens=False)[0] for w in words]
            for words in (("yes", "Yes"), ("no", "No"))
        )
        self.sources: Any = None
        """Callable(items) -> source pictures; set by the world where edits are measured."""

    def read(
        self, images_u8_BCHW: Tensor, items: Sequence[Item]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Columns attributes, and words where a prompt quotes any; each in [0, 1]."""
        attributes, words = [], []
        for image, item in zip(images_u8_BCHW, items, strict=True):
            attributes.append(self.answer([image], SHOWS.format(item.prompt)))
            quoted = [w for text in QUOTED.findall(item.prompt) for w in text.split()]
            answers = [self.answer([image], SPELT.format(f'"{word}"')) for word in quoted]
            words.append(float(np.mean(answers)) if answers else float("nan"))
        return {"attributes": np.array(attributes), "words": np.array(words)}

    def follow(self, images_u8_BCHW: Tensor, items: Sequence[Item]) -> NDArray[np.float64]:
        """Was the instruction carried out, (B,) in [0, 1]."""
        return self._compared(images_u8_BCHW, items, FOLLOWED)

    def kept(self, images_u8_BCHW: Tensor, items: Sequence[Item]) -> NDArray[np.float64]:
        """Is the rest as it was, (B,) in [0, 1]."""
        return self._compared(images_u8_BCHW, items, KEPT)

    def _compared(
        self, images_u8_BCHW: Tensor, items: Sequence[Item], question: str
    ) -> NDArray[np.float64]:
        assert self.sources is not None, "set when the world is loaded"
        before = self.sources(items)[0]
        rows = zip(before, images_u8_BCHW, items, strict=True)
        return np.array([self.answer([b, a], question.format(i.prompt)) for b, a, i in rows])

    @torch.inference_mode()
    def answer(self, pictures_u8_CHW: Sequence[Tensor], question: str) -> float:
        """Probability of yes against no after a question about some pictures."""
        from PIL import Image

        shown = [
            Image.fromarray(p.permute(1, 2, 0).cpu().numpy()).resize((SHOWN_PIXELS, SHOWN_PIXELS))
            for p in pictures_u8_CHW
        ]
        slots = "<|vision_start|><|image_pad|><|vision_end|>" * len(shown)
        asked = f"<|im_start|>user\n{slots}{question}<|im_end|>\n<|im_start|>assistant\n"
        inputs = self.processor(text=[asked], images=shown, return_tensors="pt")
        # float32 for what follows: a probability in bfloat16 has 8 bits.
        logits = self.model(**inputs.to(self.model.device)).logits[0, -1].float()
        yes, no = (torch.logsumexp(logits[i], 0) for i in (self.yes, self.no))
        return float(torch.sigmoid(yes - no))
