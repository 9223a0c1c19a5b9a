"""The toy world as a protocol sees it: items, references, oracle, CLIP and extractor.

`items` and `digests` import no torch, so that a protocol's fingerprint stays cheap.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.toyworld.item_cases import case_of
from recipes.toyworld.prompts import EditCase, Prompt, edit_cases, prompts

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

MEASURING = ("extractor", "clip", "oracle")


def items(t2i: Mapping[str, int], edit: Mapping[str, int]) -> list[dict[str, Any]]:
    """Held-out prompts and edit cases, as fields of `evaluation.items.Item`.

    Prompts are taken in turn, so every held-out one comes as often as counts allow; edit cases are
    taken in hash order, so that a small count still covers categories and operations.
    """
    made = []
    for category, count in t2i.items():
        pool = prompts(category, "heldout")
        for i in range(count):
            prompt = pool[i % len(pool)]
            made.append(
                {
                    "item_id": f"t2i-{category}-{i:04d}",
                    "task": "t2i",
                    "category": category,
                    "prompt": prompt.caption,
                    "detail": {"prompt": _plain(prompt)},
                }
            )
    for edit_type, count in edit.items():
        pool = _hash_order(edit_type)
        for i in range(count):
            case = pool[i % len(pool)]
            made.append(
                {
                    "item_id": f"edit-{edit_type}-{i:04d}",
                    "task": "edit",
                    "category": edit_type,
                    "prompt": case.instruction,
                    "source_caption": case.source.caption,
                    "target_caption": case.target.caption,
                    "detail": {
                        "source": _plain(case.source),
                        "target": _plain(case.target),
                        "operation": case.operation,
                    },
                }
            )
    return made


@cache
def _hash_order(edit_type: str) -> tuple[EditCase, ...]:
    def place(case: EditCase) -> bytes:
        text = f"{case.source.caption}|{case.instruction}"
        return hashlib.sha256(text.encode()).digest()

    return tuple(sorted(edit_cases(edit_type, "heldout"), key=place))


def _plain(prompt: Prompt) -> list[Any]:
    return [prompt.category, *prompt.attributes]


def reference_captions(category: str, count: int) -> list[str]:
    """Captions of `reference_images`."""
    pool = prompts(category, "heldout")
    return [pool[i % len(pool)].caption for i in range(count)]


def digests() -> dict[str, str]:
    """Sha256 of the measuring weights, and the renderer they were trained on; imports no torch."""
    folder = Path(__file__).parent / "weights"
    found = {name: file_digest(folder / f"{name}.safetensors") for name in MEASURING}
    found["renderer"] = renderer_of(folder / "oracle.safetensors")
    return found


def file_digest(path: Path) -> str:
    """Sha256 of a file, computed once per modification.

    Raises:
        ValueError: the file is missing; says which command makes it.
    """
    if not path.is_file():
        how = shlex.join([sys.executable, "-m", "recipes.toyworld.train", path.stem])
        raise ValueError(f"{path} is missing; run: {how}")
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _digest(path: Path, _mtime: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def renderer_of(path: Path) -> str:
    """Renderer fingerprint in a safetensors header (8 bytes of length, then JSON)."""
    with path.open("rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return str(header.get("__metadata__", {}).get("renderer", ""))


# ---- from here on torch is imported, inside the functions


def _generator(name: str) -> Generator:
    import torch

    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
    return torch.Generator().manual_seed(seed)


def _u8(images_BCHW: Tensor) -> Tensor:
    import torch

    return ((images_BCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def edit_pictures(items: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Source and truth, uint8 (B, 3, 24, 24), and mask (B, 1, 24, 24), by item id."""
    import torch

    from recipes.toyworld.renderer import FREE, SIZE, render_edit

    generators = [_generator(f"edit/{item.item_id}") for item in items]
    free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
    noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generators])
    source, truth, mask = render_edit([case_of(item) for item in items], free, noise)
    return _u8(source), _u8(truth), mask


def reference_images(category: str, count: int) -> Tensor:
    """Renderings of the held-out prompts, each as often; uint8 (count, 3, 24, 24)."""
    import torch

    from recipes.toyworld.renderer import FREE, render

    pool = prompts(category, "heldout")
    free = torch.rand(count, FREE, generator=_generator(f"reference/{category}"))
    return _u8(render([pool[i % len(pool)] for i in range(count)], free))


def extractor() -> nn.Module:
    """Features behind the distances."""
    from recipes.toyworld.weights import load

    return load("extractor")


def clip() -> nn.Module:
    """Text-image similarity."""
    from recipes.toyworld.readers import ClipReader

    return ClipReader()


def oracle() -> nn.Module:
    """Reads the truth back."""
    from recipes.toyworld.readers import OracleReader

    return OracleReader()
