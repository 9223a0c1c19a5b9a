"""Feature extractors: the contract, its checks, a probe hash, and a random projection for tests.

An extractor is an `nn.Module` in eval mode with `num_features: int` and
`forward(images_u8 (N, 3, H, W) uint8) -> (N, num_features) float32`. It owns its resize and its
normalisation, and its output for a picture does not depend on the rest of the batch. Nothing here
downloads: a factory whose weights are missing raises, and the error names the command to run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.import_string import resolve

if TYPE_CHECKING:
    from evaluation.protocol_parts import Component

PROBE_PICTURES = 4
PROBE_VALUES = 16


@runtime_checkable
class Extractor(Protocol):
    """What every distance needs of an extractor; also what torchmetrics accepts as `feature`."""

    num_features: int

    def __call__(self, images_u8_NCHW: Tensor, /) -> Tensor:
        """Map uint8 pictures (N, 3, H, W) to float32 features (N, num_features)."""
        ...


class RandomProjection(nn.Module):
    """Seeded random projection of the 8x8 area-pooled picture: an extractor without weights files.

    Identical sets have distance 0, and the response to blur and noise is monotone.
    """

    projection_PD: Tensor

    def __init__(self, num_features: int = 16, seed: int = 0) -> None:
        """Draw the projection, N(0, 1/192) entries, from a generator of its own."""
        super().__init__()
        self.num_features = num_features
        pixels = 3 * 8 * 8
        generator = torch.Generator().manual_seed(seed)
        projection = torch.randn(pixels, num_features, generator=generator) / pixels**0.5
        self.register_buffer("projection_PD", projection)
        self.eval()

    def forward(self, images_u8_NCHW: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> float32 (N, num_features)."""
        pooled = nn.functional.adaptive_avg_pool2d(images_u8_NCHW.float() / 127.5 - 1.0, 8)
        return pooled.flatten(1) @ self.projection_PD


def load_component(component: Component) -> object:
    """Build what a protocol names: its factory, called with its arguments.

    Raises:
        ValueError: the import string is wrong, or files are missing; the message then ends with
            the command that fetches or makes them, where the protocol knows one.
    """
    factory = resolve(component.factory)
    try:
        return factory(**component.args)
    except FileNotFoundError as error:
        fetch = f"; run: {component.fetching}" if component.fetch else ""
        raise ValueError(
            f"{component.factory}: {error} (nothing is downloaded here){fetch}"
        ) from error


def load_extractor(component: Component, resolution: int) -> Extractor:
    """Load an extractor, check that it keeps its contract, and compare its probe hash.

    Raises:
        ValueError: the contract is broken, or the probe hash is not the protocol's.
    """
    extractor = component_as_extractor(load_component(component), component.factory)
    check_extractor(extractor, resolution)
    if component.probe is not None:
        found = probe_hash(extractor, resolution)
        if found != component.probe:
            raise ValueError(
                f"{component.factory}: probe hash {found} is not the protocol's {component.probe}; "
                "weights, resize or pooling changed. Use the weights the protocol was written for, "
                "or write a new protocol version"
            )
    return extractor


def component_as_extractor(candidate: object, name: str) -> Extractor:
    """Return the candidate if it looks like an extractor, put into eval mode.

    Raises:
        ValueError: not callable, or without a positive integer `num_features`.
    """
    num_features = getattr(candidate, "num_features", None)
    if not callable(candidate) or not isinstance(num_features, int) or num_features < 1:
        raise ValueError(
            f"{name} gave {type(candidate).__name__} with {num_features=}; an extractor is a "
            "module with num_features: int and forward(uint8 pictures) -> float32 features"
        )
    if isinstance(candidate, nn.Module):
        candidate.eval()
    return cast(Extractor, candidate)


def extract(extractor: Extractor, images_u8_NCHW: Tensor, batch_size: int = 256) -> Tensor:
    """Features of uint8 pictures, in batches, without gradients; float32 (N, D) on the CPU.

    Raises:
        ValueError: the pictures are not uint8 (N, 3, H, W), or the output breaks the contract.
    """
    if images_u8_NCHW.dtype != torch.uint8 or images_u8_NCHW.ndim != 4:
        raise ValueError(
            f"pictures are {images_u8_NCHW.dtype} {tuple(images_u8_NCHW.shape)}; extractors take "
            "uint8 (batch, 3, height, width): floats of unknown range give wrong features silently"
        )
    parts = []
    with torch.inference_mode():
        for batch in torch.split(images_u8_NCHW, batch_size):
            features = extractor(batch)
            if features.shape != (len(batch), extractor.num_features):
                raise ValueError(
                    f"the extractor gave {tuple(features.shape)} for {len(batch)} pictures; "
                    f"expected {(len(batch), extractor.num_features)}"
                )
            if features.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"the extractor gave {features.dtype}; float32 or float64 is needed, half "
                    "precision leaves distances three digits"
                )
            parts.append(features.float().cpu())
    return torch.cat(parts) if parts else torch.empty(0, extractor.num_features)


def probe_pictures(resolution: int) -> Tensor:
    """Four fixed synthetic pictures, uint8 (4, 3, R, R): flat, gradient, checks, integer noise."""
    row = torch.arange(resolution).view(-1, 1).expand(resolution, resolution)
    column = row.T
    ramp = 255 // max(resolution - 1, 1)
    flat = torch.tensor([200, 90, 30]).view(3, 1, 1).expand(3, resolution, resolution)
    gradient = torch.stack([row * ramp, column * ramp, (row + column) * ramp // 2])
    checks = (((row // 2 + column // 2) % 2) * 255).expand(3, -1, -1)
    index = torch.arange(3 * resolution * resolution).view(3, resolution, resolution)
    # A linear congruence in integers: the same on every machine and in every version.
    noise = (index * 1_103_515_245 + 12_345) % 2_147_483_648 // 65_536 % 256
    return torch.stack([flat, gradient, checks, noise]).to(torch.uint8)


def probe_hash(extractor: Extractor, resolution: int) -> str:
    """Short sha256 of the rounded outputs on the probe pictures: catches a changed extractor.

    The outputs are projected on 16 fixed sign patterns and rounded to 2 % of their root mean
    square, far above float32 noise between machines; even so one value in some thousands may fall
    on an edge, so a mismatch means "look", and a match means "the same".
    """
    features = extract(extractor, probe_pictures(resolution)).double().numpy()
    signs = np.random.Generator(np.random.PCG64(0)).integers(
        0, 2, size=(features.shape[1], PROBE_VALUES)
    )
    values = features @ (2.0 * signs - 1.0)
    step = 0.02 * float(np.sqrt((values**2).mean()))
    rounded = np.rint(values / step if step > 0 else values).astype("<i4")
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]


def check_extractor(extractor: Extractor, resolution: int) -> None:
    """Raise ValueError unless shape, dtype and batch-size independence hold on the probe pictures.

    Independence is up to float32 rounding: 1e-4 of the root mean square of the features.
    """
    pictures = probe_pictures(resolution)
    together = extract(extractor, pictures, batch_size=PROBE_PICTURES)
    alone = extract(extractor, pictures, batch_size=1)
    if not torch.isfinite(together).all():
        raise ValueError("the extractor gives NaN or infinity on the probe pictures")
    allowed = 1e-4 * float(together.double().pow(2).mean().sqrt()) + 1e-12
    difference = float((together - alone).abs().max())
    if difference > allowed:
        raise ValueError(
            f"the extractor's features move by {difference:.3g} with the batch size (allowed "
            f"{allowed:.3g}); is it in eval mode, without batch statistics?"
        )
