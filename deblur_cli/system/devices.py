"""Which device and which number format to use, and how this process gets its memory."""

import ctypes
import sys

import torch

from deblur_cli.errors import BackendError

# What torch says of the host's memory on POSIX and on Windows, of a card's, and what cuBLAS says.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cublas_status_alloc_failed")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 1 << 30  # bytes
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        BackendError: the name means nothing, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as fault:
        raise BackendError(f"--device {name}: no such device; use auto, cpu, cuda, cuda:N or mps") from fault
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}.get(device.type, 0)
    if (device.index or 0) >= present:
        raise BackendError(f"--device {name}: this machine or this torch build has none; `deblur doctor` lists them")
    return device


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """`float32` or `bfloat16`; `auto` takes bfloat16 where the device multiplies it in hardware."""
    if name != "auto":
        return DTYPES[name]
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions beat float32 ones there."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether torch, on any device, or Python says that memory ran out."""
    if isinstance(fault, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(fault).lower()
    return isinstance(fault, RuntimeError) and any(words in text for words in _NO_MEMORY)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def tune_malloc() -> bool:
    """Let the C library keep freed blocks of up to a gigabyte for the next tensors.

    It hands large blocks back to the system otherwise, and every tensor of a photo pays for its pages anew.

    Returns:
        Whether it did: only glibc has this switch.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_MMAP_THRESHOLD, _KEPT), mallopt(_TRIM_THRESHOLD, _KEPT)])
