"""Memory for networks that were built without any."""

import torch
from torch import nn


def give_memory(network: nn.Module, device: torch.device | str) -> None:
    """What `Module.to_empty` does with a network on the meta device: every tensor gets memory, with anything in it.

    That one asks for tensors like those on the meta device, for which torch loads what it knows of symbolic shapes, and
    sympy: 0.75 of the 5.1 seconds that a start took (docs/experiments.md).
    """
    network._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))  # type: ignore[no-untyped-call]
