"""Published networks behind the contracts of a world, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evaluation.extractors import check_extractor
from evaluation.pretrained import Inception, OpenClip, weights_at

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


def test_clip_embeds_pictures_and_texts_alike(tmp_path: Path):
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
    made = open_clip.create_model("tiny-stillhouse").eval()
    save_file(made.state_dict(), tmp_path / "clip.safetensors")
    clip = OpenClip("tiny-stillhouse", str(tmp_path / "clip.safetensors")).eval()
    with torch.no_grad():
        embedded = clip.embed_images(PICTURES)
        assert embedded.shape == (2, 8)
        torch.testing.assert_close(clip.embed_images(PICTURES[1:]), embedded[1:])
        assert clip.embed_texts(["a kite", "the sea"]).shape == (2, 8)
        # As open_clip's own preprocessing does it, up to its rounding to 8 bits after the resize.
        from torchvision.transforms.functional import to_pil_image

        transform = open_clip.image_transform(32, is_train=False)
        own = made.encode_image(torch.stack([transform(to_pil_image(p)) for p in PICTURES]))
    torch.testing.assert_close(embedded, own, atol=0.02, rtol=0.02)
