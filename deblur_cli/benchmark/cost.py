"""What a restoration costs: peak memory, parameters, multiply-accumulates. Reads the system, not photos."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_CLEAR = Path("/proc/self/clear_refs")
_PROC = Path("/proc/self")


class PeakMemory:
    """Highest memory of this process, and of its CUDA device, since `reset`.

    On Linux the kernel's high-water mark is reset, so that every model gets its own figure; elsewhere the mark
    cannot be reset and is the highest since the process began.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        try:
            _CLEAR.write_text("5", encoding="ascii")
        except OSError:
            return

    def ram(self) -> float | None:
        """Megabytes (10^6) of resident memory of the whole process, libraries included."""
        return read_peak("self") if _PROC.is_dir() else _ram_since_start()

    def vram(self) -> float | None:
        """Megabytes (10^6) that tensors took on the CUDA device."""
        if self._device.type != "cuda":
            return None
        return float(torch.cuda.max_memory_allocated(self._device)) / 1e6


def read_peak(process: int | str) -> float | None:
    """Megabytes (10^6) of resident memory that a living process has had at most; None where Linux does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith("VmHWM")]
    return int(found[0].split()[1]) * 1024 / 1e6 if found else None


def count_parameters(module: object) -> int | None:
    """Every parameter once; `None` for a backend that shows no module."""
    return sum(parameter.numel() for parameter in module.parameters()) if isinstance(module, nn.Module) else None


def count_macs(work: Callable[[], Any]) -> float | None:
    """Multiply-accumulates of one call: convolutions, matrix products and attention, as torch dispatches them.

    Counts what is run, overlaps of tiles and every network of the backend included. `None` when nothing was
    seen, as with a network that is compiled or runs outside torch.
    """
    with FlopCounterMode(display=False, custom_mapping=_FUSED) as counter:
        work()
    return counter.get_total_flops() / 2 or None


def _count_dense(features: Sequence[int], *others: Any, **_: Any) -> int:
    """Of a dense layer in one pass with what follows; torch counts two operations for each product."""
    outputs, _inputs = next(shape for shape in others if len(shape) == 2)  # what is added has the features' shape
    return 2 * math.prod(features) * int(outputs)


def _count_convolution(planes: Sequence[int], weight: Sequence[int], *_others: Any, **_: Any) -> int:
    """Of a convolution in one pass with what follows, which keeps the size."""
    count, _channels, height, width = planes
    return 2 * count * height * width * math.prod(weight)


_FUSED = {
    torch.ops.mkldnn._linear_pointwise: _count_dense,
    torch.ops.mkldnn._convolution_pointwise: _count_convolution,
}


def _ram_since_start() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
