"""A file on disk becomes a Photo, or one line that says why not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from deblur_cli.errors import PhotoError
from deblur_cli.image_io import formats
from deblur_cli.image_io.containers import companions
from deblur_cli.image_io.faults import FAULTS, BrokenPhotoError, told_with
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.metadata import exif, photoshop, xmp
from deblur_cli.image_io.metadata.turning import Turn, compose, turn_packet
from deblur_cli.image_io.photo import Header, Metadata, Photo

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Pixels

_MAX_MEGAPIXELS = 500
_MAX_DPI = 4_000_000  # what PNG and EXIF can both write, in pixels per metre and in thousandths of a pixel per inch


def read_photo(path: Path) -> Photo:
    """Read a photo the right way up, at the depth it has, with all its metadata.

    The orientation is applied to the pixels and set to 1 in EXIF and XMP, byte for byte in place, and what names a
    place in the picture turns with it. 8 bit stays 8 bit; 9 to 16 bit become uint16 over the full range.

    Raises:
        PhotoError: missing, no photo, damaged, cut short, of a refused kind, over 500 megapixels, or an extra
            is not installed; one line with the path and what to do.
    """
    header = read_header(path)
    with told_with(path):
        planes, header = formats.by_name(header.file_format).container.decode(path, header)
        return _to_photo(_spread(planes, header), header)


def probe_size(path: Path) -> tuple[int, int]:
    """(width, height) that `read_photo` will give, orientation applied; nothing is decoded.

    Raises:
        PhotoError: as `read_photo`, as far as the header shows it.
    """
    return read_header(path).shown_size


def read_stamp(path: Path) -> str | None:
    """The recipe that `write_photo` stamped into a file; None when absent or unreadable. Decodes no pixel."""
    with suppress(OSError, *FAULTS), MeteredReader(path) as stream:
        if file_format := formats.sniff_format(stream.read(32), path):
            return xmp.find_stamp(formats.by_name(file_format).container.read_xmp(stream))
    return None


def read_header(path: Path) -> Header:
    """Everything but the pixels.

    Raises:
        PhotoError: as `read_photo`, as far as the header shows it.
    """
    with told_with(path), MeteredReader(path) as stream:
        header = _parse_header(stream, path)
    if header.width * header.height > _MAX_MEGAPIXELS * 1_000_000:
        megapixels = header.width * header.height // 1_000_000
        raise PhotoError(
            f"{path}: {header.width}x{header.height} is {megapixels} megapixels, over this tool's limit of "
            f"{_MAX_MEGAPIXELS}; cut it into parts first"
        )
    return header


def _parse_header(stream: MeteredReader, path: Path) -> Header:
    head = stream.read(32)
    if not head:
        raise BrokenPhotoError("the file is empty; copy it again from its source")
    file_format = formats.sniff_format(head, path)
    if file_format is None:
        known = formats.list_words([row.label for row, _ in formats.writers()], "or")
        raise BrokenPhotoError(f"not a photo this tool can read; convert it to {known} first")
    header = formats.by_name(file_format).container.read_header(stream)
    if not header.width or not header.height:
        raise BrokenPhotoError("the photo has no pixels; copy it again from its source")
    return replace(header, file_format=file_format)


def _spread(planes: Pixels, header: Header) -> Pixels:
    """The planes over the full range of their type."""
    from deblur_cli.image_io import pixels

    if header.limited_grey:
        pixels.stretch_range(planes, header.bits)
    elif 8 < header.bits < 16:
        return pixels.spread_to_16(planes, header.bits)
    return planes


def _to_photo(planes: Pixels, header: Header) -> Photo:
    from deblur_cli.image_io import pixels

    planes = pixels.turn(planes, header.orientation)
    colours = 1 if planes.shape[2] <= 2 else 3
    colour = planes[..., [0, 0, 0]] if colours == 1 else pixels.turn(planes[..., :3], 1)
    alpha = pixels.turn(planes[..., colours], 1) if planes.shape[2] > colours else None
    grey = header.grey or colours == 1 or (header.palette and pixels.is_grey(colour))
    return Photo(
        pixels=colour,
        alpha=alpha,
        grey=grey and not (header.palette and _is_rgb_profile(header.metadata.icc)),
        metadata=_settle(header),
        file_format=header.file_format,
        encoding=header.encoding,
        notes=_describe_notes(header),
    )


def _settle(header: Header) -> Metadata:
    """Metadata of the turned photo; XMP stays when it alone names an orientation: nobody applied it."""
    metadata = header.metadata
    turn = _find_turn(header)
    said = exif.read_orientation(metadata.exif)
    is_told = formats.by_name(header.file_format).turns_itself or said != 1 or turn.orientation != 1
    blob = exif.settle(metadata.exif, turn) if metadata.exif else None
    packet, extended = (turn_packet(part, turn) for part in (metadata.xmp, metadata.xmp_extended))
    packet = xmp.settle_orientation(packet) if is_told else packet
    packet = companions.settle_claims(packet, video=metadata.video is not None)
    dpi = metadata.dpi if metadata.dpi and max(metadata.dpi) < _MAX_DPI else None
    dpi = dpi[::-1] if dpi and turn.is_quarter else dpi
    resources = photoshop.turn_resources(metadata.photoshop, turn)
    return replace(metadata, exif=blob, xmp=packet, xmp_extended=extended, photoshop=resources, dpi=dpi)


def _find_turn(header: Header) -> Turn:
    """All that happened to the coded pixels, and their size before it."""
    size = (header.width, header.height)[:: -1 if header.turned >= 5 else 1]
    return Turn(compose(header.turned, header.orientation), *size)


def _describe_notes(header: Header) -> tuple[str, ...]:
    words = ", ".join(header.left_out)
    left_out = (f"left out, since it belongs to the old pixels: {words}",) if words else ()
    return (*header.mended, *left_out)


def _is_rgb_profile(icc: bytes | None) -> bool:
    return icc is not None and icc[16:20] == b"RGB "
