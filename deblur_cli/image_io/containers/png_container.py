"""PNG: libvips reads and writes it, and its metadata lies in chunks.

Source: W3C PNG Specification, third edition; the "Raw profile type" text chunks are ImageMagick's habit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deblur_cli.image_io.containers import plain
from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.metadata import exif, photoshop, xmp
from deblur_cli.image_io.photo import Header, Metadata

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Photo

_XMP_KEY = b"XML:com.adobe.xmp"
_RAW_PREFIX = b"Raw profile type "
_RAW_PROFILES = (b"exif", b"app1", b"iptc", b"8bim", b"xmp", b"icc", b"icm")
_CARRIED = (b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
# What the specification itself knows: read elsewhere, or about how the old pixels were stored.
_ANCILLARY = frozenset(
    b"tIME sBIT bKGD hIST tRNS iCCP eXIf zxIf cICP mDCV cLLI gAMA cHRM sRGB acTL fcTL oFFs sTER sPLT".split()
)
_COLOUR_ONLY = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_METRES_PER_INCH = 0.0254

decode, check = plain.decode, plain.check


def read_chunks(stream: MeteredReader) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk up to IEND; without their data those of the picture and of old pixels.

    Raises:
        BrokenPhotoError: the file ends before IEND.
    """
    at, kind, end = 8, b"", stream_length(stream)
    while kind != b"IEND":
        stream.seek(at)
        length, kind = struct.unpack(">I4s", read_exactly(stream, 8))
        data = read_exactly(stream, length) if _is_wanted(kind) else b""
        at += length + 12
        if at > end:
            raise BrokenPhotoError("the file is cut short; copy it again from its source")
        yield kind, data


def _is_wanted(kind: bytes) -> bool:
    return kind == b"IHDR" or kind in _ANCILLARY or _is_safe_to_copy(kind)


def read_header(stream: MeteredReader) -> Header:
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
    metadata = _collect(stream, chunks)
    return Header(
        width,
        height,
        bits=16 if bits == 16 else 8,
        orientation=exif.read_orientation(metadata.exif),
        palette=colour == 3,
        grey=colour in (0, 4),
        alpha=colour in (4, 6) or any(kind == b"tRNS" for kind, _ in chunks),
        metadata=metadata,
        left_out=_find_left_out(chunks),
    )


def _find_left_out(chunks: list[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """The kinds of private chunks that belong to the old pixels."""
    kinds = {kind for kind, _ in chunks if kind[0] & 0x20 and not _is_safe_to_copy(kind)}
    names = sorted(kind.decode("latin-1") for kind in kinds - _ANCILLARY)
    return (f"its PNG chunks {', '.join(names)}",) if names else ()


def read_xmp(stream: MeteredReader) -> bytes | None:
    """The XMP packet alone."""
    return next(
        (_text_value(stream, kind, data) for kind, data in read_chunks(stream) if _text_key(kind, data) == _XMP_KEY),
        None,
    )


def encode(photo: Photo, quality: int | None) -> bytes:
    """All channels and bits; the coder's own ancillary chunks give way to those of the metadata."""
    from deblur_cli.image_io import coding, vips

    coded = vips.encode_png(coding.stack(photo, grey=photo.grey, alpha=True))
    head, picture = coded[:33], coded[coded.index(b"IDAT") - 4 :]  # signature and IHDR; the rest
    return b"".join([head, *_build_chunks(photo.metadata), picture])


def _collect(stream: MeteredReader, chunks: list[tuple[bytes, bytes]]) -> Metadata:
    fields: dict[str, bytes | None] = {}
    profiles: dict[bytes, bytes] = {}
    comments, carried = [], []
    dpi = None
    for kind, data in chunks:
        key = _text_key(kind, data)
        if kind == b"eXIf":
            fields["exif"] = exif.trim_prefix(data)
        elif kind == b"zxIf":  # ExifTool's compressed twin of eXIf: a byte of zero, the length, the blob
            profiles[b"exif"] = _inflate(stream, data[5:])
        elif kind == b"iCCP":
            fields["icc"] = _inflate(stream, data.partition(b"\0")[2][1:])
        elif kind == b"pHYs" and len(data) == 9:
            dpi = _parse_density(data)
        elif key == _XMP_KEY:
            fields["xmp"] = _text_value(stream, kind, data) or None
        elif _is_raw_profile(key) and (profile := _parse_raw_profile(_text_value(stream, kind, data))):
            profiles.setdefault(key[len(_RAW_PREFIX) :].lower(), profile)
        elif key == b"Comment" and (comment := _text_value(stream, kind, data)):
            comments.append(comment)
        elif kind in _CARRIED or _is_safe_to_copy(kind):
            carried.append((kind, data))
    blocks = [_unwrap_iptc(profiles.get(name, b"")) for name in (b"iptc", b"8bim")]
    fields.setdefault("exif", exif.trim_prefix(profiles.get(b"exif") or _app1(profiles, exif.PREFIX)))
    fields.setdefault("xmp", profiles.get(b"xmp") or _app1(profiles, xmp.PREFIX)[len(xmp.PREFIX) :] or None)
    fields.setdefault("icc", profiles.get(b"icc") or profiles.get(b"icm"))
    return Metadata(
        exif=fields["exif"],
        icc=fields["icc"],
        xmp=fields["xmp"],
        iptc=blocks[0][0] or blocks[1][0],
        photoshop=blocks[0][1] or blocks[1][1],
        dpi=dpi or exif.read_dpi(fields["exif"]),
        comments=tuple(comments),
        png_chunks=tuple(carried),
    )


def _is_safe_to_copy(kind: bytes) -> bool:
    """Whether the specification lets a program that does not know a chunk keep it when the pixels change."""
    return len(kind) == 4 and bool(kind[0] & 0x20 and kind[3] & 0x20)


def _unwrap_iptc(block: bytes) -> tuple[bytes | None, bytes | None]:
    """(IPTC records, other resources): some writers store the records alone, others Photoshop's block around them."""
    if block[:1] == b"\x1c":
        return block, None
    return photoshop.split_resources(block.removeprefix(photoshop.PREFIX))


def _app1(profiles: dict[bytes, bytes], prefix: bytes) -> bytes:
    """The block that ImageMagick took over from a JPEG, if it is of the kind that begins so."""
    block = profiles.get(b"app1", b"")
    return block if block.startswith(prefix) else b""


def _parse_density(data: bytes) -> tuple[float, float] | None:
    x, y, unit = struct.unpack(">IIB", data)
    return (x * _METRES_PER_INCH, y * _METRES_PER_INCH) if unit == 1 and x and y else None


def _text_key(kind: bytes, data: bytes) -> bytes:
    return data.partition(b"\0")[0] if kind in (b"tEXt", b"zTXt", b"iTXt") else b""


def _text_value(stream: MeteredReader, kind: bytes, data: bytes) -> bytes:
    """The text of a chunk as bytes: Latin-1 in tEXt and zTXt, UTF-8 in iTXt."""
    rest = data.partition(b"\0")[2]
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflate(stream, rest[1:])
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflate(stream, text) if rest[:1] == b"\1" else text


def _inflate(stream: MeteredReader, block: bytes) -> bytes:
    """Decompress a chunk; empty when it is damaged.

    Raises:
        BrokenPhotoError: it is a bomb, alone or with the others.
    """
    try:
        engine = zlib.decompressobj()
        text = engine.decompress(block, stream.bytes_left + 1)
    except zlib.error:
        return b""
    stream.spend(len(text))
    return text if engine.eof else b""


def _is_raw_profile(key: bytes) -> bool:
    return key.startswith(_RAW_PREFIX) and key[len(_RAW_PREFIX) :].lower() in _RAW_PROFILES


def _parse_raw_profile(text: bytes) -> bytes:
    """The bytes of a line or two of words, a line with the length, and lines of hex; empty when damaged.

    The words are `iptc` with ImageMagick, `IPTC profile` with ExifTool, and may be missing.
    """
    for _ in range(4):
        line, _, text = text.partition(b"\n")
        if line.strip().isdigit():
            break
    else:
        return b""
    try:
        return bytes.fromhex(text.decode("ascii"))[: int(line[:20])]
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
