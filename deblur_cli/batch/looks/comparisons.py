"""A result beside its photo, from their files: a place where much changed, perhaps a face, as it belongs on a sheet."""

from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.batch.looks.crops import SIZE, Crop, choose_change, describe_change, to_picture
from deblur_cli.batch.looks.faces import choose_face
from deblur_cli.batch.looks.results import ResultFile, SourceFinder
from deblur_cli.batch.looks.sheet import AS_TAKEN, Look, SheetPhoto, make_look
from deblur_cli.batch.stamp import Stamp, read_recipe, stamped
from deblur_cli.errors import PhotoError
from deblur_cli.image_io import Photo, read_header, read_photo
from deblur_cli.image_io.metadata.exif_line import describe_exif
from deblur_cli.system.page_pictures import webp

_LARGE = (768, 576)  # of the crops of a few results
_FEW = 40
GONE = "its photo was not found; deblur view --sources FOLDER says where it lies"


@dataclass(frozen=True, slots=True)
class ComparisonStyle:
    """How large the crops are, in pixels, and whether a face is shown besides, as large as it is."""

    size: tuple[int, int] = SIZE
    shows_face: bool = False

    @classmethod
    def of(cls, photos: int, *, shows_face: bool = False) -> "ComparisonStyle":
        """For so many photos on one sheet."""
        return cls(_LARGE if photos <= _FEW else SIZE, shows_face)


def compare_files(
    name: str, source: Path | None, output: Path, style: ComparisonStyle, *facts: str
) -> list[SheetPhoto]:
    """A photo and its result on a sheet, and a face of it in a place of its own; a fault of a file stands there, and
    is not raised.

    Args:
        facts: more lines to stand below, before those that the files tell.
    """
    if source is None:
        return [SheetPhoto(name, facts, fault=GONE)]
    try:
        before, after = read_photo(source), read_photo(output)
    except PhotoError as fault:
        return [SheetPhoto(name, facts, fault=str(fault))]
    if before.pixels.shape != after.pixels.shape:
        return [SheetPhoto(name, facts, fault="the result has another size than the photo, so they cannot be compared")]
    crop = choose_change(before.pixels, after.pixels, style.size)
    lines = (*facts, *filter(None, [describe_exif(after.metadata.exif)]), _describe(before, after, crop))
    shown = [SheetPhoto(name, lines, _cut(before, after, crop))]
    face = choose_face(after.pixels) if style.shows_face else None
    if face is not None and not crop.holds(face):
        shown.append(SheetPhoto(name, (f"a face, {_describe(before, after, face)}",), _cut(before, after, face)))
    return shown


def describe_recipe(stamp: Stamp) -> str:
    """What was done, in one line: the model, its settings, the beginning of its weights' hash."""
    options = [f"{name} {value}" for name, value in stamp.options.items() if (name, value) != ("dtype", "auto")]
    hashes = [f"{role} {digest[:8]}" for role, digest in stamp.weights.items()]
    return " · ".join([stamp.model or "unknown model", *options, *hashes])


def export_result(result: ResultFile, finder: SourceFinder, style: ComparisonStyle, *facts: str) -> SheetPhoto:
    """A result on a sheet, with its recipe and what was told while it was made."""
    notice = stamped(result.stamp, "notice")
    lines = (*facts, describe_recipe(read_recipe(result.stamp)))
    photo = compare_files(result.name, finder.find(result), result.path, style, *lines)[0]
    return replace(photo, notes=(notice,) if notice else ())


def exif_line(path: Path) -> str:
    """What a photographer reads of a photo's EXIF; empty where there is none."""
    try:
        return describe_exif(read_header(path).metadata.exif)
    except PhotoError:
        return ""


def _cut(before: Photo, after: Photo, crop: Crop) -> tuple[Look, ...]:
    pictures = ((AS_TAKEN, to_picture(before, crop)), ("restored", to_picture(after, crop)))
    return tuple(make_look(label, "", picture, webp(90)) for label, picture in pictures)


def _describe(before: Photo, after: Photo, crop: Crop) -> str:
    height, width = after.pixels.shape[:2]
    change = describe_change(*(photo.pixels[crop.rows, crop.columns] for photo in (before, after)))
    return f"{crop.width}x{crop.height} of {width}x{height} pixels, at {crop.left}, {crop.top}; {change}"
