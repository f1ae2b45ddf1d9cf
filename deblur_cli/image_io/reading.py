"""A file on disk becomes a Photo, or one line that says why not. Knows each format's parser and decoder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from deblur_cli.errors import PhotoError
from deblur_cli.image_io import (
    bmff_container,
    companions,
    exif,
    jpeg_container,
    photoshop,
    png_container,
    tiff_container,
    webp_container,
    xmp,
)
from deblur_cli.image_io import camera_raw as camera
from deblur_cli.image_io.faults import PARSER_FAULTS, BrokenPhotoError
from deblur_cli.image_io.formats import sniff_format
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.photo import Header, Metadata, Photo
from deblur_cli.image_io.turning import Turn, compose, turn_packet

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Pixels

MAX_MEGAPIXELS = 500
_MAX_DPI = 4_000_000  # what PNG and EXIF can both write, in pixels per metre and in thousandths of a pixel per inch
_DAMAGED = "its header is damaged; copy it again from its source"

_HEADER_READERS: dict[str, Callable[[MeteredReader], Header]] = {
    "jpeg": jpeg_container.read_header,
    "png": png_container.read_header,
    "tiff": tiff_container.read_header,
    "webp": webp_container.read_header,
    "avif": partial(bmff_container.read_header, file_format="avif"),
    "heif": partial(bmff_container.read_header, file_format="heif"),
}
_XMP_READERS: dict[str, Callable[[MeteredReader], bytes | None]] = {
    "jpeg": jpeg_container.read_xmp,
    "png": png_container.read_xmp,
    "tiff": tiff_container.read_xmp,
    "webp": webp_container.read_xmp,
    "avif": bmff_container.read_xmp,
    "heif": bmff_container.read_xmp,
}


def read_photo(path: Path) -> Photo:
    """Read a photo the right way up, at the depth it has, with all its metadata.

    The orientation is applied to the pixels and set to 1 in EXIF and XMP, byte for byte in place, and what names a
    place in the picture turns with it. 8 bit stays 8 bit; 9 to 16 bit become uint16 over the full range.

    Raises:
        PhotoError: missing, no photo, damaged, cut short, of a refused kind, over 500 megapixels, or an extra
            is not installed; one line with the path and what to do.
    """
    header = read_header(path)
    try:
        planes, header = _decode(path, header)
        return _to_photo(planes, header)
    except PARSER_FAULTS as fault:
        raise PhotoError(f"{path}: {_DAMAGED}") from fault
    except (BrokenPhotoError, OSError) as fault:
        raise PhotoError(f"{path}: {_reason(fault)}") from fault


def probe_size(path: Path) -> tuple[int, int]:
    """(width, height) that `read_photo` will give, orientation applied; nothing is decoded.

    Raises:
        PhotoError: as `read_photo`, as far as the header shows it.
    """
    return read_header(path).shown_size


def read_stamp(path: Path) -> str | None:
    """The recipe that `write_photo` stamped into a file; None when absent or unreadable. Decodes no pixel."""
    with suppress(BrokenPhotoError, OSError, *PARSER_FAULTS), MeteredReader(path) as stream:
        reader = _XMP_READERS.get(sniff_format(stream.read(32), path) or "")
        return xmp.find_stamp(reader(stream)) if reader else None
    return None


def read_header(path: Path) -> Header:
    """Everything but the pixels.

    Raises:
        PhotoError: as `read_photo`, as far as the header shows it.
    """
    try:
        with MeteredReader(path) as stream:
            header = _parse_header(stream, path)
    except PARSER_FAULTS as fault:
        raise PhotoError(f"{path}: {_DAMAGED}") from fault
    except (BrokenPhotoError, OSError) as fault:
        raise PhotoError(f"{path}: {_reason(fault)}") from fault
    if header.width * header.height > MAX_MEGAPIXELS * 1_000_000:
        megapixels = header.width * header.height // 1_000_000
        raise PhotoError(
            f"{path}: {header.width}x{header.height} is {megapixels} megapixels, over this tool's limit of "
            f"{MAX_MEGAPIXELS}; cut it into parts first"
        )
    return header


def _parse_header(stream: MeteredReader, path: Path) -> Header:
    head = stream.read(32)
    if not head:
        raise BrokenPhotoError("the file is empty; copy it again from its source")
    file_format = sniff_format(head, path)
    if file_format is None:
        raise BrokenPhotoError("not a photo this tool can read; convert it to JPEG, PNG, TIFF, WebP or AVIF first")
    header = camera.read_raw_header(stream, path) if file_format == "raw" else _HEADER_READERS[file_format](stream)
    if not header.width or not header.height:
        raise BrokenPhotoError("the photo has no pixels; copy it again from its source")
    return header


def _decode(path: Path, header: Header) -> tuple[Pixels, Header]:
    """Pixels (H, W, C) as the decoder gives them, and the header with what is known only now."""
    from deblur_cli.image_io import pixels, vips

    if header.file_format == "raw":
        planes, icc = camera.decode_raw(path)
        return planes, replace(header, metadata=replace(header.metadata, icc=icc))
    if header.file_format == "jpeg":
        return _decode_jpeg(path, header)
    if header.file_format == "heif":
        planes, bits = camera.decode_heif(path)
    else:
        if header.file_format == "tiff":
            tiff_container.verify_pieces(path)
        planes, bits = vips.decode(path, header.file_format), header.bits if header.file_format == "avif" else 8
    if header.limited_grey:
        pixels.stretch_range(planes, bits)
    elif 8 < bits < 16:
        planes = pixels.spread_to_16(planes, bits)
    return planes, header


def _decode_jpeg(path: Path, header: Header) -> tuple[Pixels, Header]:
    from deblur_cli.image_io import vips

    tail = companions.read_tail(path)
    if tail.complete:
        planes, mended = vips.decode(path, "jpeg"), header.mended
    else:
        planes, mended = vips.decode_endless(path), (*header.mended, "its end marker is missing")
    left_out = (*header.left_out, *tail.left_out)
    metadata = replace(header.metadata, video=tail.video)
    return planes, replace(header, metadata=metadata, left_out=left_out, mended=mended)


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
    is_told = header.file_format in ("heif", "avif", "raw") or said != 1 or turn.orientation != 1
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


def _reason(fault: Exception) -> str:
    if isinstance(fault, OSError):
        return f"cannot be read ({fault.strerror or fault}); check the path and its permissions"
    return str(fault)
