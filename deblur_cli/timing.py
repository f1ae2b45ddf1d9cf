"""A backend that tells how long its network takes, so that everything around it can be weighed against it."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deblur_cli.backends import Backend


class TimedBackend:
    """Passes everything on to a backend; after each tile `on_network` gets the seconds it took."""

    def __init__(self, backend: Backend, on_network: Callable[[float], None]) -> None:
        self.name, self.device, self.dtype, self.tiling = backend.name, backend.device, backend.dtype, backend.tiling
        self._backend, self._on_network = backend, on_network

    @property
    def module(self) -> nn.Module:
        """The network of the backend."""
        return self._backend.module

    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`."""
        started = time.perf_counter()
        restored = self._backend.restore(blurry)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the call returns before the card is done
        self._on_network(time.perf_counter() - started)
        return restored
