"""The oracle reads attributes, words, style and damage back from a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recipes.toyworld.prompts import (
    ATTRIBUTES,
    CATEGORIES,
    LETTER_SLOTS,
    LETTERS,
    OPERATIONS,
    EditCase,
    Prompt,
)
from recipes.toyworld.renderer import attribute_indices

STYLES = ("none", *OPERATIONS["style"])
HEADS: dict[str, int] = {
    "category": len(CATEGORIES),
    **{
        name: len(values)
        for attributes in ATTRIBUTES.values()
        for name, values in attributes.items()
        if name != "word"
    },
    **{f"letter{slot}": len(LETTERS) + 1 for slot in range(LETTER_SLOTS)},
    "style": len(STYLES),
    "intact": 2,
}
"""Classification heads and their number of classes; letters count the blank. `intact` tells one
whole sign (1) from doubled, cut or mixed ones (0), which otherwise read as the word they resemble.
"""
DAMAGE = ("denoise", "deblur")
"""Regressed amounts: 0 for a clean picture, 1 for one as noisy or blurred as an edit's source."""

SCORES = tuple([name for attributes in ATTRIBUTES.values() for name in attributes])
"""Columns of `Reading.matches`: every attribute, the word among them."""


class Oracle(nn.Module):
    """A small convolutional network, one head per attribute and letter slot."""

    def __init__(self, width: int = 160) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_stage(3, 32, 5, 2),
            *_stage(32, 48, 3, 1),
            *_stage(48, 64, 3, 2),
            *_stage(64, 64, 3, 1),
            nn.Flatten(),
            nn.Linear(64 * 36, width),
            nn.GELU(),
            nn.Linear(width, sum(HEADS.values()) + len(DAMAGE)),
        )

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) by head, and `denoise`, `deblur` amounts (B,)."""
        parts = self.body(images_BCHW).split([*HEADS.values(), len(DAMAGE)], dim=1)
        out = dict(zip(HEADS, parts[:-1], strict=True))
        return out | dict(zip(DAMAGE, parts[-1].unbind(1), strict=True))

    @torch.no_grad()
    def read(self, images_BCHW: Tensor, batch: int = 256) -> dict[str, Tensor]:
        """What the pictures show.

        Args:
            images_BCHW: (B, 3, 24, 24) float in [-1, 1].
            batch: pictures at a time.

        Returns:
            On the CPU: log-probabilities (B, classes) for each of `HEADS`, and the amounts of
            damage (B,) clamped to [0, 1] under `denoise` (noise left) and `deblur` (blur left).
        """
        pieces = [self(part) for part in images_BCHW.float().split(batch)]
        out = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
        return {
            key: (value.clamp(0, 1) if key in DAMAGE else value.log_softmax(1)).cpu()
            for key, value in out.items()
        }


@dataclass(frozen=True)
class Matches:
    """How well pictures show their prompts.

    Attributes:
        attributes: (B, len(SCORES)) float: 1 shown, 0 not, nan where the prompt's category has
            no such attribute. The column `word` is 1 only when all four slots are right and the
            sign is intact.
        letters: (B,) share of the word's letter slots read correctly, nan without a word.
    """

    attributes: Tensor
    letters: Tensor

    @property
    def accuracy(self) -> Tensor:
        """(B,) mean over the attributes that apply."""
        return self.attributes.nanmean(1)

    @property
    def words(self) -> Tensor:
        """(B,) 1 where the word is spelt exactly, nan without a word."""
        return self.attributes[:, SCORES.index("word")]


def matches(oracle: Oracle, images_BCHW: Tensor, prompts: Sequence[Prompt]) -> Matches:
    """Compare what the oracle reads with what was asked.

    Letters count only up to the word's length and one blank behind it, so that short words do
    not score by their padding.
    """
    reading = oracle.read(images_BCHW)
    attributes = torch.full((len(prompts), len(SCORES)), torch.nan)
    letters = torch.full((len(prompts),), torch.nan)
    best = {key: value.argmax(1).tolist() for key, value in reading.items() if key in HEADS}
    for i, prompt in enumerate(prompts):
        index = attribute_indices(prompt)
        for name, wanted in zip(ATTRIBUTES[prompt.category], index, strict=False):
            if name != "word":
                attributes[i, SCORES.index(name)] = float(best[name][i] == wanted)
        if prompt.category == "text":
            right = [best[f"letter{k}"][i] == index[1 + k] for k in range(LETTER_SLOTS)]
            intact = best["intact"][i] == 1
            attributes[i, SCORES.index("word")] = float(intact and all(right))
            length = len(prompt.value("word"))
            letters[i] = sum(right[:length]) / length
    return Matches(attributes, letters)


def follows(oracle: Oracle, images_BCHW: Tensor, cases: Sequence[EditCase]) -> Tensor:
    """Was the instruction carried out? (B,) in [0, 1]; a copied source scores about 0.

    Scene, object and identity: 1 when the changed attribute reads as asked. Text: the share of
    letter slots to be changed that read as asked, 0 for a broken sign. Style: the probability
    of the asked style. Enhance: 1 minus the damage left, of the kind that was to be removed.
    """
    reading = oracle.read(images_BCHW)
    return torch.tensor([_follows(reading, i, case) for i, case in enumerate(cases)])


def _follows(reading: dict[str, Tensor], i: int, case: EditCase) -> float:
    if case.edit_type == "style":
        assert case.operation is not None
        return float(reading["style"][i, STYLES.index(case.operation)].exp())
    if case.edit_type == "enhance":
        assert case.operation is not None
        return 1.0 - float(reading[case.operation][i])
    name = case.changed
    assert name is not None
    if name != "word":
        return float(int(reading[name][i].argmax()) == _value(case.target, name))
    old, new = attribute_indices(case.source)[1:], attribute_indices(case.target)[1:]
    right = [
        int(reading[f"letter{k}"][i].argmax()) == new[k]
        for k in range(LETTER_SLOTS)
        if old[k] != new[k]
    ]
    intact = int(reading["intact"][i].argmax()) == 1
    return intact * sum(right) / len(right)


def _value(prompt: Prompt, name: str) -> int:
    return ATTRIBUTES[prompt.category][name].index(prompt.value(name))


def _stage(channels_in: int, channels_out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.GELU(),
    ]
