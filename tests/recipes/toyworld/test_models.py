"""The tiny models: shapes, and the calling convention of the generator."""

import pytest
import torch
from diffusers import QwenImageTransformer2DModel

from recipes.toyworld.autoencoder import ToyAutoencoder
from recipes.toyworld.extractor import Extractor
from recipes.toyworld.models import transformer, velocity
from recipes.toyworld.prompts import VOCABULARY, encode
from recipes.toyworld.text_encoder import ToyTextEncoder


@pytest.fixture(scope="module")
def model() -> QwenImageTransformer2DModel:
    torch.manual_seed(0)
    return transformer().eval().requires_grad_(False)


def _inputs(count: int = 3) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    z, source = torch.randn(2, count, 48, 3, 3, generator=g)
    return z, torch.rand(count, generator=g), torch.randn(count, 6, 96, generator=g), source


def test_velocity_keeps_the_shape_and_the_place(model: QwenImageTransformer2DModel) -> None:
    z, t, text, source = _inputs()
    assert velocity(model, z, t, text).shape == z.shape
    out = velocity(model, z, t, text, source)
    packed = torch.cat([z.flatten(2).transpose(1, 2), source.flatten(2).transpose(1, 2)], dim=1)
    (direct,) = model(
        hidden_states=packed,
        encoder_hidden_states=text,
        timestep=t,
        img_shapes=[[(1, 3, 3), (1, 3, 3)]] * 3,
        return_dict=False,
    )
    assert torch.equal(out[:, :, 1, 2], direct[:, 5])
    assert not torch.allclose(out, velocity(model, z, t, text, source.flip(0)), atol=1e-4)


def test_samples_do_not_see_each_other(model: QwenImageTransformer2DModel) -> None:
    z, t, text, source = _inputs()
    together = velocity(model, z, t, text, source)
    alone = velocity(model, z[:1], t[:1], text[:1], source[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_the_text_encoder_tells_slots_apart() -> None:
    torch.manual_seed(0)
    encoder = ToyTextEncoder()
    hidden = encoder(torch.tensor(encode(['a red sign that says "TOYS"', ""])))
    assert hidden.shape == (2, 6, 96)
    padding = encoder(torch.zeros(1, 6, dtype=torch.int64))[0]
    assert len(padding.unique(dim=0)) == 6
    assert encoder.rows.num_embeddings == 6 * len(VOCABULARY)


def test_the_autoencoder_and_transformer_save_as_diffusers_models(
    tmp_path, model: QwenImageTransformer2DModel
) -> None:
    torch.manual_seed(0)
    autoencoder = ToyAutoencoder().eval()
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (2, 48, 3, 3)
    assert autoencoder.decode(latents).shape == images.shape
    autoencoder.save_pretrained(tmp_path / "vae")
    loaded = ToyAutoencoder.from_pretrained(tmp_path / "vae").eval()
    assert torch.equal(loaded.encode(images), latents)
    model.save_pretrained(tmp_path / "transformer")
    z, t, text, _ = _inputs()
    other = QwenImageTransformer2DModel.from_pretrained(tmp_path / "transformer").eval()
    assert torch.equal(velocity(other, z, t, text), velocity(model, z, t, text))


def test_the_extractor_guards_its_input_and_ignores_the_batch() -> None:
    torch.manual_seed(0)
    extractor = Extractor().eval()
    images = torch.randint(0, 256, (5, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        features = extractor(images)
        assert features.shape == (5, extractor.num_features)
        assert torch.allclose(extractor(images[2:3]), features[2:3], atol=1e-5)
    with pytest.raises(ValueError, match="uint8"):
        extractor(images.float())
