"""The boxes of an AVIF or HEIF file, for reading only: size, depth and metadata of the primary item.

Source: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (HEIF items and properties), AV1-ISOBMFF (av1C).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from deblur_cli.image_io import exif
from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.photo import Header, Metadata

_MAX_META = 64 << 20
_WIDE_PRIMARIES = (9, 11, 12)  # BT.2020, DCI-P3, Display P3
_OTHER_CURVES = (8, 16, 18)  # linear, PQ, HLG


@dataclass(slots=True)
class Items:
    """The item table of a `meta` box; extents are (offset in the file or in `idat`, length)."""

    primary: int = 0
    kinds: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # item -> (type, content type)
    extents: dict[int, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)  # item -> (method, extents)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    links: dict[int, list[int]] = field(default_factory=dict)  # item -> 1-based property numbers
    idat: bytes = b""


def read_header(stream: BinaryIO, file_format: str) -> Header:
    """Size, depth and metadata; `irot` and `imir` are applied by the decoder, so orientation is 1.

    An EXIF orientation is not applied: in this family it only repeats the properties.

    Raises:
        BrokenPhotoError: damaged, or an image sequence.
    """
    _check_still(stream)
    items = read_items(stream)
    wanted = dict(_own_properties(items))
    if len(wanted.get(b"ispe", b"")) < 12:
        raise BrokenPhotoError("the file names no picture; copy it again from its source")
    _check_extents(stream, items)
    width, height = _crop(struct.unpack(">II", wanted[b"ispe"][4:12]), wanted.get(b"clap", b""))
    quarter_turned = bool(wanted.get(b"irot", b"\0")[0] & 1)
    if quarter_turned:
        width, height = height, width
    codec = wanted.get(b"av1C", b"\0\0\0\0").ljust(4, b"\0")
    channels = wanted[b"pixi"][5:] if len(wanted.get(b"pixi", b"")) > 5 else bytes([_codec_depth(codec)])
    blob = _read_exif(stream, items)
    icc, packet = _find_icc(items), _read_content(stream, items, _is_xmp)
    chunks = () if icc else _find_colour_code(items)
    metadata = Metadata(exif=blob, icc=icc, xmp=packet, dpi=exif.read_dpi(blob), png_chunks=chunks)
    return Header(
        file_format,
        width,
        height,
        bits=max(channels),
        quarter_turned=quarter_turned,
        grey=bool(codec[2] & 0x10),
        metadata=metadata,
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    return _read_content(stream, read_items(stream), _is_xmp)


def read_items(stream: BinaryIO) -> Items:
    """Parse the `meta` box.

    Raises:
        BrokenPhotoError: it is missing or damaged.
    """
    stream.seek(0)
    for kind, start, size in _walk(stream, stream_length(stream)):
        if kind == b"meta" and size < _MAX_META:
            stream.seek(start)
            return _parse_meta(read_exactly(stream, size))
    raise BrokenPhotoError("the file holds no picture; copy it again from its source")


def _check_still(stream: BinaryIO) -> None:
    stream.seek(8)
    if read_exactly(stream, 4) in (b"avis", b"msf1", b"hevc"):
        raise BrokenPhotoError("an image sequence is not a photo; export one frame of it")


def _check_extents(stream: BinaryIO, items: Items) -> None:
    length = stream_length(stream)
    for method, extents in items.extents.values():
        if method == 0 and any(offset + size > length for offset, size in extents):
            raise BrokenPhotoError("the file is cut short; copy it again from its source")


def _crop(size: tuple[int, int], aperture: bytes) -> tuple[int, int]:
    """Size after the clean aperture, which cuts off the coder's padding."""
    if len(aperture) < 16:
        return size
    width, width_divisor, height, height_divisor = struct.unpack(">IIII", aperture[:16])
    if not width_divisor or not height_divisor:
        return size
    return width // width_divisor, height // height_divisor


def _walk(stream: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the payload, size of the payload) of the boxes from here to `end`."""
    at = stream.tell()
    while at + 8 <= end:
        stream.seek(at)
        size, kind = struct.unpack(">I4s", read_exactly(stream, 8))
        head = 8
        if size == 1:
            size, head = int.from_bytes(read_exactly(stream, 8), "big"), 16
        size = size or end - at
        if size < head or at + size > end:
            raise BrokenPhotoError("the file is cut short or damaged; copy it again from its source")
        yield kind, at + head, size - head
        at += size


def _boxes(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(kind, block[at : at + size]) for kind, at, size in _walk(BytesIO(block), len(block))]


def _parse_meta(block: bytes) -> Items:
    items = Items()
    for kind, payload in _boxes(block[4:]):
        if kind == b"pitm":
            items.primary = int.from_bytes(payload[4:6] if payload[0] == 0 else payload[4:8], "big")
        elif kind == b"iinf":
            items.kinds = dict(_parse_infe(infe) for infe in _item_infos(payload))
        elif kind == b"iloc":
            items.extents = _parse_iloc(payload)
        elif kind == b"idat":
            items.idat = payload
        elif kind == b"iprp":
            _parse_properties(payload, items)
    return items


def _item_infos(payload: bytes) -> list[bytes]:
    return [box for kind, box in _boxes(payload[6 if payload[0] == 0 else 8 :]) if kind == b"infe" and box[0] >= 2]


def _parse_infe(box: bytes) -> tuple[int, tuple[bytes, bytes]]:
    width = 2 if box[0] == 2 else 4
    at = 4 + width
    kind = box[at + 2 : at + 6]
    content = box[at + 6 :].split(b"\0")[1:2] if kind == b"mime" else []
    return int.from_bytes(box[4:at], "big"), (kind, content[0] if content else b"")


def _parse_iloc(payload: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    version = payload[0]
    stream = BytesIO(payload[4:])

    def number(width: int) -> int:
        return int.from_bytes(read_exactly(stream, width), "big")

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


def _parse_properties(payload: bytes, items: Items) -> None:
    for kind, box in _boxes(payload):
        if kind == b"ipco":
            items.properties = _boxes(box)
        elif kind == b"ipma":
            items.links.update(_parse_ipma(box))


def _parse_ipma(box: bytes) -> dict[int, list[int]]:
    stream = BytesIO(box[4:])
    item_width, link_width = (4 if box[0] else 2), (2 if box[3] & 1 else 1)
    mask = 0x7FFF if link_width == 2 else 0x7F
    found = {}
    for _ in range(int.from_bytes(read_exactly(stream, 4), "big")):
        item = int.from_bytes(read_exactly(stream, item_width), "big")
        count = read_exactly(stream, 1)[0]
        found[item] = [int.from_bytes(read_exactly(stream, link_width), "big") & mask for _ in range(count)]
    return found


def _own_properties(items: Items) -> list[tuple[bytes, bytes]]:
    numbers = items.links.get(items.primary, [])
    return [items.properties[number - 1] for number in numbers if 0 < number <= len(items.properties)]


def _codec_depth(codec: bytes) -> int:
    return (12 if codec[2] & 0x20 else 10) if codec[2] & 0x40 else 8


def _find_icc(items: Items) -> bytes | None:
    profiles = [box[4:] for kind, box in _own_properties(items) if kind == b"colr" and box[:4] in (b"prof", b"rICC")]
    return profiles[0] if profiles else None


def _find_colour_code(items: Items) -> tuple[tuple[bytes, bytes], ...]:
    """The code points of colours that nobody may take for sRGB, as PNG's cICP chunk (ITU-T H.273, tables 2 and 3)."""
    codes = [box[4:] for kind, box in _own_properties(items) if kind == b"colr" and box[:4] == b"nclx"]
    if not codes or len(codes[0]) < 4:
        return ()
    primaries, transfer = struct.unpack(">HH", codes[0][:4])
    if primaries not in _WIDE_PRIMARIES and transfer not in _OTHER_CURVES:
        return ()
    return ((b"cICP", bytes([primaries & 0xFF, transfer & 0xFF, 0, 1])),)


def _is_xmp(kind: tuple[bytes, bytes]) -> bool:
    return kind == (b"mime", b"application/rdf+xml")


def _read_exif(stream: BinaryIO, items: Items) -> bytes | None:
    block = _read_content(stream, items, lambda kind: kind[0] == b"Exif")
    if not block or len(block) < 4:
        return None
    return exif.trim_prefix(block[4 + int.from_bytes(block[:4], "big") :])


def _read_content(stream: BinaryIO, items: Items, wanted: Callable[[tuple[bytes, bytes]], bool]) -> bytes | None:
    for item, kind in items.kinds.items():
        method, extents = items.extents.get(item, (0, []))
        if wanted(kind) and extents:
            source: BinaryIO = BytesIO(items.idat) if method == 1 else stream
            return b"".join(_read_extent(source, *extent) for extent in extents)
    return None


def _read_extent(source: BinaryIO, offset: int, length: int) -> bytes:
    source.seek(offset)
    return read_exactly(source, length)
