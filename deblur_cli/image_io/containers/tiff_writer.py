"""One photo as the bytes of a TIFF file: deflate with the horizontal predictor, 8 or 16 bit, all metadata.

The file begins with the EXIF blob as it is, so that every offset inside it, MakerNote too, stays true; the
pixels follow, and a new directory at the end takes over the blob's tags.

Source: TIFF 6.0 §2, §14 (predictor); Adobe TIFF Technical Note 3 (deflate).
"""

from __future__ import annotations

import struct
import zlib
from itertools import accumulate
from typing import TYPE_CHECKING

from deblur_cli.image_io.faults import FAULTS, BrokenPhotoError, TooLongError
from deblur_cli.image_io.metadata import exif, ifd, photoshop
from deblur_cli.image_io.metadata.exif_builder import STRUCTURE_TAGS

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Metadata, Pixels

XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
_STRIP_BYTES = 1 << 20
_DEFLATE, _PREDICTOR = 8, 2
_LIMIT = 1 << 32
_TOO_LONG = "the TIFF would be over 4 GB; choose --format png"


def write_tiff(planes: Pixels, metadata: Metadata, *, alpha: bool, extra_sample: int) -> bytes:
    """The file's bytes.

    Args:
        planes: (H, W, channels), uint8 or uint16; 1 or 3 colour channels, then alpha if `alpha`.
        extra_sample: what the alpha channel means, TIFF tag ExtraSamples (0 unspecified, 2 transparency).
    Raises:
        TooLongError: the file would pass 4 GB.
    """
    blob, order, inherited = open_blob(metadata.exif)
    rows = max(1, _STRIP_BYTES // (planes.shape[1] * planes.shape[2] * planes.itemsize))
    strips = _compress(planes, rows, order)
    blob += bytes(len(blob) % 2)
    *offsets, end = accumulate(map(len, strips), initial=len(blob))
    table = inherited | _describe(planes, rows, offsets, [len(strip) for strip in strips], order)
    if alpha:
        table[338] = ifd.pack_shorts(order, extra_sample)
    table |= _metadata_tags(metadata, order, inherited)
    first, tail = ifd.build_directory(table, end + end % 2, order)
    if end + len(tail) >= _LIMIT:
        raise TooLongError(_TOO_LONG)
    return b"".join([blob[:4], struct.pack(order + "I", first), blob[8:], *strips, bytes(end % 2), tail])


def open_blob(blob: bytes | None) -> tuple[bytes, str, dict[int, ifd.Row]]:
    """The file's head, its byte order, and the rows of the blob's IFD0 that stay valid as they are.

    Raises:
        BrokenPhotoError: it cannot be parsed, and a TIFF has no other place for it.
    """
    if blob is None:
        return b"II*\0" + bytes(4), "<", {}
    try:
        directory = ifd.open_blob(blob)
    except FAULTS as fault:
        raise BrokenPhotoError("its EXIF is damaged and a TIFF cannot carry it; choose --format png or jpeg") from fault
    rows = {tag: row for tag, row in ifd.keep_rows(blob, directory).items() if tag not in STRUCTURE_TAGS}
    return blob, directory.layout.order, rows


def _compress(planes: Pixels, rows: int, order: str) -> list[bytes]:
    kind = planes.dtype.newbyteorder("<" if order == "<" else ">")
    return [
        zlib.compress(_predict(planes[top : top + rows]).astype(kind, copy=False).tobytes(), 6)
        for top in range(0, planes.shape[0], rows)
    ]


def _predict(strip: Pixels) -> Pixels:
    """Horizontal differences, modulo the type's range."""
    difference = strip.copy()
    difference[:, 1:] -= strip[:, :-1]
    return difference


def _describe(planes: Pixels, rows: int, offsets: list[int], counts: list[int], order: str) -> dict[int, ifd.Row]:
    height, width, channels = planes.shape
    return {
        254: _longs(order, 0),
        256: _longs(order, width),
        257: _longs(order, height),
        258: ifd.pack_shorts(order, *[8 * planes.itemsize] * channels),
        259: ifd.pack_shorts(order, _DEFLATE),
        262: ifd.pack_shorts(order, 2 if channels >= 3 else 1),
        273: _longs(order, *offsets),
        277: ifd.pack_shorts(order, channels),
        278: _longs(order, rows),
        279: _longs(order, *counts),
        284: ifd.pack_shorts(order, 1),
        317: ifd.pack_shorts(order, _PREDICTOR),
        339: ifd.pack_shorts(order, *[1] * channels),
    }


def _metadata_tags(metadata: Metadata, order: str, inherited: dict[int, ifd.Row]) -> dict[int, ifd.Row]:
    resources = photoshop.join_resources(metadata.iptc, metadata.photoshop) if metadata.photoshop else None
    blocks = {
        XMP: (ifd.BYTE, metadata.xmp),
        IPTC: (ifd.UNDEFINED, metadata.iptc),
        PHOTOSHOP: (ifd.UNDEFINED, resources),
        ICC: (ifd.UNDEFINED, metadata.icc),
    }
    table = {tag: ifd.Row(kind, len(block), block) for tag, (kind, block) in blocks.items() if block}
    said = exif.X_RESOLUTION in inherited and exif.read_dpi(metadata.exif) == metadata.dpi
    return table | (exif.resolution_rows(order, metadata.dpi) if metadata.dpi and not said else {})


def _longs(order: str, *values: int) -> ifd.Row:
    if max(values) >= _LIMIT:
        raise TooLongError(_TOO_LONG)
    return ifd.Row(ifd.LONG, len(values), struct.pack(f"{order}{len(values)}I", *values))
