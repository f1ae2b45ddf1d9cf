"""Scaled-down pipelines of large bases, random, in folders as diffusers writes them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, Flux2Transformer2DModel, SD3Transformer2DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

_VAE = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 4,
}
_SD3 = {
    "sample_size": 32, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 2,
    "num_attention_heads": 2, "attention_head_dim": 16, "joint_attention_dim": 32, "caption_projection_dim": 32,
    "pooled_projection_dim": 14, "pos_embed_max_size": 24, "dual_attention_layers": (0,), "qk_norm": "rms_norm",
}  # fmt: skip
_FLUX2 = {
    "patch_size": 1, "in_channels": 128, "num_layers": 1, "num_single_layers": 2, "num_attention_heads": 2,
    "attention_head_dim": 16, "joint_attention_dim": 24, "timestep_guidance_channels": 16, "mlp_ratio": 3.0,
    "axes_dims_rope": (4, 4, 4, 4), "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": False,
}  # fmt: skip
_WORDS = ("<pad>", "<end>", "user", "assistant", "<think>")
_CHAT = (
    "{% for message in messages %}user {{ message.content }} <end> {% endfor %}"
    "assistant{% if not enable_thinking %} <think>{% endif %}"
)


def write_pipeline(kind: str, folder: Path, *, t5: bool = True) -> Path:
    """A pipeline of the kind `sd3` or `flux2`, with qk_norm and dual attention where the real one has them."""
    torch.manual_seed(0)
    (folder / "transformer").mkdir(parents=True)
    name = _write_sd3(folder, t5=t5) if kind == "sd3" else _write_flux2(folder)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return folder


def _write_sd3(folder: Path, *, t5: bool) -> str:
    _save_in_bfloat16(SD3Transformer2DModel(**_SD3), folder)
    AutoencoderKL(**_VAE, latent_channels=16, shift_factor=0.06, scaling_factor=1.5).save_pretrained(folder / "vae")
    for suffix, width, projected in (("", 8, 6), ("_2", 16, 8)):
        sizes = {"hidden_size": width, "intermediate_size": 16, "projection_dim": projected, "num_attention_heads": 2}
        ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
        config = CLIPTextConfig(vocab_size=len(_WORDS), num_hidden_layers=3, **sizes, **ends)
        CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{suffix}")
        _write_tokenizer(folder / f"tokenizer{suffix}", 77)
    if t5:
        config = T5Config(vocab_size=len(_WORDS), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
        _write_tokenizer(folder / "tokenizer_3", 512)
    return "StableDiffusion3Pipeline"


def _write_flux2(folder: Path) -> str:
    _save_in_bfloat16(Flux2Transformer2DModel(**_FLUX2), folder)
    AutoencoderKLFlux2(**_VAE, latent_channels=32).save_pretrained(folder / "vae")
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 28}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(_WORDS), **sizes, **heads)).save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer", 512, chat_template=_CHAT)
    return "Flux2KleinPipeline"


def _save_in_bfloat16(transformer: Any, folder: Path) -> None:
    nn.Module.to(transformer, torch.bfloat16)  # diffusers' own warns of layers that it cannot name
    transformer.save_pretrained(folder / "transformer")


def _write_tokenizer(folder: Path, length: int, **more: str) -> None:
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(_WORDS)}, unk_token="<pad>"))
    backend.pre_tokenizer = WhitespaceSplit()
    tokens = {"pad_token": "<pad>", "eos_token": "<end>", "model_max_length": length}
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens, **more).save_pretrained(folder)
