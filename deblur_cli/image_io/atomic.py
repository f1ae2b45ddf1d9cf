"""A file appears whole or not at all. Knows nothing about photos."""

import errno
import os
from pathlib import Path

from deblur_cli.errors import BackendError, PhotoError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, content: bytes, times_of: Path | None) -> None:
    """Write `content` to `path`; the modification time is that of `times_of`, permissions are the umask's.

    A temporary file beside the target is flushed to the disk and then renamed. Whatever happens before,
    Ctrl-C too, removes it and leaves an earlier file at `path` as it was.

    Raises:
        BackendError: the disk is full.
        PhotoError: the system refuses in another way.
    """
    # Of a long name only the beginning, four bytes a character at most: file systems end at 255 bytes.
    temporary = path.with_name(f".{path.name[:50]}.deblur-{os.getpid()}.tmp")
    try:
        try:
            _write_synced(temporary, content)
            if times_of is not None:
                times = times_of.stat()
                os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as fault:
        if fault.errno in _FULL:
            raise BackendError(f"disk full: {path} was not written; free some space and run again") from fault
        reason = fault.strerror or fault
        raise PhotoError(f"{path}: cannot be written ({reason}); check the folder and its permissions") from fault


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
