"""Directories of a TIFF file or an EXIF blob: where each tag and its value lie, and new ones. Knows no meaning.

Source: TIFF 6.0 §2; BigTIFF.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.limits import MAX_TAGS

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
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
    """The tags of one IFD of a file; `next_position` is where the offset of the following IFD is written."""

    stream: BinaryIO
    layout: IfdLayout
    entries: dict[int, Entry]
    next_offset: int
    next_position: int

    def value(self, tag: int) -> bytes | None:
        """The raw bytes of a tag's value, in the file's byte order; None when it is absent or empty."""
        entry = self.entries.get(tag)
        return (read_value(self.stream, entry) or None) if entry else None

    def numbers(self, tag: int, most: int = 64) -> tuple[int, ...]:
        """The whole numbers of a tag; empty when it is absent, of another type or of more than `most` numbers."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _NUMBER_CODES or entry.count > most:
            return ()
        code = f"{self.layout.order}{entry.count}{_NUMBER_CODES[entry.kind]}"
        return struct.unpack(code, read_value(self.stream, entry))

    def number(self, tag: int, otherwise: int) -> int:
        """The first of these numbers; `otherwise` if there is none."""
        return (*self.numbers(tag), otherwise)[0]

    def read_at(self, offset: int) -> "Directory":
        """Another directory of the same file; see `read_directory`."""
        return read_directory(self.stream, self.layout, offset)


def read_first(stream: BinaryIO) -> Directory:
    """Read the header and IFD0.

    Raises:
        BrokenPhotoError: not a TIFF header, or see `read_directory`.
    """
    layout = read_layout(stream)
    return read_directory(stream, layout, layout.first)


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
    link = stream.read(8 if layout.big else 4)
    next_offset = int.from_bytes(link, "little" if layout.order == "<" else "big")
    kept = {entry.tag: entry for entry in entries if entry.offset + entry.size <= length}
    return Directory(stream, layout, kept, next_offset, start + count * step)


def read_value(stream: BinaryIO, entry: Entry) -> bytes:
    """The raw bytes of a value, in the file's byte order."""
    stream.seek(entry.offset)
    return read_exactly(stream, entry.size)


def _parse_entry(block: bytes, position: int, layout: IfdLayout) -> Entry:
    code, room, at = ("HHQ", 8, 12) if layout.big else ("HHI", 4, 8)
    tag, kind, count = struct.unpack(layout.order + code, block[:at])
    inline = TYPE_SIZES.get(kind, 1) * count <= room
    pointer = struct.unpack(layout.order + ("Q" if layout.big else "I"), block[at:])[0]
    return Entry(tag, kind, count, position, position + at if inline else pointer)


@dataclass(frozen=True, slots=True)
class Row:
    """A tag of a directory that is to be written: its value, or the four bytes that stand for one elsewhere."""

    kind: int
    count: int
    value: bytes
    finished: bool = False


def pack_shorts(order: str, *values: int) -> Row:
    """A row of 16-bit numbers."""
    return Row(SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values))


def keep_rows(blob: bytes, directory: Directory) -> dict[int, Row]:
    """The rows of a blob's own directory, whose values stay where they lie."""
    return {
        tag: Row(entry.kind, entry.count, blob[entry.position + 8 : entry.position + 12], finished=True)
        for tag, entry in directory.entries.items()
    }


def build_directory(rows: dict[int, Row], at: int, order: str) -> tuple[int, bytes]:
    """Where the directory begins, and the bytes from offset `at` on: the long values, and behind them the rows."""
    values, table = b"", b""
    for tag, row in sorted(rows.items()):
        cell = row.value.ljust(4, b"\0")
        if not row.finished and len(row.value) > 4:
            cell = struct.pack(order + "I", at + len(values))
            values += row.value + bytes(len(row.value) % 2)
        table += struct.pack(order + "HHI", tag, row.kind, row.count) + cell
    return at + len(values), values + struct.pack(order + "H", len(rows)) + table + bytes(4)


def open_blob(blob: bytes | None) -> Directory:
    """IFD0 of an EXIF blob.

    Raises:
        BrokenPhotoError: damaged, or absent.
    """
    directory = read_first(BytesIO(blob or b""))
    if directory.layout.big:
        raise BrokenPhotoError("EXIF is never BigTIFF")
    return directory
