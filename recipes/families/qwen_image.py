"""Qwen-Image as a model family: text-to-image and edits with diffusers' own classes.

Latents are normalised and cut into 2 x 2 patches, sources are appended as further tokens and the
output is cut to the target's, as QwenImagePipeline and QwenImageEditPlusPipeline do (golden tests).
Networks live on `device`; latents are small and stay where the loop has them.
Legend: B batch, C channels, H height, W width, N tokens, L text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recipes.families.base import Condition
from recipes.families.qwen_image_files import folder_of, refuse_missing
from recipes.families.qwen_image_settings import QwenImage
from recipes.families.qwen_image_student import export, load
from recipes.families.qwen_image_text import QwenImageText

if TYPE_CHECKING:
    from recipes.recipe import Recipe

EMPTY = " "
"""What the model's authors put in the place of the empty prompt."""


class QwenImageFamily:
    """Networks, text and latents of local weights in diffusers' layout."""

    edits = True

    def __init__(
        self, settings: QwenImage, *, negative: str = "", edits: bool = True, device: str = "cpu"
    ) -> None:
        """Load what is frozen: autoencoder and text encoder.

        Args:
            settings: where the weights lie, picture size, precision.
            negative: text in the place of the empty prompt; read beside each source for edits.
            edits: whether edits will be asked for, which may need the processor of pictures.
            device: where the networks run.

        Raises:
            FileNotFoundError: a part is missing; the message has the command that fetches it.
            ValueError: the picture size does not fit the autoencoder.
        """
        from diffusers import AutoencoderKLQwenImage

        refuse_missing(settings, edits=edits)
        self.settings = settings
        self.negative = negative
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, settings.dtype)
        home = folder_of(settings.path)
        autoencoder = AutoencoderKLQwenImage.from_pretrained(
            home / "vae", torch_dtype=self.dtype, local_files_only=True
        )
        self.autoencoder = autoencoder.requires_grad_(False).eval().to(self.device)
        self.text = QwenImageText(settings, home, self.dtype, self.device, sees=edits)
        self.pixels = settings.pixels
        shrink = 2 ** len(autoencoder.temperal_downsample)
        if settings.pixels % (2 * shrink):
            raise ValueError(
                f"model.pixels={settings.pixels} must be a multiple of {2 * shrink}: the "
                f"autoencoder shrinks by {shrink}, and tokens are 2 x 2 latents"
            )
        side = settings.pixels // shrink
        self.latent_shape = (int(autoencoder.config.z_dim), side, side)

    def network(self, weights: str) -> nn.Module:
        """A fresh transformer of named weights, frozen, on the device.

        Raises:
            ValueError: the weights have no folder in the settings.
        """
        from diffusers import QwenImageTransformer2DModel

        named = {"teacher": f"{self.settings.path}/transformer", **self.settings.weights}
        if weights not in named:
            raise ValueError(f"weights {weights!r} are none of {sorted(named)}; see model.weights")
        network = QwenImageTransformer2DModel.from_pretrained(
            folder_of(named[weights]), torch_dtype=self.dtype, local_files_only=True
        )
        moved: nn.Module = network.requires_grad_(False).eval().to(self.device)
        return moved

    def velocity(
        self,
        network: nn.Module,
        z_BCHW: Tensor,
        t_B: Tensor,
        text_BLD: Tensor,
        source_BCHW: Tensor | None,
        mask_BL: Tensor | None = None,
    ) -> Tensor:
        """Predicted velocity eps - x, (B, C, H, W), in the precision and place of `z_BCHW`."""
        tokens_BNC = packed(z_BCHW)
        count = tokens_BNC.shape[1]
        grid = (1, z_BCHW.shape[2] // 2, z_BCHW.shape[3] // 2)
        shapes = [grid]
        if source_BCHW is not None:
            tokens_BNC = torch.cat([tokens_BNC, packed(source_BCHW).to(tokens_BNC)], dim=1)
            shapes = [grid, (1, source_BCHW.shape[2] // 2, source_BCHW.shape[3] // 2)]
        if mask_BL is not None and bool(mask_BL.all()):
            mask_BL = None  # as the pipelines do: attention without a mask takes the fast path
        (out_BNC,) = network(
            hidden_states=self._there(tokens_BNC),
            encoder_hidden_states=self._there(text_BLD),
            encoder_hidden_states_mask=None if mask_BL is None else mask_BL.to(self.device),
            timestep=self._there(t_B),
            img_shapes=[shapes] * len(t_B),
            return_dict=False,
        )
        # Latents go back to the loop's place, the CPU, so that draws are bit-equal across devices.
        # The price is a copy of some MB a forward.
        return unpacked(out_BNC[:, :count], z_BCHW.shape).to(z_BCHW)

    @torch.no_grad()
    def condition(self, texts: Sequence[str], source_BCHW: Tensor | None = None) -> Condition:
        """Condition of prompts or instructions and, for edits, source pictures in [-1, 1].

        Text and empty prompt are padded to one length, with masks.
        """
        # An edit's encoder reads the source beside the text, so the empty prompt is embedded with
        # it too.
        # One call for both, so that they are padded alike.
        seen = None if source_BCHW is None else torch.cat([source_BCHW, source_BCHW])
        empty = [self.negative or EMPTY] * len(texts)
        text_BLD, mask_BL = self.text([*texts, *empty], seen)
        count = len(texts)
        return Condition(
            text_BLD[:count],
            text_BLD[count:],
            None if source_BCHW is None else self.encode(source_BCHW),
            mask_BL=mask_BL[:count],
            empty_mask_BL=mask_BL[count:],
        )

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Pictures in [-1, 1] to normalised latents (B, C, H, W), float32: the posterior's mode."""
        pictures = self._there(images_BCHW).unsqueeze(2)  # a video of one frame
        latents = self.autoencoder.encode(pictures).latent_dist.mode()[:, :, 0].float()
        mean, std = self._scale()
        return ((latents - mean) / std).cpu()

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Normalised latents to pictures (B, 3, H, W) uint8, one at a time to save memory."""
        mean, std = self._scale()
        pictures = []
        for row in latents_BCHW.float().to(self.device).split(1):
            latents = (row * std + mean).to(self.dtype).unsqueeze(2)
            pictures.append(self.autoencoder.decode(latents, return_dict=False)[0][:, :, 0])
        images = torch.cat(pictures).float()
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    def labels(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Empty: a free text does not tell its category."""
        return ("",) * len(texts)

    def export(self, network: nn.Module, recipe: Recipe, folder: Path, cycles: int) -> str:
        """Write a student's folder inside `folder`: its adapters, or a whole transformer."""
        return export(network, recipe, folder, cycles)

    def load(
        self, folder: Path, settings: Mapping[str, Any] | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Network in eval mode, on the device, and card of a folder that `export` wrote.

        Raises:
            ValueError: settings are given; such a folder says everything itself.
        """
        if settings:
            raise ValueError(f"{folder}: settings {sorted(settings)} are for toy-world students")
        return load(folder, self)

    def _scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, (1, C, 1, 1) float32."""
        config: Any = self.autoencoder.config
        mean, std = (
            torch.tensor(given, device=self.device).view(1, -1, 1, 1)
            for given in (config.latents_mean, config.latents_std)
        )
        return mean, std

    def _there(self, given: Tensor) -> Tensor:
        return given.to(self.device, self.dtype)


def packed(latents_BCHW: Tensor) -> Tensor:
    """2 x 2 patches as tokens, row by row: (B, H W / 4, 4 C), a token's values channel by channel.

    Raises:
        ValueError: an odd side.
    """
    batch, channels, height, width = latents_BCHW.shape
    if height % 2 or width % 2:
        raise ValueError(f"latents of {height} x {width} cannot be cut into 2 x 2 patches")
    patches = latents_BCHW.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpacked(tokens_BNC: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `packed`, to latents of shape (B, C, H, W)."""
    batch, channels, height, width = shape
    patches = tokens_BNC.reshape(batch, height // 2, width // 2, channels, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


def opened(
    model: Mapping[str, Any] | None, *, negative: str, edits: bool, device: str
) -> QwenImageFamily:
    """The family as `registry` asks for it."""
    settings = QwenImage.model_validate(model)
    return shared(settings.model_dump_json(), negative, edits, device)


@cache
def shared(settings: str, negative: str, edits: bool, device: str) -> QwenImageFamily:
    """The family of some settings (as JSON), loaded once a process."""
    return QwenImageFamily(
        QwenImage.model_validate_json(settings), negative=negative, edits=edits, device=device
    )
