"""PNG chunks: raw profiles of any writer are understood, what is safe to copy is copied, the rest is named."""

import struct
import zlib
from pathlib import Path

import pytest
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.image_io.metadata import photoshop

BLOCK = photoshop.join_resources(factory.IPTC, None) or b""
OTHER = b"8BIM\x04\x25\0\0\0\0\0\x10" + bytes(16)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _read(path: Path, *chunks: tuple[bytes, bytes]) -> image_io.Photo:
    factory.save_by_pillow(path, "png", factory.make_pixels())
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"".join(_chunk(*each) for each in chunks) + content[33:])
    return image_io.read_photo(path)


def _text(key: bytes, text: bytes, kind: bytes = b"zTXt") -> tuple[bytes, bytes]:
    if kind == b"tEXt":
        return kind, key + b"\0" + text
    if kind == b"iTXt":
        return kind, key + b"\0\1\0\0\0" + zlib.compress(text)
    return kind, key + b"\0\0" + zlib.compress(text)


def _hex(block: bytes, line: int = 36) -> bytes:
    return block.hex("\n", line).encode()


HEADERS = {
    "ImageMagick": b"\niptc\n%8d\n",
    "ExifTool": b"\nIPTC profile\n%8d\n",
    "libpng": b"iptc\n%d\n",
    "length alone": b"\n%d\n",
    "Windows": b"\r\nIPTC profile\r\n     %d\r\n",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize("kind", [b"zTXt", b"tEXt", b"iTXt"])
@pytest.mark.parametrize("name", [b"iptc", b"8bim", b"IPTC"])
@pytest.mark.parametrize("block", [BLOCK, factory.IPTC, b"Photoshop 3.0\0" + BLOCK], ids=["8BIM", "IIM", "APP13"])
def test_iptc_is_found_whoever_wrote_it(tmp_path: Path, header: bytes, kind: bytes, name: bytes, block: bytes) -> None:
    text = header % len(block) + _hex(block).upper() + b"\n"
    photo = _read(tmp_path / "a.png", _text(b"Raw profile type " + name, text, kind))
    assert photo.metadata.iptc == factory.IPTC
    for file_format in ("jpeg", "tiff", "png"):
        image_io.write_photo(photo, tmp_path / "b", file_format=file_format, quality=None, stamp=None, times_of=None)
        assert image_io.read_photo(tmp_path / "b").metadata.iptc == factory.IPTC


@pytest.mark.parametrize("words", [b"exif", b"EXIF profile", b"generic profile"])
def test_exif_xmp_and_icc_profiles_of_other_programs_are_found(tmp_path: Path, words: bytes) -> None:
    blocks = {b"exif": b"Exif\0\0" + factory.make_exif(), b"xmp": factory.XMP, b"icc": factory.ICC}
    chunks = [
        _text(b"Raw profile type " + name, b"\n%s\n%8d\n%s\n" % (words, len(block), _hex(block)))
        for name, block in blocks.items()
    ]
    metadata = _read(tmp_path / "a.png", *chunks).metadata
    assert factory.MAKER_NOTE in (metadata.exif or b"")
    assert (metadata.xmp, metadata.icc) == (factory.XMP, factory.ICC)


def test_resources_of_photoshop_come_with_the_iptc(tmp_path: Path) -> None:
    block = BLOCK + OTHER
    photo = _read(tmp_path / "a.png", _text(b"Raw profile type 8bim", b"\n8bim\n%8d\n%s" % (len(block), _hex(block))))
    assert (photo.metadata.iptc, photo.metadata.photoshop) == (factory.IPTC, OTHER)


def test_compressed_exif_of_exiftool_is_found(tmp_path: Path) -> None:
    blob = factory.make_exif()
    photo = _read(tmp_path / "a.png", (b"zxIf", b"\0" + struct.pack(">I", len(blob)) + zlib.compress(blob)))
    assert factory.MAKER_NOTE in (photo.metadata.exif or b"")


@pytest.mark.parametrize(
    "chunk",
    [
        _text(b"Raw profile type generic", b"\ngeneric\n       4\n01020304\n"),  # nobody knows what it means
        _text(b"Raw profile type iptc", b"\niptc\n       4\nno hex here\n"),
        (b"prVt", b"private, and safe to copy"),
    ],
    ids=["unknown profile", "damaged profile", "private"],
)
def test_what_is_not_understood_but_safe_is_carried_as_it_is(tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    photo = _read(tmp_path / "a.png", chunk)
    image_io.write_photo(photo, tmp_path / "b.png", file_format="png", quality=None, stamp=None, times_of=None)
    assert _chunk(*chunk) in (tmp_path / "b.png").read_bytes()
    assert photo.notes == ()
    assert image_io.find_losses(photo, "jpeg") == ("PNG text and colour chunks",)


def test_private_chunks_about_the_old_pixels_are_named(tmp_path: Path) -> None:
    photo = _read(tmp_path / "a.png", (b"caBX", bytes(40)), (b"tIME", bytes(7)))
    assert photo.notes == ("left out, since it belongs to the old pixels: its PNG chunks caBX",)


def test_unknown_chunks_of_a_webp_are_named(tmp_path: Path) -> None:
    factory.save_by_pillow(tmp_path / "a.webp", "webp", factory.make_pixels(), image_io.Metadata(xmp=factory.XMP))
    content = bytearray((tmp_path / "a.webp").read_bytes() + b"OWN!" + struct.pack("<I", 4) + b"data")
    content[4:8] = struct.pack("<I", len(content) - 8)
    (tmp_path / "a.webp").write_bytes(content)
    assert image_io.read_photo(tmp_path / "a.webp").notes == (
        "left out, since it belongs to the old pixels: its WebP chunks OWN!",
    )
