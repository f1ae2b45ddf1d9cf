"""One photo, its output, and what may be done about a file that is already there. Writes nothing."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deblur_cli.batch.origin import belongs_to, is_as_written
from deblur_cli.batch.stamp import Stamp, same_recipe, stamped
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import read_stamp
from deblur_cli.system.hashing import hash_file

Action = Literal["new", "replace", "skip"]
FileState = tuple[int, int, int]  # inode, size, time in nanoseconds


@dataclass(frozen=True, slots=True)
class Job:
    """One photo: where it comes from, where it goes, and whether there is anything to do."""

    source: Path
    output: Path
    file_format: str
    action: Action
    width: int = 0  # 0 when the header cannot be read: the work will say why
    height: int = 0
    misfit: str = ""  # why the format cannot hold the photo: known now, so that nothing is worked for it
    seen: FileState | None = None  # what lay at the output when it was judged; None: nothing, or it was not judged

    @property
    def pixels(self) -> int:
        """Size of the photo as its header tells it."""
        return self.width * self.height


def decide(job: Job, recipe: Stamp, *, overwrite: bool) -> Job:
    """The job with its action, by the rule of `origin.py`.

    Raises:
        InputError: a file is there that must not be lost, or none can be written.
    """
    try:
        return _judge(job, recipe, overwrite=overwrite)
    except InputError:
        raise
    except Exception:  # the photo cannot be read, whatever is the matter: the work judges again, and names it
        return replace(job, action="replace", seen=None)


def decide_again(job: Job, recipe: Stamp, *, overwrite: bool) -> Job:
    """The job as it is now; as it was when nothing happened at its output since.

    Raises:
        InputError: as `decide`; a file has come that must not be lost.
        PhotoError: the photo cannot be read.
    """
    if _look(job.output) == job.seen:
        return job
    try:
        if _is_current(job, stamp_of(job.output), recipe):
            return replace(job, action="skip")  # another run made it meanwhile, which counts for --overwrite, too
        return _judge(job, recipe, overwrite=overwrite)
    except OSError as fault:
        reason = f"cannot be read ({fault.strerror or fault}); check the path and its permissions"
        raise PhotoError(f"{job.source}: {reason}") from fault


def _judge(job: Job, recipe: Stamp, *, overwrite: bool) -> Job:
    if job.output.is_dir():
        raise InputError(f"{job.output}: is a folder, so no photo can be written there")
    seen = _look(job.output)
    if seen is None or seen[1] == 0:
        return replace(job, action="new", seen=seen)
    job = replace(job, action="replace", seen=seen)
    if overwrite:
        return job
    stamp = stamp_of(job.output)
    if stamp is None:
        raise InputError(f"{job.output}: exists and was not made by this tool; use --overwrite to replace it")
    if _is_current(job, stamp, recipe):
        return replace(job, action="skip")
    if not belongs_to(stamp, job.source):
        raise InputError(
            f"{job.output}: was made from another photo than {job.source}; choose another --output or --name, "
            "or --overwrite to replace it"
        )
    if not is_as_written(job.output, stamp, job.source):
        raise InputError(f"{job.output}: was changed since this tool wrote it; use --overwrite to replace it")
    return job


def stamp_of(path: Path) -> str | None:
    """The stamp in a file; None for whatever this tool did not finish."""
    try:
        return read_stamp(path)
    except PhotoError:
        return None


def _look(path: Path) -> FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_current(job: Job, stamp: str | None, recipe: Stamp) -> bool:
    if stamp is None:
        return False
    claimed = stamped(stamp, "input_sha256")
    wanted = recipe.stamp(file_format=job.file_format, input_sha256=claimed)
    return same_recipe(stamp, wanted) and hash_file(job.source) == claimed
