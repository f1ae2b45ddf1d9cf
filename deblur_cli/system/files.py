"""Files appear whole or not at all, what a killed writer leaves goes away; hashes and folders. Knows no photos.

Every file of this tool is first written beside its target as `.NAME.deblur-HOST-RANDOM.tmp`: a name that no two writers
share, be it on two machines or in two containers with one process number. The writer holds a lock on it. The system
takes that lock away when the writer dies, so a file of this host that is not locked has no writer; what another host
left is left alone, and so is what is not a minute old, for a writer between making the file and locking it.
"""

import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from deblur_cli.errors import InputError

_TEMPORARY = re.compile(r"\..+\.deblur-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
_OLD = 60.0  # seconds
# For files that somebody else made: no link is followed, no pipe is waited for.
CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

own_files: set[Path] = set()  # of this process, to be removed if it must end at once


@contextmanager
def whole_file(path: Path, times_of: os.stat_result | None = None) -> Iterator[Path]:
    """A temporary file to fill, which is flushed to the disk and renamed to `path` at the end of the block.

    Whatever happens before, Ctrl-C too, removes it and leaves an earlier file at `path` as it was. The folder is made.
    The permissions are the umask's, and the times those of `times_of` if it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a long name only the beginning, four bytes a character at most: file systems end at 255 bytes.
    temporary = path.with_name(f".{path.name[:40]}.deblur-{host()}-{secrets.token_hex(8)}.tmp")
    lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    own_files.add(temporary)
    try:
        if os.name == "nt":  # a file that is open cannot be renamed there, and not be removed either
            os.close(lock)
        else:
            try_lock(lock)
        yield temporary
        _flush(temporary)
        if times_of is not None:
            os.utime(temporary, ns=(times_of.st_atime_ns, times_of.st_mtime_ns))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        own_files.discard(temporary)
        if os.name != "nt":
            os.close(lock)


def write_whole(path: Path, content: bytes, times_of: os.stat_result | None = None) -> None:
    """Write bytes as `whole_file` does."""
    with whole_file(path, times_of) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` at the end of the block; there is none there, or an empty one.

    Whatever happens before, Ctrl-C too, removes it.
    """
    temporary = path.with_name(f".{path.name[:40]}.deblur-{host()}-{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            path.rmdir()
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_leftovers(folders: Iterable[Path], *, of_all: bool = False) -> list[Path]:
    """The temporary files of this host, or of all hosts, in these folders; of living writers too."""
    names = ((path, _TEMPORARY.fullmatch(path.name)) for folder in folders for path in _list(folder))
    return [path for path, found in names if found and (of_all or found[1] == host())]


def remove_leftovers(found: Iterable[Path], *, age: float = _OLD) -> list[Path]:
    """Remove those whose writer is dead, and that are so old at least; which are left. What cannot be removed is left.

    Args:
        age: seconds; 0 only where no other writer can be about to begin (`claims.py`).
    """
    return [path for path in found if not _remove_abandoned(path, age)]


def is_leftover_of(path: Path, target: Path) -> bool:
    """Whether this temporary file was to become `target`."""
    return path.parent == target.parent and path.name.startswith(f".{target.name}.deblur-")


def remove_own_files() -> None:
    """Remove what this process is writing; only for when it ends at once."""
    for path in tuple(own_files):
        with suppress(OSError):
            path.unlink()


@cache
def host() -> str:
    """Eight digits for this machine or container."""
    name = socket.gethostname()
    with suppress(OSError):
        name += Path("/etc/machine-id").read_text(encoding="ascii", errors="replace")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed; False: somebody else has it locked, None: nobody can here."""
    if os.name == "nt":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems without locks
        return None
    return True


def _remove_abandoned(path: Path, age: float) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | CAREFUL)
    except OSError:
        return False
    try:
        # The change of the entry counts: the time of the content may have been set to that of a photo.
        if time.time() - os.fstat(descriptor).st_ctime < age or not try_lock(descriptor):
            return False
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _list(folder: Path) -> Iterator[Path]:
    with suppress(OSError):  # not there yet, or it may not be listed
        yield from folder.iterdir()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_CHUNK = 1 << 20


def hash_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# Thumbnails, snapshots and deleted files of Synology, QNAP, Windows, macOS, netatalk and unpackers, in lower case.
_OF_OTHER_PROGRAMS = frozenset(
    {"@eadir", "@tmp", "@__thumb", "@recycle", "@recently-snapshot", "@snapshot", "@sharesnap", "@sharebin"}
    | {"#recycle", "#snapshot", "$recycle.bin", "recycler", "recycled", "system volume information", "__macosx"}
    | {"network trash folder", "temporary items"}
)


def is_no_place_for_photos(name: str) -> bool:
    """Whether a folder is hidden, or holds what other programs made of photos; it is only entered when named."""
    return name.startswith(".") or name.casefold() in _OF_OTHER_PROGRAMS


def check_writable(folders: Iterable[Path]) -> None:
    """Try to write where each folder is, or will be made; nothing stays.

    Raises:
        InputError: a file is in the way, or the system refuses.
    """
    for folder in sorted({nearest_existing(folder) for folder in folders}):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as fault:
            raise InputError(f"{folder}: cannot write here ({fault.strerror})") from fault


def nearest_existing(folder: Path) -> Path:
    """The folder itself or the closest one above it that is already there.

    Raises:
        InputError: a file is in the way, or the system does not let us look.
    """
    try:
        while not folder.is_dir():
            if folder.exists() or folder.is_symlink():
                raise InputError(f"{folder}: is a file, so no folder can be made there")
            folder = folder.parent
    except OSError as fault:
        raise InputError(f"{folder}: cannot write here ({fault.strerror})") from fault
    return folder


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort key under which blur_2 stands before blur_10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
