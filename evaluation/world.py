"""A world: everything a protocol measures with, loaded once and kept warm between checkpoints.

Its parts come in by import string, and speak in pictures, captions and items only. This file is
the contract they keep.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol as Contract
from typing import cast

import numpy as np
import rfc8785
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from evaluation.extractors import Extractor, extract, load_component, load_extractor
from evaluation.frechet import Gaussian
from evaluation.import_string import resolve
from evaluation.items import Item
from evaluation.kernel import gaussian_rbf, mean_within
from evaluation.matrices import Matrix, feature_matrix, unit_rows
from evaluation.protocol import Protocol


class Clip(Contract):
    """Text-image similarity: two embeddings of one width."""

    def embed_images(self, images_u8_BCHW: Tensor, /) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> embeddings (B, D), any scale."""
        ...

    def embed_texts(self, texts: Sequence[str], /) -> Tensor:
        """B captions -> embeddings (B, D), any scale."""
        ...


class Oracle(Contract):
    """Reads the truth back from pictures."""

    def read(self, images_u8_BCHW: Tensor, items: Sequence[Item], /) -> Mapping[str, ArrayLike]:
        """Pictures of t2i items -> columns of B values in [0, 1]; NaN where one does not apply."""
        ...

    def follow(self, images_u8_BCHW: Tensor, items: Sequence[Item], /) -> ArrayLike:
        """Pictures of edit items -> (B,) in [0, 1]: was the instruction carried out."""
        ...

    def kept(self, images_u8_BCHW: Tensor, items: Sequence[Item], /) -> ArrayLike:
        """Pictures of edit items -> (B,) in [0, 1]: share left alone that still reads as it was.

        NaN where that says nothing. Asked only under `edit_scoring.whole_frame: oracle`.
        """
        ...


EditPictures = Callable[[Sequence[Item]], tuple[Tensor, Tensor, Tensor]]
"""Edit items -> source and true result, uint8 (B, 3, H, W), and edit mask (B, 1, H, W)."""

ReferenceImages = Callable[[str, int], Tensor]
"""(category, count) -> the same uint8 pictures (count, 3, H, W) every time."""

ReferenceCaptions = Callable[[str, int], Sequence[str]]
"""(category, count) -> their captions."""


@dataclass(frozen=True)
class ReferenceSet:
    """Features of the reference pictures of one category, with what distances reuse of them.

    Attributes:
        features_MD: extractor features.
        clip_MD: CLIP embeddings of length 1.
        gaussian: Gaussian fitted to `features_MD`.
        kernel_mean: mean polynomial kernel inside `features_MD`.
        clip_kernel_mean: mean CMMD kernel inside `clip_MD`.
    """

    features_MD: Matrix
    clip_MD: Matrix
    gaussian: Gaussian
    kernel_mean: float
    clip_kernel_mean: float

    @classmethod
    def from_features(cls, features_MD: ArrayLike, clip_MD: ArrayLike) -> ReferenceSet:
        """Precompute what every distance to this set needs."""
        features = feature_matrix(features_MD, "reference features")
        clip = unit_rows(feature_matrix(clip_MD, "reference embeddings"))
        return cls(
            features,
            clip,
            Gaussian.from_features(features),
            mean_within(features),
            mean_within(clip, gaussian_rbf),
        )


@dataclass
class World:
    """What a protocol measures with.

    Attributes:
        items: the item set.
        extractor: features behind the distances.
        clip: text-image similarity.
        reference_images: the pictures that distances are measured to.
        oracle: reads attributes back; needed for edits.
        edit_pictures: source, truth and mask of edit items; needed for edits.
        device: where pictures are put before they reach extractor, clip and oracle.
        cache: folder for reference features, or None.
        cache_key: digest of all that reference features hang on.
        reference_captions: captions of the reference pictures, where they are made of the item
            set's prompts.
    """

    items: tuple[Item, ...]
    extractor: Extractor
    clip: Clip
    reference_images: ReferenceImages
    oracle: Oracle | None = None
    edit_pictures: EditPictures | None = None
    device: str = "cpu"
    cache: Path | None = None
    cache_key: str = ""
    reference_captions: ReferenceCaptions | None = None
    _references: dict[str, ReferenceSet] = field(default_factory=dict, repr=False)

    def reference(self, category: str, count: int) -> ReferenceSet:
        """Reference features of a category: from memory, else the cache folder, else computed."""
        key = f"{category}-{count}"
        if key not in self._references:
            self._references[key] = self._stored_reference(category, count)
        return self._references[key]

    def features(self, images_u8_BCHW: Tensor) -> np.ndarray:
        """Extractor features as float32 (B, D)."""
        return extract(self.extractor, images_u8_BCHW.to(self.device)).numpy()

    def embeddings(self, images_u8_BCHW: Tensor, batch_size: int = 256) -> np.ndarray:
        """CLIP image embeddings as float32 (B, D)."""
        with torch.inference_mode():
            parts = [
                self.clip.embed_images(batch.to(self.device)).float().cpu().numpy()
                for batch in torch.split(images_u8_BCHW, batch_size)
            ]
        return np.concatenate(parts)

    def text_embeddings(self, texts: Sequence[str]) -> np.ndarray:
        """CLIP text embeddings as float32 (B, D)."""
        with torch.inference_mode():
            return self.clip.embed_texts(texts).float().cpu().numpy()

    def _stored_reference(self, category: str, count: int) -> ReferenceSet:
        if self.cache is None or not self.cache_key:
            return ReferenceSet.from_features(*self._computed_reference(category, count))
        name = hashlib.sha256(rfc8785.dumps([self.cache_key, category, count])).hexdigest()[:32]
        path = self.cache / f"reference-{name}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return ReferenceSet.from_features(stored["features"], stored["clip"])
        features, clip = self._computed_reference(category, count)
        self.cache.mkdir(parents=True, exist_ok=True)
        # Several trials may share the folder: a name of our own first, then one rename.
        handle, temporary = tempfile.mkstemp(dir=self.cache, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, features=features, clip=clip)
        Path(temporary).replace(path)
        return ReferenceSet.from_features(features, clip)

    def _computed_reference(self, category: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        images = self.reference_images(category, count)
        if len(images) != count:
            raise ValueError(
                f"asked for {count} reference pictures of {category}, got {len(images)}"
            )
        return self.features(images), self.embeddings(images)


def load_world(protocol: Protocol, *, cache: Path | None = None, device: str = "cpu") -> World:
    """Load what a protocol names.

    Args:
        protocol: the protocol.
        cache: folder where reference features may be kept between processes; used only when the
            protocol can say what they hang on (`digests`).
        device: where the networks run.

    Raises:
        ValueError: an import string, a digest, a probe hash or an item is wrong, or weights are
            missing; the message says which command makes them.
    """
    digests = protocol.load_digests()
    extractor = load_extractor(protocol.extractor, protocol.resolution)
    clip = load_component(protocol.clip)
    oracle = load_component(protocol.oracle) if protocol.oracle else None
    for network in (extractor, clip, oracle):
        if isinstance(network, nn.Module):
            network.eval().to(device)
    content = {
        "digests": digests,
        "extractor": protocol.extractor.model_dump(mode="json"),
        "clip": protocol.clip.model_dump(mode="json"),
        "references": protocol.references.model_dump(mode="json", exclude={"captions"}),
    }
    edit_pictures = resolve(protocol.edit_pictures) if protocol.edit_pictures else None
    if edit_pictures is not None and protocol.items.file is not None:
        edit_pictures = partial(
            edit_pictures, file=protocol.items.file, resolution=protocol.resolution
        )
    if hasattr(oracle, "sources"):  # a judge that compares with the source
        oracle.sources = edit_pictures
    references = resolve(protocol.references.factory)
    if protocol.references.args:
        references = references(**protocol.references.args)
    captions = protocol.references.captions
    return World(
        items=protocol.load_items(),
        extractor=extractor,
        clip=cast(Clip, clip),
        reference_images=references,
        oracle=cast(Oracle, oracle) if oracle is not None else None,
        edit_pictures=edit_pictures,
        device=device,
        cache=cache if digests else None,
        cache_key=hashlib.sha256(rfc8785.dumps(content)).hexdigest() if digests else "",
        reference_captions=resolve(captions) if captions else None,
    )
