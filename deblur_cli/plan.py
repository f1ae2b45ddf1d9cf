"""The plan of a batch, made before any work: every output is named, free or ours, and can be written.

Knows no network and no torch; leaves nothing on the disk.
"""

import os
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from deblur_cli.errors import BackendError, InputError, PhotoError
from deblur_cli.folders import check_writable, nearest_existing
from deblur_cli.image_io import find_misfit, probe_size, read_stamp
from deblur_cli.inputs import Found, FoundPhoto
from deblur_cli.naming import Layout
from deblur_cli.recipe import Recipe, same_recipe, stamped_input
from deblur_cli.weights import hash_file

Action = Literal["new", "replace", "skip"]

# The least that a photo takes on the disk, bytes per pixel: only a clear lack of space is refused.
_LEAST_BYTES = {"jpeg": 0.1, "webp": 0.05, "avif": 0.03, "png": 0.5, "tiff": 0.5}
_LISTED = 3  # pairs named in one message
_CLOCK = 2.0  # seconds that a file system may round the time of a file by: FAT's


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

    @property
    def pixels(self) -> int:
        """Size of the photo as its header tells it."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Plan:
    """What `deblur run` will do, and what `--dry-run` shows."""

    jobs: tuple[Job, ...]
    ignored: int  # files in scanned folders that are no photos

    @property
    def todo(self) -> tuple[Job, ...]:
        """The jobs with work in them."""
        return tuple(job for job in self.jobs if job.action != "skip")

    @property
    def skipped(self) -> tuple[Job, ...]:
        """The jobs whose output already carries the same stamp."""
        return tuple(job for job in self.jobs if job.action == "skip")


def build_plan(found: Found, layout: Layout, recipe: Recipe, *, overwrite: bool) -> Plan:
    """Name every output and look at what is already there.

    Raises:
        InputError: nothing found, colliding outputs, an output that is an input or somebody else's file,
            or a folder that cannot be written.
        BackendError: the disk clearly has not enough room.
    """
    jobs = _without_own_outputs([_place(photo, layout) for photo in found.photos])
    if not jobs:
        raise InputError(f"nothing to do: no photo found ({found.ignored} other files)")
    _check_collisions(jobs)
    _check_inputs_are_safe(jobs)
    check_writable({job.output.parent for job in jobs})
    _check_names(jobs)
    decided = [_measure(_decide(job, recipe, overwrite=overwrite)) for job in jobs]
    _check_fits(decided)
    _check_space(decided)
    return Plan(jobs=tuple(decided), ignored=found.ignored)


def _place(photo: FoundPhoto, layout: Layout) -> Job:
    output, file_format = layout.destination(photo)
    return Job(source=photo.path, output=output, file_format=file_format, action="new")


def _without_own_outputs(jobs: list[Job]) -> list[Job]:
    """Leave out inputs that an earlier run made from other inputs (`-o` is the input folder itself)."""
    outputs = {_output_key(job.output) for job in jobs if job.output != job.source}
    return [job for job in jobs if _output_key(job.source) not in outputs or _stamp_of(job.source) is None]


def _check_collisions(jobs: Iterable[Job]) -> None:
    taken: dict[str, Job] = {}
    pairs = []
    for job in jobs:
        first = taken.setdefault(_output_key(job.output), job)
        if first is not job:
            pairs.append(f"{first.source} and {job.source} -> {job.output}")
    if pairs:
        raise InputError(f"inputs share one output: {_listing(pairs)}; use --name, --suffix or separate folders")


def _output_key(path: Path) -> str:
    """Equal for names that some file system takes for the same file: case and Unicode form do not count."""
    return unicodedata.normalize("NFC", f"{_real_folder(path.parent)}/{path.name}").casefold()


@lru_cache(maxsize=4096)
def _real_folder(folder: Path) -> Path:
    return Path(os.path.realpath(folder))  # Path.resolve() raises on a link that leads to itself


def _check_inputs_are_safe(jobs: Sequence[Job]) -> None:
    """No output is an input, be it through a symbolic or a hard link."""
    inputs = {identity: job.source for job in jobs if (identity := _identity(job.source))}
    clashes = [job for job in jobs if _identity(job.output) in inputs]
    if clashes:
        names = _listing([str(job.output) for job in clashes])
        raise InputError(f"an output would replace an input: {names}; choose another --output, --name or --suffix")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_names(jobs: Iterable[Job]) -> None:
    """Every name fits the file system; it is asked where the folder is still to be made, too."""
    for job in jobs:
        try:
            nearest_existing(job.output.parent).joinpath(job.output.name).exists()
        except OSError as fault:
            raise InputError(f"{job.output}: cannot be written ({fault.strerror}); choose another name") from fault


def _decide(job: Job, recipe: Recipe, *, overwrite: bool) -> Job:
    if job.output.is_dir():
        raise InputError(f"{job.output}: is a folder, so no photo can be written there")
    if not job.output.exists() or job.output.stat().st_size == 0:
        return job
    if overwrite:
        return replace(job, action="replace")
    stamp = _stamp_of(job.output)
    if stamp is None:
        raise InputError(f"{job.output}: exists and was not made by this tool; use --overwrite to replace it")
    if _is_current(job, stamp, recipe):
        return replace(job, action="skip")
    if job.output.stat().st_mtime > job.source.stat().st_mtime + _CLOCK:
        raise InputError(f"{job.output}: is newer than its photo: was it edited? Use --overwrite to replace it")
    return replace(job, action="replace")


def _is_current(job: Job, stamp: str, recipe: Recipe) -> bool:
    claimed = stamped_input(stamp)
    wanted = recipe.stamp(file_format=job.file_format, input_sha256=claimed)
    return same_recipe(stamp, wanted) and _hash_input(job.source) == claimed


def _hash_input(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError:
        return ""  # the work will name the fault


def _stamp_of(path: Path) -> str | None:
    try:
        return read_stamp(path)
    except PhotoError:
        return None  # whatever it is, this tool did not finish it


def _measure(job: Job) -> Job:
    if job.action == "skip":
        return job
    try:
        width, height = probe_size(job.source)
    except PhotoError:
        return job
    return replace(job, width=width, height=height, misfit=find_misfit(job.source, job.file_format) or "")


def _check_fits(jobs: Iterable[Job]) -> None:
    """Refuse a plan in which no photo at all fits its format; a single one fails in the work and is told before."""
    todo = [job for job in jobs if job.action != "skip"]
    if todo and all(job.misfit for job in todo):
        raise InputError(_listing([f"{job.source}: {job.misfit}" for job in todo]))


def _check_space(jobs: Iterable[Job]) -> None:
    needed: dict[Path, float] = {}
    for job in jobs:
        if job.action == "new":
            folder = nearest_existing(job.output.parent)
            needed[folder] = needed.get(folder, 0) + job.pixels * _LEAST_BYTES[job.file_format]
    for folder, size in needed.items():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise BackendError(f"{folder}: about {size / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free; make room first")


def _listing(entries: Sequence[str]) -> str:
    more = len(entries) - _LISTED
    return "; ".join(entries[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def output_folders(jobs: Iterable[Job]) -> list[Path]:
    """The folders that the outputs of these jobs lie in, each once."""
    return sorted({Path(os.path.normpath(job.output.parent)) for job in jobs})
