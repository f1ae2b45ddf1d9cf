"""What names a place or a size in the picture turns with the pixels, whoever wrote it and however."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import jpeg_factory as jpeg
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.image_io.metadata import exif, ifd, photoshop, xmp
from deblur_cli.image_io.metadata.turning import Turn, compose, turn_packet

WIDTH, HEIGHT = 96, 64
FACE = (60, 8, 24, 16)  # left, top, width, height in stored pixels
MWG = (
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#"'
)
ACDSEE = (
    'xmlns:acdsee-rs="http://ns.acdsee.com/regions/" '
    'xmlns:d="http://ns.acdsee.com/sType/Dimensions#" xmlns:a="http://ns.acdsee.com/sType/Area#"'
)
IPTC = 'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
every_turn = pytest.mark.parametrize("orientation", range(1, 9))


def _share(pixels: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    left, top, width, height = pixels
    return left / WIDTH, top / HEIGHT, width / WIDTH, height / HEIGHT


def _regions(style: str, dimensions: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """One face, as different programs write it."""
    left, top, width, height = _share(FACE)
    x, y = left + width / 2, top + height / 2
    area = f'a:x="{x}" a:y="{y}" a:w="{width}" a:h="{height}" a:unit="normalized"'
    elements = f"<a:x>{x}</a:x><a:y>{y}</a:y><a:w> {width} </a:w><a:h>{height}</a:h><a:unit>normalized</a:unit>"
    size = f'<{{0}}:AppliedToDimensions d:w="{dimensions[0]}" d:h="{dimensions[1]}" d:unit="pixel"/>'
    lists = "<{0}:RegionList><r:Bag><r:li>{1}</r:li></r:Bag></{0}:RegionList>"
    bodies = {
        "attributes": (
            MWG,
            size.format("mwg-rs") + lists.format("mwg-rs", f"<r:Description><mwg-rs:Area {area}/></r:Description>"),
        ),
        "elements": (
            MWG,
            size.format("mwg-rs")
            + lists.format("mwg-rs", f'<mwg-rs:Area r:parseType="Resource">{elements}</mwg-rs:Area>'),
        ),
        "description": (MWG, lists.format("mwg-rs", f"<mwg-rs:Area><r:Description {area}/></mwg-rs:Area>")),
        "acdsee": (ACDSEE, size.format("acdsee-rs") + lists.format("acdsee-rs", f"<acdsee-rs:DLYArea {area}/>")),
        "microsoft": (
            'xmlns:P="http://ns.microsoft.com/photo/1.2/t/Region#"',
            f'<r:Description P:Rectangle="{left}, {top}, {width}, {height}"/>',
        ),
        "iptc": (
            IPTC,
            f'<i:RegionBoundary r:parseType="Resource"><i:rbUnit>relative</i:rbUnit><i:rbShape>rectangle</i:rbShape>'
            f"<i:rbX>{left}</i:rbX><i:rbY>{top}</i:rbY><i:rbW>{width}</i:rbW><i:rbH>{height}</i:rbH></i:RegionBoundary>",
        ),
        "iptc in pixels": (
            IPTC,
            f'<i:RegionBoundary i:rbUnit="pixel" i:rbX="{FACE[0]}" i:rbY="{FACE[1]}" '
            f'i:rbW="{FACE[2]}" i:rbH="{FACE[3]}"/>',
        ),
    }
    space, body = bodies[style]
    return jpeg.packet(body, space)


def _numbers(packet: bytes, *names: str) -> list[float]:
    text = packet.decode()
    return [float(re.search(rf'{name}(?:="|>)\s*(-?[\d.]+)', text)[1]) for name in names]  # type: ignore[index]


def _read_centre(packet: bytes, style: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(x, y) of the centre and the size of the region, as shares."""
    if style == "microsoft":
        left, top, width, height = map(float, re.search(rb'Rectangle="([^"]+)"', packet)[1].split(b","))  # type: ignore[index]
    elif style.startswith("iptc"):
        left, top, width, height = _numbers(packet, "rbX", "rbY", "rbW", "rbH")
        if style.endswith("pixels"):
            left, top, width, height = left / size[0], top / size[1], width / size[0], height / size[1]
    else:
        x, y, width, height = _numbers(packet, "a:x", "a:y", "a:w", "a:h")
        return x, y, width, height
    return left + width / 2, top + height / 2, width, height


def _turned_jpeg(path: Path, orientation: int, packet: bytes) -> image_io.Photo:
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    left, top, width, height = FACE
    picture[top : top + height, left : left + width] = 240
    blob = b"Exif\0\0" + factory.make_exif(orientation, size=(WIDTH, HEIGHT))
    path.write_bytes(jpeg.with_packet(jpeg.insert(jpeg.code(picture), (0xE1, blob)), packet))
    return image_io.read_photo(path)


@every_turn
@pytest.mark.parametrize(
    "style", ["attributes", "elements", "description", "acdsee", "microsoft", "iptc", "iptc in pixels"]
)
def test_face_region_lies_on_the_face_after_every_turn(tmp_path: Path, orientation: int, style: str) -> None:
    photo = _turned_jpeg(tmp_path / "a.jpg", orientation, _regions(style))
    height, width = photo.pixels.shape[:2]
    rows, columns = np.nonzero(photo.pixels[..., 0] > 140)
    seen = ((columns.min() + columns.max() + 1) / 2 / width, (rows.min() + rows.max() + 1) / 2 / height)
    extent = ((np.ptp(columns) + 1) / width, (np.ptp(rows) + 1) / height)
    said = _read_centre(photo.metadata.xmp or b"", style, (width, height))
    assert said == pytest.approx((*seen, *extent), abs=1e-6)
    if style in ("attributes", "elements", "acdsee"):
        assert _numbers(photo.metadata.xmp or b"", "d:w", "d:h") == [width, height]


def test_upright_photo_keeps_its_packet_byte_for_byte(tmp_path: Path) -> None:
    packet = _regions("attributes")
    assert _turned_jpeg(tmp_path / "a.jpg", 1, packet).metadata.xmp == packet


def test_regions_that_their_writer_has_turned_already_stay(tmp_path: Path) -> None:
    packet = _regions("attributes", dimensions=(HEIGHT, WIDTH))
    assert _turned_jpeg(tmp_path / "a.jpg", 6, packet).metadata.xmp == packet


def test_places_of_other_kinds_turn_too() -> None:
    body = (
        "<e:SubjectArea><r:Seq><r:li>10</r:li><r:li>20</r:li><r:li>30</r:li><r:li>4</r:li></r:Seq></e:SubjectArea>"
        '<i:RegionBoundary r:parseType="Resource"><i:rbUnit>relative</i:rbUnit><i:rbVertices><r:Seq>'
        '<r:li r:parseType="Resource"><i:rbX>0.25</i:rbX><i:rbY>0.125</i:rbY></r:li></r:Seq></i:rbVertices>'
        "</i:RegionBoundary>"
    )
    spaces = (
        f'{IPTC} xmlns:e="http://ns.adobe.com/exif/1.0/" xmlns:t="http://ns.adobe.com/tiff/1.0/" '
        'xmlns:f="http://ns.apple.com/faceinfo/1.0/" xmlns:c="http://ns.adobe.com/camera-raw-settings/1.0/" '
        'e:PixelXDimension="96" e:PixelYDimension="64" t:ImageWidth="96" t:ImageLength="64" f:AngleInfoRoll="270" '
        'c:CropLeft="0.1" c:CropTop="0.2" c:CropRight="0.5" c:CropBottom="0.9"'
    )
    turned = turn_packet(jpeg.packet(body, spaces), Turn(6, WIDTH, HEIGHT)) or b""
    items = [int(item) for item in re.findall(rb"<r:li>(\d+)</r:li>", turned)]
    assert items == [HEIGHT - 1 - 20, 10, 4, 30]
    assert _numbers(turned, "i:rbX", "i:rbY") == [0.875, 0.25]
    assert _numbers(turned, "PixelXDimension", "PixelYDimension", "ImageWidth", "ImageLength") == [64, 96, 64, 96]
    assert _numbers(turned, "AngleInfoRoll") == [0]
    assert _numbers(turned, "CropLeft", "CropTop", "CropRight", "CropBottom") == pytest.approx([0.1, 0.1, 0.8, 0.5])


def test_numbers_with_exponents_turn_too() -> None:
    packet = jpeg.packet('<a:A a:x="5e-02" a:y="2.5E-1"/>', 'xmlns:a="http://ns.adobe.com/xmp/sType/Area#"')
    assert _numbers(turn_packet(packet, Turn(3, WIDTH, HEIGHT)) or b"", "a:x", "a:y") == [0.95, 0.75]


def test_page_sizes_and_numbers_that_are_none_stay() -> None:
    body = '<p:MaxPageSize d:w="3" d:h="2"/><mwg-rs:Area a:x="left" a:y="0.5"/>'
    packet = jpeg.packet(body, MWG + ' xmlns:p="http://ns.adobe.com/xap/1.0/t/pg/"')
    assert turn_packet(packet, Turn(6, WIDTH, HEIGHT)) == packet
    assert turn_packet(b"<broken", Turn(6, WIDTH, HEIGHT)) == b"<broken"


@every_turn
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("tag", "count"), [(exif.SUBJECT_AREA, 2), (exif.SUBJECT_AREA, 4), (exif.SUBJECT_LOCATION, 2)])
def test_subject_of_exif_turns_in_place(orientation: int, order: str, tag: int, count: int) -> None:
    numbers = (10, 20, 30, 4)[:count]
    blob = bytearray(factory.make_exif(orientation, order))
    at = bytes(blob).index(struct.pack(order + "HH", 0x9000, 7))  # its version makes place
    cell = struct.pack(order + "2H", *numbers) if count == 2 else struct.pack(order + "I", 452)
    blob[at : at + 12] = struct.pack(order + "HHI", tag, ifd.SHORT, count) + cell
    blob[452 : 452 + 2 * count] = struct.pack(f"{order}{count}H", *numbers)
    settled = exif.settle(bytes(blob), Turn(orientation, WIDTH, HEIGHT))
    root = ifd.open_blob(settled)
    found = root.read_at(root.number(exif.EXIF_IFD, 0)).numbers(tag)
    marked = np.zeros((HEIGHT, WIDTH), np.uint8)
    marked[20, 10] = 1
    image = Image.fromarray(marked)
    if orientation > 1:
        image = image.transpose(factory.PILLOW_TURNS[orientation])
    row, column = np.argwhere(np.asarray(image))[0]
    assert found[:2] == (column, row)
    assert found[2:] == (numbers[2:][::-1] if orientation >= 5 else numbers[2:])


def test_clipping_path_of_photoshop_turns_and_its_resolutions_swap() -> None:
    one = 1 << 24
    knot = struct.pack(">H6i", 2, *(one // 4, one // 8) * 3)
    count = struct.pack(">HHH", 0, 1, 0).ljust(26, b"\0")
    block = b"8BIM\x07\xd0\x05Mask1" + struct.pack(">I", 52) + count + knot
    block += b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + b"ABCDEFGHabcdefgh"
    turned = photoshop.turn_resources(block, Turn(6, WIDTH, HEIGHT)) or b""
    assert len(turned) == len(block)
    assert struct.pack(">H6i", 2, *(one // 8, one - one // 4) * 3) in turned
    assert count in turned
    assert turned.endswith(b"abcdefghABCDEFGH")
    assert photoshop.turn_resources(block, Turn(1, WIDTH, HEIGHT)) == block
    odd = b"8BIM\x07\xd0\0\0" + struct.pack(">I", 3) + b"abc\0"
    assert photoshop.turn_resources(odd, Turn(6, WIDTH, HEIGHT)) == odd


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("second", range(1, 9))
def test_two_turns_make_one(first: int, second: int) -> None:
    image = Image.fromarray(factory.make_pixels(5, 7))
    turned = image
    for orientation in (first, second):
        turned = turned.transpose(factory.PILLOW_TURNS[orientation]) if orientation > 1 else turned
    both = compose(first, second)
    assert turned.tobytes() == (image.transpose(factory.PILLOW_TURNS[both]) if both > 1 else image).tobytes()


def test_regions_in_the_extended_packet_turn_too(tmp_path: Path) -> None:
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    note = f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid.decode()}"'
    extended = _regions("attributes")
    head = jpeg.EXTENSION_PREFIX + guid + struct.pack(">II", len(extended), 0)
    blob = b"Exif\0\0" + factory.make_exif(6)
    coded = jpeg.insert(jpeg.code(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), (0xE1, blob), (0xE1, head + extended))
    (tmp_path / "a.jpg").write_bytes(jpeg.with_packet(coded, jpeg.packet("", note)))
    metadata = image_io.read_photo(tmp_path / "a.jpg").metadata
    assert _numbers(metadata.xmp_extended or b"", "d:w", "d:h") == [HEIGHT, WIDTH]
    assert xmp.find_extended_guid(metadata.xmp) == guid
