"""TIFF: libvips reads it, `tiff_writer` writes it, and its metadata lies in its directories.

Source: TIFF 6.0; Adobe Photoshop TIFF Technical Notes; BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from deblur_cli.image_io.containers import tiff_writer
from deblur_cli.image_io.containers.tiff_pieces import Grid, Pieces
from deblur_cli.image_io.containers.tiff_writer import ICC, IPTC, PHOTOSHOP, XMP
from deblur_cli.image_io.faults import BrokenPhotoError, stream_length
from deblur_cli.image_io.limits import MAX_PAGES, MeteredReader
from deblur_cli.image_io.metadata import exif, exif_builder, ifd, photoshop
from deblur_cli.image_io.photo import Encoding, Header, Metadata

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Photo, Pixels

_NEW_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_COUNTS, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_JPEG, _YCBCR = 7, 6
_REFUSED = {5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "raw sensor data", 32844: "LogL", 32845: "LogLuv"}
# None, CCITT, LZW, JPEG, deflate (two numbers), PackBits: what every libtiff can read.
_COMPRESSIONS = frozenset([1, 2, 3, 4, 5, 7, 8, 32773, 32946])
# What a decoder needs: size and kind, strips and tiles, the settings of CCITT, the predictor, palettes, JPEG tables.
_DECODED = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 338, 339, 347}
_MAX_PIECES = 1_000_000  # strips of one row, or tiles of 23 x 23 pixels, of the largest photo that is read
_EVEN = "convert it to RGB of 8 or 16 bits first"


def read_header(stream: BinaryIO) -> Header:
    """Size, depth and metadata of a TIFF.

    Raises:
        BrokenPhotoError: damaged, or a kind that is refused (several pages, CMYK, Lab, float, odd depths).
    """
    directory = ifd.read_first(stream)
    width, height = directory.number(_WIDTH, 0), directory.number(_LENGTH, 0)
    if not width or not height:
        raise BrokenPhotoError("the TIFF holds no picture; copy it again from its source")
    _check_kind(directory)
    _check_pages(directory)
    _find_pieces(directory).check(stream_length(stream))
    photometric = directory.number(_PHOTOMETRIC, 1)
    return Header(
        width,
        height,
        bits=max(8, directory.number(_BITS, 1)),
        orientation=exif.parse_orientation(directory),
        palette=photometric == 3,
        grey=photometric in (0, 1),
        alpha=directory.number(_SAMPLES, 1) in (2, 4),
        metadata=replace(
            read_words(directory),
            exif=exif_builder.build_blob(directory),
            icc=directory.value(ICC),
            dpi=exif.parse_dpi(directory),
        ),
        encoding=Encoding(extra_sample=0 if directory.number(_EXTRA_SAMPLES, 2) == 0 else 2),
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    return ifd.read_first(stream).value(XMP)


def read_words(directory: ifd.Directory) -> Metadata:
    """XMP, IPTC and Photoshop's resources alone: what camera RAW files, too, keep in a TIFF's tags."""
    iptc, others = photoshop.split_resources(directory.value(PHOTOSHOP) or b"")
    return Metadata(xmp=directory.value(XMP), iptc=_read_iptc(directory) or iptc, photoshop=others)


def decode(path: Path, header: Header) -> tuple[Pixels, Header]:
    """Stored pixels.

    Raises:
        BrokenPhotoError: a strip or tile is damaged, or libvips finds another fault.
    """
    from deblur_cli.image_io import vips

    with MeteredReader(path) as stream:
        pieces = _find_pieces(ifd.read_first(stream))
    pieces.verify(path)
    try:  # the errors of libtiff are real, unlike those of libjpeg, which every viewer forgives
        return vips.decode(path, fail_on="error"), header
    except BrokenPhotoError:
        return vips.decode_bytes(_read_bare(path), fail_on="error"), header


def encode(photo: Photo, quality: int | None) -> bytes:
    """All channels and bits."""
    from deblur_cli.image_io import coding

    planes = coding.stack(photo, grey=photo.grey, alpha=True)
    extra_sample = photo.encoding.extra_sample
    return tiff_writer.write_tiff(planes, photo.metadata, alpha=photo.alpha is not None, extra_sample=extra_sample)


def check(metadata: Metadata) -> None:
    """The EXIF can be parsed: a TIFF has no other place for it than its own directories.

    Raises:
        BrokenPhotoError: it cannot.
    """
    tiff_writer.open_blob(metadata.exif)


def _check_kind(directory: ifd.Directory) -> None:
    photometric, compression = directory.number(_PHOTOMETRIC, 1), directory.number(_COMPRESSION, 1)
    if photometric in _REFUSED:
        raise BrokenPhotoError(f"a {_REFUSED[photometric]} TIFF is not supported; convert it to RGB first")
    if photometric not in (0, 1, 2, 3, _YCBCR):
        raise BrokenPhotoError(f"a TIFF of photometric kind {photometric} is not supported; convert it to RGB first")
    if any(value != 1 for value in directory.numbers(_SAMPLE_FORMAT)):
        raise BrokenPhotoError("a float or signed TIFF is not supported; convert it to 16-bit integers first")
    if compression not in _COMPRESSIONS:
        raise BrokenPhotoError(f"TIFF compression {compression} is not supported; save it with LZW or deflate")
    _check_channels(directory, photometric)
    # Only the JPEG coder turns these colours into RGB, and only where it has all three of them in its hands.
    if photometric == _YCBCR and (compression != _JPEG or directory.number(_PLANAR, 1) != 1):
        raise BrokenPhotoError("a YCbCr TIFF without JPEG compression is not supported; convert it to RGB first")


def _check_channels(directory: ifd.Directory, photometric: int) -> None:
    bits, samples = directory.numbers(_BITS) or (1,), directory.number(_SAMPLES, 1)
    if len(set(bits)) > 1:
        raise BrokenPhotoError(f"a TIFF with channels of {min(bits)} and of {max(bits)} bits is not supported; {_EVEN}")
    if photometric == 3 and bits[0] == 16:
        raise BrokenPhotoError("a TIFF with a palette of 16 bits is not supported; convert it to RGB first")
    if bits[0] not in (1, 2, 4, 8, 16) or (bits[0] < 8 and (samples > 1 or photometric not in (0, 1, 3))):
        raise BrokenPhotoError(f"a TIFF of {samples} channels of {bits[0]} bits is not supported; {_EVEN}")
    colours = 1 if photometric in (0, 1, 3) else 3
    if not colours <= samples <= colours + (photometric != _YCBCR):
        raise BrokenPhotoError("a TIFF with more than one extra channel is not supported; flatten it first")


def _check_pages(directory: ifd.Directory) -> None:
    """Refuse further pages; small previews and masks are not pages."""
    offset, seen = directory.next_offset, {directory.layout.first}
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        seen.add(offset)
        page = directory.read_at(offset)
        if not page.number(_NEW_SUBFILE, 0) & 5:
            raise BrokenPhotoError("a TIFF of several pages is not a photo; split it first")
        offset = page.next_offset


def _find_pieces(directory: ifd.Directory) -> Pieces:
    tiled = _TILE_OFFSETS in directory.entries
    width, height, samples = (directory.number(tag, 1) for tag in (_WIDTH, _LENGTH, _SAMPLES))
    planes = samples if directory.number(_PLANAR, 1) == 2 else 1
    if tiled and planes > 1:
        raise BrokenPhotoError("a tiled TIFF of separate planes is not supported; save it in strips")
    across = directory.number(_TILE_WIDTH, 0) if tiled else width
    down = directory.number(_TILE_LENGTH, 0) if tiled else min(directory.number(_ROWS, height), height)
    if not across or not down:
        raise BrokenPhotoError("its strips or tiles have no size; copy it again from its source")
    grid = Grid(width, height, across, down, planes, samples // planes, directory.number(_BITS, 1), tiled)
    tags = (_TILE_OFFSETS, _TILE_COUNTS) if tiled else (_STRIP_OFFSETS, _STRIP_COUNTS)
    offsets, counts = (directory.numbers(tag, most=_MAX_PIECES) for tag in tags)
    return Pieces(grid, directory.number(_COMPRESSION, 1), offsets, counts)


def _read_bare(path: Path) -> bytes:
    """The file as one picture with no tags but those a decoder needs: it must not mind faults in all the others."""
    with MeteredReader(path) as stream:
        directory = ifd.read_first(stream)
    content, entries, order = path.read_bytes(), directory.entries, directory.layout.order
    width, code, step = (8, "Q", 20) if directory.layout.big else (4, "H", 12)
    rows = [content[entries[tag].position :][:step] for tag in sorted(_DECODED & entries.keys())]
    place = len(content) + len(content) % 2
    table = struct.pack(order + code, len(rows)) + b"".join(rows) + bytes(width)
    first = struct.pack(order + ("Q" if directory.layout.big else "I"), place)
    return content[:width] + first + content[2 * width :].ljust(place - 2 * width, b"\0") + table


def _read_iptc(directory: ifd.Directory) -> bytes | None:
    """IPTC records; some writers store them as LONG, whose bytes libtiff swapped to the file's order."""
    block = directory.value(IPTC)
    if block and block[:1] != b"\x1c" and directory.entries[IPTC].kind == ifd.LONG:
        return b"".join(block[at : at + 4][::-1] for at in range(0, len(block), 4))
    return block
