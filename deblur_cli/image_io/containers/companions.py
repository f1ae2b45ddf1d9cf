"""What lies beside the picture in its file: the video of a motion photo, gain maps, previews; and the XMP's claims.

A video shows what it always showed, so it is kept. Gain maps, depth maps and previews belong to the old pixels.

Source: Google's Motion Photo format 1.0 and Ultra HDR image format 1.1; CIPA DC-007 (multi-picture format).
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.image_io.containers import jpeg_segments
from deblur_cli.image_io.containers.jpeg_segments import SOI, Content
from deblur_cli.image_io.faults import FAULTS
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.metadata import ifd, xml_spans, xmp
from deblur_cli.image_io.metadata.xml_spans import Edit, Element

MPF = b"MPF\0"
_CONTAINER = "http://ns.google.com/photos/1.0/container/}Directory"
_SEMANTIC = "http://ns.google.com/photos/1.0/container/item/}Semantic"
_OLD_PIXELS = (
    "http://ns.adobe.com/hdr-gain-map/1.0/}",
    "http://ns.apple.com/HDRGainMap/1.0/}",
    "http://ns.adobe.com/xap/1.0/}Thumbnails",
)
_GAIN_MAP_MARKS = (b"ns.adobe.com/hdr-gain-map", b"ns.apple.com/HDRGainMap", b"urn:iso:std:iso:ts:21496:")
_MOTION = ("MotionPhoto", "MicroVideo", "OLivePhoto", "VideoLength")  # how properties of several makers begin
_CLAIM_WORDS = (b"photos/1.0", b"hdr-gain-map", b"HDRGainMap", b"Thumbnails", *(word.encode() for word in _MOTION))
_MP_ENTRY = 0xB002
_LARGE_THUMBNAILS = (0x010001, 0x010002)
_MAX_PICTURES = 20
_HEAD = 1 << 17  # of a further picture, in which its metadata tells what it is
_PADDING = b"\0\xff \r\n\t"


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows the picture of a JPEG file.

    Attributes:
        complete: whether the picture has its end marker.
        video: all from the first byte that belongs to the video to the end of the file.
        left_out: everything else, in words.
    """

    complete: bool
    video: bytes | None = None
    left_out: tuple[str, ...] = ()


def read_tail(path: Path) -> Tail:
    """Look behind the picture of a JPEG file whose header can be read."""
    with MeteredReader(path) as stream:
        found, _ = jpeg_segments.read_segments(stream)
    index = next((payload for _, payload in found if payload.startswith(MPF)), None)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = jpeg_segments.find_end(content, 0)
        return Tail(complete=False) if end is None else _part(content, end, index)


def settle_claims(packet: bytes | None, *, video: bool) -> bytes | None:
    """The packet without claims about companions that are not written, and without the old thumbnails inside it.

    Claims about the video stay if the video does.
    """
    document = xml_spans.parse(packet) if packet and any(word in packet for word in _CLAIM_WORDS) else None
    if document is None:
        return packet
    kept = ("Primary", "MotionPhoto") if video else ("Primary",)
    rows = [
        (element, element.fields()[_SEMANTIC].text) for element in document.elements if _SEMANTIC in element.fields()
    ]
    edits: list[Edit] = []
    for element, semantic in rows:
        row = _row_of(element)
        if semantic not in kept and row:
            edits.append((row.start, row.end, b""))
    if rows and all(semantic == "Primary" or semantic not in kept for _, semantic in rows):
        edits += [(element.start, element.end, b"") for element in document.named(_CONTAINER)]
    return xmp.erase(document.edit(edits), lambda name: _is_claim(name, video=video))


def _is_claim(name: str, *, video: bool) -> bool:
    local = name.rpartition("}")[2]
    return name.startswith(_OLD_PIXELS) or (not video and local.startswith(_MOTION) and name != _SEMANTIC)


def _row_of(element: Element) -> Element | None:
    """The row of the directory's list that an element lies in."""
    row: Element | None = element
    while row and row.name != f"{xmp.RDF}}}li":
        row = row.parent
    return row


def _part(content: Content, at: int, index: bytes | None) -> Tail:
    words: dict[str, None] = {}
    for _ in range(_MAX_PICTURES):
        start = _skip_padding(content, at)
        end = jpeg_segments.find_end(content, start) if content[start : start + 3] == SOI else None
        if end is None:
            break
        words |= dict.fromkeys(_name_picture(content[start : min(end, start + _HEAD)], index))
        at = end
    if _finds_video(content, at):
        return Tail(True, content[at : len(content)], tuple(words))
    start = _skip_padding(content, at)
    if start < len(content):
        words[f"{len(content) - start} bytes behind the picture"] = None
    return Tail(True, None, tuple(words))


def _skip_padding(content: Content, at: int) -> int:
    while block := content[at : at + (1 << 16)]:
        rest = block.lstrip(_PADDING)
        if rest[:2] == SOI[1:]:  # the marker of a picture begins with a byte of padding
            return at + len(block) - len(rest) - 1
        if rest:
            return at + len(block) - len(rest)
        at += len(block)
    return at


def _name_picture(head: bytes, index: bytes | None) -> list[str]:
    if any(mark in head for mark in _GAIN_MAP_MARKS):
        return ["its gain map"]
    return [] if _lists_previews_only(index) else ["a further picture behind it"]


def _lists_previews_only(index: bytes | None) -> bool:
    """Whether a multi-picture segment names, besides the photo, nothing but large thumbnails of it."""
    if not index:
        return False
    try:
        directory = ifd.read_first(MeteredReader(index.removeprefix(MPF)))
        table = ifd.read_value(directory.stream, directory.entries[_MP_ENTRY])
        code = directory.layout.order + "I"
        kinds = [struct.unpack_from(code, table, at)[0] & 0xFFFFFF for at in range(16, len(table), 16)]
    except FAULTS:
        return False
    return all(kind in _LARGE_THUMBNAILS for kind in kinds)


def _finds_video(content: Content, at: int) -> bool:
    """Whether an MP4 or QuickTime file begins here or, with makers that put their own words before it, further on."""
    place = content[at : at + (1 << 20)].find(b"ftyp")
    size = content[at + place - 4 : at + place] if place >= 4 else b""
    return place >= 4 and 8 <= int.from_bytes(size, "big") <= 1024
