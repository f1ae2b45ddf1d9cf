"""Dense layers with what follows them in one pass over the memory, where torch has that; the same numbers elsewhere.

Memory is what MAXIM waits for on a CPU: its layers have few channels and many pixels. oneDNN, which comes with torch,
writes a dense layer's output once, activated or added up. It has no gradient, so training takes the plain way.
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
    )
