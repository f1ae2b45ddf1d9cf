"""TIFF files tag by tag, for the tests: any byte order, any kind, classic or BigTIFF."""

import struct
from collections.abc import Mapping

import numpy as np

Value = tuple[int, list[int] | bytes]  # type, numbers or raw bytes
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q"}


def build(tags: Mapping[int, Value], blocks: Mapping[str, bytes], order: str = "<", *, big: bool = False) -> bytes:
    """A file of one directory at the front; a number given as the name of a block becomes its offset."""
    step, room, code = (20, 8, "Q") if big else (12, 4, "I")
    head = 16 if big else 8
    at = head + (8 if big else 2) + step * len(tags) + room
    values: dict[int, bytes] = {}
    places: dict[str, int] = {}
    for name, block in blocks.items():
        places[name] = at
        at += len(block) + len(block) % 2
    rows = b""
    for tag, (kind, content) in sorted(tags.items()):
        if isinstance(content, bytes):
            raw, count = content, len(content)
        else:
            numbers = [places.get(number, number) if isinstance(number, str) else number for number in content]
            raw, count = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers), len(numbers)
        cell = raw.ljust(room, b"\0")
        if len(raw) > room:
            values[at] = raw
            cell = struct.pack(order + code, at)
            at += len(raw) + len(raw) % 2
        rows += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + cell
    mark = b"II" if order == "<" else b"MM"
    start = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
    table = struct.pack(order + ("Q" if big else "H"), len(tags)) + rows + bytes(room)
    body = b"".join(block + bytes(len(block) % 2) for block in [*blocks.values(), *values.values()])
    return start + table + body


def photo_tags(pixels: np.ndarray, **changes: Value) -> dict[int, Value]:
    """The tags of an uncompressed photo in one strip whose data is the block `strip`."""
    height, width, samples = pixels.shape
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8 * pixels.itemsize] * samples),
        259: (3, [1]),
        262: (3, [2 if samples >= 3 else 1]),
        273: (4, ["strip"]),  # type: ignore[list-item]
        277: (3, [samples]),
        278: (4, [height]),
        279: (4, [pixels.nbytes]),
        284: (3, [1]),
    } | {int(name.removeprefix("tag")): value for name, value in changes.items()}
