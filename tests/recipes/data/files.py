"""Data on disk as users have it, made from the toy world's own captions and pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from PIL import Image

from recipes.toyworld.prompts import EditCase, edit_cases
from recipes.toyworld.renderer import FREE, SIZE, render_edit


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rendered(edit_type: str, count: int) -> tuple[list[EditCase], list[list[Image.Image]]]:
    """Training cases, and source, target and mask pictures of each."""
    cases = list(edit_cases(edit_type, "train")[:count])
    generator = torch.Generator().manual_seed(0)
    free = torch.rand(count, FREE, generator=generator)
    parts = render_edit(cases, free, torch.randn(count, 3, SIZE, SIZE, generator=generator))
    source, target = (((p + 1) * 127.5).round().to(torch.uint8) for p in parts[:2])
    mask = (parts[2] * 255).to(torch.uint8).expand(-1, 3, -1, -1)
    pictures = [
        [
            Image.fromarray(np.ascontiguousarray(p[i].numpy().transpose(1, 2, 0)))
            for i in range(count)
        ]
        for p in (source, target, mask)
    ]
    return cases, [list(row) for row in zip(*pictures, strict=True)]


def magicbrush_parquet(path: Path, edit_type: str, count: int) -> list[np.ndarray]:
    """A parquet file with MagicBrush's columns, pictures inside; returns the sources."""
    cases, pictures = rendered(edit_type, count)
    rows = {
        "img_id": [str(100 + i) for i in range(count)],
        "turn_index": [1] * count,
        "instruction": [case.instruction for case in cases],
        **{
            name: [
                {"bytes": png(row[place]), "path": f"{name}-{i}.png"}
                for i, row in enumerate(pictures)
            ]
            for place, name in enumerate(("source_img", "target_img", "mask_img"))
        },
    }
    pa.parquet.write_table(pa.table(rows), path)
    return [np.array(row[0]) for row in pictures]


def image_folder(folder: Path, edit_type: str, count: int) -> list[np.ndarray]:
    """An image folder with metadata.jsonl, as `datasets` reads it; returns the sources."""
    cases, pictures = rendered(edit_type, count)
    folder.mkdir(parents=True)
    rows = []
    for i, (case, (source, target, _)) in enumerate(zip(cases, pictures, strict=True)):
        source.save(folder / f"{i}-before.png")
        target.save(folder / f"{i}-after.png")
        rows.append(
            {
                "source_file_name": f"{i}-before.png",
                "target_file_name": f"{i}-after.png",
                "instruction": case.instruction,
            }
        )
    write_jsonl(folder / "metadata.jsonl", rows)
    return [np.array(row[0]) for row in pictures]


def png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, format="PNG")
    return held.getvalue()
