"""A photo's file is written whole or not at all, and a fault is told with its path."""

import errno
import os
from pathlib import Path

from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.system.atomic import whole_file

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, content: bytes, times_of: os.stat_result | None) -> None:
    """Write `content` to `path` as `atomic.whole_file` does.

    Raises:
        BackendError: the disk is full.
        PhotoError: the system refuses in another way.
    """
    try:
        with whole_file(path, times_of) as temporary:
            temporary.write_bytes(content)
    except OSError as fault:
        if fault.errno in _FULL:
            raise BackendError(f"disk full: {path} was not written; free some space and run again") from fault
        reason = fault.strerror or fault
        raise PhotoError(f"{path}: cannot be written ({reason}); check the folder and its permissions") from fault
