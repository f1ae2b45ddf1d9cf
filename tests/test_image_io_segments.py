"""JPEG segments: those of other programs stay, long blocks are split and joined, slips of writers are put right."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import jpeg_factory as jpeg
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.errors import PhotoError
from deblur_cli.image_io.containers import jpeg_container
from deblur_cli.image_io.metadata import xmp

PIXELS = factory.make_pixels(48, 64)
PLAIN = jpeg.code(PIXELS)
KEPT = [
    (0xE0, b"\x10\0\0\0HEAPJPGM" + bytes(40)),  # Canon's CIFF
    (0xE1, b"FLIR\0\1\0\0" + bytes(2000)),
    (0xE1, b"http://ns.example.org/own/\0text"),
    (0xE3, b"Meta\0\0" + bytes(20)),
    (0xE5, b"RMETA\0" + bytes(9)),
    (0xE6, b"GoPro\0" + bytes(300)),
    (0xEA, b"UNICODE\0c\0"),
    (0xEC, b"PictureInfo\0[picture info]\r\nTimeDate=951234567\r\n"),
    (0xEC, b"Ducky\0\1\0\4\0\0\0\x3c\0\0"),
    (0xED, b"Adobe_CM\0" + bytes(8)),
    (0xEF, b"Q 92\0"),
]


def _read(path: Path, content: bytes) -> image_io.Photo:
    path.write_bytes(content)
    return image_io.read_photo(path)


def _rewrite(path: Path, photo: image_io.Photo, *, stamp: str | None = None) -> bytes:
    image_io.write_photo(photo, path, file_format="jpeg", quality=None, stamp=stamp, times_of=None)
    return path.read_bytes()


def test_application_segments_of_others_stay_byte_for_byte(tmp_path: Path) -> None:
    photo = _read(tmp_path / "a.jpg", jpeg.insert(PLAIN, *KEPT))
    content = _rewrite(tmp_path / "b.jpg", photo)
    assert photo.notes == ()
    for marker, payload in KEPT:
        assert content.count(jpeg.segment(marker, payload)) == 1
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "b.jpg").metadata.segments, photo.metadata.segments)
    assert image_io.find_losses(photo, "png")[0].startswith("JPEG segments (APP0")
    assert "APP12 PictureInfo" in image_io.find_losses(photo, "png")[0]


@pytest.mark.parametrize(
    ("marker", "payload", "words"),
    [
        (0xEB, b"JP\0\1\0\0\0\1jumb" + bytes(30), "content credentials"),
        (0xE4, b"SCALADO\0" + bytes(30), "index of coded blocks"),
        (0xEB, b"HDR_RI ver=11" + bytes(30), "HDR layer"),
    ],
)
def test_segments_about_the_old_pixels_are_named_and_left_out(
    tmp_path: Path, marker: int, payload: bytes, words: str
) -> None:
    photo = _read(tmp_path / "a.jpg", jpeg.insert(PLAIN, (marker, payload)))
    assert len(photo.notes) == 1
    assert words in photo.notes[0]
    assert payload not in _rewrite(tmp_path / "b.jpg", photo)


def test_thumbnail_and_marks_of_the_old_coder_go_without_a_word(tmp_path: Path) -> None:
    old = [(0xE0, b"JFXX\0\x10" + bytes(90)), (0xE8, b"SPIFF\0" + bytes(26)), (0xEE, b"Adobe\0d\0\0\0\0\1")]
    photo = _read(tmp_path / "a.jpg", jpeg.insert(PLAIN, *old))
    assert photo.notes == ()
    assert photo.metadata.segments == ()
    assert all(payload not in _rewrite(tmp_path / "b.jpg", photo) for _, payload in old)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [65_527, 65_528, 150_000])
def test_exif_of_any_length_is_joined_and_written_in_pieces(tmp_path: Path, order: str, size: int) -> None:
    blob = factory.make_exif(order=order)
    blob += bytes(at % 251 for at in range(size - len(blob)))
    pieces = [(0xE1, b"Exif\0\0" + blob[at : at + 65_527]) for at in range(0, len(blob), 65_527)]
    photo = _read(tmp_path / "a.jpg", jpeg.insert(PLAIN, *pieces))
    assert (photo.metadata.exif or b"")[-60_000:] == blob[-60_000:]
    _rewrite(tmp_path / "b.jpg", photo)
    assert image_io.read_photo(tmp_path / "b.jpg").metadata.exif == photo.metadata.exif
    assert factory.find_maker_note(photo.metadata.exif or b"")[0] == factory.MAKER_NOTE


def test_second_exif_block_is_not_glued_to_the_first(tmp_path: Path) -> None:
    blobs = [(0xE1, b"Exif\0\0" + factory.make_exif(order=order)) for order in "<>"]
    photo = _read(tmp_path / "a.jpg", jpeg.insert(PLAIN, *blobs))
    assert len(photo.metadata.exif or b"") == len(factory.make_exif())
    assert photo.notes == ("left out, since it belongs to the old pixels: a second EXIF block",)


def _forget_length_bytes(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload)) + payload


@pytest.mark.parametrize(
    "junk",
    [
        _forget_length_bytes(0xE1, jpeg.XMP_PREFIX + factory.XMP),
        jpeg.segment(0xE1, jpeg.XMP_PREFIX + factory.XMP) + bytes(3),
        jpeg.segment(0xE1, jpeg.XMP_PREFIX + factory.XMP) + b"\r\n" * 700,
        jpeg.segment(0xEF, b"") + bytes(9) + jpeg.segment(0xE1, jpeg.XMP_PREFIX + factory.XMP),
    ],
    ids=["short length", "zeros", "line ends", "zeros before"],
)
def test_slips_between_segments_are_put_right_and_told(tmp_path: Path, junk: bytes) -> None:
    photo = _read(tmp_path / "a.jpg", PLAIN[:2] + junk + PLAIN[2:])
    np.testing.assert_array_equal(photo.pixels, np.asarray(Image.open(BytesIO(PLAIN))))
    assert photo.metadata.xmp == factory.XMP
    assert photo.notes == ("its JPEG segments are damaged and were put right",)
    assert image_io.read_photo(tmp_path / "a.jpg").metadata.icc is None
    assert image_io.probe_size(tmp_path / "a.jpg") == (64, 48)


def test_fill_bytes_are_allowed_and_not_worth_a_word(tmp_path: Path) -> None:
    photo = _read(tmp_path / "a.jpg", PLAIN[:2] + b"\xff" * 70_000 + PLAIN[2:])
    assert photo.notes == ()


def test_more_than_a_slip_between_segments_is_damage(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="JPEG segments are damaged"):
        _read(tmp_path / "a.jpg", PLAIN[:20] + bytes(200_000) + PLAIN[20:])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}], ids=str)
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(1000)], ids=["nothing", "half a marker", "zeros"])
def test_photo_without_its_end_marker_is_read_whole_and_told(
    tmp_path: Path, options: dict[str, object], tail: bytes
) -> None:
    coded = jpeg.code(PIXELS, **options)
    photo = _read(tmp_path / "a.jpg", coded[:-2] + tail)
    np.testing.assert_array_equal(photo.pixels, np.asarray(Image.open(BytesIO(coded))))
    assert photo.notes == ("its end marker is missing",)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [8, 40, 400])
def test_photo_that_lacks_pixels_too_is_refused(tmp_path: Path, progressive: bool, missing: int) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with pytest.raises(PhotoError, match="cut short"):
        _read(tmp_path / "a.jpg", jpeg.code(noise, progressive=progressive)[: -2 - missing])


def test_picture_that_is_larger_than_its_bytes_can_tell_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    content = bytearray(PLAIN)
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 20_000, 24_000)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PhotoError, match="cut short: 24000x20000 takes more bytes"):
        image_io.probe_size(tmp_path / "a.jpg")
    (tmp_path / "flat.jpg").write_bytes(jpeg.code(np.zeros((4000, 6000, 3), np.uint8), optimize=True, progressive=True))
    assert image_io.probe_size(tmp_path / "flat.jpg") == (6000, 4000)


def _packet_of(size: int) -> bytes:
    body = '<d:title>{}</d:title><d:rights r:resource="urn:r"/>'
    space = 'xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"'
    return jpeg.packet(body.format("x" * (size - len(jpeg.packet(body.format(""), space)))), space)


@pytest.mark.parametrize("size", [64_000, 64_900, 65_100, 65_502, 65_504])
def test_packet_that_leaves_no_room_for_the_stamp_gets_one(tmp_path: Path, size: int) -> None:
    packet = _packet_of(size)
    photo = _read(tmp_path / "a.jpg", jpeg.with_packet(PLAIN, packet))
    assert photo.metadata.xmp == packet
    _rewrite(tmp_path / "b.jpg", photo, stamp="s" * 600)
    back = image_io.read_photo(tmp_path / "b.jpg").metadata
    assert image_io.read_stamp(tmp_path / "b.jpg") == "s" * 600
    joined = xmp.join_extended(back.xmp or b"", back.xmp_extended) if back.xmp_extended else back.xmp or b""
    assert b"x" * 60_000 in joined
    assert b'xmp:Rating="4"' in (back.xmp or b"")
    image_io.write_photo(  # once more, as another run does it
        image_io.read_photo(tmp_path / "b.jpg"),
        tmp_path / "c.jpg",
        file_format="jpeg",
        quality=None,
        stamp="t",
        times_of=None,
    )
    assert image_io.read_stamp(tmp_path / "c.jpg") == "t"


def test_long_attributes_move_to_the_extended_packet_with_their_prefixes(tmp_path: Path) -> None:
    body = "<d:subject><r:Bag><r:li>kept</r:li></r:Bag></d:subject>"
    space = f'xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:z="urn:z" z:masks="{"m" * 90_000}" z:short="s"'
    photo = factory.make_photo(metadata=image_io.Metadata(xmp=jpeg.packet(body, space)))
    _rewrite(tmp_path / "a.jpg", photo, stamp="r")
    back = image_io.read_photo(tmp_path / "a.jpg").metadata
    assert b'z:short="s"' in (back.xmp or b"")
    assert b'xmlns:z="urn:z"' in (back.xmp_extended or b"")
    assert b"m" * 90_000 in xmp.join_extended(back.xmp or b"", back.xmp_extended or b"")


def test_short_main_packet_and_the_rest_make_up_the_whole() -> None:
    segments = list(jpeg_container.fit_packet(image_io.Metadata(xmp=_packet_of(500_000))))
    assert len(segments[0] or b"") < 2_000
    assert len(segments[1] or b"") > 499_000
