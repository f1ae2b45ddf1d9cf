"""A file on disk becomes a Photo, or one line that says why not. Knows each format's parser and decoder."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from deblur_cli.errors import PhotoError
from deblur_cli.image_io import (
    bmff_container,
    camera,
    exif,
    jpeg_container,
    png_container,
    tiff_container,
    webp_container,
    xmp,
)
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.formats import sniff_format
from deblur_cli.image_io.photo import Header, Metadata, Photo

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Pixels

MAX_MEGAPIXELS = 500

_HEADER_READERS: dict[str, Callable[[BinaryIO], Header]] = {
    "jpeg": jpeg_container.read_header,
    "png": png_container.read_header,
    "tiff": tiff_container.read_header,
    "webp": webp_container.read_header,
    "avif": partial(bmff_container.read_header, file_format="avif"),
    "heif": partial(bmff_container.read_header, file_format="heif"),
}
_XMP_READERS: dict[str, Callable[[BinaryIO], bytes | None]] = {
    "jpeg": jpeg_container.read_xmp,
    "png": png_container.read_xmp,
    "tiff": tiff_container.read_xmp,
    "webp": webp_container.read_xmp,
    "avif": bmff_container.read_xmp,
    "heif": bmff_container.read_xmp,
}


def read_photo(path: Path) -> Photo:
    """Read a photo the right way up, at the depth it has, with all its metadata.

    The orientation is applied to the pixels and set to 1 in EXIF and XMP, byte for byte in place. 8 bit stays
    8 bit; 9 to 16 bit become uint16 over the full range.

    Raises:
        PhotoError: missing, no photo, damaged, cut short, of a refused kind, over 500 megapixels, or an extra
            is not installed; one line with the path and what to do.
    """
    header = read_header(path)
    try:
        planes, metadata = _decode(path, header)
    except (BrokenPhotoError, OSError) as fault:
        raise PhotoError(f"{path}: {_reason(fault)}") from fault
    return _to_photo(planes, replace(header, metadata=metadata))


def probe_size(path: Path) -> tuple[int, int]:
    """(width, height) that `read_photo` will give, orientation applied; nothing is decoded.

    Raises:
        PhotoError: as `read_photo`, as far as the header shows it.
    """
    return read_header(path).shown_size


def read_stamp(path: Path) -> str | None:
    """The recipe that `write_photo` stamped into a file; None when absent or unreadable. Decodes no pixel."""
    with suppress(BrokenPhotoError, struct.error, OSError, ValueError, IndexError), path.open("rb") as stream:
        reader = _XMP_READERS.get(sniff_format(stream.read(32), path) or "")
        return xmp.find_stamp(reader(stream)) if reader else None
    return None


def read_header(path: Path) -> Header:
    """Everything but the pixels.

    Raises:
        PhotoError: as `read_photo`, as far as the header shows it.
    """
    try:
        with path.open("rb") as stream:
            header = _parse_header(stream, path)
    except (struct.error, ValueError, IndexError) as fault:
        raise PhotoError(f"{path}: its header is damaged; copy it again from its source") from fault
    except (BrokenPhotoError, OSError) as fault:
        raise PhotoError(f"{path}: {_reason(fault)}") from fault
    if header.width * header.height > MAX_MEGAPIXELS * 1_000_000:
        megapixels = header.width * header.height // 1_000_000
        raise PhotoError(
            f"{path}: {header.width}x{header.height} is {megapixels} megapixels, over this tool's limit of "
            f"{MAX_MEGAPIXELS}; cut it into parts first"
        )
    return header


def _parse_header(stream: BinaryIO, path: Path) -> Header:
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


def _decode(path: Path, header: Header) -> tuple[Pixels, Metadata]:
    """Pixels (H, W, C) as the decoder gives them, and the metadata that belongs to them."""
    if header.file_format == "raw":
        planes, icc = camera.decode_raw(path)
        return planes, replace(header.metadata, icc=icc)
    if header.file_format == "heif":
        return camera.decode_heif(path), header.metadata
    from deblur_cli.image_io import pixels, vips

    decoded = vips.decode(path)
    if header.file_format == "avif" and 8 < header.bits < 16:
        return pixels.spread_to_16(decoded, header.bits), header.metadata
    return decoded, header.metadata


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
    )


def _settle(header: Header) -> Metadata:
    """Metadata of the turned photo; XMP stays when it alone names an orientation: nobody applied it."""
    metadata = header.metadata
    said = exif.read_orientation(metadata.exif)
    turned = header.file_format in ("heif", "avif", "raw") or said != 1
    applied = said if header.quarter_turned else header.orientation
    blob = exif.settle(metadata.exif, applied) if metadata.exif else None
    packet = xmp.settle_orientation(metadata.xmp) if turned or header.orientation != 1 else metadata.xmp
    dpi = metadata.dpi[::-1] if metadata.dpi and applied >= 5 else metadata.dpi
    return replace(metadata, exif=blob, xmp=packet, dpi=dpi)


def _is_rgb_profile(icc: bytes | None) -> bool:
    return icc is not None and icc[16:20] == b"RGB "


def _reason(fault: Exception) -> str:
    if isinstance(fault, OSError):
        return f"cannot be read ({fault.strerror or fault}); check the path and its permissions"
    return str(fault)
