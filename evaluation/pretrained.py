"""Published networks as parts of a protocol, from local files: Inception for FID, and CLIP.

Nothing is fetched: a missing file raises `FileNotFoundError`, and the protocol names the command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.filed import place


class Inception(nn.Module):
    """The FID network of 2015 with its own resize, through torch-fidelity: 2048 features."""

    num_features = 2048

    def __init__(self, path: str, sha256: str | None = None) -> None:
        """Load weights; `sha256` is the start of the file's digest, compared where given."""
        super().__init__()
        from torch_fidelity import feature_extractor_inceptionv3 as published  # type: ignore[import-untyped]

        file = weights_at(path, sha256)
        # Not torchmetrics' wrapper, which antialiases by default since 1.8, as the network's own
        # resize does not.
        self.network = published.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file)
        )

    def forward(self, images_u8_NCHW: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> float32 (N, 2048)."""
        (features,) = self.network(images_u8_NCHW)
        return features.float()  # type: ignore[no-any-return]


class OpenClip(nn.Module):
    """Text-image similarity with a published CLIP, through open_clip."""

    def __init__(self, model: str, path: str, sha256: str | None = None) -> None:
        """Load `model` (open_clip's name) from a local file of weights."""
        super().__init__()
        import open_clip

        file = weights_at(path, sha256)
        # From a file open_clip does not know with which activation the weights were trained:
        # OpenAI's need a model that ends in `-quickgelu`, or they score otherwise without a word.
        self.network: Any = open_clip.create_model(model, pretrained=str(file)).eval()
        self.tokenizer: Any = open_clip.get_tokenizer(model)
        config = open_clip.get_model_preprocess_cfg(self.network)
        self.side = int(self.network.visual.image_size[0])
        self.register_buffer("mean_C11", torch.tensor(config["mean"]).view(-1, 1, 1))
        self.register_buffer("std_C11", torch.tensor(config["std"]).view(-1, 1, 1))

    def embed_images(self, images_u8_BCHW: Tensor) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> embeddings (B, D); bicubic to the network's size."""
        size = (self.side, self.side)
        resized = nn.functional.interpolate(
            images_u8_BCHW.float() / 255, size=size, mode="bicubic", antialias=True
        ).clamp(0, 1)
        normal = (resized - self.get_buffer("mean_C11")) / self.get_buffer("std_C11")
        embedded: Tensor = self.network.encode_image(normal)
        return embedded

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """B captions -> embeddings (B, D)."""
        tokens = self.tokenizer(list(texts)).to(self.get_buffer("mean_C11").device)
        embedded: Tensor = self.network.encode_text(tokens)
        return embedded


def weights_at(path: str, sha256: str | None = None) -> Path:
    """A file of weights, checked.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: its digest starts otherwise.
    """
    file = place(path)
    if not file.exists():
        raise FileNotFoundError(f"no weights at {file}")
    if sha256 is not None:
        with file.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if not found.startswith(sha256):
            raise ValueError(f"{file} has sha256 {found[:16]}..., expected {sha256}...")
    return file
