"""Several runs on one output folder: who makes which photo. Knows files, no photos.

A run claims a photo by a marker beside its output, made exclusively and locked as long as the run lives. Where locks do
not reach other machines, the marker alone counts until it is old. A run of many machines signs its markers with its
name: of these, one that is not locked was left by a worker that died, for it gives a photo to one worker at a time.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.system.files import CAREFUL, host, own_files, try_lock

_SUFFIX = ".deblur-claim"
_FOREIGN = 3600.0  # seconds that the marker of another machine counts, whose life cannot be seen from here
_HOST = 8  # digits of a host's name, with which a marker begins
_UNSIGNED = 60.0  # the same for one that its maker has not signed yet


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The right to make one photo; without a marker where the folder allows none."""

    marker: Path | None
    descriptor: int = -1

    def release(self) -> None:
        """Let others have the photo; a second call does nothing."""
        if self.marker is None or self.marker not in own_files:
            return
        own_files.discard(self.marker)
        if os.name == "nt":  # there an open file cannot be removed; elsewhere one that is not locked may be another's
            os.close(self.descriptor)
        with suppress(OSError):
            self.marker.unlink()
        if os.name != "nt":
            os.close(self.descriptor)


def take(output: Path, run: str = "") -> Claim | None:
    """The claim of an output in a folder that is there; None while another run has it.

    Args:
        run: the name of a run of several machines.
    """
    return _take(_marker(output), run)


def holder(output: Path) -> str:
    """The host (`files.host`) of the marker of an output; empty where there is none that is signed."""
    with suppress(OSError):
        return _marker(output).read_text(encoding="ascii", errors="replace")[:_HOST]
    return ""


def is_taken(output: Path) -> bool:
    """Whether another run has the claim now."""
    marker = _marker(output)
    if not os.path.lexists(marker):
        return False
    claim = _take(marker)
    if claim is not None:
        claim.release()
    return claim is None


def remove_stale(folders: Iterable[Path]) -> None:
    """Remove the markers of runs that live no more."""
    for folder in folders:
        with suppress(OSError):
            for marker in [path for path in folder.iterdir() if path.name.endswith(_SUFFIX)]:
                claim = _take(marker)
                if claim is not None:
                    claim.release()


def _marker(output: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]  # of a long name only the beginning fits
    return output.with_name(f".{output.name[:40]}.{digest}{_SUFFIX}")


def _take(marker: Path, run: str = "") -> Claim | None:
    while True:
        try:
            descriptor, is_new = _open(marker)
        except OSError:
            return Claim(None)  # the writing will say what is wrong with the folder
        locked = try_lock(descriptor)
        if locked is False or not (is_new or _is_stale(descriptor, run, locked=bool(locked))):
            os.close(descriptor)
            return None
        if _is_there(marker, descriptor):
            break
        os.close(descriptor)
    with suppress(OSError):  # that of another user may not be written, yet the lock holds
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, os.write(descriptor, f"{host()}{run}".encode()))
    own_files.add(marker)
    return Claim(marker, descriptor)


def _open(marker: Path) -> tuple[int, bool]:
    """The descriptor of a marker, and whether it was made just now."""
    while True:
        with suppress(FileExistsError):
            return os.open(marker, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        try:
            return os.open(marker, os.O_RDWR | CAREFUL), False
        except FileNotFoundError:
            continue  # it was released between the two
        except PermissionError:
            return os.open(marker, os.O_RDONLY | CAREFUL), False


def _is_stale(descriptor: int, run: str, *, locked: bool) -> bool:
    """Whether the maker of a marker is gone: it runs here and has no lock on it, or it is too long ago to count."""
    signed, age = os.read(descriptor, 64).decode(errors="replace"), time.time() - os.fstat(descriptor).st_mtime
    if (locked and signed[:_HOST] == host()) or (run and signed[_HOST:] == run):
        return True
    return age > (_FOREIGN if signed else _UNSIGNED)


def _is_there(marker: Path, descriptor: int) -> bool:
    """Whether the open file is still the one of that name, and not one that was released just now."""
    try:
        return os.path.samestat(marker.stat(), os.fstat(descriptor))
    except OSError:
        return False
