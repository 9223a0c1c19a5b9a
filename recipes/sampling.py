"""Pictures from a network: the few-step student, or a teacher at any number of steps.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from recipes.families.base import PictureFamily
from recipes.guidance.panel import TeacherPanel
from recipes.rollout import sample
from recipes.schedule import Rungs

Fresh = Callable[[int], Tensor]
"""Step of the sampler -> noise (B, C, H, W) for re-noising."""

Pictures = Callable[[Sequence[str], Tensor, "Tensor | None", Fresh], Tensor]
"""(captions or instructions, first noise (B, C, H, W), uint8 sources or None, noise of later steps)
-> uint8 pictures."""


def _unit(images_u8: Tensor | None) -> Tensor | None:
    return None if images_u8 is None else images_u8.float() / 127.5 - 1


def student_pictures(
    family: PictureFamily,
    network: nn.Module,
    rungs: Rungs,
    *,
    renoise: bool = False,
) -> Pictures:
    """One evaluation per rung, no guidance; `renoise` as in training, instead of ODE steps."""
    network.eval()

    def pictures(
        texts: Sequence[str], noise_BCHW: Tensor, sources: Tensor | None, fresh: Fresh
    ) -> Tensor:
        condition = family.condition(texts, _unit(sources))

        def velocity(z: Tensor, t: Tensor, rows: Tensor | slice) -> Tensor:
            part = condition.rows(rows)
            return family.velocity(network, z, t, part.text_BLD, part.source_BCHW, part.mask_BL)

        return family.decode(sample(velocity, noise_BCHW, rungs, fresh if renoise else None))

    return pictures


def teacher_pictures(family: PictureFamily, panel: TeacherPanel, rungs: Rungs) -> Pictures:
    """A teacher or a panel with guidance, as it stands at the end of training.

    Two evaluations per teacher and step, one where the scale is 1.
    """

    def pictures(
        texts: Sequence[str], noise_BCHW: Tensor, sources: Tensor | None, _fresh: Fresh
    ) -> Tensor:
        asked = replace(family.condition(texts, _unit(sources)), labels=family.labels(texts))

        def velocity(z: Tensor, t: Tensor, rows: Tensor | slice) -> Tensor:
            return panel.velocity(z, t, asked.rows(rows), progress=1.0)

        return family.decode(sample(velocity, noise_BCHW, rungs))

    return pictures
