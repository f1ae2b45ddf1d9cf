"""AVIF and HEIF files put together item by item, around pictures that Pillow or pillow-heif coded."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image

XMP_TYPE = b"application/rdf+xml"


@dataclass
class Item:
    kind: bytes
    data: bytes
    properties: list[bytes] = field(default_factory=list)  # whole boxes
    mime: bytes = b""


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", len(payload) + 8, kind) + payload


def full_box(kind: bytes, payload: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, bytes([version]) + flags.to_bytes(3, "big") + payload)


def nclx(primaries: int, transfer: int, matrix: int = 6, *, full_range: bool = True) -> bytes:
    return box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, 0x80 * full_range))


def profile(icc: bytes) -> bytes:
    return box(b"colr", b"prof" + icc)


def auxiliary(name: bytes) -> bytes:
    return full_box(b"auxC", name + b"\0")


def grid(width: int, height: int, columns: int) -> tuple[bytes, list[bytes]]:
    """The payload and the properties of a grid of one row."""
    return struct.pack(">BBBBHH", 0, 0, 0, columns - 1, width, height), [
        full_box(b"ispe", struct.pack(">II", width, height))
    ]


def avif(pixels: np.ndarray, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "AVIF", **{"quality": 95, **options})
    return buffer.getvalue()


def coded_item(content: bytes) -> Item:
    """The primary item of a simple file, with its size and its codec's configuration but without its colours."""
    boxes = _walk(content)
    meta = _walk(boxes[b"meta"][4:])
    container = _list(_walk(meta[b"iprp"])[b"ipco"])
    kept = [box(kind, payload) for kind, payload in container if kind in (b"ispe", b"av1C", b"hvcC")]
    kind = b"hvc1" if any(name == b"hvcC" for name, _ in container) else b"av01"
    return Item(kind, boxes[b"mdat"], kept)


def build(
    brand: bytes,
    items: Mapping[int, Item],
    primary: int,
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
) -> bytes:
    properties: list[bytes] = []
    links = b""
    for number, item in items.items():
        for each in item.properties:
            if each not in properties:
                properties.append(each)
        links += struct.pack(">HB", number, len(item.properties))
        links += bytes(properties.index(each) + 1 for each in item.properties)
    infos = b"".join(
        full_box(
            b"infe", struct.pack(">HH", number, 0) + item.kind + b"\0" + (item.mime + b"\0" if item.mime else b""), 2
        )
        for number, item in items.items()
    )
    named = b"".join(
        box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets))
        for kind, source, targets in references
    )
    head = box(b"ftyp", brand + bytes(4) + b"mif1" + brand)

    def meta(start: int) -> bytes:
        places = b""
        for number, item in items.items():
            places += struct.pack(">HHHII", number, 0, 1, start, len(item.data))
            start += len(item.data)
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", primary))
            + full_box(b"iinf", struct.pack(">H", len(items)) + infos)
            + full_box(b"iloc", b"\x44\0" + struct.pack(">H", len(items)) + places)
            + (full_box(b"iref", named) if named else b"")
            + box(
                b"iprp", box(b"ipco", b"".join(properties)) + full_box(b"ipma", struct.pack(">I", len(items)) + links)
            ),
        )

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"".join(item.data for item in items.values()))


def _list(block: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(block):
        size, kind = struct.unpack(">I4s", block[at : at + 8])
        found.append((kind, block[at + 8 : at + (size or len(block))]))
        at += size or len(block)
    return found


def _walk(block: bytes) -> dict[bytes, bytes]:
    return dict(_list(block))
