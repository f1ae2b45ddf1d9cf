"""WebP: libvips reads it, Pillow writes it, and its metadata lies in RIFF chunks.

Source: RFC 9649.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from deblur_cli.image_io.containers import plain
from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.metadata import exif
from deblur_cli.image_io.photo import Encoding, Header, Metadata

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Photo

_QUALITY = 95

_KNOWN = frozenset([b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"ANIM", b"ANMF"])
_METADATA = (b"VP8X", b"ICCP", b"EXIF", b"XMP ")

decode, check = plain.decode, plain.check


def read_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk; of the coded picture only the first 16 bytes.

    Raises:
        BrokenPhotoError: the file is shorter than its header says.
    """
    stream.seek(4)
    end = 8 + int.from_bytes(read_exactly(stream, 4), "little")
    if end > stream_length(stream):
        raise BrokenPhotoError("the file is cut short; copy it again from its source")
    at = 12
    while at + 8 <= end:
        stream.seek(at)
        kind, length = struct.unpack("<4sI", read_exactly(stream, 8))
        yield kind, read_exactly(stream, length if kind in _METADATA else min(length, 16))
        at += 8 + length + length % 2


def read_header(stream: BinaryIO) -> Header:
    """Size and metadata of a WebP.

    Raises:
        BrokenPhotoError: damaged, or an animation.
    """
    chunks = dict(reversed(list(read_chunks(stream))))  # the first of a kind counts
    if b"ANIM" in chunks or b"ANMF" in chunks:
        raise BrokenPhotoError("an animated WebP is not a photo; export one frame of it")
    width, height = _read_size(chunks)
    blob = exif.trim_prefix(chunks.get(b"EXIF"))
    metadata = Metadata(
        exif=blob,
        icc=chunks.get(b"ICCP") or None,
        xmp=chunks.get(b"XMP ") or None,
        dpi=exif.read_dpi(blob),
    )
    return Header(
        width,
        height,
        orientation=exif.read_orientation(blob),
        alpha=_may_have_alpha(chunks),
        metadata=metadata,
        left_out=_find_left_out(chunks),
        encoding=Encoding(lossless=b"VP8L" in chunks),
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    return next((data for kind, data in read_chunks(stream) if kind == b"XMP "), None)


def encode(photo: Photo, quality: int | None) -> bytes:
    """Lossless when the source was and no quality is asked for. WebP has no grey: it becomes RGB."""
    from deblur_cli.image_io import coding

    metadata = photo.metadata
    options: dict[str, Any] = {"quality": _QUALITY if quality is None else quality}
    if quality is None and photo.encoding.lossless:
        options = {"lossless": True, "quality": 75}
    return coding.code(
        coding.stack(photo, grey=False, alpha=True),
        "WEBP",
        exact=True,  # colours under transparent pixels stay
        exif=exif.with_dpi(metadata.exif, metadata.dpi) or b"",
        icc_profile=metadata.icc or b"",
        xmp=metadata.xmp or b"",
        **options,
    )


def _may_have_alpha(chunks: dict[bytes, bytes]) -> bool:
    flags, lossless = chunks.get(b"VP8X", b"\0"), chunks.get(b"VP8L", b"")
    return bool(flags[:1] and flags[0] & 0x10) or (len(lossless) >= 5 and bool(lossless[4] & 0x10))


def _find_left_out(chunks: dict[bytes, bytes]) -> tuple[str, ...]:
    """The kinds of chunks that no specification knows: what they mean for new pixels cannot be told."""
    names = sorted(kind.decode("latin-1").strip() for kind in chunks.keys() - _KNOWN)
    return (f"its WebP chunks {', '.join(names)}",) if names else ()


def _read_size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    lossy, lossless = chunks.get(b"VP8 ", b""), chunks.get(b"VP8L", b"")
    if len(lossy) >= 10:
        width, height = struct.unpack("<HH", lossy[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if len(lossless) >= 5:
        packed = int.from_bytes(lossless[1:5], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    raise BrokenPhotoError("the WebP holds no picture; copy it again from its source")
