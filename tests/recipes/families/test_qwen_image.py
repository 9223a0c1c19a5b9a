"""The family against diffusers' own pipelines, on random tiny weights of the real classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageEditPlusPipeline, QwenImagePipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image

from recipes.families.qwen_image import QwenImageFamily, packed, unpacked
from recipes.families.qwen_image_settings import QwenImage
from recipes.guidance.panel import TeacherPanel
from recipes.guidance.settings import Guidance, Panel, Teacher
from recipes.schedule import Rungs

SCHEDULER = {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256,
    "max_image_seq_len": 8192, "time_shift_type": "exponential",
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(family) -> dict:
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        "vae": family.autoencoder,
        "text_encoder": family.text.encoder,
        "tokenizer": family.text.tokenizer,
        "transformer": family.network("teacher"),
    }


def _calls(network) -> list:
    seen = []
    network.register_forward_hook(
        lambda _m, _a, kwargs, out: seen.append((kwargs, out[0])), with_kwargs=True
    )
    return seen


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_text_to_image_is_what_the_pipeline_computes(family, parts):
    pipe = QwenImagePipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    seen = _calls(parts["transformer"])
    z = _noise(1, *family.latent_shape)
    sampled = pipe(
        "a red kite", negative_prompt=" ", true_cfg_scale=2.0, height=32, width=32,
        num_inference_steps=2, latents=packed(z), output_type="latent",
    ).images  # fmt: skip
    (kwargs, v_cond), (_, v_empty) = seen[0], seen[1]
    asked = family.condition(["a red kite"])
    t = kwargs["timestep"]
    ours = family.velocity(parts["transformer"], z, t, asked.text_BLD, None, asked.mask_BL)
    torch.testing.assert_close(packed(ours), v_cond, atol=1e-5, rtol=1e-4)
    ours = family.velocity(parts["transformer"], z, t, asked.empty_BLD, None, asked.empty_mask_BL)
    torch.testing.assert_close(packed(ours), v_empty, atol=1e-5, rtol=1e-4)
    pictures = pipe(
        "a red kite", height=32, width=32, num_inference_steps=1, latents=packed(z),
        true_cfg_scale=1.0, output_type="np",
    ).images  # fmt: skip
    assert sampled.shape == packed(z).shape
    last = seen[-1][1]
    clean = unpacked(packed(z) - last, z.shape)  # one Euler step from 1 to 0
    ours_u8 = family.decode(clean)[0].permute(1, 2, 0).numpy()
    theirs_u8 = np.rint(np.asarray(pictures[0]) * 255)
    assert np.abs(ours_u8 - theirs_u8).max() <= 1


def test_an_edit_is_what_the_pipeline_computes(family, parts, monkeypatch):
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 32 * 32)
    pipe = QwenImageEditPlusPipeline(**parts, processor=family.text.processor)
    pipe.set_progress_bar_config(disable=True)
    seen = _calls(parts["transformer"])
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    z = _noise(1, *family.latent_shape)
    pipe(
        image=[Image.fromarray(pixels)], prompt="make it blue", negative_prompt=" ",
        true_cfg_scale=3.0, height=32, width=32, num_inference_steps=1, latents=packed(z),
        output_type="latent",
    )  # fmt: skip
    source = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    asked = family.condition(["make it blue"], source)
    kwargs = seen[0][0]
    torch.testing.assert_close(
        packed(asked.source_BCHW), kwargs["hidden_states"][:, 4:], atol=1e-5, rtol=1e-4
    )
    pairs = ((asked.text_BLD, asked.mask_BL), (asked.empty_BLD, asked.empty_mask_BL))
    for (text, mask), (_, out) in zip(pairs, list(seen), strict=True):
        ours = family.velocity(
            parts["transformer"], z, kwargs["timestep"], text, asked.source_BCHW, mask
        )
        torch.testing.assert_close(packed(ours), out[:, :4], atol=1e-5, rtol=1e-4)


def test_the_encoder_sees_the_source_only_where_asked(family, weights):
    blind = QwenImageFamily(
        QwenImage(path=str(weights), pixels=32, dtype="float32", sees_source=False)
    )
    one, other = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), -0.5)
    seen = [family.condition(["more"], s).text_BLD for s in (one, other)]
    assert not torch.allclose(*seen)
    unseen = [blind.condition(["more"], s).text_BLD for s in (one, other)]
    assert torch.equal(*unseen)
    assert seen[0].shape[1] > unseen[0].shape[1]


@pytest.mark.parametrize("edit", [False, True])
def test_padding_does_not_matter(family, edit):
    network = family.network("teacher")
    texts = ["a kite", "a very much longer text about a kite over the sea"]
    z, t = _noise(2, *family.latent_shape), torch.tensor([0.4, 0.9])
    source = _noise(2, 3, 32, 32).clamp(-1, 1) if edit else None
    both = family.condition(texts, source)
    assert not both.mask_BL[0].all()
    together = family.velocity(network, z, t, both.text_BLD, both.source_BCHW, both.mask_BL)
    for row in (0, 1):
        alone = family.condition([texts[row]], None if source is None else source[row : row + 1])
        v = family.velocity(
            network, z[row : row + 1], t[row : row + 1], alone.text_BLD, alone.source_BCHW,
            alone.mask_BL,
        )  # fmt: skip
        torch.testing.assert_close(together[row : row + 1], v, atol=1e-4, rtol=1e-3)
    unmasked = family.velocity(network, z, t, both.text_BLD, both.source_BCHW, None)
    assert not torch.allclose(unmasked[0], together[0], atol=1e-4)


def test_guidance_in_one_call_is_guidance_row_by_row(family):
    panel = TeacherPanel.load(family, {"base": Teacher()}, Guidance(scale=3.0), Panel())
    network = panel.members[0][0]
    asked = family.condition(["a kite", "a much longer prompt than the other"])
    z, t = _noise(2, *family.latent_shape), torch.tensor([0.4, 0.9])
    cond = family.velocity(network, z, t, asked.text_BLD, None, asked.mask_BL)
    empty = family.velocity(network, z, t, asked.empty_BLD, None, asked.empty_mask_BL)
    expected = empty + 3.0 * (cond - empty)
    torch.testing.assert_close(panel.velocity(z, t, asked), expected, atol=1e-4, rtol=1e-3)


def test_a_negative_prompt_stands_in_the_empty_ones_place_beside_the_source(settings):
    negative = QwenImageFamily(settings, negative="blurry")
    source = _noise(1, 3, 32, 32).clamp(-1, 1)
    asked = negative.condition(["sharper"], source)
    as_text = negative.condition(["blurry"], source)
    length = int(asked.empty_mask_BL.sum())
    assert length == int(as_text.mask_BL.sum())
    torch.testing.assert_close(
        asked.empty_BLD[0, :length], as_text.text_BLD[0, :length], atol=1e-5, rtol=1e-4
    )
    panel = TeacherPanel.load(
        negative, {"base": Teacher()}, Guidance(scale=2.0, negative="blurry"), Panel()
    )
    assert panel.negative_LD is None  # one embedding for all sources would be wrong


def test_packing_is_undone(family):
    z = _noise(3, 4, 6, 8)
    assert torch.equal(unpacked(packed(z), z.shape), z)
    assert packed(z)[0, 0].tolist() == z[0, :, :2, :2].flatten().tolist()
    with pytest.raises(ValueError, match="2 x 2"):
        packed(_noise(1, 4, 5, 8))


def test_the_dynamic_shift_is_the_schedulers(settings):
    for pixels in (512, 1024, 1328):
        made = settings.model_copy(update={"pixels": pixels // 16 * 16})
        scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULER)
        mu = pipeline_qwenimage_edit_plus.calculate_shift(made.tokens, 256, 8192, 0.5, 0.9)
        scheduler.set_timesteps(sigmas=np.linspace(1, 0.25, 4), mu=mu)
        expected = Rungs(4, made.dynamic_shift).levels
        np.testing.assert_allclose(scheduler.sigmas[:4].numpy(), expected, rtol=1e-6)


def test_missing_weights_are_named_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hf download Qwen/Qwen-Image-Edit-2509"):
        QwenImageFamily(QwenImage(path=str(tmp_path / "nothing")))


def test_unknown_weights_are_refused(family):
    with pytest.raises(ValueError, match="specialist"):
        family.network("specialist")
