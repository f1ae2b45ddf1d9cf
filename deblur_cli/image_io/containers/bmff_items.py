"""The boxes of an AVIF or HEIF file and the table of its items. Knows no meaning beyond "made of" and "about".

Source: ISO/IEC 14496-12 (boxes, meta, iref), ISO/IEC 23008-12 (items, properties).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.limits import MAX_DEPTH, MAX_TABLE, MeteredReader

_CUT = "the file is cut short or damaged; copy it again from its source"


@dataclass(slots=True)
class Items:
    """The item table of a `meta` box; extents are (offset in the file or in `idat`, length)."""

    primary: int = 0
    kinds: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # item -> (type, content type)
    extents: dict[int, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)  # item -> (method, extents)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    links: dict[int, list[int]] = field(default_factory=dict)  # item -> 1-based property numbers
    references: dict[bytes, dict[int, list[int]]] = field(default_factory=dict)  # type -> item -> items
    idat: bytes = b""

    def own(self, item: int) -> list[tuple[bytes, bytes]]:
        """The properties of an item, in their order."""
        return [self.properties[number - 1] for number in self.links.get(item, []) if self._exists(number)]

    def sources(self, item: int) -> list[int]:
        """The item, what it is derived of, what that is derived of, and so on: of each level the first item."""
        chain = [item]
        while len(chain) < MAX_DEPTH and (below := self.references.get(b"dimg", {}).get(chain[-1])):
            chain.append(below[0])
        return chain

    def parts(self, item: int) -> set[int]:
        """All items that an item is derived of, on any level."""
        found, level = set[int](), {item}
        for _ in range(MAX_DEPTH):
            level = {part for whole in level for part in self.references.get(b"dimg", {}).get(whole, [])} - found
            found |= level
        return found

    def find(self, *kinds: bytes) -> list[bytes]:
        """The properties of these kinds of the primary item, or else of the nearest that it is derived of."""
        for item in self.sources(self.primary):
            if found := [box for kind, box in self.own(item) if kind in kinds]:
                return found
        return []

    def _exists(self, number: int) -> bool:
        return 0 < number <= len(self.properties)


def read_items(stream: BinaryIO) -> Items:
    """Parse the `meta` box.

    Raises:
        BrokenPhotoError: it is missing or damaged.
    """
    for kind, start, size in walk_file(stream):
        if kind == b"meta":
            stream.seek(start)
            return _parse_meta(read_exactly(stream, size))
    raise BrokenPhotoError("the file holds no picture; copy it again from its source")


def read_item(stream: BinaryIO, items: Items, item: int) -> bytes:
    """The bytes of an item.

    Raises:
        BrokenPhotoError: they lie outside of the file.
    """
    method, extents = items.extents.get(item, (0, []))
    source: BinaryIO = BytesIO(items.idat) if method == 1 else stream
    end, parts = stream_length(source), []
    for offset, length in extents:
        if offset + length > end:
            raise BrokenPhotoError(_CUT)
        source.seek(offset)
        parts.append(read_exactly(source, length))
    return b"".join(parts)


def walk_file(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the payload, size of the payload) of the outermost boxes."""
    stream.seek(0)
    return _walk(stream, stream_length(stream))


def boxes(block: bytes) -> list[tuple[bytes, bytes]]:
    """(type, payload) of the boxes in a block."""
    return [(kind, block[at : at + size]) for kind, at, size in _walk(MeteredReader(block), len(block))]


def _walk(stream: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    at = stream.tell()
    while at + 8 <= end:
        stream.seek(at)
        size, kind = struct.unpack(">I4s", read_exactly(stream, 8))
        head = 8
        if size == 1:
            size, head = int.from_bytes(read_exactly(stream, 8), "big"), 16
        size = size or end - at
        if size < head or at + size > end:
            raise BrokenPhotoError(_CUT)
        yield kind, at + head, size - head
        at += size


def _parse_meta(block: bytes) -> Items:
    items = Items()
    for kind, payload in boxes(block[4:]):
        if kind == b"idat":
            items.idat = payload
        elif len(payload) > MAX_TABLE:
            continue  # no table of items of a photo is as long
        elif kind == b"pitm":
            items.primary = int.from_bytes(payload[4:6] if payload[0] == 0 else payload[4:8], "big")
        elif kind == b"iinf":
            items.kinds = dict(_parse_infe(infe) for infe in _item_infos(payload))
        elif kind == b"iloc":
            items.extents = _parse_iloc(payload)
        elif kind == b"iref":
            _parse_references(payload, items)
        elif kind == b"iprp":
            _parse_properties(payload, items)
    return items


def _item_infos(payload: bytes) -> list[bytes]:
    return [box for kind, box in boxes(payload[6 if payload[0] == 0 else 8 :]) if kind == b"infe" and box[0] >= 2]


def _parse_infe(box: bytes) -> tuple[int, tuple[bytes, bytes]]:
    width = 2 if box[0] == 2 else 4
    at = 4 + width
    kind = box[at + 2 : at + 6]
    content = box[at + 6 :].split(b"\0")[1:2] if kind == b"mime" else []
    return int.from_bytes(box[4:at], "big"), (kind, content[0] if content else b"")


def _numbers_of(block: bytes) -> Callable[[int], int]:
    """What gives the next number of a block, of so many bytes."""
    stream = BytesIO(block)
    return lambda width: int.from_bytes(read_exactly(stream, width), "big")


def _parse_iloc(payload: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    version, number = payload[0], _numbers_of(payload[4:])
    sizes = number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    found = {}
    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        method = number(2) & 15 if version else 0
        number(2)  # data reference: always this file
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        found[item] = (method, extents)
    return found


def _parse_references(payload: bytes, items: Items) -> None:
    width = 4 if payload[0] else 2
    for kind, box in boxes(payload[4:]):
        numbers = struct.unpack(f">{'IH'[width == 2]}H", box[: width + 2])
        targets = struct.unpack(f">{numbers[1]}{'IH'[width == 2]}", box[width + 2 : width + 2 + numbers[1] * width])
        items.references.setdefault(kind, {}).setdefault(numbers[0], []).extend(targets)


def _parse_properties(payload: bytes, items: Items) -> None:
    for kind, box in boxes(payload):
        if kind == b"ipco":
            items.properties = boxes(box)
        elif kind == b"ipma":
            items.links.update(_parse_ipma(box))


def _parse_ipma(box: bytes) -> dict[int, list[int]]:
    number, wide = _numbers_of(box[4:]), box[3] & 1
    found = {}
    for _ in range(number(4)):
        item = number(4 if box[0] else 2)
        found[item] = [number(2 if wide else 1) & (0x7FFF if wide else 0x7F) for _ in range(number(1))]
    return found
