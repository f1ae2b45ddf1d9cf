"""An EXIF blob read and patched in place: its length and every offset inside stay, MakerNote too.

Knows no container; a blob begins with `II` or `MM`. A damaged blob is never a reason to fail: it is left
alone.
"""

import struct
from io import BytesIO
from typing import BinaryIO

from deblur_cli.image_io import ifd
from deblur_cli.image_io.faults import PARSER_FAULTS, BrokenPhotoError
from deblur_cli.image_io.turning import Turn, turn_subject

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
IMAGE_WIDTH, IMAGE_LENGTH = 0x0100, 0x0101
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
SUBJECT_AREA, SUBJECT_LOCATION = 0x9214, 0xA214
MAKER_NOTE, PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 0x927C, 0xA002, 0xA003
PREFIX = b"Exif\0\0"
_UNITS_PER_INCH = {2: 1.0, 3: 2.54}


def trim_prefix(exif: bytes | None) -> bytes | None:
    """The blob without the `Exif` prefix that some writers put into PNG, WebP and HEIF; None when empty."""
    if not exif:
        return None
    return exif.removeprefix(PREFIX) or None


def read_orientation(exif: bytes | None) -> int:
    """Orientation 1-8 that the blob asks for; 1 when it says nothing, nonsense, or is damaged."""
    try:
        stream, layout, directory = _open_blob(exif)
        values = ifd.read_numbers(stream, layout, directory.entries.get(ORIENTATION))
    except (BrokenPhotoError, *PARSER_FAULTS):
        return 1
    return values[0] if values and 1 <= values[0] <= 8 else 1


def read_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Pixels per inch, (x, y), of IFD0; None when absent or without a unit."""
    try:
        stream, layout, directory = _open_blob(exif)
        unit = ifd.read_numbers(stream, layout, directory.entries.get(RESOLUTION_UNIT))
        return parse_dpi(stream, layout, directory, unit[0] if unit else 2)
    except (BrokenPhotoError, *PARSER_FAULTS):
        return None


def parse_dpi(
    stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory, unit: int
) -> tuple[float, float] | None:
    """Pixels per inch from the two resolution tags and their unit (2 inch, 3 cm)."""
    found = []
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        entry = directory.entries.get(tag)
        if entry is None or entry.kind != ifd.RATIONAL or entry.count != 1 or unit not in _UNITS_PER_INCH:
            return None
        top, bottom = struct.unpack(layout.order + "II", ifd.read_value(stream, entry))
        if not top or not bottom:
            return None
        found.append(top / bottom * _UNITS_PER_INCH[unit])
    return found[0], found[1]


def settle(exif: bytes, turn: Turn) -> bytes:
    """The blob of a photo whose pixels were turned upright.

    Changed in place: Orientation becomes 1; the place of the subject turns; a quarter turn swaps the widths with
    the heights and the x with the y resolution; the link to the thumbnail directory becomes 0, because that
    thumbnail shows the old picture.
    """
    try:
        stream, layout, directory = _open_blob(exif)
        blob = bytearray(exif)
        _set_orientation(blob, layout, directory)
        if turn.is_quarter:
            _swap(blob, directory, IMAGE_WIDTH, IMAGE_LENGTH)
            _swap(blob, directory, X_RESOLUTION, Y_RESOLUTION)
        below = _read_below(stream, layout, directory)
        if turn.is_quarter and below:
            _swap(blob, below, PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION)
        for place in (below, directory):
            if place and turn.orientation != 1:
                _turn_subject(blob, stream, layout, place, turn)
        blob[directory.next_position : directory.next_position + 4] = bytes(4)
    except (BrokenPhotoError, *PARSER_FAULTS):
        return exif
    return bytes(blob[: len(exif)])


def with_dpi(exif: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """The blob with a resolution where it has none, for formats that have no other place for it.

    A new IFD0 is put behind the old one's bytes, so that no offset changes; without a blob a small one is made.
    """
    if dpi is None or read_dpi(exif) is not None:
        return exif
    blob = exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    try:
        _, layout, directory = _open_blob(blob)
    except (BrokenPhotoError, *PARSER_FAULTS):
        return exif
    rows = {tag: blob[entry.position : entry.position + 12] for tag, entry in directory.entries.items()}
    start = len(blob) + len(blob) % 2
    rows |= _resolution_rows(layout.order, start)
    table = struct.pack(layout.order + "H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)
    values = b"".join(struct.pack(layout.order + "II", *to_rational(value)) for value in dpi)
    return (
        blob[:4] + struct.pack(layout.order + "I", start + 16) + (blob[8:start] + bytes(len(blob) % 2)) + values + table
    )


def _resolution_rows(order: str, start: int) -> dict[int, bytes]:
    """The three resolution tags; x lies at `start`, y behind it, both per inch."""
    return {
        X_RESOLUTION: struct.pack(order + "HHII", X_RESOLUTION, ifd.RATIONAL, 1, start),
        Y_RESOLUTION: struct.pack(order + "HHII", Y_RESOLUTION, ifd.RATIONAL, 1, start + 8),
        RESOLUTION_UNIT: struct.pack(order + "HHIHH", RESOLUTION_UNIT, ifd.SHORT, 1, 2, 0),
    }


def to_rational(dpi: float) -> tuple[int, int]:
    """Resolution as numerator and denominator, rounded to 1/1000 of a pixel per inch when it is not whole."""
    return (int(dpi), 1) if dpi == int(dpi) else (round(dpi * 1000), 1000)


def _open_blob(exif: bytes | None) -> tuple[BytesIO, ifd.IfdLayout, ifd.Directory]:
    stream = BytesIO(exif or b"")
    layout = ifd.read_layout(stream)
    if layout.big:
        raise BrokenPhotoError("EXIF is never BigTIFF")
    return stream, layout, ifd.read_directory(stream, layout, layout.first)


def _set_orientation(blob: bytearray, layout: ifd.IfdLayout, directory: ifd.Directory) -> None:
    entry = directory.entries.get(ORIENTATION)
    if entry is None or entry.count != 1 or entry.kind not in (ifd.BYTE, ifd.SHORT, ifd.LONG):
        return
    code = {ifd.BYTE: "B", ifd.SHORT: "H", ifd.LONG: "I"}[entry.kind]
    struct.pack_into(layout.order + code, blob, entry.offset, 1)


def _read_below(stream: BytesIO, layout: ifd.IfdLayout, directory: ifd.Directory) -> ifd.Directory | None:
    """The Exif directory; None when there is none, or it is damaged."""
    pointer = ifd.read_numbers(stream, layout, directory.entries.get(EXIF_IFD))
    try:
        return ifd.read_directory(stream, layout, pointer[0]) if pointer else None
    except BrokenPhotoError:
        return None


def _turn_subject(
    blob: bytearray, stream: BytesIO, layout: ifd.IfdLayout, directory: ifd.Directory, turn: Turn
) -> None:
    for tag in (SUBJECT_AREA, SUBJECT_LOCATION):
        entry = directory.entries.get(tag)
        numbers = ifd.read_numbers(stream, layout, entry, most=4)
        if entry and entry.kind == ifd.SHORT and len(numbers) >= 2:
            turned = [min(max(number, 0), 0xFFFF) for number in turn_subject(list(numbers), turn)]
            struct.pack_into(f"{layout.order}{len(turned)}H", blob, entry.offset, *turned)


def _swap(blob: bytearray, directory: ifd.Directory, first: int, second: int) -> None:
    """Exchange type, count and value of two tags; the tag numbers stay, so the directory stays sorted."""
    one, two = directory.entries.get(first), directory.entries.get(second)
    if one is None or two is None:
        return
    here, there = slice(one.position + 2, one.position + 12), slice(two.position + 2, two.position + 12)
    blob[here], blob[there] = blob[there], blob[here]
