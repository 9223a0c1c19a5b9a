"""The shipped weights do what their card says; thresholds are the card's figures with margin."""

from pathlib import Path

import pytest
import torch
from torch import Generator, nn

from evaluation.measure import measure
from evaluation.protocol import load_protocol
from evaluation.sampling import Generate
from evaluation.world import load_world
from recipes.reference_pictures import pictures_of
from recipes.references import teacher_settings
from recipes.sampling import Pictures
from recipes.toyworld import weights
from recipes.toyworld.batches import draw_edits, draw_pictures, edit_pictures
from recipes.toyworld.fit_readers import _broken_signs
from recipes.toyworld.oracle import HEADS, follows, matches
from recipes.toyworld.prompts import CATEGORIES, EDIT_TYPES, Prompt, edit_cases, prompts
from recipes.toyworld.renderer import fingerprint
from tests.recipes.toyworld.euler import sample


@pytest.fixture(scope="module")
def loaded() -> dict[str, nn.Module]:
    return {name: weights.load(name) for name in weights.NAMES}


def _pictures(category: str, count: int = 256) -> tuple[list[Prompt], torch.Tensor]:
    return draw_pictures(count, Generator().manual_seed(1234), "all", {category: 1.0})


def _unit8(images: torch.Tensor) -> torch.Tensor:
    return ((images + 1) * 127.5).round().to(torch.uint8)


def test_all_weights_fit_the_size_limit_and_name_their_renderer() -> None:
    files = [(weights.WEIGHTS / f"{name}.safetensors").read_bytes() for name in weights.NAMES]
    assert sum(map(len, files)) < 12e6
    assert len(set(files)) == len(weights.NAMES)
    card = (weights.WEIGHTS / "README.md").read_text()
    assert fingerprint() in card


@pytest.mark.parametrize(
    ("category", "limit"), [("landscape", 0.006), ("portrait", 0.007), ("text", 0.002)]
)
def test_the_autoencoder_reconstructs(
    loaded: dict[str, nn.Module], category: str, limit: float
) -> None:
    drawn, images = _pictures(category)
    latents = loaded["autoencoder"].encode(images)
    decoded = loaded["autoencoder"].decode(latents)
    assert (decoded - images).square().mean() < limit
    assert 0.8 < latents.std() < 1.2
    found = matches(loaded["oracle"], decoded, drawn)
    assert found.accuracy.mean() > 0.99
    if category == "text":
        assert found.words.mean() > 0.98


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_oracle_reads_every_attribute(loaded: dict[str, nn.Module], category: str) -> None:
    drawn, images = _pictures(category)
    found = matches(loaded["oracle"], images, drawn)
    scores = found.attributes.nanmean(0)
    assert scores[~scores.isnan()].min() > 0.98
    wrong = matches(loaded["oracle"], images, drawn[1:] + drawn[:1])
    assert wrong.accuracy.mean() < 0.6


def test_the_oracle_reads_unknown_strings_and_refuses_broken_signs(
    loaded: dict[str, nn.Module],
) -> None:
    broken = _broken_signs(256, Generator().manual_seed(3))
    whole = _pictures("text")[1]
    intact = {
        name: loaded["oracle"].read(images)["intact"].argmax(1).float().mean()
        for name, images in (("broken", broken), ("whole", whole))
    }
    assert intact["whole"] > 0.98
    assert intact["broken"] < 0.1


@pytest.mark.parametrize("edit_type", EDIT_TYPES)
def test_following_is_one_for_the_truth_and_zero_for_the_source(
    loaded: dict[str, nn.Module], edit_type: str
) -> None:
    cases, source, target = draw_edits(128, Generator().manual_seed(4), "all", {edit_type: 1.0})
    assert follows(loaded["oracle"], target, cases).mean() > 0.97
    assert follows(loaded["oracle"], source, cases).mean() < 0.08


def test_log_probabilities_are_normalised(loaded: dict[str, nn.Module]) -> None:
    reading = loaded["oracle"].read(_pictures("portrait", 16)[1])
    for head, classes in HEADS.items():
        assert reading[head].shape == (16, classes)
        assert torch.allclose(reading[head].exp().sum(1), torch.ones(16), atol=1e-5)
    assert reading["denoise"].shape == (16,)


def test_features_see_hue_blur_grain_and_layout(loaded: dict[str, nn.Module]) -> None:
    """Each damage moves the mean feature by far more than a second draw of the same pictures."""
    g = Generator().manual_seed(5)
    for category in CATEGORIES:
        first = draw_pictures(256, g, shares={category: 1.0})[1]
        second = draw_pictures(256, g, shares={category: 1.0})[1]
        blurred = nn.functional.avg_pool2d(nn.functional.pad(second, (1,) * 4, "replicate"), 3, 1)
        damaged = {
            "blur": blurred,
            "grain": (second + 0.15 * torch.randn(second.shape, generator=g)).clamp(-1, 1),
            "hue": second.roll(1, dims=1),
            "layout": second.flip(2),
        }
        mean = {
            name: loaded["extractor"](_unit8(images)).mean(0)
            for name, images in {"first": first, "second": second, **damaged}.items()
        }
        floor = (mean["second"] - mean["first"]).norm()
        for name in damaged:
            if not (category == "portrait" and name == "hue"):  # hues of a backdrop are free
                assert (mean[name] - mean["first"]).norm() > 2 * floor, (category, name)


@pytest.mark.parametrize(
    ("category", "top1"), [("landscape", 0.96), ("portrait", 0.97), ("text", 0.98)]
)
def test_clip_retrieves_the_caption(
    loaded: dict[str, nn.Module], category: str, top1: float
) -> None:
    """Among all captions of the world; chance is one in 241."""
    pool = [p for c in CATEGORIES for p in prompts(c)]
    drawn, images = _pictures(category)
    scores = (
        loaded["clip"].encode_images(images)
        @ loaded["clip"].encode_captions([p.caption for p in pool]).T
    )
    assert torch.allclose(loaded["clip"].encode_images(images).norm(dim=1), torch.ones(len(drawn)))
    right = [pool[i] == prompt for i, prompt in zip(scores.argmax(1).tolist(), drawn, strict=True)]
    assert sum(right) / len(right) > top1


@pytest.mark.slow
def test_the_teacher_draws_what_it_is_asked(loaded: dict[str, nn.Module]) -> None:
    g = Generator().manual_seed(6)
    for category, least in (("landscape", 0.9), ("portrait", 0.95), ("text", 0.8)):
        wanted = [p for p in prompts(category, "heldout") for _ in range(6)]
        latents = sample(
            loaded["teacher"], loaded["text_encoder"], [p.caption for p in wanted], generator=g
        )
        found = matches(loaded["oracle"], loaded["autoencoder"].decode(latents), wanted)
        assert found.accuracy.mean() > least
        if category == "text":
            assert found.words.mean() > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("edit_type", EDIT_TYPES)
def test_the_teacher_edits(loaded: dict[str, nn.Module], edit_type: str) -> None:
    pool = edit_cases(edit_type, "heldout")
    g = Generator().manual_seed(8)
    cases = [pool[i * 7919 % len(pool)] for i in range(32)]
    source, target, _ = edit_pictures(cases, g)
    latents = sample(
        loaded["teacher"],
        loaded["text_encoder"],
        [case.instruction for case in cases],
        generator=g,
        source_BCHW=loaded["autoencoder"].encode(source),
    )
    edited = loaded["autoencoder"].decode(latents)
    assert follows(loaded["oracle"], edited, cases).mean() > 0.75
    assert (edited - target).square().mean() < 0.1


@pytest.mark.slow
def test_the_specialist_spells_better_than_the_base(loaded: dict[str, nn.Module]) -> None:
    wanted = [p for p in prompts("text") for _ in range(3)]
    words = {}
    for name in ("teacher", "specialist"):
        latents = sample(
            loaded[name],
            loaded["text_encoder"],
            [p.caption for p in wanted],
            generator=Generator().manual_seed(9),
            steps=10,
        )
        decoded = loaded["autoencoder"].decode(latents)
        words[name] = matches(loaded["oracle"], decoded, wanted).words.mean()
    assert words["specialist"] > words["teacher"]


@pytest.mark.slow
def test_the_sign_specialist_is_better_on_signs_and_worse_elsewhere(tmp_path: Path) -> None:
    """On the shipped protocol's own items and noise; margins are half the card's gaps or less."""
    protocol = load_protocol("toyworld-v1")
    world = load_world(protocol, cache=tmp_path)
    base, special = (
        measure(_asked(pictures_of(teacher_settings(2.0, name))), protocol, world).metrics
        for name in ("teacher", "sign_specialist")
    )
    gap = {name: special[name] - base[name] for name in base}
    assert gap["oracle/words"] > 0.04
    assert gap["oracle/letters"] > 0.015
    assert gap["more/fid_landscape"] > 1
    assert gap["more/fid_portrait"] > 0.7
    assert gap["edit/fidelity"] < -0.02


def _asked(pictures: Pictures) -> Generate:
    return lambda b: pictures(b.prompts, b.noise_BCHW, b.source_u8_BCHW, b.further_noise)
