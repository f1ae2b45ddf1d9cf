"""JPEG: libvips reads it, Pillow writes it, and its metadata lies in segments before the picture.

Carried: EXIF, XMP and its extension, ICC, Photoshop/IPTC, comments, and every application segment that does not
    describe the old pixels.

Source: ITU-T T.81 Annex B; CIPA DC-008 §4.7; ICC.1 Annex B.4; Adobe XMP Specification Part 3 §1.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from deblur_cli.image_io.containers import companions
from deblur_cli.image_io.containers.jpeg_segments import read_segments
from deblur_cli.image_io.faults import BrokenPhotoError, TooLongError, stream_length
from deblur_cli.image_io.metadata import exif, photoshop, xmp
from deblur_cli.image_io.photo import Encoding, Header, Metadata

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Photo, Pixels

_QUALITY = 95
_FLOOR = 90  # tables of the source are never taken coarser: a sharper photo shows steps that the blur hid
_STAMP = "x" * 1500  # as long as a recipe may become
_LONG = 60_000  # bytes of a packet that may become too long for a segment by the stamp
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_ICC = b"ICC_PROFILE\0"
_ROOM = 65533  # a segment's length field counts itself
_APP0, _APP1, _APP2, _APP13, _APP15, _COM, _DQT = 0xE0, 0xE1, 0xE2, 0xED, 0xEF, 0xFE, 0xDB
# Application segments about the old pixels, and what is said about them; all others are kept. Without a word: what the
# coder writes anew, thumbnails, and what `companions` tells.
_OLD_PIXELS = (
    (0xE0, b"JFXX\0", ""),
    (0xE2, companions.MPF, ""),
    (0xE2, b"urn:iso:std:iso:ts:21496:", ""),
    (0xE4, b"SCALADO", "its index of coded blocks (APP4)"),
    (0xE8, b"SPIFF\0", ""),
    (0xEB, b"JP", "its content credentials (APP11)"),
    (0xEB, b"HDR_RI", "its HDR layer (APP11)"),
    (0xEE, b"Adobe", ""),
)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FIRST_ARITHMETIC = 0xC9  # the markers below are of Huffman's coding, in which
_MOST_PIXELS = 8 * 64  # are told by a byte at most: a block of 8 x 8 takes at least a bit
_SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
# fmt: off
_ZIGZAG = (
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)
# fmt: on


def read_header(stream: BinaryIO) -> Header:
    """Size, metadata and coding of a JPEG.

    Raises:
        BrokenPhotoError: damaged, or a kind that is refused (CMYK, 12 bit, lossless).
    """
    segments, mended = read_segments(stream)
    frames = [(marker, payload) for marker, payload in segments if marker in _FRAMES]
    if not frames or len(frames[0][1]) < 9:
        raise BrokenPhotoError("the JPEG holds no picture; copy it again from its source")
    marker, frame = frames[0]
    bits, height, width, channels = struct.unpack(">BHHB", frame[:6])
    _check_kind(marker, bits, channels)
    if marker < _FIRST_ARITHMETIC and stream_length(stream) * _MOST_PIXELS < width * height:
        raise BrokenPhotoError(f"it is cut short: {width}x{height} takes more bytes; copy it again from its source")
    metadata, left_out = _collect(segments)
    return Header(
        width,
        height,
        orientation=exif.read_orientation(metadata.exif),
        grey=channels == 1,
        metadata=metadata,
        encoding=_read_encoding(segments, frame, channels),
        left_out=left_out,
        mended=("its JPEG segments are damaged and were put right",) if mended else (),
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    for marker, payload in read_segments(stream)[0]:
        if marker == _APP1 and payload.startswith(xmp.PREFIX):
            return payload[len(xmp.PREFIX) :]
    return None


def decode(path: Path, header: Header) -> tuple[Pixels, Header]:
    """Stored pixels; known now is what lies behind the picture, and whether its end marker is missing.

    Raises:
        BrokenPhotoError: damaged or cut short.
    """
    from deblur_cli.image_io import vips

    tail = companions.read_tail(path)
    if tail.complete:
        planes, mended = vips.decode(path), header.mended
    else:
        planes, mended = vips.decode_endless(path), (*header.mended, "its end marker is missing")
    left_out = (*header.left_out, *tail.left_out)
    metadata = replace(header.metadata, video=tail.video)
    return planes, replace(header, metadata=metadata, left_out=left_out, mended=mended)


def encode(photo: Photo, quality: int | None) -> bytes:
    """Quality None takes the source's tables where they are finer than those of _FLOOR; 95 for other sources.

    Chroma subsampling is the source's; 4:4:4 for other sources.

    Raises:
        TooLongError: a block of metadata is larger than JPEG's 64 KB segments allow.
    """
    from deblur_cli.image_io import coding

    options: dict[str, Any] = {"optimize": True}
    if not photo.grey:
        options["subsampling"] = photo.encoding.subsampling or "4:4:4"
    if quality is None and photo.encoding.tables:
        options["qtables"] = _choose_tables(photo)
    else:
        options["quality"] = _QUALITY if quality is None else quality
    if photo.metadata.dpi:
        options["dpi"] = tuple(min(round(value), 65535) for value in photo.metadata.dpi)
    coded = coding.code(coding.stack(photo, grey=photo.grey, alpha=False), "JPEG", **options)
    at = 4 + int.from_bytes(coded[4:6], "big") if coded[2:4] == b"\xff\xe0" else 2  # behind SOI and JFIF
    return b"".join([coded[:at], *_build_segments(photo.metadata), coded[at:], photo.metadata.video or b""])


def check(metadata: Metadata) -> None:
    """Build all segments, with a stamp among them, and forget them.

    Raises:
        BrokenPhotoError: a block does not fit into a JPEG.
    """
    is_long = len(metadata.xmp or b"") > _LONG
    for _ in _build_segments(replace(metadata, xmp=xmp.merge_stamp(metadata.xmp, _STAMP)) if is_long else metadata):
        pass


def _choose_tables(photo: Photo) -> list[list[int]]:
    """The finer of the source's step and that of _FLOOR, for each frequency."""
    own, floor = photo.encoding.tables, _floor_tables()
    return [
        [min(step, limit) for step, limit in zip(own[min(at, len(own) - 1)], floor[at], strict=True)]
        for at in range(1 if photo.grey else 2)
    ]


@cache
def _floor_tables() -> dict[int, tuple[int, ...]]:
    import numpy as np

    from deblur_cli.image_io import coding

    coded = coding.code(np.zeros((8, 8, 3), np.uint8), "JPEG", quality=_FLOOR)
    return _parse_tables(read_segments(BytesIO(coded))[0])


def _check_kind(marker: int, bits: int, channels: int) -> None:
    if channels == 4:
        raise BrokenPhotoError("a CMYK JPEG is for print; convert it to RGB first")
    if channels not in (1, 3):
        raise BrokenPhotoError(f"a JPEG of {channels} channels is not supported; convert it to RGB first")
    if bits != 8 or marker in (0xC3, 0xC7, 0xCB, 0xCF):
        kind = f"{bits}-bit" if bits != 8 else "lossless"
        raise BrokenPhotoError(f"a {kind} JPEG is not supported; convert it to TIFF first")


def _collect(segments: list[tuple[int, bytes]]) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata, and what of the segments is left out, in words."""
    blobs: list[list[bytes]] = []
    packet = dpi = None
    icc, resources, comments, pieces, others, left_out = {}, [], [], [], [], []
    for marker, payload in segments:
        if marker == _APP0 and payload.startswith(b"JFIF\0"):
            dpi = dpi or _parse_density(payload)
        elif marker == _APP1 and payload.startswith(exif.PREFIX):
            _add_exif(blobs, payload[len(exif.PREFIX) :])
        elif marker == _APP1 and payload.startswith(xmp.PREFIX) and packet is None:
            packet = payload[len(xmp.PREFIX) :]
        elif marker == _APP1 and payload.startswith(_EXTENSION):
            pieces.append(payload[len(_EXTENSION) :])
        elif marker == _APP2 and payload.startswith(_ICC) and len(payload) > 14:
            icc[payload[12]] = payload[14:]
        elif marker == _APP13 and payload.startswith(photoshop.PREFIX):
            resources.append(payload[len(photoshop.PREFIX) :])
        elif marker == _COM:
            comments.append(payload)
        elif _APP0 <= marker <= _APP15:
            old = next((word for kind, head, word in _OLD_PIXELS if kind == marker and payload.startswith(head)), None)
            left_out += [old] if old else []
            others += [(marker, payload)] if old is None else []
    iptc, resources_left = photoshop.split_resources(b"".join(resources))
    extended = _assemble(pieces, xmp.find_extended_guid(packet))
    left_out += ["an extended XMP that is incomplete"] if pieces and extended is None else []
    left_out += ["a second EXIF block"] if len(blobs) > 1 else []
    blob = b"".join(blobs[0]) or None if blobs else None
    metadata = Metadata(
        exif=blob,
        icc=b"".join(icc[number] for number in sorted(icc)) or None,
        xmp=packet,
        xmp_extended=extended,
        iptc=iptc,
        photoshop=resources_left,
        dpi=dpi or exif.read_dpi(blob),
        comments=tuple(comments),
        segments=tuple(others),
    )
    return metadata, tuple(dict.fromkeys(left_out))


def _add_exif(blobs: list[list[bytes]], piece: bytes) -> None:
    """A blob over 64 KB goes on in further segments; what begins like a blob of its own is one."""
    if blobs and not piece.startswith((b"II*\0", b"MM\0*")):
        blobs[-1].append(piece)
    else:
        blobs.append([piece])


def _parse_density(payload: bytes) -> tuple[float, float] | None:
    if len(payload) < 12:
        return None
    unit, x, y = struct.unpack(">BHH", payload[7:12])
    factor = {1: 1.0, 2: 2.54}.get(unit)
    return (x * factor, y * factor) if factor and x and y else None


def _assemble(pieces: list[bytes], guid: bytes | None) -> bytes | None:
    """The extended packet out of its pieces (GUID, length, offset, data); None when one is missing."""
    parts = {int.from_bytes(piece[36:40], "big"): piece for piece in pieces if piece[:32] == guid}
    whole = b""
    for offset in sorted(parts):
        if offset == len(whole):
            whole += parts[offset][40:]
    complete = parts and len(whole) == int.from_bytes(parts[min(parts)][32:36], "big")
    return whole if complete else None


def _parse_tables(segments: list[tuple[int, bytes]]) -> dict[int, tuple[int, ...]]:
    tables = {}
    for marker, payload in segments:
        at = 0
        while marker == _DQT and at < len(payload):
            wide, number = payload[at] >> 4, payload[at] & 15
            code, size = (">64H", 128) if wide else (">64B", 64)
            if at + 1 + size > len(payload):
                break
            steps = struct.unpack_from(code, payload, at + 1)
            natural = [0] * 64
            for step, place in zip(steps, _ZIGZAG, strict=True):
                natural[place] = step
            tables[number] = tuple(natural)
            at += 1 + size
    return tables


def _read_encoding(segments: list[tuple[int, bytes]], frame: bytes, channels: int) -> Encoding:
    tables = _parse_tables(segments)
    parts = [frame[6 + 3 * at : 9 + 3 * at] for at in range(channels)]
    if any(len(part) < 3 for part in parts):
        raise BrokenPhotoError("its JPEG segments are damaged; copy it again from its source")
    used = tuple(tables[part[2]] for part in parts[:2] if part[2] in tables)
    if channels == 1:
        return Encoding(tables=used)
    (h, v), (blue_h, blue_v) = ((part[1] >> 4, part[1] & 15) for part in parts[:2])
    ratio = (h // max(blue_h, 1), v // max(blue_v, 1))
    return Encoding(tables=used, subsampling=_SAMPLINGS.get(ratio, "4:4:4"))


def _build_segments(metadata: Metadata) -> Iterator[bytes]:
    for _, piece in _cut(metadata.exif or b"", _ROOM - len(exif.PREFIX)):
        yield _segment(_APP1, exif.PREFIX + piece, "EXIF")
    packet, extended = fit_packet(metadata)
    if packet:
        yield _segment(_APP1, xmp.PREFIX + packet, "XMP")
    guid = xmp.find_extended_guid(packet)
    if extended and guid:
        full = struct.pack(">I", len(extended))
        for offset, piece in _cut(extended, 65400):
            yield _segment(_APP1, _EXTENSION + guid + full + struct.pack(">I", offset) + piece, "XMP")
    if metadata.icc:
        pieces = list(_cut(metadata.icc, _ROOM - 14))
        if len(pieces) > 255:
            raise TooLongError(
                f"its ICC profile of {len(metadata.icc)} bytes is too long for JPEG; choose --format png"
            )
        for number, (_, piece) in enumerate(pieces, 1):
            yield _segment(_APP2, _ICC + bytes([number, len(pieces)]) + piece, "ICC")
    resources = photoshop.join_resources(metadata.iptc, metadata.photoshop)
    for _, piece in _cut(resources or b"", _ROOM - len(photoshop.PREFIX)):
        yield _segment(_APP13, photoshop.PREFIX + piece, "IPTC")
    for marker, payload in metadata.segments:
        yield _segment(marker, payload, "APP")
    for comment in metadata.comments:
        yield _segment(_COM, comment, "comment")


def fit_packet(metadata: Metadata) -> tuple[bytes | None, bytes | None]:
    """The packet and the extended packet: properties move from the one to the other until the first fits a segment.

    Raises:
        BrokenPhotoError: it is too long and cannot be parsed.
    """
    room = _ROOM - len(xmp.PREFIX)
    packet, extended = metadata.xmp, metadata.xmp_extended
    if packet is None or len(trimmed := xmp.trim_padding(packet, room)) <= room:
        return (trimmed if packet else None), extended
    return xmp.split_extended(xmp.join_extended(packet, extended) if extended else packet, room)


def _cut(block: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    return ((at, block[at : at + size]) for at in range(0, len(block), size))


def _segment(marker: int, payload: bytes, name: str) -> bytes:
    if len(payload) > _ROOM:
        raise TooLongError(
            f"its {name} of {len(payload)} bytes is over JPEG's limit of 64 KB; choose --format png or tiff"
        )
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
