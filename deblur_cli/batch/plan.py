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

from deblur_cli.batch.inputs import Found, FoundPhoto
from deblur_cli.batch.jobs import Job
from deblur_cli.batch.naming import FixedLayout, Layout
from deblur_cli.batch.origin import decide, stamp_of
from deblur_cli.batch.stamp import Stamp
from deblur_cli.errors import BackendError, InputError, PhotoError
from deblur_cli.image_io import find_misfit, read_header
from deblur_cli.image_io.formats import writer_of
from deblur_cli.system.files import check_writable, natural_key, nearest_existing
from deblur_cli.system.parts import WHOLE, Part
from deblur_cli.system.wording import count

_LISTED = 3  # pairs named in one message


@dataclass(frozen=True, slots=True)
class Plan:
    """What `deblur run` will do, and what `--dry-run` shows."""

    jobs: tuple[Job, ...]
    ignored: int  # files in scanned folders that are no photos
    results: int = 0  # results of this tool that were met among the photos, and left out
    unread: tuple[str, ...] = ()  # a line for each sub-folder that could not be listed
    part: Part = WHOLE  # which of the whole plan's jobs these are

    @property
    def todo(self) -> tuple[Job, ...]:
        """The jobs with work in them."""
        return tuple(job for job in self.jobs if job.action != "skip")

    @property
    def skipped(self) -> tuple[Job, ...]:
        """The jobs whose output already carries the same stamp."""
        return tuple(job for job in self.jobs if job.action == "skip")


def build_plan(
    found: Found, layout: Layout | FixedLayout, stamp: Stamp, *, overwrite: bool, part: Part = WHOLE
) -> Plan:
    """Name every output and look at what is already there.

    Args:
        part: of the jobs, in the natural order of their photos. Names are checked for the whole plan, so that no two
            parts write one file; only what lies at a part's own outputs is looked at.
    Raises:
        InputError: nothing found, colliding outputs, an output that is an input or somebody else's file,
            or a folder that cannot be written.
        BackendError: the disk clearly has not enough room.
    """
    jobs = [_place(photo, layout) for photo in found.photos]
    jobs, results = _without_own_results(jobs, found)
    if not jobs:
        raise InputError(_describe_nothing(found, results))
    _check_collisions(jobs, layout, found)
    _check_inputs_are_safe(jobs)
    check_writable({job.output.parent for job in jobs})
    _check_names(jobs)
    decided = [_measure(decide(job, stamp, overwrite=overwrite)) for job in _take_part(jobs, part)]
    _check_fits(decided)
    _check_space(decided)
    return Plan(tuple(decided), found.ignored, results, found.unread, part)


def _take_part(jobs: list[Job], part: Part) -> list[Job]:
    """The jobs of a part; which they are does not depend on the order of the arguments, which a shell may change."""
    if part.count == 1:
        return jobs
    return part.pick(sorted(jobs, key=lambda job: (natural_key(str(job.source)), str(job.source))))


def _describe_nothing(found: Found, results: int) -> str:
    parts = [f"nothing to do: no photo found ({count(found.ignored, 'other file')})", *found.unread]
    if results:
        parts.append(f"{count(results, 'result')} of this tool left out; name a file to restore it again")
    return "; ".join(parts)


def _place(photo: FoundPhoto, layout: Layout | FixedLayout) -> Job:
    output, file_format = layout.destination(photo)
    return Job(source=photo.path, output=output, file_format=file_format, action="new")


def _without_own_results(jobs: list[Job], found: Found) -> tuple[list[Job], int]:
    """Leave out what this tool made, unless the user names it; and how many were left out.

    Of the named ones those go, too, that the same command line makes of other inputs (`*.jpg` of a shell).
    """
    outputs = {_output_key(job.output) for job in jobs if job.output != job.source}
    named = {photo.path for photo in found.photos if photo.named}
    kept = [
        job
        for job in jobs
        if (job.source in named and _output_key(job.source) not in outputs) or stamp_of(job.source) is None
    ]
    return kept, len(jobs) - len(kept)


def _check_collisions(jobs: Sequence[Job], layout: Layout | FixedLayout, found: Found) -> None:
    pairs = _find_collisions(jobs)
    if not pairs:
        return
    kept = {job.source for job in jobs}
    photos = [photo for photo in found.photos if photo.path in kept]
    telling = layout.telling_types_apart()
    if telling and not _find_collisions([_place(photo, telling) for photo in photos]):
        advice = f"tell them apart by their own suffixes: --name '{telling.name}'"
    else:
        advice = "give each an --output of its own"
    raise InputError(f"inputs share one output: {_listing(pairs)}; {advice}")


def _find_collisions(jobs: Iterable[Job]) -> list[str]:
    taken: dict[str, Job] = {}
    pairs = []
    for job in jobs:
        first = taken.setdefault(_output_key(job.output), job)
        if first is not job:
            pairs.append(f"{first.source} and {job.source} -> {job.output}")
    return pairs


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
        raise InputError(f"an output would replace an input: {names}; choose another --output or --name")


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


def _measure(job: Job) -> Job:
    if job.action == "skip":
        return job
    try:
        header = read_header(job.source)
    except PhotoError:
        return job
    width, height = header.shown_size
    return replace(job, width=width, height=height, misfit=find_misfit(job.source, job.file_format, header) or "")


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
            needed[folder] = needed.get(folder, 0) + job.pixels * writer_of(job.file_format).least_bytes
    for folder, size in needed.items():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise BackendError(f"{folder}: about {size / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free; make room first")


def _listing(entries: Sequence[str]) -> str:
    more = len(entries) - _LISTED
    return "; ".join(entries[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
