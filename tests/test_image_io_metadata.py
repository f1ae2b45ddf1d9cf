"""Metadata across formats: what one can hold arrives in another, or a line says what to choose."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, IptcImagePlugin, PngImagePlugin
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.errors import PhotoError
from deblur_cli.image_io.metadata import photoshop, xmp

EXTENDED_GUID = b"0123456789ABCDEF0123456789ABCDEF"
pairs = pytest.mark.parametrize(
    ("first", "second"), [(a, b) for a in factory.ALL_FORMATS for b in factory.ALL_FORMATS if a != b]
)


def _write(photo: image_io.Photo, path: Path, file_format: str) -> image_io.Photo:
    image_io.write_photo(photo, path, file_format=file_format, quality=None, stamp=None, times_of=None)
    return image_io.read_photo(path)


def _jpeg_with(tmp_path: Path, *segments: tuple[int, bytes]) -> Path:
    """A JPEG of Pillow with raw segments put behind its SOI."""
    factory.save_by_pillow(tmp_path / "plain.jpg", "jpeg", factory.make_pixels())
    coded = (tmp_path / "plain.jpg").read_bytes()
    extra = b"".join(bytes([0xFF, kind]) + (len(data) + 2).to_bytes(2, "big") + data for kind, data in segments)
    (tmp_path / "a.jpg").write_bytes(coded[:2] + extra + coded[2:])
    return tmp_path / "a.jpg"


def _extended_xmp() -> tuple[bytes, bytes]:
    note = b'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="' + EXTENDED_GUID + b'" '
    main = factory.XMP.replace(b"xmlns:dc=", note + b"xmlns:dc=")
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    body = b'<rdf:Description rdf:about="uuid:7" xmlns:z="urn:z" z:big="' + b"A" * 150_000 + b'"/>'
    return main, b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + rdf + body + b"</rdf:RDF></x:xmpmeta>"


@pairs
def test_metadata_survives_a_change_of_format_and_back(tmp_path: Path, first: str, second: str) -> None:
    photo = factory.make_photo(metadata=factory.make_metadata())
    back = _write(_write(_write(photo, tmp_path / "1", first), tmp_path / "2", second), tmp_path / "3", first)
    assert back.metadata.icc == factory.ICC
    assert back.metadata.xmp == factory.XMP
    assert back.metadata.dpi == pytest.approx((300, 300), abs=0.01)
    assert back.metadata.exif is not None
    offset_before = factory.make_exif().index(factory.MAKER_NOTE)
    assert factory.find_maker_note(back.metadata.exif) == (factory.MAKER_NOTE, offset_before)
    exif = Image.Exif()
    exif.load(back.metadata.exif)
    assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 30.0)
    if {first, second} <= {"jpeg", "png", "tiff"}:
        assert back.metadata.iptc == factory.IPTC


@pytest.mark.parametrize("file_format", ["jpeg", "png", "webp", "avif"])
def test_exif_blob_is_stored_byte_for_byte(tmp_path: Path, file_format: str) -> None:
    photo = factory.make_photo(metadata=factory.make_metadata())
    _write(photo, tmp_path / "a", file_format)
    assert factory.make_exif() in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_begins_with_the_blob_so_that_the_maker_note_keeps_its_offset(tmp_path: Path, order: str) -> None:
    blob = factory.make_exif(order=order)
    photo = factory.make_photo(deep=True, metadata=image_io.Metadata(exif=blob))
    _write(photo, tmp_path / "a.tif", "tiff")
    content = (tmp_path / "a.tif").read_bytes()
    assert content[8 : len(blob)] == blob[8:]
    assert factory.load_by_pillow(tmp_path / "a.tif").getexif().get_ifd(0x8769)[0x927C] == factory.MAKER_NOTE
    np.testing.assert_array_equal(factory.load_by_vips(tmp_path / "a.tif"), photo.pixels)


def test_iptc_is_where_other_programs_look_for_it(tmp_path: Path) -> None:
    photo = factory.make_photo(metadata=factory.make_metadata())
    for file_format in ("jpeg", "tiff"):
        _write(photo, tmp_path / "a", file_format)
        with Image.open(tmp_path / "a") as image:
            assert IptcImagePlugin.getiptcinfo(image)[2, 120] == b"A caption"
    _write(photo, tmp_path / "a.png", "png")
    text = factory.load_by_pillow(tmp_path / "a.png").text["Raw profile type iptc"]
    name, length, *rows = text.split()
    assert name == "iptc"
    block = bytes.fromhex("".join(rows))
    assert len(block) == int(length)
    assert photoshop.split_resources(block)[0] == factory.IPTC


@pytest.mark.parametrize(("name", "prefix"), [("xmp", b""), ("APP1", b"http://ns.adobe.com/xap/1.0/\0")])
def test_xmp_that_imagemagick_put_into_a_png_is_found(tmp_path: Path, name: str, prefix: bytes) -> None:
    block = prefix + factory.XMP
    text = PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {name}", f"\n{name}\n{len(block):8d}\n{block.hex()}\n", zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=text)
    assert image_io.read_photo(tmp_path / "a.png").metadata.xmp == factory.XMP


def test_photoshop_resources_are_kept_but_not_their_thumbnail(tmp_path: Path) -> None:
    caption = photoshop.join_resources(factory.IPTC, None)
    other = b"8BIM\x04\x25\0\0\0\0\0\x10" + bytes(16)
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\x06oldpic"
    path = _jpeg_with(tmp_path, (0xED, b"Photoshop 3.0\0" + caption + thumbnail + other))
    for file_format in ("jpeg", "png", "tiff"):
        back = _write(image_io.read_photo(path), tmp_path / "b", file_format)
        assert (back.metadata.iptc, back.metadata.photoshop) == (factory.IPTC, other)
        assert b"oldpic" not in (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
def test_dpi_is_stored_where_pillow_finds_it(tmp_path: Path, file_format: str) -> None:
    photo = factory.make_photo(metadata=image_io.Metadata(dpi=(240.0, 120.0)))
    back = _write(photo, tmp_path / "a", file_format)
    assert back.metadata.dpi == pytest.approx((240, 120), abs=0.02)
    image = factory.load_by_pillow(tmp_path / "a")
    exif = image.getexif()
    seen = image.info.get("dpi") or (exif[0x011A], exif[0x011B])
    assert tuple(map(float, seen)) == pytest.approx((240, 120), abs=0.02)


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
def test_resolution_beyond_all_reason_stops_no_format(tmp_path: Path, file_format: str) -> None:
    blob = factory.make_exif().replace((300).to_bytes(4, "little") + b"\1\0\0\0", b"\xfe\xff\xff\xff\1\0\0\0")
    metadata = image_io.Metadata(exif=blob)
    factory.save_by_pillow(tmp_path / "a.png", "png", factory.make_pixels(), metadata)
    photo = image_io.read_photo(tmp_path / "a.png")
    assert photo.metadata.dpi is None
    assert factory.MAKER_NOTE in (_write(photo, tmp_path / "b", file_format).metadata.exif or b"")


@pytest.mark.parametrize("file_format", ["webp", "avif"])
def test_dpi_joins_an_exif_without_moving_its_maker_note(tmp_path: Path, file_format: str) -> None:
    blob = factory.make_exif().replace(b"\x28\x01\x03\0", b"\x29\x01\x03\0")  # the unit becomes another tag
    blob = blob.replace(b"\x1a\x01\x05\0", b"\x18\x01\x05\0").replace(b"\x1b\x01\x05\0", b"\x19\x01\x05\0")
    photo = factory.make_photo(metadata=image_io.Metadata(exif=blob, dpi=(72.0, 72.0)))
    back = _write(photo, tmp_path / "a", file_format)
    assert back.metadata.dpi == (72.0, 72.0)
    assert factory.find_maker_note(back.metadata.exif or b"") == factory.find_maker_note(blob)


def test_comments_pass_between_jpeg_and_png(tmp_path: Path) -> None:
    comments = (b"plain", "größer".encode())
    photo = factory.make_photo(metadata=image_io.Metadata(comments=comments))
    assert _write(photo, tmp_path / "a.jpg", "jpeg").metadata.comments == comments
    assert _write(photo, tmp_path / "a.png", "png").metadata.comments == comments
    assert factory.load_by_pillow(tmp_path / "a.jpg").info["comment"] == comments[-1]


def test_png_text_and_colour_chunks_survive_in_png(tmp_path: Path) -> None:
    chunks = (
        (b"gAMA", bytes([0, 0, 0xB1, 0x8F])),
        (b"tEXt", b"Title\0A title"),
        (b"zTXt", b"T\0\0" + zlib.compress(b"x")),
    )
    photo = factory.make_photo(metadata=image_io.Metadata(png_chunks=chunks))
    assert _write(photo, tmp_path / "a.png", "png").metadata.png_chunks == chunks
    assert factory.load_by_pillow(tmp_path / "a.png").text["Title"] == "A title"
    assert image_io.find_losses(photo, "jpeg") == ("PNG text and colour chunks",)


def test_colours_that_are_no_srgb_keep_their_code_in_png_and_avif_and_are_missed_elsewhere(tmp_path: Path) -> None:
    factory.save_by_pillow(tmp_path / "a.avif", "avif", factory.make_pixels())
    content = (tmp_path / "a.avif").read_bytes()
    assert image_io.read_photo(tmp_path / "a.avif").metadata.png_chunks == ()
    place = content.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(content[:place] + bytes([0, 9, 0, 16]) + content[place + 4 :])  # BT.2020, PQ
    photo = image_io.read_photo(tmp_path / "a.avif")
    assert image_io.find_losses(photo, "webp") == ("the code of its colour space (CICP)",)
    assert image_io.find_losses(photo, "png") == image_io.find_losses(photo, "avif") == ()
    back = _write(photo, tmp_path / "a.png", "png")
    assert back.metadata.png_chunks == ((b"cICP", bytes([9, 16, 0, 1])),)
    assert _write(back, tmp_path / "b.avif", "avif").metadata.png_chunks == back.metadata.png_chunks


def test_large_icc_profile_is_split_over_jpeg_segments(tmp_path: Path) -> None:
    profile = factory.ICC + bytes(range(256)) * 700
    photo = factory.make_photo(metadata=image_io.Metadata(icc=profile))
    assert _write(photo, tmp_path / "a.jpg", "jpeg").metadata.icc == profile
    assert factory.load_by_pillow(tmp_path / "a.jpg").info["icc_profile"] == profile


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
def test_metadata_over_64_kb_is_kept_by_every_format(tmp_path: Path, file_format: str) -> None:
    packet = factory.XMP.replace(b"caf", b"c" * 66_000)
    photo = factory.make_photo(metadata=image_io.Metadata(exif=factory.make_exif() + bytes(66_000), xmp=packet))
    back = _write(photo, tmp_path / "a", file_format).metadata
    assert factory.MAKER_NOTE in (back.exif or b"")
    if file_format != "jpeg":
        assert back.xmp == packet
        return
    assert len(back.exif or b"") == len(photo.metadata.exif or b"")
    assert back.xmp_extended is not None
    assert len(back.xmp or b"") < 65_000
    joined = xmp.join_extended(back.xmp or b"", back.xmp_extended)
    assert b"c" * 66_000 in joined
    assert b'tiff:Orientation="1"' in (back.xmp or b"")  # what is short stays where everyone looks


def test_xmp_over_64_kb_that_cannot_be_parsed_is_refused_for_jpeg_in_one_line(tmp_path: Path) -> None:
    photo = factory.make_photo(metadata=image_io.Metadata(xmp=b"<x" + b"c" * 66_000))
    with pytest.raises(PhotoError, match=r"over JPEG's limit of 64 KB; choose --format png or tiff$") as caught:
        _write(photo, tmp_path / "a.jpg", "jpeg")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_extended_xmp_survives_jpeg_to_jpeg_and_is_joined_elsewhere(tmp_path: Path) -> None:
    main, extended = _extended_xmp()
    head = b"http://ns.adobe.com/xmp/extension/\0" + EXTENDED_GUID + len(extended).to_bytes(4, "big")
    pieces = [(at, extended[at : at + 60_000]) for at in range(0, len(extended), 60_000)]
    segments = [(0xE1, head + at.to_bytes(4, "big") + piece) for at, piece in pieces[::-1]]  # any order is allowed
    path = _jpeg_with(tmp_path, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main), *segments)
    photo = image_io.read_photo(path)
    assert photo.metadata.xmp_extended == extended
    back = _write(photo, tmp_path / "b.jpg", "jpeg").metadata
    assert (back.xmp, back.xmp_extended) == (main, extended)
    joined = _write(photo, tmp_path / "b.png", "png").metadata.xmp or b""
    assert b"A" * 150_000 in joined
    assert EXTENDED_GUID not in joined
    assert xmp.find_stamp(xmp.merge_stamp(joined, "r")) == "r"


def test_iptc_that_webp_cannot_hold_is_told_as_a_loss() -> None:
    photo = factory.make_photo(deep=True, metadata=factory.make_metadata())
    assert image_io.find_losses(photo, "webp") == ("16 bit", "IPTC", "comments")
    assert image_io.find_losses(photo, "png") == ()


def test_grey_profile_is_never_put_on_colour_pixels(tmp_path: Path) -> None:
    icc = factory.ICC[:16] + b"GRAY" + factory.ICC[20:]
    photo = factory.make_photo(grey=True, metadata=image_io.Metadata(icc=icc))
    with pytest.raises(PhotoError, match="grey colour profile does not fit into webp; choose --format png or tiff"):
        _write(photo, tmp_path / "a.webp", "webp")
    for file_format in ("jpeg", "png", "tiff", "avif"):
        back = _write(photo, tmp_path / "a", file_format)
        assert back.grey
        assert back.metadata.icc == icc


def test_tables_are_parsed_as_pillow_parses_them(tmp_path: Path) -> None:
    factory.save_by_pillow(tmp_path / "a.jpg", "jpeg", factory.make_pixels())
    expected = factory.load_by_pillow(tmp_path / "a.jpg").quantization.values()
    assert image_io.read_photo(tmp_path / "a.jpg").encoding.tables == tuple(map(tuple, expected))
