"""Temporary files that a killed run left beside its outputs, and how they go away. Knows names, no photos."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# `image_io` writes to `.{name}.deblur-{pid}.tmp`, a long name cut off, beside the target and renames it at the end.
_TEMPORARY = re.compile(r"^\..+\.deblur-(\d+)\.tmp$")


def remove_dead_leftovers(folders: Iterable[Path]) -> int:
    """Remove the temporary files of processes that live no more; how many there were."""
    return _remove(folders, lambda pid: pid == os.getpid() or not _is_alive(pid))


def remove_own_leftovers(folders: Iterable[Path]) -> int:
    """Remove the temporary files of this process; only for when it ends at once."""
    return _remove(folders, lambda pid: pid == os.getpid())


def _remove(folders: Iterable[Path], is_stale: Callable[[int], bool]) -> int:
    stale = [path for folder in folders if folder.is_dir() for path in _temporaries(folder, is_stale)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _temporaries(folder: Path, is_stale: Callable[[int], bool]) -> Iterator[Path]:
    for path in folder.iterdir():
        match = _TEMPORARY.match(path.name)
        if match and is_stale(int(match[1])):
            yield path


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # no signal 0 there: os.kill would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
