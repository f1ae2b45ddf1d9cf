"""Whose result a file is, and whether it is still as it was written: what may be replaced without asking.

The rule, in the order of the questions:

1. A file without this tool's stamp is somebody else's.
2. A result belongs to a photo when the stamp names the sha256 of the photo's file (it may have been moved, renamed or
   copied) or else the sha256 of its pixels, decoded and independent of how they are turned: a rating, a keyword, a
   new orientation or a lossless copy change the file and not the photo. Everything else is another photo, whatever it
   is called and wherever it lies: memory cards count their pictures from 1 again, and are mounted at one place. That
   holds for a photo that was developed or cropped anew, too: its result may be worth keeping.
3. A result is as it was written when its seal (`seal.py`) is unbroken; its time does not matter then.
4. Stamps of before name neither pixels nor seal. For them only the same file is the same photo, and a result that is
   newer than its photo is taken for edited.

Only a result that belongs to the photo and is as it was written is replaced without `--overwrite`.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from deblur_cli.batch.jobs import FileState, Job
from deblur_cli.batch.stamp import Stamp, describe_same_work, stamped
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import Photo, read_photo, read_stamp
from deblur_cli.image_io.seal import BLANK, is_unbroken
from deblur_cli.system.files import hash_file

_CLOCK = 2.0  # seconds that a file system may round the time of a file by: FAT's
_SAMPLES = 32  # of each half of an axis
_ROWS = 256  # hashed at a time: a turned picture is copied to be hashed
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """What identifies a photo that was read, and the times of its file."""

    input_sha256: str
    pixels_sha256: str
    times: os.stat_result

    @property
    def proofs(self) -> dict[str, str]:
        """What a stamp says of the photo, and the place for the seal of its own file."""
        return {"input_sha256": self.input_sha256, "pixels_sha256": self.pixels_sha256, "result_sha256": BLANK}


def read_original(source: Path) -> tuple[Photo, Origin]:
    """Read a photo and what identifies it; the bytes that are hashed are those that are decoded.

    Raises:
        PhotoError: as `read_photo`, or the file is replaced or changed again and again while it is read.
    """
    for _ in range(_TRIES):
        try:
            times, digest = source.stat(), hash_file(source)
            photo = read_photo(source)
            if hash_file(source) == digest:
                return photo, Origin(digest, hash_pixels(photo), times)
        except OSError:
            read_photo(source)  # it knows how to tell a file that cannot be opened
    raise PhotoError(f"{source}: changes while it is read; run again when whoever writes it has finished")


def decide(job: Job, stamp: Stamp, *, overwrite: bool) -> Job:
    """The job with its action, by the rule above.

    Raises:
        InputError: a file is there that must not be lost, or none can be written.
    """
    try:
        return _judge(job, stamp, overwrite=overwrite, again=False)
    except InputError:
        raise
    except Exception:  # the photo cannot be read, whatever is the matter: the work judges again, and names it
        return replace(job, action="replace", seen=None)


def decide_again(job: Job, stamp: Stamp, *, overwrite: bool) -> Job:
    """The job as it is now; as it was when nothing happened at its output since.

    Raises:
        InputError: as `decide`; a file has come that must not be lost.
        PhotoError: the photo cannot be read.
    """
    if _look(job.output) == job.seen:
        return job
    try:
        return _judge(job, stamp, overwrite=overwrite, again=True)
    except OSError as fault:
        reason = f"cannot be read ({fault.strerror or fault}); check the path and its permissions"
        raise PhotoError(f"{job.source}: {reason}") from fault


def stamp_of(path: Path) -> str | None:
    """The stamp in a file; None for whatever this tool did not finish."""
    try:
        return read_stamp(path)
    except PhotoError:
        return None


def _judge(job: Job, stamp: Stamp, *, overwrite: bool, again: bool) -> Job:
    if job.output.is_dir():
        raise InputError(f"{job.output}: is a folder, so no photo can be written there")
    seen = _look(job.output)
    if seen is None or seen[1] == 0:
        return replace(job, action="new", seen=seen)
    job = replace(job, action="replace", seen=seen)
    if overwrite and not again:
        return job
    found = stamp_of(job.output)
    digest = "" if found is None else hash_file(job.source)
    if found is not None and describe_same_work(found, stamp.text(file_format=job.file_format, input_sha256=digest)):
        return replace(job, action="skip")  # if another run made it meanwhile, that counts for --overwrite, too
    if overwrite:
        return job
    if found is None:
        raise InputError(f"{job.output}: exists and was not made by this tool; use --overwrite to replace it")
    if not belongs_to(found, job.source, digest):
        raise InputError(
            f"{job.output}: was made from another photo than {job.source}; choose another --output or --name, "
            "or --overwrite to replace it"
        )
    if not _is_as_written(job.output, found, job.source):
        raise InputError(f"{job.output}: was changed since this tool wrote it; use --overwrite to replace it")
    return job


def _look(path: Path) -> FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def belongs_to(found: str, source: Path, digest: str) -> bool:
    """Whether the result with this stamp was made from the photo in `source`, a file with this sha256."""
    if stamped(found, "input_sha256") == digest:
        return True
    pixels = stamped(found, "pixels_sha256")
    return bool(pixels) and hash_pixels(read_photo(source)) == pixels


def _is_as_written(output: Path, found: str, source: Path) -> bool:
    """Whether nobody changed the result with this stamp since this tool wrote it."""
    digest = stamped(found, "result_sha256")
    if digest not in ("", BLANK):
        return is_unbroken(output.read_bytes(), digest)
    return output.stat().st_mtime <= source.stat().st_mtime + _CLOCK


def hash_pixels(photo: Photo) -> str:
    """The sha256 of a photo's pixels, the same for all eight ways to turn and mirror them."""
    planes = photo.pixels if photo.alpha is None else np.dstack((photo.pixels, photo.alpha))
    rows, columns = (_spread(length) for length in planes.shape[:2])
    sample = planes[np.ix_(rows, columns)]
    turns = list(product((False, True), repeat=3))
    # A few pixels say which way is the first; where the sample is symmetric, all the ways are hashed.
    keys = [(_turn(planes, *turn).shape, _turn(sample, *turn).tobytes()) for turn in turns]
    return min(_hash(_turn(planes, *turn)) for turn, key in zip(turns, keys, strict=True) if key == min(keys))


def _spread(length: int) -> "np.typing.NDArray[np.intp]":
    """Places along an axis that are the same from either end."""
    half = np.linspace(0, (length - 1) // 2, _SAMPLES).astype(np.intp)
    return np.concatenate((half, length - 1 - half[::-1]))


def _turn(
    planes: "np.typing.NDArray[np.generic]", rows: bool, columns: bool, across: bool
) -> "np.typing.NDArray[np.generic]":
    mirrored = planes[:: -1 if rows else 1, :: -1 if columns else 1]
    return mirrored.swapaxes(0, 1) if across else mirrored


def _hash(planes: "np.typing.NDArray[np.generic]") -> str:
    digest = hashlib.sha256(f"{planes.shape} {planes.dtype.newbyteorder('=').str}".encode())
    for row in range(0, len(planes), _ROWS):
        digest.update(np.ascontiguousarray(planes[row : row + _ROWS]).data)
    return digest.hexdigest()
