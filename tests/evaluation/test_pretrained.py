"""Published networks behind the contracts of a world, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evaluation.extractors import check_extractor
from evaluation.pretrained import Inception, OpenClip, weights_at
from evaluation.text_image import clip_cosines

PICTURES = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)


def test_weights_are_checked_by_the_start_of_their_digest(tmp_path: Path):
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    assert weights_at(str(file), "ba7816bf") == file
    with pytest.raises(ValueError, match=r"sha256 ba7816bf.*expected 00000000"):
        weights_at(str(file), "00000000")
    with pytest.raises(FileNotFoundError):
        weights_at(str(tmp_path / "none"))


def test_inception_keeps_the_contract_of_an_extractor(tmp_path: Path, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # Random weights: the published ones are not here, and the contract does not hang on them.
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
    torch.save({}, tmp_path / "inception.pth")
    torch.manual_seed(0)
    check_extractor(Inception(str(tmp_path / "inception.pth")).eval(), 40)


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """Random weights of a tiny CLIP that open_clip knows by name."""
    import open_clip

    (tmp_path / "tiny-stillhouse.json").write_text(
        json.dumps(
            {
                "embed_dim": 8,
                "vision_cfg": {
                    "image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "head_width": 32,
                },
                "text_cfg": {
                    "context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
                },
            }
        )
    )  # fmt: skip
    open_clip.add_model_config(tmp_path / "tiny-stillhouse.json")
    torch.manual_seed(0)
    made = open_clip.create_model("tiny-stillhouse").eval()
    save_file(made.state_dict(), tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def test_clip_embeds_pictures_and_texts_alike(clip_file: Path):
    import open_clip

    clip = OpenClip("tiny-stillhouse", str(clip_file)).eval()
    with torch.no_grad():
        embedded = clip.embed_images(PICTURES)
        assert embedded.shape == (2, 8)
        torch.testing.assert_close(clip.embed_images(PICTURES[1:]), embedded[1:])
        assert clip.embed_texts(["a kite", "the sea"]).shape == (2, 8)
        # As open_clip's own preprocessing does it, up to its rounding to 8 bits after the resize.
        from torchvision.transforms.functional import to_pil_image

        transform = open_clip.image_transform(32, is_train=False)
        own = clip.network.encode_image(torch.stack([transform(to_pil_image(p)) for p in PICTURES]))
    torch.testing.assert_close(embedded, own, atol=0.02, rtol=0.02)


class ForTorchmetrics(nn.Module):
    """Our CLIP as what torchmetrics takes for model and processor; texts are told by number."""

    config = None

    def __init__(self, clip: OpenClip) -> None:
        super().__init__()
        self.clip = clip
        self.texts: list[str] = []

    def __call__(self, images=None, text=None, **_):
        if images is not None:
            return {"pixel_values": torch.stack(images)}
        self.texts = list(text)
        numbers = torch.arange(len(self.texts))
        return {"input_ids": numbers, "attention_mask": torch.ones(len(numbers), 1)}

    def get_image_features(self, pixels):
        return self.clip.embed_images(pixels)

    def get_text_features(self, numbers, mask):
        return self.clip.embed_texts([self.texts[i] for i in numbers])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_clip_score_is_torchmetrics_clip_score_but_for_its_clamp(clip_file: Path, sign: float):
    """100 times the mean cosine; torchmetrics shows a mean below 0 as 0."""
    from torchmetrics.multimodal import CLIPScore

    clip = OpenClip("tiny-stillhouse", str(clip_file)).eval()
    texts = ["a kite over the sea", "a red door"]
    with torch.no_grad():
        whole = clip.embed_images(PICTURES), clip.embed_texts(texts)
        first = 100 * float(clip_cosines(*whole).mean())
        if first * sign < 0:
            clip.network.visual.proj.neg_()  # turns every picture's embedding round
        ours = clip_cosines(clip.embed_images(PICTURES), clip.embed_texts(texts))
        made = ForTorchmetrics(clip)
        metric = CLIPScore(lambda: (made, made))
        theirs = float(metric(PICTURES, texts))
    score = 100 * float(ours.mean())
    assert score * sign > 0.1
    assert theirs == pytest.approx(max(score, 0.0), rel=1e-5)
