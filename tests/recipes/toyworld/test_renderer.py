"""The renderer: pure, free, exact about what it edits."""

import pytest
import torch

from recipes.toyworld import renderer, sign
from recipes.toyworld.batches import draw_edits, draw_pictures, draw_prompts
from recipes.toyworld.prompts import CATEGORIES, EDIT_TYPES, LETTERS, edit_cases, prompts
from recipes.toyworld.renderer import (
    FREE,
    fingerprint,
    render,
    render_edit,
    render_sources,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_picture_depends_on_its_own_row_only() -> None:
    drawn = draw_prompts(40, _generator())
    free = torch.rand(40, FREE, generator=_generator(1))
    together = render(drawn, free)
    alone = torch.cat([render(drawn[i : i + 1], free[i : i + 1]) for i in range(40)])
    assert torch.equal(together, alone)
    assert together.dtype == torch.float32
    assert together.shape == (40, 3, 24, 24)
    assert together.min() >= -1
    assert together.max() <= 1


@pytest.mark.parametrize("category", CATEGORIES)
def test_free_variables_move_the_picture_and_prompts_too(category: str) -> None:
    pool = prompts(category)
    free = torch.rand(1, FREE, generator=_generator()).expand(len(pool), -1)
    by_prompt = render(pool, free).flatten(1)
    assert len(by_prompt.unique(dim=0)) == len(pool)
    same = render([pool[0]] * 64, torch.rand(64, FREE, generator=_generator()))
    assert same.std(0).mean() > 0.1


def test_letters_never_straddle_a_latent_patch() -> None:
    words = prompts("text")
    index = torch.tensor([renderer.attribute_indices(p) for p in words])
    assert index[:, 1:].max() == len(LETTERS)
    for left in (1, 5):
        for row in (1, 9, 17):
            mask = sign.word_mask(
                index[:, 1:], torch.full((len(words),), left), torch.full((len(words),), row)
            )
            assert not mask[:, :, [0, 4, 8, 12, 16, 20]].any()
            assert not mask[:, [0, 7, 8, 15, 16, 23]].any()
            assert mask.any(2).any(1).all()


@pytest.mark.parametrize("count", [1, 5, 17, 32])
def test_sources_alone_are_those_of_whole_edits(count: int) -> None:
    pool = [case for edit_type in EDIT_TYPES for case in edit_cases(edit_type)]
    picked = torch.randint(len(pool), (count,), generator=_generator(count)).tolist()
    cases = [pool[i] for i in picked]
    free = torch.rand(count, FREE, generator=_generator(1))
    noise = torch.randn(count, 3, 24, 24, generator=_generator(2))
    assert torch.equal(render_sources(cases, free, noise), render_edit(cases, free, noise)[0])


@pytest.mark.parametrize("edit_type", ["scene", "object", "identity", "text"])
def test_the_mask_is_exactly_where_source_and_target_differ(edit_type: str) -> None:
    cases = edit_cases(edit_type)[:64]
    free = torch.rand(len(cases), FREE, generator=_generator())
    noise = torch.randn(len(cases), 3, 24, 24, generator=_generator())
    source, target, mask = render_edit(cases, free, noise)
    assert torch.equal(source, render([c.source for c in cases], free))
    assert torch.equal(target, render([c.target for c in cases], free))
    assert torch.equal(mask, ((source - target).abs().amax(1, keepdim=True) > 1 / 255).float())
    assert mask.flatten(1).any(1).all()
    if edit_type != "scene":
        assert mask.mean() < 0.45


def test_enhance_and_style_edit_the_whole_picture() -> None:
    for edit_type in ("enhance", "style"):
        cases = edit_cases(edit_type)[:48]
        free = torch.rand(len(cases), FREE, generator=_generator())
        source, target, mask = render_edit(cases, free, torch.randn(48, 3, 24, 24))
        clean = render([c.source for c in cases], free)
        assert mask.all()
        assert torch.equal(target if edit_type == "enhance" else source, clean)
        assert (source - target).abs().mean((1, 2, 3)).min() > 0.005


def test_the_fingerprint_changes_when_a_pixel_does(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    fingerprint.cache_clear()
    assert fingerprint() == before
    fingerprint.cache_clear()
    monkeypatch.setitem(sign.FONT, "A", (7, 5, 7, 5, 5, 4))
    try:
        assert fingerprint() != before
    finally:
        fingerprint.cache_clear()


def test_wrong_free_variables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"need \(2, 20\)"):
        render(prompts("text")[:2], torch.rand(2, 5))


def test_batches_follow_their_generator_and_shares() -> None:
    first, images = draw_pictures(64, _generator(7), "train", {"text": 1.0})
    again, images_again = draw_pictures(64, _generator(7), "train", {"text": 1.0})
    assert first == again
    assert torch.equal(images, images_again)
    assert {p.category for p in first} == {"text"}
    cases, *_ = draw_edits(600, _generator(8))
    assert {c.edit_type for c in cases} == set(EDIT_TYPES)
    enhanced = [c for c in cases if c.edit_type == "enhance"]
    assert {c.source.category for c in enhanced} == set(CATEGORIES)
