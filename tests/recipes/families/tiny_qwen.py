"""Random, tiny weights of the real Qwen-Image classes, in a folder as diffusers keeps them."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel

WIDTH, TEXT_WIDTH = 32, 32
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
TRANSFORMER = {
    "patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 2,
    "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": TEXT_WIDTH,
    "axes_dims_rope": (4, 6, 6),
}  # fmt: skip


def write(home: Path, seed: int = 0) -> Path:
    """Write transformer, vae, text_encoder, tokenizer and processor; returns the folder."""
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

    torch.manual_seed(seed)
    transformer = QwenImageTransformer2DModel(**TRANSFORMER)
    with torch.no_grad():  # fresh ones are too flat to tell right from wrong
        for p in transformer.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    transformer.save_pretrained(home / "transformer")
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.1, 2.0],
    )  # fmt: skip
    autoencoder.save_pretrained(home / "vae")
    tokens = _tokenizer(home)
    _text_encoder(tokens).save_pretrained(home / "text_encoder")
    return home


def _tokenizer(home: Path):
    from transformers import (
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    vocabulary = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary |= {name: len(vocabulary) + i for i, name in enumerate(SPECIAL)}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    made.save_pretrained(home / "tokenizer")
    Qwen2VLProcessor(
        Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56), made,
        Qwen2VLVideoProcessor(),
    ).save_pretrained(home / "processor")  # fmt: skip
    return made


def _text_encoder(tokens):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokens), "hidden_size": TEXT_WIDTH, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4,
            },
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": TEXT_WIDTH, "fullatt_block_indexes": [0], "window_size": 56,
        },
        image_token_id=tokens.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval()
