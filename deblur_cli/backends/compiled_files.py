"""Compiled networks on disk, below the tool's own folder: whole or not there, checked, and never more than a gigabyte.

Any number of processes may read and write at once. Nobody needs these files: a folder that cannot be written costs only
the time of compiling again.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.system.files import find_leftovers, remove_leftovers, write_whole
from deblur_cli.weights.store import own_folder

MOST_BYTES = 1 << 30  # bytes of all files together
_DIGEST = 32  # bytes of the sha256 that every file begins with


@dataclass(frozen=True, slots=True)
class CompiledFiles:
    """A folder of them, each with a name that says all that it depends on."""

    folder: Path

    @classmethod
    def of_user(cls) -> "CompiledFiles":
        """Those below HF_HOME."""
        return cls(own_folder("compiled"))

    def read(self, name: str) -> bytes | None:
        """The content; None where it is not there or damaged."""
        path = self.folder / name
        try:
            whole = path.read_bytes()
        except OSError:
            return None
        digest, content = whole[:_DIGEST], whole[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what was used last is removed last
        return content

    def write(self, name: str, content: bytes) -> None:
        """Keep a content, and remove what was not used for longest where there is too much."""
        with contextlib.suppress(OSError):
            write_whole(self.folder / name, hashlib.sha256(content).digest() + content)
            remove_leftovers(find_leftovers([self.folder]))
            self._remove_oldest(name)

    def _remove_oldest(self, name: str) -> None:
        files = [(path, path.stat()) for path in self.folder.iterdir() if path.name != name]
        total = (self.folder / name).stat().st_size
        for path, status in sorted(files, key=lambda pair: pair[1].st_mtime, reverse=True):
            total += status.st_size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)
