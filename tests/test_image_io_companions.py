"""What lies behind the picture of a JPEG: videos stay, pictures of the old pixels go, and the XMP claims no more."""

import struct
from pathlib import Path

import numpy as np
import pytest
from support import jpeg_factory as jpeg
from support import photo_factory as factory

from deblur_cli import image_io

PIXELS = factory.make_pixels(48, 64)
VIDEO = struct.pack(">I", 24) + b"ftypmp42" + bytes(4) + b"mp42isom" + struct.pack(">I", 2008) + b"mdat" + bytes(2000)
SAMSUNG = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + VIDEO + b"SEFH\x6b\0\0\0\1\0\0\0SEFT"
GOOGLE = (
    'xmlns:G="http://ns.google.com/photos/1.0/camera/" xmlns:C="http://ns.google.com/photos/1.0/container/" '
    'xmlns:I="http://ns.google.com/photos/1.0/container/item/" xmlns:x="urn:x" x:kept="yes"'
)
HDR = 'xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0"'
GAIN_MAP = jpeg.with_packet(jpeg.code(PIXELS[:24, :32]), jpeg.packet("", HDR + ' h:GainMapMax="2"'))
LEFT_OUT = "left out, since it belongs to the old pixels: "


def _directory(*semantics: str, style: str = "attributes") -> str:
    """Google's list of what the file holds, in the two ways that RDF allows."""
    row = {
        "attributes": '<r:li r:parseType="Resource"><C:Item I:Mime="image/jpeg" I:Semantic="{}" I:Length="9"/></r:li>',
        "elements": "<r:li><r:Description><C:Item><r:Description><I:Semantic>{}</I:Semantic></r:Description></C:Item>"
        "</r:Description></r:li>",
    }[style]
    return f"<C:Directory><r:Seq>{''.join(row.format(name) for name in semantics)}</r:Seq></C:Directory>"


def _read(path: Path, *behind: bytes, packet: bytes | None = None, segments: tuple[tuple[int, bytes], ...] = ()):
    coded = jpeg.insert(jpeg.code(PIXELS), *segments)
    path.write_bytes((jpeg.with_packet(coded, packet) if packet else coded) + b"".join(behind))
    return image_io.read_photo(path)


def _write(photo: image_io.Photo, path: Path, file_format: str) -> bytes:
    image_io.write_photo(photo, path, file_format=file_format, quality=None, stamp="r", times_of=None)
    assert image_io.read_stamp(path) == "r"
    return path.read_bytes()


@pytest.mark.parametrize("video", [VIDEO, SAMSUNG], ids=["Google", "Samsung"])
@pytest.mark.parametrize(
    ("body", "claims"),
    [
        (_directory("Primary", "MotionPhoto"), 'G:MotionPhoto="1" G:MotionPhotoVersion="1"'),
        (_directory("Primary", "MotionPhoto", style="elements"), 'G:MotionPhoto="1"'),
        ("", f'G:MicroVideo="1" G:MicroVideoOffset="{len(VIDEO)}"'),
    ],
    ids=["attributes", "elements", "MicroVideo"],
)
def test_video_of_a_motion_photo_stays_behind_the_picture(tmp_path: Path, video: bytes, body: str, claims: str) -> None:
    packet = jpeg.packet(body, f"{GOOGLE} {claims}")
    photo = _read(tmp_path / "a.jpg", video, packet=packet)
    assert photo.metadata.xmp == packet
    assert photo.notes == ()
    content = _write(photo, tmp_path / "b.jpg", "jpeg")
    assert content.endswith(b"\xff\xd9" + video)
    assert image_io.find_losses(photo, "png") == ("the video behind the picture",)
    for file_format in ("png", "tiff", "webp", "avif"):
        content = _write(photo, tmp_path / "b", file_format)
        assert b"ftypmp42" not in content
        assert b"MotionPhoto" not in content
        assert b"MicroVideo" not in content
        assert b'kept="yes"' in content


@pytest.mark.parametrize("style", ["attributes", "elements"])
def test_gain_map_is_left_out_and_no_longer_claimed(tmp_path: Path, style: str) -> None:
    packet = jpeg.packet(_directory("Primary", "GainMap", style=style), f"{GOOGLE} {HDR}")
    iso = (0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")
    photo = _read(tmp_path / "a.jpg", GAIN_MAP, packet=packet, segments=(iso, (0xE2, b"MPF\0" + bytes(30))))
    assert photo.notes == (LEFT_OUT + "its gain map",)
    content = _write(photo, tmp_path / "b.jpg", "jpeg")
    assert b'kept="yes"' in content
    for word in (b"GainMap", b"h:Version", b"Directory", b"21496", b"MPF\0"):
        assert word not in content
    assert content.count(b"\xff\xd8\xff") == 1


def test_of_a_gain_map_and_a_video_only_the_video_stays_and_is_claimed(tmp_path: Path) -> None:
    packet = jpeg.packet(_directory("Primary", "GainMap", "MotionPhoto"), f'{GOOGLE} {HDR} G:MotionPhoto="1"')
    photo = _read(tmp_path / "a.jpg", bytes(40), GAIN_MAP, VIDEO, packet=packet)
    content = _write(photo, tmp_path / "b.jpg", "jpeg")
    assert content.endswith(b"\xff\xd9" + VIDEO)
    assert b'Semantic="MotionPhoto"' in content
    assert b'Semantic="Primary"' in content
    assert b"GainMap" not in content


def _index(order: str, kind: int) -> tuple[int, bytes]:
    """A multi-picture segment of two pictures, the second of a kind."""
    entries = struct.pack(order + "IIIHH", 0x030000, 0, 0, 0, 0) + struct.pack(order + "IIIHH", kind, 9, 9, 0, 0)
    table = struct.pack(order + "H", 1) + struct.pack(order + "HHII", 0xB002, 7, 32, 26) + bytes(4)
    return 0xE2, b"MPF\0" + (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + table + entries


@pytest.mark.parametrize("order", ["<", ">"])
def test_previews_go_without_a_word_and_second_pictures_with_one(tmp_path: Path, order: str) -> None:
    behind = jpeg.code(PIXELS[:24, :32])
    assert _read(tmp_path / "a.jpg", behind, segments=(_index(order, 0x010002),)).notes == ()
    assert _read(tmp_path / "a.jpg", behind, segments=(_index(order, 0x020002),)).notes == (
        LEFT_OUT + "a further picture behind it",
    )


@pytest.mark.parametrize("padding", [b"", bytes(9), b"\xff" * 4096, b"\r\n", bytes(200_000)], ids=len)
def test_padding_behind_the_picture_is_nothing(tmp_path: Path, padding: bytes) -> None:
    photo = _read(tmp_path / "a.jpg", padding)
    assert photo.notes == ()
    assert photo.metadata.video is None
    assert _read(tmp_path / "a.jpg", padding, GAIN_MAP).notes == (LEFT_OUT + "its gain map",)


def test_unknown_bytes_behind_the_picture_are_named(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.jpg", b"SEFH" + bytes(96)).notes == (LEFT_OUT + "100 bytes behind the picture",)


def test_progressive_photo_ends_where_its_last_scan_ends(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "a.jpg").write_bytes(jpeg.code(noise, progressive=True) + VIDEO)
    assert image_io.read_photo(tmp_path / "a.jpg").metadata.video == VIDEO


def test_thumbnails_inside_the_packet_show_the_old_picture_and_go(tmp_path: Path) -> None:
    body = "<v:Thumbnails><r:Alt><r:li><r:Description g:image='AAAA' g:width='9'/></r:li></r:Alt></v:Thumbnails>"
    spaces = 'xmlns:v="http://ns.adobe.com/xap/1.0/" xmlns:g="http://ns.adobe.com/xap/1.0/g/img/" v:Rating="3"'
    packet = _read(tmp_path / "a.jpg", packet=jpeg.packet(body, spaces)).metadata.xmp or b""
    assert b"AAAA" not in packet
    assert b'v:Rating="3"' in packet


def test_claims_about_a_video_that_is_not_there_are_removed(tmp_path: Path) -> None:
    packet = jpeg.packet(_directory("Primary", "MotionPhoto"), f'{GOOGLE} G:MotionPhoto="1"')
    assert b"MotionPhoto" not in (_read(tmp_path / "a.jpg", packet=packet).metadata.xmp or b"")
