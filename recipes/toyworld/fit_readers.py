"""Trains the networks that look at pictures: the oracle and, apart from it, the extractor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, mse_loss

from recipes.toyworld.batches import draw_edits, draw_pictures, draw_prompts, free_variables
from recipes.toyworld.extractor import Extractor
from recipes.toyworld.oracle import DAMAGE, HEADS, STYLES, Oracle
from recipes.toyworld.progress import Progress, cosine
from recipes.toyworld.prompts import ATTRIBUTES, CATEGORIES, LETTER_SLOTS, LETTERS, Prompt
from recipes.toyworld.renderer import attribute_indices, render
from recipes.toyworld.sign import sign
from recipes.toyworld.weights import load, save

ORACLE_STEPS = 2200
EXTRACTOR_STEPS = 2200
BATCH = 128
IGNORE = -100
"""Label of a head that does not apply to a picture (cross entropy skips it)."""


def fit_oracle(folder: Path, steps_scale: float = 1.0) -> Path:
    """Train on all prompt combinations, clean, decoded, damaged, styled and broken; save."""
    torch.manual_seed(41)
    generator = Generator().manual_seed(42)
    autoencoder = load("autoencoder", folder=folder)
    model = Oracle().train()
    steps = max(2, round(ORACLE_STEPS * steps_scale))
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps))
    progress = Progress("oracle", steps)
    for step in range(steps):
        images, labels, amounts = _oracle_batch(autoencoder, generator)
        loss = _oracle_loss(model(images), labels, amounts)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.step(step, loss=loss.detach())
    return save("oracle", model.eval(), folder, recipe=f"{steps} steps of {BATCH}")


def labels_of(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Class indices (B,) by head; `IGNORE` where the head does not apply."""
    rows = {head: torch.full((len(prompts),), IGNORE) for head in HEADS}
    rows["style"].zero_()
    rows["intact"] = torch.tensor([1 if p.category == "text" else IGNORE for p in prompts])
    for i, prompt in enumerate(prompts):
        rows["category"][i] = CATEGORIES.index(prompt.category)
        index = attribute_indices(prompt)
        for name, value in zip(ATTRIBUTES[prompt.category], index, strict=False):
            if name != "word":
                rows[name][i] = value
        if prompt.category == "text":
            for slot in range(LETTER_SLOTS):
                rows[f"letter{slot}"][i] = index[1 + slot]
    return rows


@torch.no_grad()
def _oracle_batch(
    autoencoder: nn.Module, generator: Generator
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Pictures, labels and damage (B, 2): clean, decoded, partly damaged and styled ones."""
    prompts, clean = draw_pictures(BATCH // 2, generator)
    strings, string_labels = _letter_strings(BATCH // 8, generator)
    broken = _broken_signs(BATCH // 8, generator)
    clean = torch.cat([clean, strings, broken])
    again = torch.rand(len(clean), generator=generator) < 0.4
    latents = autoencoder.encode(clean[again])
    noise = torch.rand(len(latents), 1, 1, 1, generator=generator) * 0.25
    latents = latents + noise * torch.randn(latents.shape, generator=generator)
    clean[again] = autoencoder.decode(latents)

    count = BATCH - len(clean)
    shares = {"enhance": 2.0, "style": 1.0}
    cases, source, target = draw_edits(count, generator, shares=shares)
    part = torch.rand(count, generator=generator)
    part[torch.rand(count, generator=generator) < 0.25] = 1.0
    styled = torch.tensor([case.edit_type == "style" for case in cases])
    mixed = target + torch.where(styled, 0.0, part).view(-1, 1, 1, 1) * (source - target)

    parts = [
        labels_of(prompts),
        string_labels,
        {head: torch.full((len(broken),), IGNORE) for head in HEADS}
        | {"intact": torch.zeros(len(broken), dtype=torch.int64)},
        labels_of([case.target for case in cases]),
    ]
    labels = {head: torch.cat([part[head] for part in parts]) for head in HEADS}
    amounts = torch.zeros(BATCH, len(DAMAGE))
    for i, case in enumerate(cases):
        row = len(clean) + i
        if case.edit_type == "style":
            labels["style"][row] = STYLES.index(str(case.operation))
            labels["colour"][row] = labels["skin"][row] = labels["hair"][row] = IGNORE
            labels["time"][row] = labels["ground"][row] = IGNORE
            continue
        amounts[row, DAMAGE.index(str(case.operation))] = part[i]
        if case.operation == "deblur" and part[i] > 0.5:  # the word cannot be read any more
            labels["intact"][row] = IGNORE
            for slot in range(LETTER_SLOTS):
                labels[f"letter{slot}"][row] = IGNORE
    return torch.cat([clean, mixed]), labels, amounts


def _letter_strings(count: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Signs with random letters, so that reading does not lean on the known words."""
    length = torch.randint(1, LETTER_SLOTS + 1, (count, 1), generator=generator)
    letters = torch.randint(len(LETTERS), (count, LETTER_SLOTS), generator=generator)
    letters[torch.arange(LETTER_SLOTS) >= length] = len(LETTERS)
    colour = torch.randint(4, (count, 1), generator=generator)
    images = sign(torch.cat([colour, letters], dim=1), free_variables(count, generator)) * 2 - 1
    labels = {head: torch.full((count,), IGNORE) for head in HEADS}
    labels |= {f"letter{slot}": letters[:, slot] for slot in range(LETTER_SLOTS)}
    ones = torch.ones(count, dtype=torch.int64)
    labels |= {"colour": colour[:, 0], "style": 0 * ones, "intact": ones, "category": 2 * ones}
    return images, labels


def _broken_signs(count: int, generator: Generator) -> Tensor:
    """Signs patched together, patch by latent patch, from two that differ in word or place."""
    made: list[Tensor] = []
    while sum(len(part) for part in made) < count:
        first = draw_prompts(2 * count, generator, shares={"text": 1.0})
        words = draw_prompts(2 * count, generator, shares={"text": 1.0})
        same = (torch.rand(2 * count, generator=generator) < 0.5).tolist()
        second = [
            a if keep else a.with_value("word", b.value("word"))
            for a, b, keep in zip(first, words, same, strict=True)
        ]
        free = free_variables(2 * count, generator)
        moved = free.clone()
        moved[:, 4:6] = torch.rand(2 * count, 2, generator=generator)
        a, b = render(first, free), render(second, moved)
        patches = (torch.rand(2 * count, 1, 3, 3, generator=generator) < 0.5).float()
        mixed = torch.where(nn.functional.interpolate(patches, scale_factor=8) > 0, a, b)
        off = torch.minimum((mixed - a).abs().mean((1, 2, 3)), (mixed - b).abs().mean((1, 2, 3)))
        made.append(mixed[off > 0.04])
    return torch.cat(made)[:count]


def _oracle_loss(out: dict[str, Tensor], labels: dict[str, Tensor], amounts: Tensor) -> Tensor:
    loss = sum(
        cross_entropy(out[head], labels[head], ignore_index=IGNORE, reduction="sum") / BATCH
        for head in HEADS
    )
    damage = torch.stack([out[name] for name in DAMAGE], dim=1)
    return torch.as_tensor(loss + 8.0 * mse_loss(damage, amounts))


def fit_extractor(folder: Path, steps_scale: float = 1.0) -> Path:
    """Train features from a seed and data of their own; the heads are thrown away.

    Local colours, fine detail and the amounts of blur and noise weigh as much as the attributes,
    so that a distance over the features sees soft or grainy pictures that still read well.
    """
    torch.manual_seed(51)
    generator = Generator().manual_seed(52)
    model = Extractor().train()
    heads = nn.Linear(model.num_features, sum(HEADS.values()))
    detail = nn.Linear(model.num_features, DETAILS)
    parameters = [p for m in (model, heads, detail) for p in m.parameters()]
    steps = max(2, round(EXTRACTOR_STEPS * steps_scale))
    optimiser = torch.optim.AdamW(parameters, 2e-3, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps, warmup=100))
    progress = Progress("extractor", steps)
    for step in range(steps):
        prompts, images = draw_pictures(BATCH, generator)
        labels = labels_of(prompts)
        images, amounts = _soften(images, generator)
        features = model.features(images)
        logits = dict(zip(HEADS, heads(features).split(list(HEADS.values()), dim=1), strict=True))
        known = sum(
            cross_entropy(
                logits[head],
                labels[head],
                ignore_index=IGNORE,
                reduction="sum",
                label_smoothing=0.1,  # bounds how far apart two words are
            )
            / BATCH
            for head in HEADS
            if head not in ("style", "intact")
        )
        seen = mse_loss(detail(features), torch.cat([_detail(images), 3 * amounts], dim=1))
        # Unit-scale features, so that no direction dominates a distance by its units.
        unit = (features.std(0) - 1).square().mean() + features.mean(0).square().mean()
        loss = 0.15 * known + 4.0 * seen + 0.1 * unit
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.step(step, loss=loss.detach(), seen=seen.detach())
    return save("extractor", model.eval(), folder, recipe=f"{steps} steps of {BATCH}")


def _soften(images_BCHW: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Blur a third and grain a third of the pictures; returns them and the amounts (B, 2)."""
    count = len(images_BCHW)
    kind = torch.randint(3, (count,), generator=generator)
    amount = torch.rand(count, 1, 1, 1, generator=generator)
    padded = nn.functional.pad(images_BCHW, (1, 1, 1, 1), mode="replicate")
    blurred = avg_pool2d(padded, 3, stride=1)
    blur, grain = amount * (kind == 1).view(-1, 1, 1, 1), amount * (kind == 2).view(-1, 1, 1, 1)
    noise = 0.3 * torch.randn(images_BCHW.shape, generator=generator)
    out = (images_BCHW + blur * (blurred - images_BCHW) + grain * noise).clamp(-1, 1)
    return out, torch.cat([blur, grain], dim=1).flatten(1)


DETAILS = 3 * 36 + 2 * 3 * 9 + 2
"""Regressed by the extractor: local colours, slopes, and the amounts of blur and grain."""


def _detail(images_BCHW: Tensor) -> Tensor:
    """(B, 162): mean colours on a 6 x 6 grid, and log slope energies on a 3 x 3 grid."""
    slopes = [
        nn.functional.pad(images_BCHW.diff(dim=3), (0, 1, 0, 0), mode="replicate"),
        nn.functional.pad(images_BCHW.diff(dim=2), (0, 0, 0, 1), mode="replicate"),
    ]
    energy = [(avg_pool2d(s.square(), 8) + 1e-3).log().flatten(1) / 2 + 2 for s in slopes]
    return torch.cat([2 * avg_pool2d(images_BCHW, 4).flatten(1), *energy], dim=1)
