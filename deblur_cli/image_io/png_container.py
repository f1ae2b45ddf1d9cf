"""The chunks of a PNG file: read the metadata, put metadata into a coded one. Decodes nothing.

Source: W3C PNG Specification, third edition; the "Raw profile type" text chunks are ImageMagick's habit.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from deblur_cli.image_io import exif, photoshop, xmp
from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly
from deblur_cli.image_io.photo import Header, Metadata

_XMP_KEY = b"XML:com.adobe.xmp"
_RAW_PREFIX = b"Raw profile type "
_MAX_TEXT = 256 << 20  # more than this out of one compressed chunk is a bomb
_CARRIED = (b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_COLOUR_ONLY = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_METRES_PER_INCH = 0.0254


def read_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk up to IEND; the picture's own IDAT and PLTE come without their data.

    Raises:
        BrokenPhotoError: the file ends before IEND.
    """
    stream.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", read_exactly(stream, 8))
        if kind in (b"IDAT", b"fdAT", b"PLTE"):
            stream.seek(length, 1)
            data = b""
        else:
            data = read_exactly(stream, length)
        read_exactly(stream, 4)
        yield kind, data


def read_header(stream: BinaryIO) -> Header:
    """Size, depth and metadata of a PNG.

    Raises:
        BrokenPhotoError: damaged, or an animation.
    """
    chunks = list(read_chunks(stream))
    kind, ihdr = chunks[0]
    if kind != b"IHDR" or len(ihdr) != 13:
        raise BrokenPhotoError("the PNG has no header; copy it again from its source")
    width, height, bits, colour = struct.unpack(">IIBB", ihdr[:10])
    if any(kind == b"acTL" for kind, _ in chunks):
        raise BrokenPhotoError("an animated PNG is not a photo; export one frame of it")
    metadata = _collect(chunks)
    return Header(
        "png",
        width,
        height,
        bits=16 if bits == 16 else 8,
        orientation=exif.read_orientation(metadata.exif),
        palette=colour == 3,
        grey=colour in (0, 4),
        metadata=metadata,
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    return next(
        (_text_value(kind, data) for kind, data in read_chunks(stream) if _text_key(kind, data) == _XMP_KEY),
        None,
    )


def insert_metadata(coded: bytes, metadata: Metadata) -> bytes:
    """Replace all ancillary chunks before the picture of a coded PNG by those of the metadata."""
    stop = coded.index(b"IDAT") - 4
    head = coded[:33]  # signature and IHDR
    return b"".join([head, *_build_chunks(metadata), coded[stop:]])


def _collect(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    fields: dict[str, bytes | None] = {}
    profiles: dict[bytes, bytes] = {}
    comments, carried = [], []
    dpi = None
    for kind, data in chunks:
        key = _text_key(kind, data)
        if kind == b"eXIf":
            fields["exif"] = exif.trim_prefix(data)
        elif kind == b"iCCP":
            fields["icc"] = _inflate(data.partition(b"\0")[2][1:])
        elif kind == b"pHYs" and len(data) == 9:
            dpi = _parse_density(data)
        elif key == _XMP_KEY:
            fields["xmp"] = _text_value(kind, data) or None
        elif key.startswith(_RAW_PREFIX):
            profiles[key[len(_RAW_PREFIX) :].lower()] = _parse_raw_profile(_text_value(kind, data))
        elif key == b"Comment" and _text_value(kind, data):
            comments.append(_text_value(kind, data))
        elif kind in _CARRIED:
            carried.append((kind, data))
    block = profiles.get(b"iptc") or profiles.get(b"8bim") or b""
    iptc, others = photoshop.split_resources(block)
    if block[:1] == b"\x1c":
        iptc = block
    fields.setdefault("exif", exif.trim_prefix(profiles.get(b"exif") or _app1(profiles, exif.PREFIX)))
    fields.setdefault("xmp", profiles.get(b"xmp") or _app1(profiles, xmp.PREFIX)[len(xmp.PREFIX) :] or None)
    return Metadata(
        **fields,
        iptc=iptc,
        photoshop=others,
        dpi=dpi or exif.read_dpi(fields["exif"]),
        comments=tuple(comments),
        png_chunks=tuple(carried),
    )


def _app1(profiles: dict[bytes, bytes], prefix: bytes) -> bytes:
    """The block that ImageMagick took over from a JPEG, if it is of the kind that begins so."""
    block = profiles.get(b"app1", b"")
    return block if block.startswith(prefix) else b""


def _parse_density(data: bytes) -> tuple[float, float] | None:
    x, y, unit = struct.unpack(">IIB", data)
    return (x * _METRES_PER_INCH, y * _METRES_PER_INCH) if unit == 1 and x and y else None


def _text_key(kind: bytes, data: bytes) -> bytes:
    return data.partition(b"\0")[0] if kind in (b"tEXt", b"zTXt", b"iTXt") else b""


def _text_value(kind: bytes, data: bytes) -> bytes:
    """The text of a chunk as bytes: Latin-1 in tEXt and zTXt, UTF-8 in iTXt."""
    rest = data.partition(b"\0")[2]
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflate(rest[1:])
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflate(text) if rest[:1] == b"\1" else text


def _inflate(block: bytes) -> bytes:
    """Decompress a chunk; empty when it is damaged or a bomb."""
    try:
        engine = zlib.decompressobj()
        text = engine.decompress(block, _MAX_TEXT)
    except zlib.error:
        return b""
    return text if engine.eof else b""


def _parse_raw_profile(text: bytes) -> bytes:
    """The bytes of "\\nname\\n  length\\nhex..."; empty when damaged."""
    found = re.fullmatch(rb"\s*\w+\s+(\d+)\s+([0-9a-fA-F\s]*)", text)
    if found is None:
        return b""
    try:
        return bytes.fromhex(found.group(2).decode("ascii"))[: int(found.group(1))]
    except ValueError:
        return b""


def _build_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    yield from (_chunk(kind, data) for kind, data in metadata.png_chunks if kind in _COLOUR_ONLY)
    if metadata.dpi:
        x, y = (round(value / _METRES_PER_INCH) for value in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield _chunk(b"iTXt", _XMP_KEY + bytes(5) + metadata.xmp)
    resources = photoshop.join_resources(metadata.iptc, metadata.photoshop)
    if resources:
        text = b"\niptc\n%8d\n%s\n" % (len(resources), resources.hex("\n", 36).encode())
        yield _chunk(b"zTXt", _RAW_PREFIX + b"iptc\0\0" + zlib.compress(text))
    yield from (_chunk(*_comment(comment)) for comment in metadata.comments)
    yield from (_chunk(kind, data) for kind, data in metadata.png_chunks if kind not in _COLOUR_ONLY)


def _comment(comment: bytes) -> tuple[bytes, bytes]:
    """A comment as tEXt; as iTXt when its bytes are UTF-8 beyond ASCII, which tEXt would misread."""
    text = comment.rstrip(b"\0").replace(b"\0", b" ")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return b"tEXt", b"Comment\0" + text
    return (b"tEXt", b"Comment\0" + text) if text.isascii() else (b"iTXt", b"Comment" + bytes(5) + text)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
