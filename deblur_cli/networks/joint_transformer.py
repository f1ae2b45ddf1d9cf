"""Stable Diffusion 3's transformer without what only its larger kin have, for running: no diffusers, which takes 3 s.

Names, operations and their order are those of diffusers' `SD3Transformer2DModel`, so weights fit either and results are
the same to the bit. It knows no normalised queries and no second attention, and does not train.
Source: Esser et al. 2024, "Scaling Rectified Flow Transformers" (arXiv 2403.03206); the order of operations was read in
huggingface/diffusers (Apache-2.0).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_TIME = 256  # sines and cosines of a time
_PERIOD = 10000  # of the slowest of them

# What the class takes, and what holds where its config is silent; those of diffusers.
DEFAULTS: Mapping[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 18,
    "attention_head_dim": 64,
    "num_attention_heads": 18,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1152,
    "pooled_projection_dim": 2048,
    "out_channels": 16,
    "pos_embed_max_size": 96,
    "dual_attention_layers": (),
    "qk_norm": None,
}


def suffices(settings: Mapping[str, Any]) -> bool:
    """Whether a transformer with these settings is one that this module has."""
    return settings["qk_norm"] is None and not settings["dual_attention_layers"]


class JointTransformer(nn.Module):
    """Velocity of latents, led by a prompt; the table of positions has no values before weights are loaded."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        heads, width = settings["num_attention_heads"], settings["num_attention_heads"] * settings["attention_head_dim"]
        channels, last = settings["in_channels"], settings["num_layers"] - 1
        self.pos_embed = _Patches(channels, width, settings["pos_embed_max_size"])
        self.time_text_embed = _TimeAndText(width, settings["pooled_projection_dim"])
        self.context_embedder = nn.Linear(settings["joint_attention_dim"], width)
        self.transformer_blocks = nn.ModuleList(_Block(width, heads, is_last=i == last) for i in range(last + 1))
        self.norm_out = _Modulated(width, 2)
        self.proj_out = nn.Linear(width, 4 * channels)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        timestep: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """(B, C, h, w), (B, L, joint), (B, pooled) and (B,), up to 1000 -> (B, C, h, w), as diffusers calls it."""
        height, width = (side // 2 for side in hidden_states.shape[-2:])
        picture = self.pos_embed(hidden_states).contiguous()
        condition = self.time_text_embed(timestep, pooled_projections)
        prompt: Tensor | None = self.context_embedder(encoder_hidden_states)
        for block in self.transformer_blocks:
            prompt, picture = block(picture, prompt, condition)
        scale, shift = self.norm_out.modulate(condition)
        tokens = self.proj_out(self.norm_out.norm(picture) * (1 + scale)[:, None] + shift[:, None])
        cut = tokens.reshape(len(tokens), height, width, 2, 2, -1)
        whole = torch.einsum("nhwpqc->nchpwq", cut)
        return (whole.reshape(len(tokens), -1, 2 * height, 2 * width),)


class _Patches(nn.Module):
    """2x2 latents a token, plus its position from the middle of a table."""

    pos_embed: Tensor

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, 2, stride=2)
        self.register_buffer("pos_embed", torch.zeros(1, side**2, width))
        self._side = side

    def forward(self, latents: Tensor) -> Tensor:
        height, width = (side // 2 for side in latents.shape[-2:])
        if max(height, width) > self._side:
            raise ValueError(f"a table of {self._side} positions a side has no {height}x{width} tokens")
        tokens = self.proj(latents).flatten(2).transpose(1, 2)
        top, left = (self._side - height) // 2, (self._side - width) // 2
        table = self.pos_embed.reshape(1, self._side, self._side, -1)[:, top : top + height, left : left + width]
        summed: Tensor = (tokens + table.reshape(1, height * width, -1)).to(tokens.dtype)
        return summed


class _TimeAndText(nn.Module):
    """One vector that modulates every layer."""

    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.timestep_embedder = _TwoLayers(_TIME, width)
        self.text_embedder = _TwoLayers(pooled, width)

    def forward(self, timestep: Tensor, pooled: Tensor) -> Tensor:
        half = _TIME // 2
        exponents = -math.log(_PERIOD) * torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep[:, None].float() * torch.exp(exponents / half)[None]
        waves = torch.cat((torch.cos(angles), torch.sin(angles)), -1)
        summed: Tensor = self.timestep_embedder(waves.to(pooled.dtype)) + self.text_embedder(pooled)
        return summed


class _TwoLayers(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.linear_2(functional.silu(self.linear_1(features)))
        return result


class _Modulated(nn.Module):
    """A LayerNorm without weights, and vectors for what comes after it, made of the condition."""

    def __init__(self, width: int, vectors: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, vectors * width)
        self.norm = _norm(width)
        self._vectors = vectors

    def modulate(self, condition: Tensor) -> tuple[Tensor, ...]:
        """So many times (B, width)."""
        return self.linear(functional.silu(condition)).chunk(self._vectors, 1)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Picture and prompt look at each other, then each goes through a feed-forward; the last leaves the prompt."""

    def __init__(self, width: int, heads: int, *, is_last: bool) -> None:
        super().__init__()
        self.norm1 = _Modulated(width, 6)
        self.norm1_context = _Modulated(width, 2 if is_last else 6)
        self.attn = _Attention(width, heads, is_last=is_last)
        self.norm2, self.ff = _norm(width), _FeedForward(width)
        self.norm2_context = None if is_last else _norm(width)
        self.ff_context = None if is_last else _FeedForward(width)

    def forward(self, picture: Tensor, prompt: Tensor, condition: Tensor) -> tuple[Tensor | None, Tensor]:
        shift, scale, gate, *rest = self.norm1.modulate(condition)
        seen = self.norm1.norm(picture) * (1 + scale[:, None]) + shift[:, None]
        if self.ff_context is None:
            scale, shift = self.norm1_context.modulate(condition)
            prompt_gate, prompt_rest = None, []
        else:
            shift, scale, prompt_gate, *prompt_rest = self.norm1_context.modulate(condition)
        read = self.norm1_context.norm(prompt) * (1 + scale[:, None]) + shift[:, None]
        update, prompt_update = self.attn(seen, read)
        picture = _feed(self.norm2, self.ff, picture + gate[:, None] * update, rest)
        if self.ff_context is None or prompt_gate is None or self.norm2_context is None:
            return None, picture
        prompt = prompt + prompt_gate[:, None] * prompt_update
        return _feed(self.norm2_context, self.ff_context, prompt, prompt_rest), picture


class _Attention(nn.Module):
    """All tokens of both look at all."""

    def __init__(self, width: int, heads: int, *, is_last: bool) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_k_proj, self.add_v_proj, self.add_q_proj = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = None if is_last else nn.Linear(width, width)
        self._heads = heads

    def forward(self, picture: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        pairs = ((self.to_q, self.add_q_proj), (self.to_k, self.add_k_proj), (self.to_v, self.add_v_proj))
        query, key, value = (torch.cat((self._cut(of(picture)), self._cut(to(prompt))), 2) for of, to in pairs)
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.0, is_causal=False)
        mixed = mixed.transpose(1, 2).reshape(len(picture), -1, picture.shape[-1])
        count = picture.shape[1]
        update, prompt_update = mixed[:, :count], mixed[:, count:]
        return self.to_out[0](update), prompt_update if self.to_add_out is None else self.to_add_out(prompt_update)

    def _cut(self, tokens: Tensor) -> Tensor:
        """(B, heads, tokens, width of a head)."""
        return tokens.view(len(tokens), -1, self._heads, tokens.shape[-1] // self._heads).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList((_Gelu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)))

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.net[2](self.net[0](features))
        return result


class _Gelu(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, width)
        self.approximate = "tanh"

    def forward(self, features: Tensor) -> Tensor:
        return functional.gelu(self.proj(features), approximate=self.approximate)


def _feed(norm: nn.Module, layers: nn.Module, tokens: Tensor, vectors: list[Tensor]) -> Tensor:
    shift, scale, gate = vectors
    update: Tensor = layers(norm(tokens) * (1 + scale[:, None]) + shift[:, None])
    return tokens + gate[:, None] * update


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, 1e-6, elementwise_affine=False)
