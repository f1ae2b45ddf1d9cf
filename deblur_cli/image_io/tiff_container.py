"""The directories of a TIFF file, for reading only: size, kind, metadata. Decodes nothing.

Source: TIFF 6.0; Adobe Photoshop TIFF Technical Notes; BigTIFF.
"""

from dataclasses import replace
from typing import BinaryIO

from deblur_cli.image_io import exif, exif_builder, ifd, photoshop
from deblur_cli.image_io.faults import BrokenPhotoError, stream_length
from deblur_cli.image_io.photo import Encoding, Header, Metadata

XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
_NEW_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _STRIP_COUNTS, _UNIT = 273, 277, 279, 296
_TILE_OFFSETS, _TILE_COUNTS, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 324, 325, 338, 339
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
_MAX_PAGES = 1000


def read_header(stream: BinaryIO) -> Header:
    """Size, depth and metadata of a TIFF.

    Raises:
        BrokenPhotoError: damaged, or a kind that is refused (several pages, CMYK, Lab, float, odd depths).
    """
    layout = ifd.read_layout(stream)
    directory = ifd.read_directory(stream, layout, layout.first)
    numbers = {tag: ifd.read_numbers(stream, layout, entry) for tag, entry in _describing(directory).items()}
    width, height = _first(numbers, _WIDTH, 0), _first(numbers, _LENGTH, 0)
    if not width or not height:
        raise BrokenPhotoError("the TIFF holds no picture; copy it again from its source")
    _check_kind(numbers)
    _check_pages(stream, layout, directory)
    _check_length(stream, layout, directory)
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
        metadata=_collect(stream, layout, directory),
        encoding=Encoding(extra_sample=0 if numbers.get(_EXTRA_SAMPLES) and extra == 0 else 2),
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    layout = ifd.read_layout(stream)
    return _value(stream, ifd.read_directory(stream, layout, layout.first), XMP)


def _describing(directory: ifd.Directory) -> dict[int, ifd.Entry]:
    """The short tags that tell what kind of picture it is."""
    wanted = (
        *(_NEW_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC),
        *(_SAMPLES, _EXTRA_SAMPLES, _SAMPLE_FORMAT),
    )
    return {tag: entry for tag, entry in directory.entries.items() if tag in wanted and entry.count < 100}


def _first(numbers: dict[int, tuple[int, ...]], tag: int, otherwise: int) -> int:
    values = numbers.get(tag)
    return values[0] if values else otherwise


def _check_kind(numbers: dict[int, tuple[int, ...]]) -> None:
    photometric = _first(numbers, _PHOTOMETRIC, 1)
    if photometric in _REFUSED:
        raise BrokenPhotoError(f"a {_REFUSED[photometric]} TIFF is not supported; convert it to RGB first")
    if any(value != 1 for value in numbers.get(_SAMPLE_FORMAT, ())):
        raise BrokenPhotoError("a float or signed TIFF is not supported; convert it to 16-bit integers first")
    compression = _first(numbers, _COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise BrokenPhotoError(f"TIFF compression {compression} is not supported; save it with LZW or deflate")
    bits = numbers.get(_BITS) or (1,)
    if len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 16) or (photometric == 3 and bits[0] == 16):
        raise BrokenPhotoError(
            f"a TIFF of {max(bits)} bits per channel is not supported; convert it to 8 or 16 bits first"
        )
    colours = 1 if photometric in (0, 1, 3) else 3
    if not colours <= _first(numbers, _SAMPLES, 1) <= colours + 1:
        raise BrokenPhotoError("a TIFF with more than one extra channel is not supported; flatten it first")


def _check_pages(stream: BinaryIO, layout: ifd.Layout, directory: ifd.Directory) -> None:
    """Refuse further pages; small previews and masks are not pages."""
    offset, seen = directory.next_offset, {layout.first}
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        page = ifd.read_directory(stream, layout, offset)
        kind = ifd.read_numbers(stream, layout, page.entries.get(_NEW_SUBFILE)) or (0,)
        if not kind[0] & 5:
            raise BrokenPhotoError("a TIFF of several pages is not a photo; split it first")
        offset = page.next_offset


def _check_length(stream: BinaryIO, layout: ifd.Layout, directory: ifd.Directory) -> None:
    length = stream_length(stream)
    entries = directory.entries
    for offsets_tag, counts_tag in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        offsets = ifd.read_numbers(stream, layout, entries.get(offsets_tag))
        counts = ifd.read_numbers(stream, layout, entries.get(counts_tag))
        if any(offset + count > length for offset, count in zip(offsets, counts, strict=False)):
            raise BrokenPhotoError("the file is cut short; copy it again from its source")


def _find_orientation(stream: BinaryIO, layout: ifd.Layout, directory: ifd.Directory) -> int:
    values = ifd.read_numbers(stream, layout, directory.entries.get(exif.ORIENTATION))
    return values[0] if values and 1 <= values[0] <= 8 else 1


def _value(stream: BinaryIO, directory: ifd.Directory, tag: int) -> bytes | None:
    entry = directory.entries.get(tag)
    return (ifd.read_value(stream, entry) or None) if entry else None


def read_words(stream: BinaryIO, layout: ifd.Layout, directory: ifd.Directory) -> Metadata:
    """XMP, IPTC and Photoshop's resources alone: what camera RAW files, too, keep in a TIFF's tags."""
    iptc, others = photoshop.split_resources(_value(stream, directory, PHOTOSHOP) or b"")
    return Metadata(
        xmp=_value(stream, directory, XMP),
        iptc=_read_iptc(stream, directory) or iptc,
        photoshop=others,
    )


def _collect(stream: BinaryIO, layout: ifd.Layout, directory: ifd.Directory) -> Metadata:
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
