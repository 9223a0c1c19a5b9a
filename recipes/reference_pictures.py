"""What makes the pictures of a reference row, when its record did not ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from recipes.sampling import Fresh, Pictures


def pictures_of(settings: Mapping[str, Any], device: str = "cpu") -> Pictures:
    """What makes a row's pictures; `device` is where a large family runs.

    Raises:
        ValueError: for a row that is not known.
    """
    from recipes.families.registry import family_of
    from recipes.guidance.panel import TeacherPanel
    from recipes.guidance.settings import Guidance, Panel, Teacher
    from recipes.sampling import teacher_pictures
    from recipes.schedule import Rungs

    row = settings["row"]
    if row in ("teacher", "undistilled"):
        parts = settings
        if "teachers" not in settings:
            only = {"weights": settings["weights"]}
            scale = {"scale": settings["scale"]}
            parts = {"teachers": {"only": only}, "guidance": scale, "panel": {}}
        family = family_of(settings.get("family", "toyworld"), settings.get("model"), device=device)
        panel = TeacherPanel.load(
            family,
            {name: Teacher.model_validate(t) for name, t in parts["teachers"].items()},
            Guidance.model_validate(parts["guidance"]),
            Panel.model_validate(parts["panel"]),
        )
        return teacher_pictures(family, panel, Rungs(settings["steps"], settings["shift"]))
    if row not in ("data", "autoencoder", "source-copied"):
        raise ValueError(f"unknown reference row {row!r}")
    return _rendered(row)


def _rendered(row: str) -> Pictures:
    import torch

    from recipes.families.toyworld import shared
    from recipes.toyworld.prompts import parse
    from recipes.toyworld.renderer import FREE, render

    def pictures(
        texts: Sequence[str], noise_BCHW: Tensor, sources: Tensor | None, _fresh: Fresh
    ) -> Tensor:
        if sources is not None:
            images = sources.float() / 127.5 - 1
        else:
            # The item's own noise gives its free variables: Gaussian to uniform, dimension by one.
            free = torch.special.ndtr(noise_BCHW.flatten(1)[:, :FREE])
            images = render([parse(text) for text in texts], free)
        if row == "autoencoder":
            family = shared()
            with torch.no_grad():
                images = family.autoencoder.decode(family.autoencoder.encode(images))
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    return pictures
