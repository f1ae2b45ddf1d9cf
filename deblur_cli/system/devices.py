"""Which device, which number format and how many threads to use, and how this process gets its memory."""

import ctypes
import math
import queue
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from deblur_cli.errors import BackendError

# What torch says of the host's memory on POSIX and on Windows, of a card's, and what cuBLAS says.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cublas_status_alloc_failed")
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_KEPT = 1 << 30  # bytes
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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

    It hands large blocks back to the system otherwise, and every tensor of a photo pays for its pages anew. All threads
    take from one place: the places of single threads are small, and handed back as well.

    Returns:
        Whether it did: only glibc has this switch.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_MMAP_THRESHOLD, _KEPT), mallopt(_TRIM_THRESHOLD, _KEPT), mallopt(_ARENA_MAX, 1)])


def count_crew(portions: int, most: int, each: int) -> int:
    """How many threads should work on portions side by side, on this CPU.

    Threads that share one operation wait for each other at its end, which costs much where operations are small.

    Args:
        most: of them at the same time.
        each: bytes that one takes.
    Returns:
        No more than leave none idle in the last round; 1 where torch's threads cannot be divided.
    """
    divides: bool = torch.backends.openmp.is_available()  # type: ignore[no-untyped-call]
    if not divides or is_in_torch_dispatch_mode():  # such a mode sees its thread only
        return 1
    free = find_free_memory()
    fitting = portions if free is None else free // each
    side_by_side = max(1, min(torch.get_num_threads(), most, portions, fitting))
    return math.ceil(portions / max(1, math.ceil(portions / side_by_side))) or 1


def find_free_memory() -> int | None:
    """Bytes that this process could get without others being swapped out; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def map_side_by_side(work: Callable[[Item], Answer], items: Sequence[Item], crew: int) -> Generator[Answer, None, None]:
    """What the work makes of each item, in their order, while so many threads are at work on the next ones.

    torch's threads are divided among them. What is raised in one is raised here in its turn; then, and when the
    iterator is closed, all of them end.

    Args:
        crew: see `count_crew`; 1 works in the calling thread, when it is asked for the next answer.
    """
    if crew == 1:
        yield from map(work, items)
        return
    threads = torch.get_num_threads()
    todo: queue.SimpleQueue[tuple[Item, Future[Answer]] | None] = queue.SimpleQueue()

    def take() -> None:
        torch.set_num_threads(threads // crew)  # OpenMP counts for each thread by itself
        with suppress(SystemExit):  # of `_dismiss`
            while (task := todo.get()) is not None:
                item, answer = task
                try:
                    answer.set_result(work(item))
                except BaseException as fault:
                    answer.set_exception(fault)

    workers = [Thread(target=take, name=f"worker {number}", daemon=True) for number in range(crew)]
    coming: deque[Future[Answer]] = deque()
    try:
        for worker in workers:
            worker.start()
        for item in items:
            coming.append(Future())
            todo.put((item, coming[-1]))
            if len(coming) == 2 * crew:  # one in work and one waiting for each
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        _dismiss(workers, todo, is_early=not all(answer.done() for answer in coming))
        torch.set_num_threads(threads)  # torch also took the last number for threads that are still to come


def _dismiss(workers: Sequence[Thread], todo: "queue.SimpleQueue[Any]", *, is_early: bool) -> None:
    """End threads: what nobody has begun is dropped, and what is in work is left after its operation."""
    with suppress(queue.Empty):
        while True:
            todo.get_nowait()
    for worker in workers:
        todo.put(None)
        if is_early and worker.ident is not None:  # without one it could not be started
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
    for worker in workers:
        if worker.ident is not None:
            worker.join()
