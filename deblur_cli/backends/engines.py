"""What runs a network: an engine, one row each, and float32 wherever a faster number format was not enough."""

import copy
import platform
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor, nn

from deblur_cli.backends.openvino_engine import OpenVinoEngine
from deblur_cli.errors import BackendError
from deblur_cli.networks.needs import find_compiling
from deblur_cli.system.devices import find_dtype


class Engine(Protocol):
    """A network that is ready to run on a device in a number format.

    An engine may know some networks only, may compile whenever it meets a new shape, and gives no gradients.
    """

    @property
    def module(self) -> nn.Module:
        """The network, for its shape and for counting parameters."""

    def run(self, method: str, *tensors: Tensor | None) -> Tensor:
        """What the network's method of that name makes of the tensors, in any number format."""


class TorchEngine:
    """torch itself, for every network: its weights are in the number format, and its methods cast what they get."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """The network keeps its values; the tensors that have the number format already are shared with it."""
        tensors = [*network.parameters(), *network.buffers()]
        shared = {id(tensor): tensor for tensor in tensors if _is_ready(tensor, device, dtype)}
        own = network if len(shared) == len(tensors) else copy.deepcopy(network, shared)
        self.module: nn.Module = own.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, method: str, *tensors: Tensor | None) -> Tensor:
        """See `Engine`."""
        answer: Tensor = getattr(self.module, method)(*tensors)
        return answer


class AutocastEngine:
    """torch with weights in float32: in bfloat16 only products are, so that what passes by them keeps its precision."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """The network is moved to the device."""
        self.module, self._device, self._dtype = network.to(device, torch.float32), device, dtype

    def run(self, method: str, *tensors: Tensor | None) -> Tensor:
        """See `Engine`."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            answer: Tensor = getattr(self.module, method)(*tensors)
        return answer


ENGINES: Mapping[str, Callable[[nn.Module, torch.device, torch.dtype], Engine]] = {
    "torch": TorchEngine,
    "autocast": AutocastEngine,
    "openvino": OpenVinoEngine,
}


class Float32Fallback:
    """Runs a network by an engine; what comes out not finite is computed again in float32."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype, engine: str = "torch") -> None:
        self._network, self._device, self._dtype = network.eval(), device, dtype
        self._build = ENGINES[engine]
        self._fast = self._build(self._network, device, dtype)

    @property
    def module(self) -> nn.Module:
        """The network that runs."""
        return self._fast.module

    def run(self, method: str, *tensors: Tensor | None) -> Tensor:
        """float32, what the network's method of that name makes of the tensors.

        It is not finite only where float32 does not help either.
        """
        answer = self._fast.run(method, *tensors).float()
        if self._dtype != torch.float32 and not bool(answer.sum().isfinite()):
            answer = self._exact.run(method, *tensors)
        return answer

    @cached_property
    def _exact(self) -> Engine:
        return self._build(self._network, self._device, torch.float32)


def choose_engine(asked: str | None, device: torch.device, *networks: nn.Module) -> str:
    """What is to run the networks: torch, or OpenVINO where it is installed and has been measured to be quicker.

    Args:
        asked: "torch", "openvino", or "auto" and None for whichever is quicker.
        networks: none where the caller knows that OpenVINO takes its network.
    Raises:
        BackendError: OpenVINO was asked by name and cannot be had.
    """
    if asked == "torch":
        return asked
    is_asked = asked == "openvino"
    if device.type != "cpu":
        if is_asked:
            raise BackendError("--engine openvino: is for CPUs; add --device cpu")
        return "torch"
    if not has_openvino():
        if is_asked:
            raise BackendError("--engine openvino: is not installed; pip install 'deblur-cli[openvino]'")
        return "torch"
    compiling = [find_compiling(network) for network in networks]
    if None in compiling:
        check_engine(asked, type(networks[compiling.index(None)]).__name__)
    pays = all(one is not None and one.pays for one in compiling)
    measured = platform.machine().lower() in ("x86_64", "amd64")
    return "openvino" if is_asked or (pays and measured) else "torch"


def has_openvino() -> bool:
    """Whether the extra is installed; whether it works is seen when it is used."""
    return find_spec("openvino") is not None


def check_engine(asked: str | None, what: str) -> None:
    """Raise BackendError where OpenVINO is asked for something that only torch runs."""
    if asked == "openvino":
        raise BackendError(f"--engine openvino: does not run {what}; leave the option out")


def choose_dtype(asked: str, device: torch.device, supported: Collection[str]) -> torch.dtype:
    """The asked number format; `auto` falls back to float32 where the network does not work in the fast one.

    Args:
        supported: names of number formats; empty where nobody has looked.
    Raises:
        BackendError: the one that was asked by name is not among them.
    """
    dtype = find_dtype(asked, device)
    if not supported or str(dtype).removeprefix("torch.") in supported:
        return dtype
    if asked != "auto":
        raise BackendError(f"--dtype {asked}: this network does not work in it; use {' or '.join(supported)}")
    return torch.float32


def _is_ready(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> bool:
    is_there = tensor.device.type == device.type and device.index in (None, tensor.device.index)
    return is_there and (tensor.dtype == dtype or not tensor.is_floating_point())
