"""The parts of MAXIM: mixing over the whole picture and within blocks, channel attention, cross gating, resizing.

Tensors are (B, H, W, C) throughout; a convolution sees the same memory as (B, C, H, W) in channels_last, uncopied.
Source: Tu et al. 2022, "MAXIM: Multi-Axis MLP for Image Processing" (arXiv 2201.02973); the order of operations was
read in google-research/maxim (Apache-2.0).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.maxim_strips import is_lean, mix_tokens, over_strips


def _find_formats() -> frozenset[torch.dtype]:
    """The number formats that this machine's oneDNN has fused operations for: bfloat16 takes AVX-512."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return frozenset()
    bfloat16 = {torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
    return frozenset({torch.float32} | bfloat16)


_FUSED = _find_formats()


@dataclass(frozen=True, slots=True)
class Matrix:
    """A dense layer, or a part of one: (outputs, inputs) and (outputs,)."""

    weight: Tensor
    bias: Tensor | None


Dense = nn.Linear | Matrix


def halve_outputs(layer: nn.Linear) -> tuple[Matrix, Matrix]:
    """Two layers that each make half of the channels: a half of one tensor would be copied."""
    first, second = zip(layer.weight.chunk(2), layer.bias.chunk(2), strict=True)
    return Matrix(*first), Matrix(*second)


def halve_inputs(layer: nn.Linear) -> tuple[Matrix, Matrix]:
    """Two layers whose sum is the layer of the channels of both, without putting them side by side."""
    left, right = (part.contiguous() for part in layer.weight.chunk(2, 1))  # oneDNN is lost in a strided matrix
    return Matrix(left, layer.bias), Matrix(right, None)


def dense(layer: Dense, features: Tensor) -> Tensor:
    """The layer alone."""
    if not _can_fuse(layer, features):
        return functional.linear(features, layer.weight, layer.bias)
    return _run(layer, features, "none", "")


def gelu(layer: Dense, features: Tensor) -> Tensor:
    """The layer and the tanh form of GELU."""
    if not _can_fuse(layer, features):
        return functional.gelu(functional.linear(features, layer.weight, layer.bias), approximate="tanh")
    return _run(layer, features, "gelu", "tanh")


def plus(layer: Dense, features: Tensor, other: Tensor) -> Tensor:
    """The layer's output and another tensor of its shape added up."""
    if not _can_fuse(layer, features):
        return functional.linear(features, layer.weight, layer.bias).add_(other)
    fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(features, other, layer.weight, layer.bias, "add")
    return fused


def join(layer: nn.Linear, parts: Sequence[Tensor]) -> Tensor:
    """The layer of the channels of several tensors; without gradients they are not put side by side."""
    if not _can_fuse(layer, parts[0]):
        return dense(layer, torch.cat(tuple(parts), -1))
    weights = torch.split(layer.weight, [part.shape[-1] for part in parts], 1)
    joined = dense(Matrix(weights[0].contiguous(), layer.bias), parts[0])
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        joined = plus(Matrix(weight.contiguous(), None), part, joined)
    return joined


def _run(layer: Dense, features: Tensor, activation: str, form: str) -> Tensor:
    fused: Tensor = torch.ops.mkldnn._linear_pointwise(features, layer.weight, layer.bias, activation, [], form)
    return fused


def _can_fuse(layer: Dense | nn.Conv2d, features: Tensor) -> bool:
    return is_lean(features) and features.dtype == layer.weight.dtype and features.dtype in _FUSED


_EPSILON = 1e-6  # of every LayerNorm
_SLOPE = 0.2  # of every leaky ReLU


class GatedMixing(nn.Module):
    """A gMLP over one axis of tokens: `a · (mix(norm(b)) + 1)` between two dense layers, plus the input.

    Args:
        count: of tokens.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.spread = nn.Linear(width, 2 * width)
        self.inner_norm = _norm(width)
        self.mix = nn.Linear(count, count)
        self.gather = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, S, T, P, C) -> the same shape, for any number of strips S, places P and channels."""
        for_kept, for_mixed = halve_outputs(self.spread)
        inner = self.norm(tokens)
        kept, mixed = gelu(for_kept, inner), gelu(for_mixed, inner)
        mixed = mix_tokens(self.inner_norm(mixed), self.mix)
        return plus(self.gather, torch.addcmul(kept, kept, mixed), tokens)


class MultiAxisMixing(nn.Module):
    """One half of the channels through the grid, the other through the blocks, plus the input."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.spread = nn.Linear(width, 2 * width)
        self.grid = GatedMixing(width, side**2)
        self.block = GatedMixing(width, side**2)
        self.gather = nn.Linear(2 * width, width)
        self._side = side

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape; H and W are multiples of the side."""
        (to_grid, to_block), (from_grid, from_block) = halve_outputs(self.spread), halve_inputs(self.gather)

        def at_grid(tokens: Tensor, normed: Tensor) -> Tensor:
            return plus(from_grid, self.grid(gelu(to_grid, normed)), tokens)

        def at_blocks(normed: Tensor) -> Tensor:
            return dense(from_block, self.block(gelu(to_block, normed)))

        return over_strips(features, self._side, self.norm, at_grid, at_blocks)


class ChannelAttention(nn.Module):
    """Each channel times a share that the means of all channels decide, plus another tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // 4)
        self.excite = nn.Linear(width // 4, width)

    def forward(self, features: Tensor, other: Tensor) -> Tensor:
        """Twice (B, H, W, C) -> the same shape; without gradients the first is used up."""
        shares: Tensor = self.excite(torch.relu(self.squeeze(_average(features)))).sigmoid()
        if is_lean(features) and features.dtype == torch.float32:  # in half of the bits it takes twice the time
            return torch.addcmul(other, features, shares, out=features)
        return torch.addcmul(other, features, shares)


class AttendedConvolutions(nn.Module):
    """Two 3x3 convolutions and channel attention, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        inner = _convolve_leakily(self.conv_1, self.norm(features))
        attended: Tensor = self.attention(apply_convolution(self.conv_2, inner), features)
        return attended


class AttendedMlp(nn.Module):
    """A dense layer, GELU, another one and channel attention, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.dense_1 = nn.Linear(width, width)
        self.dense_2 = nn.Linear(width, width)
        self.attention = ChannelAttention(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        attended: Tensor = self.attention(dense(self.dense_2, gelu(self.dense_1, self.norm(features))), features)
        return attended


class MultiAxisGate(nn.Module):
    """What one branch says the other may pass."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.spread = nn.Linear(width, 2 * width)
        self.mix_grid = nn.Linear(side**2, side**2)
        self.mix_block = nn.Linear(side**2, side**2)
        self.gather = nn.Linear(2 * width, width)
        self._side = side

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        (to_grid, to_block), (from_grid, from_block) = halve_outputs(self.spread), halve_inputs(self.gather)

        def at_grid(_: Tensor, normed: Tensor) -> Tensor:
            return dense(from_grid, mix_tokens(gelu(to_grid, normed), self.mix_grid))

        def at_blocks(normed: Tensor) -> Tensor:
            return dense(from_block, mix_tokens(gelu(to_block, normed), self.mix_block))

        return over_strips(features, self._side, self.norm, at_grid, at_blocks)


class CrossGating(nn.Module):
    """Two pictures of features that decide about each other.

    Args:
        inputs: channels of the first picture; the second has `width`, or `raised_from` at half of the size.
    """

    def __init__(self, inputs: int, width: int, side: int, raised_from: int | None = None) -> None:
        super().__init__()
        self.up = None if raised_from is None else nn.ConvTranspose2d(raised_from, width, 2, stride=2)
        self.enter_x, self.enter_y = nn.Linear(inputs, width), nn.Linear(width, width)
        self.norm_x, self.norm_y = _norm(width), _norm(width)
        self.spread_x, self.spread_y = nn.Linear(width, width), nn.Linear(width, width)
        self.gate_x, self.gate_y = MultiAxisGate(width, side), MultiAxisGate(width, side)
        self.gather_x, self.gather_y = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, parts: Sequence[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        """Parts of (B, H, W, inputs), and a second picture -> two times (B, H, W, width): x with all of y, and y."""
        y = y if self.up is None else apply_convolution(self.up, y)
        x, y = join(self.enter_x, parts), dense(self.enter_y, y)
        inner_x, inner_y = gelu(self.spread_x, self.norm_x(x)), gelu(self.spread_y, self.norm_y(y))
        y = plus(self.gather_y, inner_y * self.gate_x(inner_x), y)
        return plus(self.gather_x, inner_x * self.gate_y(inner_y), x + y), y


class ResizedDense(nn.Module):
    """Features of one level brought to another, with a dense layer.

    Both are linear and the resizing keeps constants, so either may come first; the dense layer goes where there are
    fewer pixels.
    """

    def __init__(self, inputs: int, width: int, shrink: int) -> None:
        """Take the binary logarithm of how many times smaller the result's sides are; negative enlarges."""
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self._shrink = shrink

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, inputs) -> (B, H', W', width)."""
        if self._shrink > 0:
            return dense(self.dense, shrink(features, 1 << self._shrink))
        return enlarge(dense(self.dense, features), 1 << -self._shrink)


def apply_convolution(layer: nn.Module, features: Tensor) -> Tensor:
    """A convolution of (B, H, W, C) -> (B, H', W', C')."""
    result: Tensor = layer(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return result


def _convolve_leakily(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """A 3x3 convolution and a leaky ReLU: (B, H, W, C) -> the same shape."""
    if not _can_fuse(layer, features):
        return functional.leaky_relu_(apply_convolution(layer, features), _SLOPE)
    planes = torch.ops.mkldnn._convolution_pointwise(
        features.permute(0, 3, 1, 2), layer.weight, layer.bias, (1, 1), (1, 1), (1, 1), 1, "leaky_relu", [_SLOPE], ""
    )
    convolved: Tensor = planes.permute(0, 2, 3, 1)
    return convolved


def _average(features: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, 1, 1, C)."""
    if features.dtype != torch.bfloat16:
        return features.mean((1, 2), keepdim=True)
    places = features.flatten(1, 2)  # a sum over one axis, which cannot overflow here, takes a tenth of the mean's time
    return (places.sum(1) / places.shape[1])[:, None, None]


def shrink(features: Tensor, factor: int) -> Tensor:
    """Sides divided by 2 or 4, bilinear with antialiasing: (B, H, W, C) -> (B, H / factor, W / factor, C).

    A fixed filter whose taps beyond the border are left out and made up for by the others. Written as a convolution
    because torch's own antialiasing knows neither bfloat16 nor Apple's GPUs.
    """
    taps = torch.arange(1, 2 * factor, 2, dtype=features.dtype, device=features.device)
    taps = torch.cat((taps, taps.flip(0))) / (2 * factor**2)  # (1, 3, 3, 1) / 8 for a half
    channels = features.shape[-1]
    kernel = torch.outer(taps, taps).expand(channels, 1, -1, -1)
    planes = functional.conv2d(
        features.permute(0, 3, 1, 2), kernel, stride=factor, padding=factor // 2, groups=channels
    )
    rows, columns = (_make_up(length, planes) for length in planes.shape[2:])
    return (planes * rows[:, None] * columns).permute(0, 2, 3, 1)


def enlarge(features: Tensor, factor: int) -> Tensor:
    """Sides times the factor, bilinear, half-pixel centres: (B, H, W, C) -> (B, H · factor, W · factor, C)."""
    if factor == 1:
        return features
    planes = functional.interpolate(features.permute(0, 3, 1, 2), scale_factor=factor, mode="bilinear")
    return planes.permute(0, 2, 3, 1)


def _make_up(length: int, like: Tensor) -> Tensor:
    """(length,): by how much the taps that are left must grow; an eighth of the filter lies beyond each end."""
    missing = torch.zeros(length, dtype=like.dtype, device=like.device)
    missing[0] += 0.125
    missing[-1] += 0.125
    return 1 / (1 - missing)


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, _EPSILON)
