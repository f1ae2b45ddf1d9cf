"""An EXIF blob read and patched in place: its length and every offset inside stay, MakerNote too.

Knows no container; a blob begins with `II` or `MM`. A damaged blob is never a reason to fail: it is left alone.
"""

import struct

from deblur_cli.image_io.faults import FAULTS, BrokenPhotoError
from deblur_cli.image_io.metadata import ifd
from deblur_cli.image_io.metadata.turning import Turn, turn_subject

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
IMAGE_WIDTH, IMAGE_LENGTH = 0x0100, 0x0101
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
SUBJECT_AREA, SUBJECT_LOCATION = 0x9214, 0xA214
MAKER_NOTE, PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 0x927C, 0xA002, 0xA003
PREFIX = b"Exif\0\0"
EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"  # a blob of no tags
_UNITS_PER_INCH = {2: 1.0, 3: 2.54}


def trim_prefix(exif: bytes | None) -> bytes | None:
    """The blob without the `Exif` prefix that some writers put into PNG, WebP and HEIF; None when empty."""
    return (exif or b"").removeprefix(PREFIX) or None


def read_orientation(exif: bytes | None) -> int:
    """Orientation 1-8 that the blob asks for; 1 when it says nothing, nonsense, or is damaged."""
    try:
        return parse_orientation(ifd.open_blob(exif))
    except FAULTS:
        return 1


def parse_orientation(directory: ifd.Directory) -> int:
    """Orientation 1-8 of IFD0; 1 when it says nothing or nonsense."""
    value = directory.number(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def read_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Pixels per inch, (x, y), of IFD0; None when absent or without a unit."""
    try:
        return parse_dpi(ifd.open_blob(exif))
    except FAULTS:
        return None


def parse_dpi(directory: ifd.Directory) -> tuple[float, float] | None:
    """Pixels per inch from the two resolution tags and their unit (2 inch, 3 cm)."""
    found, unit = [], _UNITS_PER_INCH.get(directory.number(RESOLUTION_UNIT, 2))
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        entry = directory.entries.get(tag)
        if entry is None or entry.kind != ifd.RATIONAL or entry.count != 1 or unit is None:
            return None
        top, bottom = struct.unpack(directory.layout.order + "II", ifd.read_value(directory.stream, entry))
        if not top or not bottom:
            return None
        found.append(top / bottom * unit)
    return found[0], found[1]


def settle(exif: bytes, turn: Turn) -> bytes:
    """The blob of a photo whose pixels were turned upright.

    Changed in place: Orientation becomes 1; the place of the subject turns; a quarter turn swaps the widths with
    the heights and the x with the y resolution; the link to the thumbnail directory becomes 0, because that
    thumbnail shows the old picture.
    """
    try:
        directory = ifd.open_blob(exif)
        blob = bytearray(exif)
        _set_orientation(blob, directory)
        if turn.is_quarter:
            _swap(blob, directory, IMAGE_WIDTH, IMAGE_LENGTH)
            _swap(blob, directory, X_RESOLUTION, Y_RESOLUTION)
        below = _read_below(directory)
        if turn.is_quarter and below:
            _swap(blob, below, PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION)
        for place in (below, directory):
            if place and turn.orientation != 1:
                _turn_subject(blob, place, turn)
        blob[directory.next_position : directory.next_position + 4] = bytes(4)
    except FAULTS:
        return exif
    return bytes(blob[: len(exif)])


def with_dpi(exif: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """The blob with a resolution where it has none, for formats that have no other place for it.

    A new IFD0 is put behind the old one's bytes, so that no offset changes; without a blob a small one is made.
    """
    if dpi is None or read_dpi(exif) is not None:
        return exif
    blob = exif or EMPTY
    try:
        directory = ifd.open_blob(blob)
    except FAULTS:
        return exif
    order = directory.layout.order
    blob += bytes(len(blob) % 2)
    first, tail = ifd.build_directory(ifd.keep_rows(blob, directory) | resolution_rows(order, dpi), len(blob), order)
    return blob[:4] + struct.pack(order + "I", first) + blob[8:] + tail


def resolution_rows(order: str, dpi: tuple[float, float]) -> dict[int, ifd.Row]:
    """The three tags of a resolution, rounded to 1/1000 of a pixel per inch where it is not whole."""
    pairs = [(int(value), 1) if value == int(value) else (round(value * 1000), 1000) for value in dpi]
    x, y = (ifd.Row(ifd.RATIONAL, 1, struct.pack(order + "II", *pair)) for pair in pairs)
    return {X_RESOLUTION: x, Y_RESOLUTION: y, RESOLUTION_UNIT: ifd.pack_shorts(order, 2)}


def _set_orientation(blob: bytearray, directory: ifd.Directory) -> None:
    entry = directory.entries.get(ORIENTATION)
    code = {ifd.BYTE: "B", ifd.SHORT: "H", ifd.LONG: "I"}.get(entry.kind) if entry else None
    if entry and entry.count == 1 and code:
        struct.pack_into(directory.layout.order + code, blob, entry.offset, 1)


def _read_below(directory: ifd.Directory) -> ifd.Directory | None:
    """The Exif directory; None when there is none, or it is damaged."""
    pointer = directory.number(EXIF_IFD, 0)
    try:
        return directory.read_at(pointer)
    except BrokenPhotoError:
        return None


def _turn_subject(blob: bytearray, directory: ifd.Directory, turn: Turn) -> None:
    for tag in (SUBJECT_AREA, SUBJECT_LOCATION):
        entry, numbers = directory.entries.get(tag), directory.numbers(tag, most=4)
        if entry and entry.kind == ifd.SHORT and len(numbers) >= 2:
            turned = [min(max(number, 0), 0xFFFF) for number in turn_subject(list(numbers), turn)]
            struct.pack_into(f"{directory.layout.order}{len(turned)}H", blob, entry.offset, *turned)


def _swap(blob: bytearray, directory: ifd.Directory, first: int, second: int) -> None:
    """Exchange type, count and value of two tags; the tag numbers stay, so the directory stays sorted."""
    one, two = directory.entries.get(first), directory.entries.get(second)
    if one is None or two is None:
        return
    here, there = slice(one.position + 2, one.position + 12), slice(two.position + 2, two.position + 12)
    blob[here], blob[there] = blob[there], blob[here]
