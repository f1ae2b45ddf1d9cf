"""Hostile files cost little, end in one line, and never stop what reads them; foreign files in an output folder too."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support import bmff_factory as bmff
from support import jpeg_factory as jpeg
from support import photo_factory as factory
from support import tiff_factory as tiff

from deblur_cli import image_io
from deblur_cli.errors import PhotoError
from deblur_cli.image_io import reading
from deblur_cli.image_io.metadata import xmp

PIXELS = factory.make_pixels(48, 64)
DEBLUR = "https://deblur-cli.dev/ns/1.0/"


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    ihdr = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    picture = zlib.compress(bytes(25 * 8))
    parts = [(b"IHDR", ihdr), *chunks, (b"IDAT", picture), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def _xmp_png(packet: bytes) -> bytes:
    return _png((b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet))


def _bigtiff(count: int, first: int = 16) -> bytes:
    return struct.pack("<2sHHHQQ", b"II", 43, 8, 0, first, count) + bytes(400)


def _overlapping_extents() -> bytes:
    item = bmff.coded_item(bmff.avif(PIXELS))
    words = bmff.Item(b"mime", jpeg.packet(), mime=bmff.XMP_TYPE)
    content = bmff.build(b"avif", {1: item, 2: words}, 1) + bytes(200_000)
    iloc = content.index(b"iloc") - 4
    size = struct.unpack(">I", content[iloc : iloc + 4])[0]
    many = bytearray(content[iloc : iloc + size][:-14]) + struct.pack(">HHH", 2, 0, 50_000)
    grown = 8 * 50_000 - 8
    total = len(content) + grown
    many += struct.pack(">II", 0, total) * 50_000
    struct.pack_into(">I", many, 0, len(many))
    struct.pack_into(">I", many, 8 + 4 + 2 + 2 + 6, struct.unpack(">I", many[22:26])[0] + grown)
    meta = content.index(b"meta") - 4
    head = bytearray(content[:iloc])
    struct.pack_into(">I", head, meta, struct.unpack(">I", head[meta : meta + 4])[0] + grown)
    return bytes(head) + bytes(many) + content[iloc + size :]


def _overlapping_tags() -> bytes:
    private = {40_000 + at: (7, b"") for at in range(1900)}
    content = bytearray(tiff.build(tiff.photo_tags(PIXELS) | private, {"strip": PIXELS.tobytes() + bytes(90_000)}))
    for at in range(1900):
        row = 10 + 12 * (10 + at)
        struct.pack_into("<II", content, row + 4, 90_000, 8)
    return bytes(content)


def _many_directories() -> bytes:
    """A chain of small pages, each of which is as long as a directory may be and lies over the one before."""
    tags = tiff.photo_tags(PIXELS)
    content = bytearray(tiff.build(tags, {"strip": PIXELS.tobytes()}))
    start = len(content)
    struct.pack_into("<I", content, 10 + 12 * len(tags), start)
    for at in range(3000):
        content += struct.pack("<HHHII", 1, 254, 4, 1, 1) + struct.pack("<I", start + 18 * (at + 1))
    return bytes(content)


def _description(*attributes: str, body: str = "") -> bytes:
    return jpeg.packet(body, f'xmlns:deblur="{DEBLUR}" ' + " ".join(attributes))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "BigTIFF of 2^63 tags": lambda: _bigtiff(2**63 - 1),
    "BigTIFF of 2^40 tags": lambda: _bigtiff(2**40),
    "BigTIFF that begins at 2^64": lambda: _bigtiff(3, 2**64 - 1),
    "tags over the same bytes": _overlapping_tags,
    "extents over the same bytes": _overlapping_extents,
    "chain of directories": _many_directories,
    "40 bombs of text": lambda: _png(*[(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9))] * 40),
    "bomb of a profile": lambda: _png((b"iCCP", b"x\0\0" + zlib.compress(bytes(200 << 20), 9))),
    "bomb of an EXIF": lambda: _png((b"zxIf", bytes(5) + zlib.compress(bytes(200 << 20), 9))),
    "blanks in a raw profile": lambda: _png(
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 1" + b" " * 400_000 + b"z"))
    ),
    "a chunk of 2 GB": lambda: _png()[:33] + struct.pack(">I4s", 0x7FFFFFFF, b"tEXt") + b"x" * 100,
    "30 MB of fill bytes": lambda: (code := jpeg.code(PIXELS))[:2] + b"\xff" * 30_000_000 + code[2:],
    "60,000 segments": lambda: (code := jpeg.code(PIXELS))[:2] + b"\xff\xfe\0\2" * 60_000 + code[2:],
    "EXIF of 4 GB in a WebP": lambda: b"RIFF\x64\0\0\0WEBPEXIF\xfe\xff\xff\xff" + bytes(92),
    "a box of 2^63 bytes": lambda: bmff.box(b"ftyp", b"avif\0\0\0\0avif") + b"\0\0\0\1meta" + struct.pack(">Q", 2**63),
    "millions of boxes": lambda: (
        bmff.box(b"ftyp", b"avif\0\0\0\0avif") + bmff.full_box(b"meta", bmff.box(b"free", b"") * 1_000_000)
    ),
    "blanks in a packet": lambda: _xmp_png(_description('deblur:a="1"', body=" " * 400_000)),
    "blanks in a tag": lambda: _xmp_png(_description('deblur:a="1"' + " " * 400_000)),
    "4,000 prefixes": lambda: _xmp_png(
        jpeg.packet("".join(f'<r:li xmlns:p{at}="{DEBLUR}" p{at}:recipe="x"/>' for at in range(4000)))
    ),
    "60,000 attributes": lambda: _xmp_png(_description(*(f'deblur:a{at}="1"' for at in range(60_000)))),
    "60,000 elements": lambda: _xmp_png(_description(body="<r:li/>" * 60_000)),
    "200,000 levels": lambda: _xmp_png(_description(body="<a>" * 200_000 + "</a>" * 200_000)),
    "openings that never close": lambda: _xmp_png(b"<RDF " * 60_000),
    "entities of entities": lambda: _xmp_png(
        b'<!DOCTYPE x [<!ENTITY a "' + b"A" * 1000 + b'">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + at, b"&%c;" % (97 + at) * 10) for at in range(8)) + b"]><x>&i;</x>"
    ),
    "a stamp beyond Unicode": lambda: _xmp_png(_description(r'deblur:recipe="\u{ffffff}\u{ffffffffffff}"')),
    "regions of endless numbers": lambda: _xmp_png(
        jpeg.packet(f'<a:A a:x="{"9" * 200_000}" a:y="1e999999"/>', 'xmlns:a="http://ns.adobe.com/xmp/sType/Area#"')
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_metadata_takes_little_memory_and_ends_in_one_line(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = tmp_path / "a"
    path.write_bytes(make())
    tracemalloc.start()
    try:
        image_io.read_stamp(path)
        reading.read_header(path)
        photo = image_io.read_photo(path)
    except PhotoError as fault:
        assert "\n" not in str(fault)
    else:
        image_io.write_photo(photo, tmp_path / "b.png", file_format="png", quality=None, stamp="r", times_of=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 20


def test_packet_over_the_limit_is_carried_as_it_is() -> None:
    packet = _description(body="x" * (17 << 20))
    assert xmp.merge_stamp(packet, "r") == packet
    assert xmp.find_stamp(packet) is None


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_under_any_suffix_leave_as_a_photo_error(tmp_path: Path, make: Callable[[], bytes]) -> None:
    content = make()[:100_000]
    for suffix in (".jpg", ".dng", ".heic"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        image_io.read_stamp(path)
        try:
            image_io.probe_size(path)
        except PhotoError as fault:
            assert str(fault).startswith(f"{path}: ")
