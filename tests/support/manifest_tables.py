"""Entries of a manifest as a user may write them, and the bytes of a file that is no network."""

import hashlib

BYTES = b"weights" * 100
SHA256 = hashlib.sha256(BYTES).hexdigest()
COMMIT = "0123456789abcdef" * 2 + "01234567"
HUB = {"repository": "a/b", "revision": COMMIT, "name": "c.pth", "licence": "MIT", "source": "s"}
MODEL = {"backend": "expert", "summary": "s", "files": {"expert": "f"}}
