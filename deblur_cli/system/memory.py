"""How this process gets its memory from the system. Knows no photos and no networks."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 1 << 30  # bytes


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
