"""The working half of `deblur inspect`: photos are found, looked at one by one, and told."""

from collections.abc import Sequence
from typing import Any

from deblur_cli.batch.inputs import Found, PhotoSearch, find_photos, read_list
from deblur_cli.batch.inspection import Inspection, inspect_photo
from deblur_cli.commands.progress import Gauge, choose_display
from deblur_cli.commands.streams import write_json, write_note
from deblur_cli.commands.table import show_table
from deblur_cli.errors import BatchFailed, InputError, PhotoError
from deblur_cli.system.version import __version__
from deblur_cli.system.wording import count

_SCHEMA = 1  # fields are only ever added
_HEADING = ("photo", "verdict", "length", "direction", "sharpness", "noise", "choice")


def do_inspect(inputs: Sequence[str], files_from: str | None, *, recursive: bool, as_object: bool, quiet: bool) -> None:
    """Tell what can be told, then raise what the exit status must show.

    Raises:
        InputError: as `find_photos`, or there is no photo.
        BatchFailed: a photo could not be read, or a folder not listed; each was named.
    """
    listed = read_list(files_from) if files_from is not None else []
    found = find_photos(inputs, listed, PhotoSearch(recursive, None))
    for line in found.unread:
        write_note(line)
    if not found.photos:
        raise InputError(f"nothing to do: no photo found ({count(found.ignored, 'other file')})")
    told, failed = _look(found, quiet=quiet or as_object)
    if as_object:
        write_json(_describe_all(told, failed, found), indent=2)
    elif told:
        show_table(_HEADING, [_to_row(inspection) for inspection in told])
    if failed:
        raise BatchFailed(f"{len(failed)} of {count(len(found.photos), 'photo')} could not be read")
    if found.unread:
        raise BatchFailed(f"{count(len(found.unread), 'folder')} could not be listed; the photos there are left out")


def _look(found: Found, *, quiet: bool) -> tuple[list[Inspection], list[tuple[str, str]]]:
    told: list[Inspection] = []
    failed: list[tuple[str, str]] = []
    gauge = Gauge(len(found.photos))
    with choose_display(quiet=quiet) as display:
        for photo in found.photos:
            try:
                told.append(inspect_photo(photo.path))
            except PhotoError as fault:
                failed.append((str(photo.path), str(fault)))
                display.note(str(fault))
            gauge.done += 1
            gauge.text = f"{int(gauge.done)}/{count(len(found.photos), 'photo')}"
            display.show(gauge)
    return told, failed


def _to_row(inspection: Inspection) -> tuple[str, ...]:
    blur = inspection.blur
    motion = (f"{blur.length:.0f}", f"{blur.direction:.0f}") if blur.is_moved else ("-", "-")
    numbers = ("-", "-") if blur.verdict == "empty" else (f"{blur.sharpness:.2f}", f"{blur.noise:.1f}")
    return (str(inspection.photo), blur.verdict, *motion, *numbers, inspection.choice)


def _describe_all(told: list[Inspection], failed: list[tuple[str, str]], found: Found) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "tool": "deblur-cli",
        "version": __version__,
        "photos": [_describe(inspection) for inspection in told],
        "failed": [{"input": path, "message": message} for path, message in failed],
        "folders_not_listed": list(found.unread),
    }


def _describe(inspection: Inspection) -> dict[str, Any]:
    blur = inspection.blur
    moved = blur.is_moved
    return {
        "input": str(inspection.photo),
        "width": inspection.width,
        "height": inspection.height,
        "verdict": blur.verdict,
        "length": round(blur.length, 1) if moved else None,
        "direction": round(blur.direction, 1) if moved else None,
        "direction_clearness": round(blur.clear, 3) if moved else None,
        "sharpness": round(blur.sharpness, 3),
        "noise": round(blur.noise, 2),
        "shares": dict(zip(("sharp", "motion", "defocus"), (round(share, 3) for share in blur.shares), strict=True)),
        "choice": inspection.choice,
    }
