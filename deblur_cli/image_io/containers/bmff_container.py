"""An AVIF or HEIF file, for reading only: size, depth, colour and metadata of the primary item.

A grid and its like take from their tiles what they do not say themselves, as libheif and libavif do it.

Source: ISO/IEC 23008-12 (HEIF items and properties), AV1-ISOBMFF (av1C), ISO/IEC 14496-15 (hvcC), ITU-T H.273.
"""

import struct
from typing import BinaryIO

from deblur_cli.image_io.containers.av1_sequence import is_full_range
from deblur_cli.image_io.containers.bmff_items import Items, read_item, read_items, walk_file
from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly, stream_length
from deblur_cli.image_io.metadata import exif
from deblur_cli.image_io.metadata.turning import compose
from deblur_cli.image_io.photo import Header, Metadata

_PLAIN_PRIMARIES = (1, 2)  # BT.709, whose primaries are sRGB's, and unspecified
_PLAIN_CURVES = (1, 2, 6, 13, 14, 15)  # BT.709 and its copies, which everyone shows as sRGB; unspecified; sRGB
_ROTATIONS = (1, 8, 3, 6)  # of irot, counted against the clock
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:avc:2015:auxid:1")


def read_header(stream: BinaryIO) -> Header:
    """Size, depth and metadata; `irot` and `imir` are applied by the decoder, so orientation is 1.

    An EXIF orientation is not applied: in this family it only repeats the properties.

    Raises:
        BrokenPhotoError: damaged, or an image sequence.
    """
    _check_still(stream)
    items = read_items(stream)
    wanted = dict(items.own(items.primary))
    if len(wanted.get(b"ispe", b"")) < 12:
        raise BrokenPhotoError("the file names no picture; copy it again from its source")
    _check_extents(stream, items)
    width, height = _crop(struct.unpack(">II", wanted[b"ispe"][4:12]), wanted.get(b"clap", b""))
    turned = _find_turn(items)
    if turned >= 5:
        width, height = height, width
    depths = _channel_depths(items)
    grey = _is_grey(items)
    blob = _read_exif(stream, items)
    icc, packet = _find_icc(items), _read_about_photo(stream, items, _XMP)
    metadata = Metadata(
        exif=blob,
        icc=icc,
        xmp=packet,
        dpi=exif.read_dpi(blob),
        png_chunks=() if icc else _find_colour_code(items),
    )
    return Header(
        width,
        height,
        bits=max(depths),
        turned=turned,
        grey=grey,
        alpha=any(name in _ALPHA for name in _find_helpers(items)),
        limited_grey=grey and not _has_full_range(stream, items),
        metadata=metadata,
        left_out=_find_left_out(stream, items),
    )


def read_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP packet alone."""
    return _read_about_photo(stream, read_items(stream), _XMP)


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


def _find_turn(items: Items) -> int:
    """What the decoder does to the coded pixels, as an EXIF orientation; properties apply in their order."""
    turned = 1
    for kind, box in items.own(items.primary):
        if kind == b"irot":
            turned = compose(turned, _ROTATIONS[box[0] & 3])
        elif kind == b"imir":
            turned = compose(turned, 2 if box[0] & 1 else 4)
    return turned


def _channel_depths(items: Items) -> bytes:
    pixi, av1 = items.find(b"pixi"), items.find(b"av1C")
    if pixi and len(pixi[0]) > 5:
        return pixi[0][5:]
    return bytes([_codec_depth(av1[0].ljust(4, b"\0")) if av1 else 8])


def _codec_depth(codec: bytes) -> int:
    return (12 if codec[2] & 0x20 else 10) if codec[2] & 0x40 else 8


def _is_grey(items: Items) -> bool:
    """Whether the codec stores one channel."""
    av1, hevc = items.find(b"av1C"), items.find(b"hvcC")
    if av1:
        return bool(av1[0].ljust(4, b"\0")[2] & 0x10)
    return bool(hevc) and len(hevc[0]) > 16 and hevc[0][16] & 3 == 0


def _codes(items: Items) -> list[bytes]:
    """The payloads of the nclx boxes that count for the primary item."""
    return [box[4:] for box in items.find(b"colr") if box[:4] == b"nclx" and len(box) >= 11]


def _has_full_range(stream: BinaryIO, items: Items) -> bool:
    """Whether black is 0: the nclx box says it, else the coded picture itself, else MIAF's default: it is."""
    if codes := _codes(items):
        return bool(codes[0][6] & 0x80)
    if not items.find(b"av1C"):
        return True
    coded = items.sources(items.primary)[-1]
    _, extents = items.extents.get(coded, (0, []))
    if not extents:
        return True
    stream.seek(extents[0][0])
    return is_full_range(items.find(b"av1C")[0][4:] + stream.read(min(extents[0][1], 4096)))


def _find_icc(items: Items) -> bytes | None:
    profiles = [box[4:] for box in items.find(b"colr") if box[:4] in (b"prof", b"rICC")]
    return profiles[0] if profiles else None


def _find_colour_code(items: Items) -> tuple[tuple[bytes, bytes], ...]:
    """The code points of colours that nobody may take for sRGB, as PNG's cICP chunk (ITU-T H.273, tables 2 and 3)."""
    for code in _codes(items)[:1]:
        primaries, transfer = struct.unpack(">HH", code[:4])
        if primaries not in _PLAIN_PRIMARIES or transfer not in _PLAIN_CURVES:
            return ((b"cICP", bytes([primaries & 0xFF, transfer & 0xFF, 0, 1])),)
    return ()


_EXIF = (b"Exif", b"")
_XMP = (b"mime", b"application/rdf+xml")


def _read_exif(stream: BinaryIO, items: Items) -> bytes | None:
    block = _read_about_photo(stream, items, _EXIF)
    if not block or len(block) < 4:
        return None
    return exif.trim_prefix(block[4 + int.from_bytes(block[:4], "big") :])


def _read_about_photo(stream: BinaryIO, items: Items, kind: tuple[bytes, bytes]) -> bytes | None:
    """The first item of a kind that describes the photo: the primary item, or what it is derived of.

    One that describes nothing at all is the photo's too; one that describes a gain map or a thumbnail is not.
    """
    about, parts = items.references.get(b"cdsc", {}), items.parts(items.primary)
    ranked = []
    for item in (item for item, found in items.kinds.items() if found == kind):
        targets = set(about.get(item, ()))
        known = targets & items.kinds.keys()
        rank = 0 if items.primary in targets else 1 if targets & parts else 2 if not known else 3
        if rank < 3 and item in items.extents:
            ranked.append((rank, item))
    return read_item(stream, items, min(ranked, key=lambda pair: pair[0])[1]) or None if ranked else None


def _find_helpers(items: Items) -> set[bytes]:
    """The types of the auxiliary pictures of the photo."""
    return {
        box[4:].split(b"\0")[0]
        for item, targets in items.references.get(b"auxl", {}).items()
        for kind, box in items.own(item)
        if kind == b"auxC" and set(targets) & {items.primary, *items.parts(items.primary)}
    }


def _find_left_out(stream: BinaryIO, items: Items) -> tuple[str, ...]:
    """What the file holds beside the photo and its alpha channel, in words: none of it fits the new pixels."""
    kinds, helpers = {kind for kind, _, _ in walk_file(stream)}, _find_helpers(items)
    maps = any(b"gainmap" in name for name in helpers) or any(kind == b"tmap" for kind, _ in items.kinds.values())
    found = [
        ("its video", b"mpvd" in kinds),
        ("a box of another program (uuid)", b"uuid" in kinds),
        ("its gain map", maps),
        ("its depth map or mattes", any(name not in _ALPHA and b"gainmap" not in name for name in helpers)),
    ]
    return tuple(name for name, there in found if there)
