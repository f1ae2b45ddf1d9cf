"""The shapes of the pretrained transformers that an adapter can stand on, and scaled-down copies of them."""

from collections.abc import Mapping
from dataclasses import replace

from deblur_cli.networks.flow_transformer import FlowTransformerConfig

_SD3_MEDIUM = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
_SD35_MEDIUM = {
    **_SD3_MEDIUM,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
_FLUX2_KLEIN_4B = {
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "joint_attention_dim": 7680,
    "timestep_guidance_channels": 256,
    "mlp_ratio": 3.0,
    "axes_dims_rope": (32, 32, 32, 32),
    "rope_theta": 2000,
    "eps": 1e-6,
    "guidance_embeds": False,
}

# The pretrained models that an adapter can stand on, by name; all were trained at 1024 pixels, 128 latents.
KNOWN_BASES: Mapping[str, FlowTransformerConfig] = {
    "sd3-medium": FlowTransformerConfig("sd3", _SD3_MEDIUM, 128),
    "sd3.5-medium": FlowTransformerConfig("sd3", _SD35_MEDIUM, 128),
    "flux2-klein-4b": FlowTransformerConfig("flux2", _FLUX2_KLEIN_4B, 128),
}
SMALL_SD3 = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "joint_attention_dim": 24,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 12,
    "pos_embed_max_size": 6,
}
SMALL = {
    "sd3-medium": SMALL_SD3,
    "sd3.5-medium": {**SMALL_SD3, "dual_attention_layers": (0,)},
    "flux2-klein-4b": {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "joint_attention_dim": 24,
        "timestep_guidance_channels": 32,
        "axes_dims_rope": (4, 4, 4, 4),
    },
}
NAMES = list(SMALL)


def small(name: str) -> FlowTransformerConfig:
    """A scaled-down copy of a pretrained model: the same class, the same switches."""
    known = KNOWN_BASES[name]
    return replace(known, transformer={**known.transformer, **SMALL[name]}, window=8)
