"""Part 6: reference features of 2,048 pictures, and pictures as they are measured: time and peak.

An Inception-sized extractor (torchvision's class, random weights, 2,048 features) and CLIP's class
(ViT-L-14), through the world a protocol measures with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evaluation.world import World
from gpu_parts.setup import GB, Log, Setup

COUNT, PIXELS, BATCH = 2048, 1024, 4


class InceptionSized(nn.Module):
    """torchvision's Inception v3 without weights, behind the contract of extractors."""

    num_features = 2048

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import Inception3

        self.network = Inception3(init_weights=False, aux_logits=False)
        self.network.fc = nn.Identity()
        self.eval()

    def forward(self, images_u8_NCHW: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> float32 (N, 2048), resized to 299 px as the FID network does."""
        resized = nn.functional.interpolate(
            images_u8_NCHW.float() / 127.5 - 1, size=(299, 299), mode="bilinear"
        )
        features: Tensor = self.network(resized)
        return features


class ClipSized(nn.Module):
    """open_clip's ViT-L-14 without weights."""

    def __init__(self, model: str) -> None:
        super().__init__()
        import open_clip

        self.network = open_clip.create_model(model, pretrained=None).eval()
        self.side = int(self.network.visual.image_size[0])

    def embed_images(self, images_u8_BCHW: Tensor) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> embeddings (B, D)."""
        resized = nn.functional.interpolate(
            images_u8_BCHW.float() / 255, size=(self.side,) * 2, mode="bicubic", antialias=True
        )
        embedded: Tensor = self.network.encode_image(resized.clamp(0, 1))
        return embedded

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Refused: only pictures are embedded here."""
        raise NotImplementedError


def pictures(count: int, pixels: int) -> Tensor:
    """Noise, the same eight pictures again and again: what is measured is time and memory."""
    generator = torch.Generator().manual_seed(0)
    shape = (min(count, 8), 3, pixels, pixels)
    few = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return few.repeat(-(-count // len(few)), 1, 1, 1)[:count]


def measure(setup: Setup, log: Log) -> None:
    """References of one category, then one batch of a student's pictures."""
    count, pixels = (4, 64) if setup.tiny else (COUNT, PIXELS)
    images = pictures(count, pixels)
    world = World(
        items=(),
        extractor=InceptionSized().to(setup.device),
        clip=ClipSized("ViT-S-32-alt" if setup.tiny else "ViT-L-14").to(setup.device),
        reference_images=lambda _category, _count: images,
        device=setup.device,
    )
    held = setup.held
    log.row("extractor and CLIP on the device", held / GB, "GB")
    for what, embed in (("features", world.features), ("embeddings", world.embeddings)):
        setup.fresh_peak()
        seconds = setup.seconds(lambda embed=embed: embed(images))  # type: ignore[misc]
        log.row(f"{what} of {count} references, {pixels} px", seconds, "s")
        log.row("peak of that, beside the networks", (setup.peak - held) / GB, "GB")
    batch = images[:BATCH]
    setup.fresh_peak()
    seconds = setup.median(lambda: (world.features(batch), world.embeddings(batch)), times=3)
    log.row(f"features and embeddings of {BATCH} pictures", seconds, "s")
    log.row("peak of that, beside the networks", (setup.peak - held) / GB, "GB")
    if setup.left > 30 or setup.tiny:
        seconds = setup.seconds(lambda: world.reference("any", count))
        log.row("a whole reference set, distances' statistics included", seconds, "s")
