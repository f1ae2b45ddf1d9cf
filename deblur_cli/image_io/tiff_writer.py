"""One photo as the bytes of a TIFF file: deflate with the horizontal predictor, 8 or 16 bit, all metadata.

The file begins with the EXIF blob as it is, so that every offset inside it, MakerNote too, stays true; the
pixels follow, and a new directory at the end takes over the blob's tags.

Source: TIFF 6.0 §2, §14 (predictor); Adobe TIFF Technical Note 3 (deflate).
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from deblur_cli.image_io import exif, ifd, photoshop, tiff_container
from deblur_cli.image_io.exif_builder import STRUCTURE_TAGS
from deblur_cli.image_io.faults import PARSER_FAULTS, BrokenPhotoError, TooLongError

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Metadata, Pixels

_STRIP_BYTES = 1 << 20
_DEFLATE, _PREDICTOR = 8, 2
_LIMIT = 1 << 32


def write_tiff(planes: Pixels, metadata: Metadata, *, alpha: bool, extra_sample: int) -> bytes:
    """The file's bytes.

    Args:
        planes: (H, W, channels), uint8 or uint16; 1 or 3 colour channels, then alpha if `alpha`.
        extra_sample: what the alpha channel means, TIFF tag ExtraSamples (0 unspecified, 2 transparency).
    Raises:
        TooLongError: the file would pass 4 GB.
    """
    blob, layout, inherited = _open_blob(metadata.exif)
    rows = max(1, _STRIP_BYTES // (planes.shape[1] * planes.shape[2] * planes.itemsize))
    strips = _compress(planes, rows, layout.order)
    parts = [blob, bytes(len(blob) % 2), *strips]
    start = len(blob) + len(blob) % 2
    offsets = [start + sum_before for sum_before in _running_sums(strips)]
    table = inherited | _describe(planes, rows, offsets, [len(strip) for strip in strips], layout.order)
    if alpha:
        table[338] = _shorts(layout.order, extra_sample)
    table |= _metadata_tags(metadata, layout.order, inherited)
    end = start + sum(map(len, strips))
    parts += [bytes(end % 2), tail := _build_directory(table, end + end % 2, layout.order)]
    if end + len(tail) >= _LIMIT:
        raise TooLongError("the TIFF would be over 4 GB; choose --format png")
    first = end + end % 2 + _values_size(table)
    return parts[0][:4] + struct.pack(layout.order + "I", first) + b"".join([parts[0][8:], *parts[1:]])


def check_blob(blob: bytes | None) -> None:
    """Refuse an EXIF blob that a TIFF cannot carry.

    Raises:
        BrokenPhotoError: it cannot be parsed.
    """
    _open_blob(blob)


_Row = tuple[int, int, bytes, bool]  # kind, count, bytes, whether the bytes are already the row's own four


def _open_blob(blob: bytes | None) -> tuple[bytes, ifd.IfdLayout, dict[int, _Row]]:
    """The file's head, its byte order, and the rows of the blob's IFD0 that stay valid as they are.

    A blob that cannot be parsed is an error: a TIFF has no other place for it.
    """
    if blob is None:
        return b"II*\0" + bytes(4), ifd.IfdLayout("<", False, 0), {}
    try:
        stream = BytesIO(blob)
        layout = ifd.read_layout(stream)
        entries = ifd.read_directory(stream, layout, layout.first).entries
    except (BrokenPhotoError, *PARSER_FAULTS) as fault:
        raise BrokenPhotoError("its EXIF is damaged and a TIFF cannot carry it; choose --format png or jpeg") from fault
    rows = {}
    for tag, entry in entries.items():
        if tag not in STRUCTURE_TAGS:
            rows[tag] = (entry.kind, entry.count, blob[entry.position + 8 : entry.position + 12], True)
    return blob, layout, rows


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


def _running_sums(strips: list[bytes]) -> list[int]:
    sums = [0]
    for strip in strips[:-1]:
        sums.append(sums[-1] + len(strip))
    return sums


def _describe(planes: Pixels, rows: int, offsets: list[int], counts: list[int], order: str) -> dict[int, _Row]:
    height, width, channels = planes.shape
    return {
        254: _longs(order, 0),
        256: _longs(order, width),
        257: _longs(order, height),
        258: _shorts(order, *[8 * planes.itemsize] * channels),
        259: _shorts(order, _DEFLATE),
        262: _shorts(order, 2 if channels >= 3 else 1),
        273: _longs(order, *offsets),
        277: _shorts(order, channels),
        278: _longs(order, rows),
        279: _longs(order, *counts),
        284: _shorts(order, 1),
        317: _shorts(order, _PREDICTOR),
        339: _shorts(order, *[1] * channels),
    }


def _metadata_tags(metadata: Metadata, order: str, inherited: dict[int, _Row]) -> dict[int, _Row]:
    resources = photoshop.join_resources(metadata.iptc, metadata.photoshop) if metadata.photoshop else None
    blocks = {
        tiff_container.XMP: (ifd.BYTE, metadata.xmp),
        tiff_container.IPTC: (ifd.UNDEFINED, metadata.iptc),
        tiff_container.PHOTOSHOP: (ifd.UNDEFINED, resources),
        tiff_container.ICC: (ifd.UNDEFINED, metadata.icc),
    }
    table: dict[int, _Row] = {tag: (kind, len(block), block, False) for tag, (kind, block) in blocks.items() if block}
    if metadata.dpi and not _says(metadata, inherited):
        for tag, value in zip((exif.X_RESOLUTION, exif.Y_RESOLUTION), metadata.dpi, strict=True):
            table[tag] = (ifd.RATIONAL, 1, struct.pack(order + "II", *exif.to_rational(value)), False)
        table[exif.RESOLUTION_UNIT] = _shorts(order, 2)
    return table


def _says(metadata: Metadata, inherited: dict[int, _Row]) -> bool:
    """Whether the blob's own resolution is already the photo's."""
    return exif.X_RESOLUTION in inherited and exif.read_dpi(metadata.exif) == metadata.dpi


def _shorts(order: str, *values: int) -> _Row:
    return ifd.SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values), False


def _longs(order: str, *values: int) -> _Row:
    if max(values) >= _LIMIT:
        raise TooLongError("the TIFF would be over 4 GB; choose --format png")
    return ifd.LONG, len(values), struct.pack(f"{order}{len(values)}I", *values), False


def _values_size(table: dict[int, _Row]) -> int:
    return sum(len(block) + len(block) % 2 for _, _, block, _ in table.values() if len(block) > 4)


def _build_directory(table: dict[int, _Row], at: int, order: str) -> bytes:
    """The long values, from offset `at`, and behind them the directory itself."""
    values, rows = b"", b""
    for tag, (kind, count, block, finished) in sorted(table.items()):
        cell = block.ljust(4, b"\0")
        if not finished and len(block) > 4:
            cell = struct.pack(order + "I", at + len(values))
            values += block + bytes(len(block) % 2)
        rows += struct.pack(order + "HHI", tag, kind, count) + cell
    return values + struct.pack(order + "H", len(table)) + rows + bytes(4)
