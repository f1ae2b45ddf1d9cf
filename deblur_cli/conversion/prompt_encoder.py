"""What OpenCLIP's text encoder says to an empty prompt: the one embedding that DeblurDiff ever needs.

Runs the encoder straight from its tensors, layer by layer, so that neither the module nor a tokenizer is needed.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

HEAD_WIDTH = 64  # channels of an attention head, in every published size of ViT-H's text encoder

_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.")
_OF_A_LAYER = tuple(
    f"{name}{kind}"
    for name in ("ln_1.", "ln_2.", "attn.in_proj_", "attn.out_proj.", "mlp.c_fc.", "mlp.c_proj.")
    for kind in ("weight", "bias")
)
_AROUND = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias")
_AFTER = ("text_projection", "logit_scale", "attn_mask")  # for comparing with pictures, or a constant


def check_names(names: set[str]) -> tuple[set[str], set[str]]:
    """Which names of a text encoder are missing, and which are not known.

    Args:
        names: OpenCLIP's, without a prefix. The last layer is never run, but belongs to the file.
    """
    layers = _count_layers(names)
    needed = {f"transformer.resblocks.{layer}.{name}" for layer in range(layers) for name in _OF_A_LAYER} | {*_AROUND}
    return needed - names, names - needed - {*_AFTER}


@torch.inference_mode()
def embed_empty_prompt(tensors: Mapping[str, Tensor]) -> Tensor:
    """The embedding of "": all layers but the last, then the final normalisation.

    The tokens are start, end, and zeros to the full length; attention looks back only.

    Args:
        tensors: of an OpenCLIP text encoder under its own names, all that `check_names` asks for.
    Returns:
        (1, L, C), float32; L is 77 and C is 1024 in the published one.
    Source: Stable Diffusion 2.1's FrozenOpenCLIPEmbedder with layer "penultimate" (Stability-AI/stablediffusion, MIT).
    """
    words, positions = tensors["token_embedding.weight"], tensors["positional_embedding"]
    tokens = torch.zeros(len(positions), dtype=torch.long)
    tokens[0], tokens[1] = len(words) - 2, len(words) - 1
    features = (words[tokens] + positions).float()  # (L, C)
    for layer in range(_count_layers(tensors) - 1):
        prefix = f"transformer.resblocks.{layer}."
        features = _run_layer(features, {name: tensors[prefix + name].float() for name in _OF_A_LAYER})
    return _normalise(features, {name: tensors[name].float() for name in _AROUND[2:]}, "ln_final.")[None]


def _run_layer(features: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    features = features + _attend(_normalise(features, own, "ln_1."), own)
    inner = functional.gelu(_project(_normalise(features, own, "ln_2."), own, "mlp.c_fc."))
    return features + _project(inner, own, "mlp.c_proj.")


def _attend(features: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    heads = features.shape[1] // HEAD_WIDTH
    three = _project(features, own, "attn.in_proj_").view(-1, 3, heads, HEAD_WIDTH)  # (L, 3, heads, 64)
    query, key, value = three.permute(1, 2, 0, 3)  # (heads, L, 64) each
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return _project(mixed.transpose(0, 1).flatten(1), own, "attn.out_proj.")


def _project(features: Tensor, own: Mapping[str, Tensor], name: str) -> Tensor:
    return functional.linear(features, own[f"{name}weight"], own[f"{name}bias"])


def _normalise(features: Tensor, own: Mapping[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(features, features.shape[1:], own[f"{name}weight"], own[f"{name}bias"])


def _count_layers(names: set[str] | Mapping[str, Tensor]) -> int:
    found = {int(match[1]) for match in map(_LAYER.match, names) if match}
    return max(found, default=-1) + 1
