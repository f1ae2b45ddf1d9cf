"""A result beside its photo, from their files: a place where much changed, as it belongs on a sheet."""

from dataclasses import dataclass
from pathlib import Path

from deblur_cli.batch.looks.crops import SIZE, choose_change, describe_change, to_picture
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
    """How large the crops are, in pixels."""

    size: tuple[int, int] = SIZE

    @classmethod
    def of(cls, photos: int) -> "ComparisonStyle":
        """For so many photos on one sheet."""
        return cls(_LARGE) if photos <= _FEW else cls()


def compare_files(name: str, source: Path | None, output: Path, style: ComparisonStyle, *facts: str) -> SheetPhoto:
    """A photo and its result on a sheet; a fault of a file stands there, and is not raised.

    Args:
        facts: more lines to stand below, before those that the files tell.
    """
    if source is None:
        return SheetPhoto(name, facts, fault=GONE)
    try:
        before, after = read_photo(source), read_photo(output)
    except PhotoError as fault:
        return SheetPhoto(name, facts, fault=str(fault))
    if before.pixels.shape != after.pixels.shape:
        return SheetPhoto(name, facts, fault="the result has another size than the photo, so they cannot be compared")
    looks, lines = _compare(before, after, style)
    return SheetPhoto(name, (*facts, *lines), looks)


def describe_recipe(stamp: Stamp) -> str:
    """What was done, in one line: the model, its settings, the beginning of its weights' hash."""
    options = [f"{name} {value}" for name, value in stamp.options.items() if (name, value) != ("dtype", "auto")]
    hashes = [f"{role} {digest[:8]}" for role, digest in stamp.weights.items()]
    return " · ".join([stamp.model or "unknown model", *options, *hashes])


def export_result(result: ResultFile, finder: SourceFinder, style: ComparisonStyle, *facts: str) -> SheetPhoto:
    """A result on a sheet, with its recipe and what was told while it was made."""
    notice = stamped(result.stamp, "notice")
    photo = compare_files(
        result.name, finder.find(result), result.path, style, *facts, describe_recipe(read_recipe(result.stamp))
    )
    return SheetPhoto(photo.name, photo.facts, photo.looks, photo.fault, (notice,) if notice else ())


def exif_line(path: Path) -> str:
    """What a photographer reads of a photo's EXIF; empty where there is none."""
    try:
        return describe_exif(read_header(path).metadata.exif)
    except PhotoError:
        return ""


def _compare(before: Photo, after: Photo, style: ComparisonStyle) -> tuple[tuple[Look, ...], tuple[str, ...]]:
    crop = choose_change(before.pixels, after.pixels, style.size)
    looks = tuple(
        make_look(label, "", to_picture(photo, crop), webp(90))
        for label, photo in ((AS_TAKEN, before), ("restored", after))
    )
    height, width = after.pixels.shape[:2]
    change = describe_change(before.pixels[crop.rows, crop.columns], after.pixels[crop.rows, crop.columns])
    place = f"{crop.width}x{crop.height} of {width}x{height} pixels, at {crop.left}, {crop.top}"
    return looks, tuple(filter(None, (describe_exif(after.metadata.exif), f"{place}; {change}")))
