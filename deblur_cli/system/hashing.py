"""The sha256 of a file. Knows bytes only."""

import hashlib
from pathlib import Path

_CHUNK = 1 << 20


def hash_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
