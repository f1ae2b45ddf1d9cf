"""Photoshop image resources: the block that carries IPTC in JPEG, TIFF and PNG. Knows no container.

Source: Adobe Photoshop File Formats Specification, "Image Resource Blocks".
"""

import struct
from decimal import Decimal

from deblur_cli.image_io.limits import MAX_RESOURCES
from deblur_cli.image_io.metadata.turning import Turn

PREFIX = b"Photoshop 3.0\0"  # of the segment of a JPEG that holds such a block
IPTC_RESOURCE = 0x0404
_RESOLUTION, _PATHS = 0x03ED, range(2000, 2998)
_RECORD, _KNOTS = 26, (1, 2, 4, 5)
_ONE, _FAR = (Decimal(1 << 24), Decimal(1 << 24)), (1 << 31) - 1
# They show the picture as it was before.
_THUMBNAILS = (0x0409, 0x040C)


def split_resources(block: bytes) -> tuple[bytes | None, bytes | None]:
    """Part a block into (IPTC records, all other resources without thumbnails); None for what is absent."""
    iptc = None
    others = []
    for number, data, whole in _walk(block):
        if number == IPTC_RESOURCE:
            iptc = iptc or data
        elif number not in _THUMBNAILS:
            others.append(whole)
    return iptc or None, b"".join(others) or None


def join_resources(iptc: bytes | None, others: bytes | None) -> bytes | None:
    """The reverse of `split_resources`, IPTC first; None when there is nothing to say."""
    if not iptc:
        return others
    head = struct.pack(">4sHHI", b"8BIM", IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + bytes(len(iptc) % 2) + (others or b"")


def turn_resources(others: bytes | None, turn: Turn) -> bytes | None:
    """The resources with clipping paths that lie where they lay in the picture, and the resolutions of its sides."""
    if others is None or turn.orientation == 1:
        return others
    parts = []
    for number, data, whole in _walk(others):
        head = whole[: len(whole) - len(data) - len(data) % 2]
        parts.append(head + _turn_resource(number, data, turn) + bytes(len(data) % 2))
    return b"".join(parts)


def _turn_resource(number: int, data: bytes, turn: Turn) -> bytes:
    if number in _PATHS:
        return b"".join(_turn_record(data[at : at + _RECORD], turn) for at in range(0, len(data), _RECORD))
    if number == _RESOLUTION and len(data) == 16 and turn.is_quarter:
        return data[8:] + data[:8]
    return data


def _turn_record(record: bytes, turn: Turn) -> bytes:
    """A knot of a path: three points, each y before x, as shares of the picture in 8.24 fixed point."""
    if len(record) < _RECORD or int.from_bytes(record[:2], "big") not in _KNOTS:
        return record
    places = struct.unpack(">6i", record[2:])
    turned = [turn.point(Decimal(x), Decimal(y), _ONE) for y, x in zip(places[::2], places[1::2], strict=True)]
    return record[:2] + struct.pack(">6i", *(max(-_FAR, min(int(place), _FAR)) for x, y in turned for place in (y, x)))


def _walk(block: bytes) -> list[tuple[int, bytes, bytes]]:
    """(number, data, all bytes) of each resource; stops at the first damaged one."""
    found: list[tuple[int, bytes, bytes]] = []
    at = 0
    while (
        at + 12 <= len(block)
        and len(found) < MAX_RESOURCES
        and block[at : at + 4] in (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa")
    ):
        number = int.from_bytes(block[at + 4 : at + 6], "big")
        name_room = (block[at + 6] + 2) // 2 * 2
        size_at = at + 6 + name_room
        start = size_at + 4
        size = int.from_bytes(block[size_at:start], "big")
        end = start + size + size % 2
        if start + size > len(block):
            break
        found.append((number, block[start : start + size], block[at:end].ljust(end - at, b"\0")))
        at = end
    return found
