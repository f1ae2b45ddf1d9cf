"""Scaled-down copies of the pretrained transformers, for the tests."""

from dataclasses import replace

from deblur_cli.networks.flow_transformer import KNOWN_BASES, FlowTransformerConfig

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
