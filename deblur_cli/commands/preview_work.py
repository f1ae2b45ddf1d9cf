"""The working half of `deblur preview`: crops are restored, and laid out on a sheet."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from deblur_cli import backends
from deblur_cli.backends import Watch, restore_crop, restore_image, restores_whole
from deblur_cli.batch.inputs import PhotoSearch, find_photos
from deblur_cli.batch.looks.crops import Crop, choose_crop, to_picture
from deblur_cli.batch.looks.faces import choose_face
from deblur_cli.batch.looks.sheet import (
    AS_TAKEN,
    DrawnRow,
    Sheet,
    SheetPhoto,
    draw_sheet,
    make_look,
    write_page,
    write_sheet_file,
)
from deblur_cli.batch.selection import Selection, mix
from deblur_cli.commands.progress import Gauge, choose_display, format_duration
from deblur_cli.commands.streams import write_note, write_result
from deblur_cli.errors import BatchFailed, InputError, PhotoError
from deblur_cli.image_io import Photo, probe_size, read_photo
from deblur_cli.system.devices import tune_malloc
from deblur_cli.system.page_pictures import LOSSLESS
from deblur_cli.system.wording import count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deblur_cli.weights.model_spec import ResolvedModel


@dataclass(frozen=True, slots=True)
class PreviewTask:
    """Everything that `deblur preview` was told."""

    inputs: tuple[str, ...]
    output: Path
    crop: Crop | None
    models: "list[ResolvedModel]"
    device: str
    dtype: str
    tile: int | None
    seed: int
    selection: Selection | None
    quiet: bool


@dataclass(slots=True)
class _Part:
    """A place in a photo, how much of it is to be restored, (h, w), what it shows if that is known, and its versions so
    far as (name, remark, picture).
    """

    crop: Crop
    weights: "NDArray[np.float32] | None" = None
    subject: str = ""
    looks: list[tuple[str, str, Image.Image]] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    """One photo, and the places in it; none before it was read."""

    source: Path
    size: tuple[int, int] = (0, 0)
    parts: list[_Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fault: str = ""


def do_preview(task: PreviewTask) -> None:
    """Restore the crops and write the sheet.

    Raises:
        InputError: no photo, or a crop that lies outside of one; nothing is written then.
        BatchFailed: a photo could not be read or restored; the sheet says so.
    """
    found = find_photos(task.inputs, (), PhotoSearch(recursive=False, excluded=None))
    if not found.photos:
        raise InputError("nothing to do: no photo found")
    rows = [_Row(photo.path) for photo in found.photos]
    if task.crop is not None:
        for row in rows:
            _check_inside(task.crop, row.source)
    started, gauge = time.perf_counter(), Gauge(len(rows) * len(task.models))
    tune_malloc()
    with choose_display(quiet=task.quiet) as display:
        for model in task.models:
            gauge.text = f"{describe_choice(model)}"
            display.show(gauge)
            # By the module: the tests put another loader in its place.
            backend = backends.load_model(model, device=task.device, dtype=task.dtype)
            for row in rows:
                _restore(row, model, backend, task)
                gauge.done += 1
                display.show(gauge)
    for row in rows:
        if row.fault:
            write_note(row.fault)
    _write(task, rows)
    write_result(str(task.output))
    if not task.quiet:
        done = f"{count(len(rows), 'photo')}, {count(len(task.models), 'choice')}"
        write_note(f"{done} in {format_duration(time.perf_counter() - started)}")
    failed = sum(bool(row.fault) for row in rows)
    if failed:
        raise BatchFailed(f"{failed} of {count(len(rows), 'photo')} failed; the sheet says so")


def describe_choice(model: "ResolvedModel") -> str:
    """A model's name, with its strength if it has one."""
    strength = model.settings.get("strength")
    return model.name if strength is None else f"{model.name}, strength {strength:g}"


def _check_inside(crop: Crop, source: Path) -> None:
    try:
        width, height = probe_size(source)
    except PhotoError:
        return  # the work will name it
    if crop.left + crop.width > width or crop.top + crop.height > height:
        raise InputError(f"--crop {crop}: lies outside of {source}, which is {width}x{height} pixels")


def _restore(row: _Row, model: "ResolvedModel", backend: backends.Backend, task: PreviewTask) -> None:
    """One choice more for a photo; it is read again for each, so that few are in memory."""
    if row.fault:
        return
    try:
        photo = read_photo(row.source)
        if not row.parts:
            _begin(row, photo, task)
        watch = Watch(on_event=lambda text: None if text in row.notes else row.notes.append(text))
        order: dict[str, Any] = {"tile": task.tile, "seed": task.seed, "watch": watch}
        started = time.perf_counter()
        whole = restore_image(photo.pixels, backend, **order) if restores_whole(backend) else None
        for part in row.parts:
            crop = part.crop
            if whole is None:
                started = time.perf_counter()
                pixels = restore_crop(photo.pixels, backend, crop.rows, crop.columns, **order)
            else:
                pixels = whole[crop.rows, crop.columns]
            if part.weights is not None:
                pixels = mix(photo.pixels[crop.rows, crop.columns], pixels, part.weights)
            note = format_duration(time.perf_counter() - started)
            part.looks.append((describe_choice(model), note, to_picture(photo, crop, pixels)))
    except PhotoError as fault:
        text = str(fault)
        row.fault = text if str(row.source) in text else f"{row.source}: {text}"


def _begin(row: _Row, photo: Photo, task: PreviewTask) -> None:
    height, width = photo.pixels.shape[:2]
    row.size, crop = (width, height), task.crop
    weights = None if task.selection is None else task.selection.weigh(photo.pixels)
    parts = [_Part(crop or choose_crop(photo.pixels))]
    if crop is None and (face := choose_face(photo.pixels)) is not None and not parts[0].crop.holds(face):
        parts.append(_Part(face, subject="a face, "))
    if task.selection is not None and (kept := task.selection.describe_kept(weights)):
        row.notes.append(kept)
    for part in parts:
        if weights is not None:
            part.weights = weights[part.crop.rows, part.crop.columns].copy()
        part.looks.append((AS_TAKEN, "", to_picture(photo, part.crop)))
    row.parts = parts


def _write(task: PreviewTask, rows: list[_Row]) -> None:
    if task.output.suffix.lower() == ".png":
        write_sheet_file(task.output, draw_sheet([drawn for row in rows for drawn in _draw(row)]))
        return
    photos = [laid for row in rows for laid in _lay_out(row)]
    title = rows[0].source.name if len(rows) == 1 else count(len(rows), "photo")
    choices = ", ".join(map(describe_choice, task.models))
    write_page(task.output, Sheet("Preview", title, f"As taken, and by {choices}", photos).to_html())


def _lay_out(row: _Row) -> list[SheetPhoto]:
    """A place on the page for each place in the photo; what is to be said of the photo stands beside the first."""
    if row.fault:
        return [SheetPhoto(row.source.name, fault=row.fault)]
    laid: list[SheetPhoto] = []
    for part in row.parts:
        looks = tuple(make_look(label, note, picture, LOSSLESS) for label, note, picture in part.looks)
        notes = () if laid else tuple(row.notes)
        laid.append(SheetPhoto(row.source.name, (_describe(row, part),), looks, notes=notes))
    return laid


def _draw(row: _Row) -> list[DrawnRow]:
    if row.fault:
        return [DrawnRow(row.fault, [])]
    return [
        DrawnRow(f"{row.source.name}: {_describe(row, part)}", _captions(part), () if number else tuple(row.notes))
        for number, part in enumerate(row.parts)
    ]


def _describe(row: _Row, part: _Part) -> str:
    crop = part.crop
    place = f"{crop.width}x{crop.height} pixels at {crop.left}, {crop.top}"
    return f"{part.subject}{place} of {row.size[0]}x{row.size[1]}"


def _captions(part: _Part) -> list[tuple[str, Image.Image]]:
    return [(f"{label}, {note}" if note else label, picture) for label, note, picture in part.looks]
