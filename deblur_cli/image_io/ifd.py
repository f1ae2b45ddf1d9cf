"""Directories of a TIFF file or an EXIF blob: where each tag and its value lie. Knows no meaning."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.limits import MAX_TAGS

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
TYPE_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_NUMBER_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class IfdLayout:
    """Byte order (`<` or `>`), BigTIFF or not, and the offset of IFD0."""

    order: str
    big: bool
    first: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: `position` of its 12 (BigTIFF: 20) bytes and `offset` of its value in the file."""

    tag: int
    kind: int
    count: int
    position: int
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return TYPE_SIZES.get(self.kind, 1) * self.count


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one IFD; `next_position` is where the offset of the following IFD is written."""

    entries: dict[int, Entry]
    next_offset: int
    next_position: int


def read_layout(stream: BinaryIO) -> IfdLayout:
    """Read the 8 (BigTIFF: 16) header bytes.

    Raises:
        BrokenPhotoError: not a TIFF header.
    """
    stream.seek(0)
    head = read_exactly(stream, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise BrokenPhotoError("its TIFF header is damaged; export the photo again")
    magic, first = struct.unpack(order + "HI", head[2:])
    if magic == 43:
        return IfdLayout(order, True, struct.unpack(order + "Q", read_exactly(stream, 8))[0])
    return IfdLayout(order, False, first)


def read_directory(stream: BinaryIO, layout: IfdLayout, offset: int) -> Directory:
    """Read the IFD at `offset`; tags whose value lies outside the file are left out.

    Raises:
        BrokenPhotoError: the IFD itself lies outside the file, or claims more tags than any writer has.
    """
    length = stream_length(stream)
    if not 8 <= offset < length:
        raise BrokenPhotoError("its directory of tags lies outside the file; copy it again from its source")
    stream.seek(offset)
    width, code, step = (8, "Q", 20) if layout.big else (2, "H", 12)
    count = struct.unpack(layout.order + code, read_exactly(stream, width))[0]
    if count > MAX_TAGS:
        raise BrokenPhotoError(f"its directory of {count} tags is damaged; export the photo again")
    start = offset + width
    table = read_exactly(stream, count * step)
    entries = [_parse_entry(table[at * step : (at + 1) * step], start + at * step, layout) for at in range(count)]
    next_position = start + count * step
    link = stream.read(8 if layout.big else 4)
    next_offset = int.from_bytes(link, "little" if layout.order == "<" else "big")
    kept = {entry.tag: entry for entry in entries if entry.offset + entry.size <= length}
    return Directory(kept, next_offset, next_position)


def read_value(stream: BinaryIO, entry: Entry) -> bytes:
    """The raw bytes of a value, in the file's byte order."""
    stream.seek(entry.offset)
    return read_exactly(stream, entry.size)


def read_numbers(stream: BinaryIO, layout: IfdLayout, entry: Entry | None, most: int = 64) -> tuple[int, ...]:
    """The whole numbers of a value; empty when the tag is absent, of another type or of more than `most` numbers."""
    if entry is None or entry.kind not in _NUMBER_CODES or entry.count > most:
        return ()
    return struct.unpack(f"{layout.order}{entry.count}{_NUMBER_CODES[entry.kind]}", read_value(stream, entry))


def _parse_entry(block: bytes, position: int, layout: IfdLayout) -> Entry:
    code, room, at = ("HHQ", 8, 12) if layout.big else ("HHI", 4, 8)
    tag, kind, count = struct.unpack(layout.order + code, block[:at])
    inline = TYPE_SIZES.get(kind, 1) * count <= room
    pointer = struct.unpack(layout.order + ("Q" if layout.big else "I"), block[at:])[0]
    return Entry(tag, kind, count, position, position + at if inline else pointer)
