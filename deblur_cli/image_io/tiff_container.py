"""The directories of a TIFF file, for reading only: size, kind, metadata. Decodes nothing.

Source: TIFF 6.0; Adobe Photoshop TIFF Technical Notes; BigTIFF.
"""

import struct
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from deblur_cli.image_io import exif, exif_builder, ifd, photoshop
from deblur_cli.image_io.faults import BrokenPhotoError, stream_length
from deblur_cli.image_io.limits import MAX_PAGES, MeteredReader
from deblur_cli.image_io.photo import Encoding, Header, Metadata
from deblur_cli.image_io.tiff_pieces import Grid, Pieces

XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
_NEW_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_COUNTS, _PLANAR, _UNIT = 273, 277, 278, 279, 284, 296
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_JPEG, _YCBCR = 7, 6
_REFUSED = {
    5: "CMYK",
    8: "Lab",
    9: "Lab",
    10: "Lab",
    32803: "raw sensor data",
    32844: "LogL",
    32845: "LogLuv",
}
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
    layout = ifd.read_layout(stream)
    directory = ifd.read_directory(stream, layout, layout.first)
    numbers = _read_description(stream, layout, directory)
    width, height = _first(numbers, _WIDTH, 0), _first(numbers, _LENGTH, 0)
    if not width or not height:
        raise BrokenPhotoError("the TIFF holds no picture; copy it again from its source")
    _check_kind(numbers)
    _check_pages(stream, layout, directory)
    _find_pieces(stream, layout, directory, numbers).check(stream_length(stream))
    photometric = _first(numbers, _PHOTOMETRIC, 1)
    extra = _first(numbers, _EXTRA_SAMPLES, 0)
    return Header(
        "tiff",
        width,
        height,
        bits=max(8, _first(numbers, _BITS, 1)),
        orientation=_find_orientation(stream, layout, directory),
        palette=photometric == 3,
        grey=photometric in (0, 1),
        alpha=_first(numbers, _SAMPLES, 1) in (2, 4),
        metadata=_collect(stream, layout, directory),
        encoding=Encoding(extra_sample=0 if numbers.get(_EXTRA_SAMPLES) and extra == 0 else 2),
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    layout = ifd.read_layout(stream)
    return _value(stream, ifd.read_directory(stream, layout, layout.first), XMP)


def _read_description(stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory) -> dict[int, tuple[int, ...]]:
    """The short tags that tell what kind of picture it is."""
    wanted = (
        *(_NEW_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC),
        *(_SAMPLES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _PLANAR, _ROWS, _TILE_WIDTH, _TILE_LENGTH),
    )
    return {tag: ifd.read_numbers(stream, layout, directory.entries.get(tag)) for tag in wanted}


def _first(numbers: dict[int, tuple[int, ...]], tag: int, otherwise: int) -> int:
    values = numbers.get(tag)
    return values[0] if values else otherwise


def _check_kind(numbers: dict[int, tuple[int, ...]]) -> None:
    photometric, compression = _first(numbers, _PHOTOMETRIC, 1), _first(numbers, _COMPRESSION, 1)
    if photometric in _REFUSED:
        raise BrokenPhotoError(f"a {_REFUSED[photometric]} TIFF is not supported; convert it to RGB first")
    if photometric not in (0, 1, 2, 3, _YCBCR):
        raise BrokenPhotoError(f"a TIFF of photometric kind {photometric} is not supported; convert it to RGB first")
    if any(value != 1 for value in numbers.get(_SAMPLE_FORMAT, ())):
        raise BrokenPhotoError("a float or signed TIFF is not supported; convert it to 16-bit integers first")
    if compression not in _COMPRESSIONS:
        raise BrokenPhotoError(f"TIFF compression {compression} is not supported; save it with LZW or deflate")
    _check_channels(numbers, photometric)
    # Only the JPEG coder turns these colours into RGB, and only where it has all three of them in its hands.
    if photometric == _YCBCR and (compression != _JPEG or _first(numbers, _PLANAR, 1) != 1):
        raise BrokenPhotoError("a YCbCr TIFF without JPEG compression is not supported; convert it to RGB first")


def _check_channels(numbers: dict[int, tuple[int, ...]], photometric: int) -> None:
    bits, samples = numbers.get(_BITS) or (1,), _first(numbers, _SAMPLES, 1)
    if len(set(bits)) > 1:
        raise BrokenPhotoError(f"a TIFF with channels of {min(bits)} and of {max(bits)} bits is not supported; {_EVEN}")
    if photometric == 3 and bits[0] == 16:
        raise BrokenPhotoError("a TIFF with a palette of 16 bits is not supported; convert it to RGB first")
    if bits[0] not in (1, 2, 4, 8, 16) or (bits[0] < 8 and (samples > 1 or photometric not in (0, 1, 3))):
        raise BrokenPhotoError(f"a TIFF of {samples} channels of {bits[0]} bits is not supported; {_EVEN}")
    colours = 1 if photometric in (0, 1, 3) else 3
    if not colours <= samples <= colours + (photometric != _YCBCR):
        raise BrokenPhotoError("a TIFF with more than one extra channel is not supported; flatten it first")


def _check_pages(stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory) -> None:
    """Refuse further pages; small previews and masks are not pages."""
    offset, seen = directory.next_offset, {layout.first}
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        seen.add(offset)
        page = ifd.read_directory(stream, layout, offset)
        kind = ifd.read_numbers(stream, layout, page.entries.get(_NEW_SUBFILE)) or (0,)
        if not kind[0] & 5:
            raise BrokenPhotoError("a TIFF of several pages is not a photo; split it first")
        offset = page.next_offset


def _find_pieces(
    stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory, numbers: dict[int, tuple[int, ...]]
) -> Pieces:
    entries, tiled = directory.entries, _TILE_OFFSETS in directory.entries
    width, height, samples = numbers[_WIDTH][0], numbers[_LENGTH][0], _first(numbers, _SAMPLES, 1)
    planes = samples if _first(numbers, _PLANAR, 1) == 2 else 1
    if tiled and planes > 1:
        raise BrokenPhotoError("a tiled TIFF of separate planes is not supported; save it in strips")
    across = _first(numbers, _TILE_WIDTH, 0) if tiled else width
    down = _first(numbers, _TILE_LENGTH, 0) if tiled else min(_first(numbers, _ROWS, height), height)
    if not across or not down:
        raise BrokenPhotoError("its strips or tiles have no size; copy it again from its source")
    grid = Grid(width, height, across, down, planes, samples // planes, _first(numbers, _BITS, 1), tiled)
    tags = (_TILE_OFFSETS, _TILE_COUNTS) if tiled else (_STRIP_OFFSETS, _STRIP_COUNTS)
    offsets, counts = (ifd.read_numbers(stream, layout, entries.get(tag), most=_MAX_PIECES) for tag in tags)
    return Pieces(grid, _first(numbers, _COMPRESSION, 1), offsets, counts)


def verify_pieces(path: Path) -> None:
    """Look into the strips or tiles of a TIFF whose header can be read.

    Raises:
        BrokenPhotoError: one is damaged.
    """
    with MeteredReader(path) as stream:
        layout = ifd.read_layout(stream)
        directory = ifd.read_directory(stream, layout, layout.first)
        pieces = _find_pieces(stream, layout, directory, _read_description(stream, layout, directory))
    pieces.verify(path)


def read_bare(path: Path) -> bytes:
    """The file as one picture with no tags but those a decoder needs: it must not mind faults in all the others."""
    with MeteredReader(path) as stream:
        layout = ifd.read_layout(stream)
        entries = ifd.read_directory(stream, layout, layout.first).entries
    content = path.read_bytes()
    width, code, step = (8, "Q", 20) if layout.big else (4, "H", 12)
    rows = [content[entries[tag].position :][:step] for tag in sorted(_DECODED & entries.keys())]
    place = len(content) + len(content) % 2
    table = struct.pack(layout.order + code, len(rows)) + b"".join(rows) + bytes(width)
    first = struct.pack(layout.order + ("Q" if layout.big else "I"), place)
    return content[:width] + first + content[2 * width :].ljust(place - 2 * width, b"\0") + table


def _find_orientation(stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory) -> int:
    values = ifd.read_numbers(stream, layout, directory.entries.get(exif.ORIENTATION))
    return values[0] if values and 1 <= values[0] <= 8 else 1


def _value(stream: BinaryIO, directory: ifd.Directory, tag: int) -> bytes | None:
    entry = directory.entries.get(tag)
    return (ifd.read_value(stream, entry) or None) if entry else None


def read_words(stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory) -> Metadata:
    """XMP, IPTC and Photoshop's resources alone: what camera RAW files, too, keep in a TIFF's tags."""
    iptc, others = photoshop.split_resources(_value(stream, directory, PHOTOSHOP) or b"")
    return Metadata(
        xmp=_value(stream, directory, XMP),
        iptc=_read_iptc(stream, directory) or iptc,
        photoshop=others,
    )


def _collect(stream: BinaryIO, layout: ifd.IfdLayout, directory: ifd.Directory) -> Metadata:
    unit = ifd.read_numbers(stream, layout, directory.entries.get(_UNIT))
    return replace(
        read_words(stream, layout, directory),
        exif=exif_builder.build_blob(stream, layout, directory),
        icc=_value(stream, directory, ICC),
        dpi=exif.parse_dpi(stream, layout, directory, unit[0] if unit else 2),
    )


def _read_iptc(stream: BinaryIO, directory: ifd.Directory) -> bytes | None:
    """IPTC records; some writers store them as LONG, whose bytes libtiff swapped to the file's order."""
    block = _value(stream, directory, IPTC)
    if block is None:
        return None
    if block[:1] != b"\x1c" and directory.entries[IPTC].kind == ifd.LONG:
        block = b"".join(block[at : at + 4][::-1] for at in range(0, len(block), 4))
    return block
