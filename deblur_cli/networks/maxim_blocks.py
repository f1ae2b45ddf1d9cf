"""The parts of MAXIM: mixing over the whole picture and within blocks, channel attention, cross gating, resizing.

Tensors are (B, H, W, C) throughout; a convolution sees the same memory as (B, C, H, W) in channels_last, uncopied.
Source: Tu et al. 2022, "MAXIM: Multi-Axis MLP for Image Processing" (arXiv 2201.02973); the order of operations was
read in google-research/maxim (Apache-2.0).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def dense(layer: nn.Linear, features: Tensor) -> Tensor:
    """The layer alone."""
    if not _can_fuse(layer, features):
        return functional.linear(features, layer.weight, layer.bias)
    return _run(features, layer.weight, layer.bias, "none", "")


def dense_gelu(layer: nn.Linear, features: Tensor) -> Tensor:
    """The layer and the tanh form of GELU."""
    return _activated(layer, features, layer.weight, layer.bias)


def dense_gelu_halves(layer: nn.Linear, features: Tensor) -> tuple[Tensor, Tensor]:
    """The same, both halves of the channels, each in one piece: a half of one tensor would be copied."""
    (first, second), (low, high) = layer.weight.chunk(2), layer.bias.chunk(2)
    return _activated(layer, features, first, low), _activated(layer, features, second, high)


def dense_plus(layer: nn.Linear, features: Tensor, other: Tensor) -> Tensor:
    """The layer's output and another tensor of its shape added up."""
    return _added(layer, features, other, layer.weight, layer.bias)


def dense_of_halves(layer: nn.Linear, first: Tensor, second: Tensor, other: Tensor | None = None) -> Tensor:
    """The layer of both channels together, without putting them side by side; plus another tensor of its shape."""
    left, right = (part.contiguous() for part in layer.weight.chunk(2, 1))  # oneDNN is lost in a strided matrix
    if other is None:
        half = functional.linear(first, left) if not _can_fuse(layer, first) else _run(first, left, None, "none", "")
    else:
        half = _added(layer, first, other, left, None)
    return _added(layer, second, half, right, layer.bias)


def _activated(layer: nn.Linear, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if _can_fuse(layer, features):
        return _run(features, weight, bias, "gelu", "tanh")
    return functional.gelu(functional.linear(features, weight, bias), approximate="tanh")


def _added(layer: nn.Linear, features: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _can_fuse(layer, features):
        return functional.linear(features, weight, bias).add_(other)
    fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(features, other, weight, bias, "add")
    return fused


def _run(features: Tensor, weight: Tensor, bias: Tensor | None, activation: str, form: str) -> Tensor:
    fused: Tensor = torch.ops.mkldnn._linear_pointwise(features, weight, bias, activation, [], form)
    return fused


def _can_fuse(layer: nn.Linear, features: Tensor) -> bool:
    return (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")  # it would mix formats, which oneDNN refuses
        and features.dtype == layer.weight.dtype
        and _HAS_ONEDNN
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # no converter knows what is fused
    )


_EPSILON = 1e-6  # of every LayerNorm


class GatedMixing(nn.Module):
    """A gMLP over one axis of tokens: `a · (mix(norm(b)) + 1)` between two dense layers, plus the input.

    Args:
        side: tokens are the places of a square of so many cells a side.
        across: tokens are the cells of the whole picture at one place in the cell (the grid); else the pixels of a
            block of `side` pixels.
    """

    def __init__(self, width: int, side: int, *, across: bool) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.spread = nn.Linear(width, 2 * width)
        self.inner_norm = _norm(width)
        self.mix = nn.Linear(side**2, side**2)
        self.gather = nn.Linear(width, width)
        self._side, self._across = side, across

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape; H and W are multiples of the side."""
        kept, mixed = dense_gelu_halves(self.spread, self.norm(features))
        mixed = mix_tokens(self.inner_norm(mixed), self.mix, self._side, across=self._across)
        return dense_plus(self.gather, torch.addcmul(kept, kept, mixed), features)


class MultiAxisMixing(nn.Module):
    """One half of the channels through the grid, the other through the blocks, plus the input."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.spread = nn.Linear(width, 2 * width)
        self.grid = GatedMixing(width, side, across=True)
        self.block = GatedMixing(width, side, across=False)
        self.gather = nn.Linear(2 * width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        for_grid, for_block = dense_gelu_halves(self.spread, self.norm(features))
        return dense_of_halves(self.gather, self.grid(for_grid), self.block(for_block), features)


class ChannelAttention(nn.Module):
    """Each channel times a share that the means of all channels decide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // 4)
        self.excite = nn.Linear(width // 4, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        means = features.mean((1, 2), keepdim=True)
        shares: Tensor = self.excite(torch.relu(self.squeeze(means))).sigmoid()
        return features * shares


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
        inner = functional.leaky_relu(apply_convolution(self.conv_1, self.norm(features)), 0.2)
        attended: Tensor = self.attention(apply_convolution(self.conv_2, inner))
        return attended.add_(features)


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
        attended: Tensor = self.attention(dense(self.dense_2, dense_gelu(self.dense_1, self.norm(features))))
        return attended.add_(features)


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
        for_grid, for_block = dense_gelu_halves(self.spread, self.norm(features))
        across = mix_tokens(for_grid, self.mix_grid, self._side, across=True)
        within = mix_tokens(for_block, self.mix_block, self._side, across=False)
        return dense_of_halves(self.gather, across, within)


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

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, inputs) and the second picture -> two times (B, H, W, width): x with all of it, and y alone."""
        y = y if self.up is None else apply_convolution(self.up, y)
        x, y = dense(self.enter_x, x), dense(self.enter_y, y)
        inner_x, inner_y = dense_gelu(self.spread_x, self.norm_x(x)), dense_gelu(self.spread_y, self.norm_y(y))
        y = dense_plus(self.gather_y, inner_y * self.gate_x(inner_x), y)
        return dense_plus(self.gather_x, inner_x * self.gate_y(inner_y), x + y), y


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


def mix_tokens(features: Tensor, mix: nn.Linear, side: int, *, across: bool) -> Tensor:
    """Mix the tokens of each channel, at all places at once, by one matrix product.

    Args:
        features: (B, H, W, C), H and W multiples of `side`.
        mix: from side² tokens to as many, in the order of rows.
        across: whether tokens are cells of the whole picture, or the pixels of a block.
    """
    count, height, width, channels = features.shape
    rows, columns = height // side, width // side
    if across:
        cut, order = (count, side, rows, side, columns, channels), (0, 1, 3, 2, 4, 5)
        back, undo = (count, side, side, rows, columns, channels), (0, 1, 3, 2, 4, 5)
    else:
        cut, order = (count, rows, side, columns, side, channels), (0, 2, 4, 1, 3, 5)
        back, undo = (count, side, side, rows, columns, channels), (0, 3, 1, 4, 2, 5)
    tokens = features.reshape(cut).permute(order).reshape(count, side**2, rows * columns * channels)
    mixed = torch.matmul(mix.weight, tokens) + mix.bias[:, None]
    return mixed.view(back).permute(undo).reshape(count, height, width, channels)


def apply_convolution(layer: nn.Module, features: Tensor) -> Tensor:
    """A convolution of (B, H, W, C) -> (B, H', W', C')."""
    result: Tensor = layer(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return result


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
