"""Files that can be made again, kept on disk: whole or not there, checked, and never more than so many bytes.

Any number of processes may read and write at once. Nobody needs these files: a folder that cannot be written costs only
the time of making them again.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.system.files import find_leftovers, remove_leftovers, write_whole

_DIGEST = 32  # bytes of the sha256 that every file begins with


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """A folder of them, each with a name that says all that it depends on."""

    folder: Path
    most_bytes: int

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
        """Keep a content; a folder that is made for it is the user's alone."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self.folder / name, hashlib.sha256(content).digest() + content)

    def trim(self) -> None:
        """Remove what was not used for longest where there is too much; what was used last stays, however large."""
        with contextlib.suppress(OSError):
            remove_leftovers(find_leftovers([self.folder]))
            files = [(path, path.stat()) for path in self.folder.iterdir()]
            total = 0
            for index, (path, status) in enumerate(sorted(files, key=lambda pair: pair[1].st_mtime, reverse=True)):
                total += status.st_size
                if index and total > self.most_bytes:
                    path.unlink(missing_ok=True)
