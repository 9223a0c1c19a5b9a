"""Models made on the device with random weights of the published shapes, and conditions for them.

No file is read: the classes, the velocity and the training are those of a trial, the numbers of the
weights are not. Qwen-Image-2.1 has no family yet and goes through its class.
Legend: B batch, C channels, H height, W width, L text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recipes.families.base import Condition
from recipes.families.qwen_image import QwenImageFamily
from recipes.families.qwen_image_cost import PROMPT_TOKENS, PUBLISHED
from recipes.families.qwen_image_settings import QwenImage
from recipes.recipe import Recipe

PUBLISHED_21 = {
    "num_layers": 32,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "context_in_dim": 4096,
    "in_channels": 64,
    "out_channels": 64,
}
"""Qwen-Image-2.1's transformer: the defaults of its class."""
RANK = 64
"""Of the adapters."""
TINY = {
    "qwen-image": {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "joint_attention_dim": 32,
        "in_channels": 16,
        "out_channels": 4,
        "axes_dims_rope": (4, 6, 6),
    },
    "qwen-image-2.1": {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "context_in_dim": 32,
        "in_channels": 8,
        "out_channels": 8,
        "axes_dims_rope": (4, 6, 6),
    },
}


class MadeQwenImage(QwenImageFamily):
    """Qwen-Image without files: its velocity is the family's own."""

    title = "Qwen-Image"
    text_width = "joint_attention_dim"
    shrink = 8
    """Pixels a side of one latent."""

    def __init__(
        self, config: Mapping[str, Any], pixels: int, dtype: torch.dtype, device: str
    ) -> None:
        """Nothing is made before `network` is asked for."""
        self.config = dict(config)
        self.negative = ""
        self.pixels = pixels
        self.dtype = dtype
        self.device = torch.device(device)
        side = pixels // self.shrink
        self.latent_shape = (self.channels, side, side)
        self.kept: nn.Module | None = None

    @property
    def channels(self) -> int:
        """Of a latent; the network takes patches of 2 x 2 of them."""
        return int(self.config["in_channels"]) // 4

    @staticmethod
    def transformer(config: Mapping[str, Any]) -> nn.Module:
        """The network, on the device that is torch's default at the time."""
        from diffusers import QwenImageTransformer2DModel

        return QwenImageTransformer2DModel(**{**PUBLISHED, **config})

    def network(self, weights: str) -> nn.Module:
        """A frozen network with random weights, made where it stays: nothing of it is copied."""
        if self.kept is not None:
            return self.kept
        return fill(skeleton(self, self.device, self.dtype))

    def condition(self, texts: Sequence[str], source_BCHW: Tensor | None = None) -> Condition:
        """Refused: there is no text encoder."""
        raise NotImplementedError("made models have no text encoder; conditions are drawn")


class MadeQwenImage21(MadeQwenImage):
    """Qwen-Image-2.1: text and source tokens before the target's, one layout a forward."""

    title = "Qwen-Image-2.1"
    text_width = "context_in_dim"
    shrink = 16

    @property
    def channels(self) -> int:
        """Of a latent, which is a token."""
        return int(self.config["in_channels"])

    @staticmethod
    def transformer(config: Mapping[str, Any]) -> nn.Module:
        """The network, on the device that is torch's default at the time."""
        from diffusers import QwenImage21Transformer2DModel

        return QwenImage21Transformer2DModel(**config)

    def velocity(
        self,
        network: nn.Module,
        z_BCHW: Tensor,
        t_B: Tensor,
        text_BLD: Tensor,
        source_BCHW: Tensor | None,
        mask_BL: Tensor | None = None,
        cache: tuple[Any, str] | None = None,
    ) -> Tensor:
        """Predicted velocity (B, C, H, W); every text of the batch has one length.

        `cache` is diffusers' prefix cache and its mode, `extract` or `cached`.
        """
        rows, _, height, width = z_BCHW.shape
        grid = (1, height, width)
        tokens, shapes, slots = [z_BCHW], [grid], height * width // 4
        text = text_BLD
        marks = [torch.zeros(rows, text.shape[1], dtype=torch.bool)]
        if source_BCHW is not None:
            seen = source_BCHW.shape[2] * source_BCHW.shape[3] // 4
            shapes = [(1, *source_BCHW.shape[2:]), grid]
            tokens = [source_BCHW, z_BCHW]
            # The encoder's slots of the picture stand first; the source's latents replace them.
            text = torch.cat([text.new_zeros(rows, seen, text.shape[2]), text], dim=1)
            marks.insert(0, torch.ones(rows, seen, dtype=torch.bool))
        marks.append(torch.ones(rows, slots, dtype=torch.bool))
        held, mode = cache or (None, None)
        (out_BNC,) = network(
            hidden_states=self._there(torch.cat([x.flatten(2).transpose(1, 2) for x in tokens], 1)),
            encoder_hidden_states=self._there(text),
            timestep=self._there(t_B),
            img_shapes=[shapes] * rows,
            img_mask=torch.cat(marks, dim=1).to(self.device),
            kv_cache=held,
            kv_cache_mode=mode,
            return_dict=False,
        )
        out = out_BNC[:, -height * width :].transpose(1, 2).reshape(z_BCHW.shape)
        return out.to(z_BCHW)

    def caches(self) -> Iterator[tuple[Any, str]]:
        """For the forwards of one sample: a fresh prefix cache, filled by the first of them."""
        from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

        held = QwenImage21KVCache(int(self.config["num_layers"]))
        yield held, "extract"
        while True:
            yield held, "cached"


FAMILIES: dict[str, tuple[type[MadeQwenImage], Mapping[str, Any]]] = {
    "qwen-image": (MadeQwenImage, PUBLISHED),
    "qwen-image-2.1": (MadeQwenImage21, PUBLISHED_21),
}


def config_of(name: str, *, tiny: bool, layers: int | None = None) -> dict[str, Any]:
    """A family's published shape, or a tiny one, with a number of layers."""
    config = dict(TINY[name] if tiny else FAMILIES[name][1])
    return config | ({} if layers is None else {"num_layers": layers})


def skeleton(family: MadeQwenImage, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network on the device in its precision, its weights not yet drawn.

    Parameters are made in their precision at once: 20 B in float32 fit no card.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            network = family.transformer(family.config)
    finally:
        torch.set_default_dtype(before)
    return network.requires_grad_(False).eval()


@torch.no_grad()
def fill(network: nn.Module) -> nn.Module:
    """Draw the weights, the same on every call; norms stay as made.

    Matrices are N(0, 1 / inputs), so that a layer passes on what it is given at any width: with the
    usual 0.02 a narrow network hardly sees its text, and DMD's gradient, a difference of two
    predictions, is rounding.
    """
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            parameter.normal_(0.0, 0.02)
    return network


def stir(network: nn.Module, spread: float = 1e-3) -> None:
    """Give adapters' B, made zero, small values, so that every factor has a gradient."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("B_OR"):
                drawn = torch.randn(parameter.shape, generator=generator) * spread
                parameter.copy_(drawn.to(parameter))


class DrawnConditions:
    """Texts and sources from each sample's own generator, where training has prompts."""

    def __init__(self, family: MadeQwenImage, tokens: int = PROMPT_TOKENS) -> None:
        self.tokens = tokens
        self.width = int(family.config[family.text_width])
        self.shape = family.latent_shape

    def t2i(self, categories: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions without a source."""
        text = self._normal((self.tokens, self.width), generators)
        return Condition(text, self._normal((self.tokens, self.width), generators))

    def edit(self, edit_types: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions with a source as large as the target."""
        made = self.t2i(edit_types, generators)
        return Condition(made.text_BLD, made.empty_BLD, self._normal(self.shape, generators))

    @staticmethod
    def _normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=g) for g in generators])


def recipe_of(*, pixels: int, task: str, rows: int, tiny: bool) -> Recipe:
    """The base recipe of Qwen-Image (`recipes/qwen-image.yaml`), for one task and some rows."""
    sources = {
        "prompts": {"kind": "files", "path": "none.jsonl", "category": "text"},
        "edits": {"kind": "files", "path": "none.jsonl", "task": "edit"},
    }
    return Recipe.model_validate(
        {
            "family": "qwen-image",
            "model": QwenImage(path="none", pixels=pixels).model_dump(),
            "data": {
                "sources": sources,
                "composition": {"prompts": 1},
                "edit_types": {"edits": 1},
            },
            "tasks": {task: 1},
            "guidance": {"scale": 4.0},
            "student": {"rungs": 4, "shift": 3.0},
            "roles": {
                "kind": "adapters",
                "rank": 4 if tiny else RANK,
                "targets": "attention+mlp",
                "activation_checkpointing": True,
            },
            "objective": {"name": "dmd", "fake_updates": 2 if tiny else 4},
            "train": {"cycles": 100, "batch_size": rows},
        }
    )
