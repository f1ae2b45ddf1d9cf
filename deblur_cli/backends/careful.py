"""A network in its number format, and in float32 wherever that format was not enough."""

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Careful(Generic[Network]):
    """Runs a network on its device; what comes out not finite is computed again in float32."""

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        """Take a network, which is changed."""
        self.dtype = dtype
        self.module: Network = _place(network.eval(), device, dtype)
        self._device = device
        self._exact: Network | None = None

    def run(self, call: Callable[[Network, torch.dtype], Tensor]) -> Tensor:
        """float32, what the call makes with the network and the number format that it takes.

        It is not finite only where float32 does not help either.
        """
        answer = call(self.module, self.dtype).float()
        if self.dtype != torch.float32 and not bool(answer.sum().isfinite()):
            answer = call(self._exact_network(), torch.float32)
        return answer

    def _exact_network(self) -> Network:
        if self._exact is None:
            self._exact = _place(copy.deepcopy(self.module), self._device, torch.float32)
        return self._exact


def _place(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    return network.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
