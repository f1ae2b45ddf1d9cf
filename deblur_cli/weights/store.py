"""Where weights files lie on this machine, and whether their bytes are the promised ones. Never goes to the network.

Hub files lie in the Hub's own cache, where other programs share them. What the user brings by hand, and small
notes about what was verified, lie in `deblur/` beside it, below HF_HOME.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.system.files import find_leftovers, hash_file, remove_leftovers, whole_file, write_whole
from deblur_cli.weights.entries import WeightsFile

State = Literal["bundled", "cached", "imported", "local", "absent", "damaged"]

PACKAGE = Path(__file__).parents[1]
FULL = (errno.ENOSPC, errno.EDQUOT)
_CHUNK = 1 << 20


def locate(file: WeightsFile) -> Path | None:
    """Where the file lies now, unchecked; None when it is not on this machine."""
    path = _place(file)
    if path is not None:
        return path if path.is_file() else None
    candidates = [imported_path(file)] + ([cached_path(file)] if file.kind == "hub" else [])
    return next((path for path in candidates if path.is_file()), None)


def imported_path(file: WeightsFile) -> Path:
    """Where `deblur weights import` puts the file."""
    return _folder() / "files" / file.key / (Path(file.name).name or "weights")


def cached_path(file: WeightsFile) -> Path:
    """Where huggingface_hub puts the file; this layout is part of its documentation."""
    return cached_repository(file) / "snapshots" / file.revision / file.name


def cached_repository(file: WeightsFile) -> Path:
    """The folder of a Hub file's repository in the Hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{file.repository.replace('/', '--')}"


def find_state(file: WeightsFile) -> State:
    """What `deblur weights list` tells; big files count as sound when their size is right."""
    path = locate(file)
    if path is None:
        return "absent"
    is_bundled = file.kind == "bundled"
    expected, known = expected_sha256(file), _hash_once(path, *_stamp(path)) if is_bundled else recall_hash(path)
    if _size_fault(file, path) or (known is not None and expected not in (None, known)):
        return "damaged"
    if is_bundled or file.kind == "local":
        return "bundled" if is_bundled else "local"
    return "imported" if path == imported_path(file) else "cached"


def find_fault(file: WeightsFile, path: Path, *, thorough: bool = False) -> str | None:
    """Why these bytes are not the promised ones, or None when they are.

    Args:
        thorough: read the file even if it has not changed since it was last read.
    """
    if wrong := _size_fault(file, path):
        return wrong
    known = None if thorough or file.kind == "bundled" else recall_hash(path)
    try:
        found = known or hash_file(path)
    except OSError as fault:
        raise WeightsError(f"{path}: cannot be read ({fault.strerror}); check its permissions") from fault
    if known is None and file.kind != "bundled":
        _remember_hash(path, found)
    expected = expected_sha256(file)
    return None if expected in (None, found) else f"sha256 is {found[:12]}…, expected {str(expected)[:12]}…"


def expected_sha256(file: WeightsFile) -> str | None:
    """The sha256 that the manifest promises, else the one that the first use has pinned."""
    if file.sha256 is not None:
        return file.sha256
    found = _read_note("pins", file.origin).get("sha256")
    return found if isinstance(found, str) else None


def pin(file: WeightsFile, sha256: str) -> None:
    """From now on only these bytes will do for a file whose hash nobody has published."""
    _write_note("pins", file.origin, {"key": file.key, "sha256": sha256})


def with_pin(file: WeightsFile) -> WeightsFile:
    """The file with its pinned hash where only that tells one from another: one that is fetched by hand.

    A Hub file without a hash has its commit instead, so that its identity is the same before and after its first use.
    """
    return replace(file, sha256=expected_sha256(file)) if file.kind == "page" else file


def recall_hash(path: Path) -> str | None:
    """The sha256 of a file that was read before and has kept its size and time since."""
    note = _read_note("verified", str(path.resolve()))
    found = note.get("sha256")
    return found if isinstance(found, str) and note.get("stamp") == _stamp(path) else None


def known_hash(path: Path) -> str:
    """The sha256 of a file, which is read only if it has changed since it was read before."""
    return recall_hash(path) or hash_file(path)


def import_file(file: WeightsFile, source: Path) -> Path:
    """Take a file that was fetched by hand: check it, and copy it to the tool's own store.

    Raises:
        InputError: it is no file, or the tool has this one already.
        WeightsError: its bytes are not the promised ones, or the disk is full.
    """
    if file.kind in ("bundled", "local"):
        raise InputError(f"{file.key}: needs no import, it lies at {_place(file)}")
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if wrong := _size_fault(file, source):
        raise WeightsError(f"{source}: {wrong}; this is not {file.key}, fetch it again from {file.origin}")
    target = imported_path(file)
    remove_leftovers(find_leftovers([target.parent]))
    try:
        with whole_file(target) as temporary:
            found = _copy_verified(file, source, temporary)
    except OSError as fault:
        raise disk_fault(fault, target) from fault
    _remember_hash(target, found)
    return target


def discard(path: Path) -> None:
    """Remove a file with the wrong bytes; where the Hub's cache links to them, the links and the bytes.

    Raises:
        WeightsError: the system does not let us.
    """
    try:
        while path.is_symlink():
            target = path.parent / path.readlink()
            path.unlink()
            path = target
        path.unlink(missing_ok=True)
    except OSError as fault:
        wrong = "has the wrong bytes and cannot be removed"
        raise WeightsError(f"{path}: {wrong} ({fault.strerror}); remove it yourself") from fault


def remove_imported(file: WeightsFile) -> None:
    """Remove what `deblur weights import` has put there, if anything."""
    shutil.rmtree(imported_path(file).parent, ignore_errors=True)


def disk_fault(fault: OSError, path: Path) -> WeightsError:
    """The line for a disk that is full or a folder that cannot be written."""
    if fault.errno in FULL:
        return WeightsError(
            f"disk full: {path.parent} cannot take {path.name}; free some space or set HF_HOME elsewhere"
        )
    return WeightsError(
        f"{path}: cannot be written ({fault.strerror or fault}); check the folder or set HF_HOME elsewhere"
    )


def _place(file: WeightsFile) -> Path | None:
    """The one place of a bundled or local file."""
    if file.kind == "bundled":
        return PACKAGE / file.path
    return Path(file.local) if file.kind == "local" else None


def _size_fault(file: WeightsFile, path: Path) -> str | None:
    size = path.stat().st_size
    return None if file.bytes in (None, size) else f"has {size} bytes, expected {file.bytes}"


def _copy_verified(file: WeightsFile, source: Path, target: Path) -> str:
    """The sha256 of what was copied. For a file fetched by hand the user's choice replaces an earlier pin."""
    with source.open("rb") as reader, target.open("wb") as writer:
        found = _copy_hashing(reader, writer)
    expected = file.sha256 if file.kind == "page" else expected_sha256(file)
    if expected not in (None, found):
        fault = f"sha256 is {found[:12]}…, expected {str(expected)[:12]}…"
        raise WeightsError(f"{source}: {fault}; this is not {file.key}, fetch it again from {file.origin}")
    if expected is None:
        pin(file, found)
    return found


def _copy_hashing(reader: BinaryIO, writer: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := reader.read(_CHUNK):
        digest.update(chunk)
        writer.write(chunk)
    return digest.hexdigest()


def own_folder(kind: str) -> Path:
    """Where the tool keeps what it makes itself of that kind."""
    return _folder() / kind


def _folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "deblur"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


@lru_cache
def _hash_once(path: Path, *_version: int) -> str:
    """The sha256 of a file, read once as long as its stamp stays; most bundled files belong to several models."""
    return hash_file(path)


def _remember_hash(path: Path, sha256: str) -> None:
    _write_note("verified", str(path.resolve()), {"stamp": _stamp(path), "sha256": sha256})


def _note_path(kind: str, subject: str) -> Path:
    return _folder() / kind / f"{hashlib.sha256(os.fsencode(subject)).hexdigest()[:32]}.json"


def _read_note(kind: str, subject: str) -> dict[str, Any]:
    """A note a file, so that processes and threads never write the same one at once with different content."""
    try:
        note = json.loads(_note_path(kind, subject).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and note.get("subject") == subject else {}


def _write_note(kind: str, subject: str, content: dict[str, Any]) -> None:
    """A folder that cannot be written costs only the memory: the next start reads the file again."""
    with contextlib.suppress(OSError):
        write_whole(_note_path(kind, subject), json.dumps({"subject": subject, **content}).encode())
