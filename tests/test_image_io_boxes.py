"""AVIF and HEIF: what a derived picture takes from its tiles, whose metadata is whose, and where black lies."""

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from support import bmff_factory as bmff
from support import jpeg_factory as jpeg
from support import photo_factory as factory
from support.bmff_factory import Item

from deblur_cli import image_io
from deblur_cli.image_io.containers.av1_sequence import is_full_range

OF_PHOTO = jpeg.packet("", 'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"')
OF_MAP = jpeg.packet("", 'xmlns:m="http://ns.apple.com/HDRGainMap/1.0/" m:HDRGainMapVersion="65536"')
GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"
RAMP = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (64, 1))


def _tile(fmt: str = "avif") -> Item:
    pixels = factory.make_pixels(64, 64)
    if fmt == "avif":
        return bmff.coded_item(bmff.avif(pixels, subsampling="4:2:0"))
    pillow_heif = pytest.importorskip("pillow_heif")
    image = pillow_heif.from_bytes(mode="RGB", size=(64, 64), data=pixels.tobytes())
    image.save(path := _HeifBuffer(), quality=90)
    return bmff.coded_item(path.getvalue())


class _HeifBuffer(BytesIO):
    name = "a.heic"


def _photo(path: Path, content: bytes) -> image_io.Photo:
    path.write_bytes(content)
    return image_io.read_photo(path)


def _exif(order: str) -> bytes:
    return bytes(4) + factory.make_exif(order=order)


@pytest.mark.parametrize("fmt", ["avif", "heic"])
@pytest.mark.parametrize(
    "colour", [bmff.profile(factory.ICC), bmff.nclx(12, 13), bmff.nclx(9, 16)], ids=["icc", "p3", "pq"]
)
@pytest.mark.parametrize("deep", [False, True], ids=["grid", "grid of copies"])
def test_grid_takes_its_colours_from_its_tiles(tmp_path: Path, fmt: str, colour: bytes, deep: bool) -> None:
    tile = _tile(fmt)
    tile.properties.append(colour)
    payload, properties = bmff.grid(128, 64, 2)
    items = {1: tile, 2: replace(tile), 3: Item(b"grid", payload, properties)}
    references = [(b"dimg", 3, [1, 2])]
    if deep:
        items[4] = Item(b"iden", b"", properties)
        references.append((b"dimg", 4, [3]))
    photo = _photo(tmp_path / f"a.{fmt}", bmff.build(fmt.encode(), items, max(items), references))
    assert photo.pixels.shape == (64, 128, 3)
    if colour == bmff.profile(factory.ICC):
        assert photo.metadata.icc == factory.ICC
    else:
        codes = bytes(struct.unpack(">HH", colour[12:16])) + b"\0\1"
        assert photo.metadata.png_chunks == ((b"cICP", codes),)


def test_own_colours_of_a_grid_count_before_those_of_its_tiles(tmp_path: Path) -> None:
    tile = _tile()
    tile.properties.append(bmff.nclx(9, 16))
    payload, properties = bmff.grid(64, 64, 1)
    items = {1: tile, 2: Item(b"grid", payload, [*properties, bmff.profile(factory.ICC)])}
    assert _photo(tmp_path / "a.avif", bmff.build(b"avif", items, 2, [(b"dimg", 2, [1])])).metadata.icc == factory.ICC


@pytest.mark.parametrize("order", [(3, 4), (4, 3)])
def test_metadata_of_the_photo_is_taken_and_not_that_of_its_gain_map(tmp_path: Path, order: tuple[int, int]) -> None:
    tile = _tile()
    gain_map = Item(tile.kind, tile.data, [*tile.properties, bmff.auxiliary(GAIN_MAP)])
    words = {
        order[0]: Item(b"mime", OF_MAP, mime=bmff.XMP_TYPE),
        order[1]: Item(b"mime", OF_PHOTO, mime=bmff.XMP_TYPE),
        order[0] + 2: Item(b"Exif", _exif(">")),
        order[1] + 2: Item(b"Exif", _exif("<")),
    }
    references = [(b"auxl", 2, [1]), (b"cdsc", order[0], [2]), (b"cdsc", order[1], [1])]
    references += [(b"cdsc", order[0] + 2, [2]), (b"cdsc", order[1] + 2, [1])]
    items = {1: tile, 2: gain_map, **dict(sorted(words.items()))}
    photo = _photo(tmp_path / "a.avif", bmff.build(b"avif", items, 1, references))
    assert photo.metadata.xmp == OF_PHOTO
    assert (photo.metadata.exif or b"")[:2] == b"II"
    assert photo.notes == ("left out, since it belongs to the old pixels: its gain map",)


@pytest.mark.parametrize(("targets", "kept"), [([], True), ([1], True), ([2], True), ([3], False)], ids=str)
def test_a_lone_packet_is_the_photos_unless_it_describes_another_picture(
    tmp_path: Path, targets: list[int], kept: bool
) -> None:
    tile = _tile()
    payload, properties = bmff.grid(64, 64, 1)
    thumbnail = Item(tile.kind, tile.data, [*tile.properties, bmff.auxiliary(b"urn:com:apple:photo:2018:aux:depth")])
    items = {1: Item(b"grid", payload, properties), 2: tile, 3: thumbnail}
    items[4] = Item(b"mime", OF_PHOTO, mime=bmff.XMP_TYPE)
    references = [(b"dimg", 1, [2]), (b"thmb", 3, [1])] + ([(b"cdsc", 4, targets)] if targets else [])
    photo = _photo(tmp_path / "a.avif", bmff.build(b"avif", items, 1, references))
    assert photo.metadata.xmp == (OF_PHOTO if kept else None)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("limited", [False, True])
def test_grey_avif_is_black_and_white_in_any_range(tmp_path: Path, limited: bool, alpha: bool) -> None:
    planes = np.dstack([RAMP, RAMP.T]) if alpha else RAMP
    content = bmff.avif(planes, subsampling="4:0:0", range="limited" if limited else "full", quality=100)
    photo = _photo(tmp_path / "a.avif", content)
    assert photo.grey
    assert np.abs(photo.pixels[..., 0].astype(int) - RAMP).max() <= 2
    if alpha:
        assert np.abs(photo.alpha.astype(int) - RAMP.T).max() <= 2


@pytest.mark.parametrize("limited", [False, True])
def test_range_is_found_in_the_coded_picture_where_no_box_names_it(tmp_path: Path, limited: bool) -> None:
    content = bmff.avif(RAMP, subsampling="4:0:0", range="limited" if limited else "full", quality=100)
    item = bmff.coded_item(content)
    photo = _photo(tmp_path / "a.avif", bmff.build(b"avif", {1: item}, 1))
    assert (photo.pixels.min(), photo.pixels.max()) == (0, 255)
    assert is_full_range(item.data) is not limited


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("alpha", [False, True])
def test_grey_heif_of_any_depth_is_written_as_grey(tmp_path: Path, bits: int, alpha: bool) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    values = RAMP if bits == 8 else RAMP.astype(np.uint16) * 257
    planes = np.dstack([values, values]) if alpha else values
    mode = ("LA" if alpha else "L") if bits == 8 else ("LA;16" if alpha else "I;16")
    with (tmp_path / "a.heif").open("wb") as stream:
        pillow_heif.encode(mode, (64, 64), planes.tobytes(), stream, quality=100, bit_depth=bits)
    photo = image_io.read_photo(tmp_path / "a.heif")
    assert photo.grey
    assert photo.pixels.flags.writeable
    assert (photo.alpha is not None) is alpha
    image_io.write_photo(photo, tmp_path / "a.png", file_format="png", quality=None, stamp=None, times_of=None)
    stored = factory.load_by_vips(tmp_path / "a.png")
    assert stored.shape[2] == 1 + alpha
    assert np.abs(stored[..., 0].astype(int) - values).max() < (4 if bits == 8 else 1000)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_grey_heif_in_limited_range_becomes_full_range(tmp_path: Path, bits: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    unit, kind = (1, np.uint8) if bits == 8 else (256, np.uint16)
    limited = np.round((16 + RAMP / 255 * 219) * unit).astype(kind)
    with (tmp_path / "full.heif").open("wb") as stream:
        pillow_heif.encode(
            "L" if bits == 8 else "I;16", (64, 64), limited.tobytes(), stream, quality=100, bit_depth=bits
        )
    item = bmff.coded_item((tmp_path / "full.heif").read_bytes())
    item.properties.append(bmff.nclx(1, 13, full_range=False))
    photo = _photo(tmp_path / "a.heif", bmff.build(b"heic", {1: item}, 1))
    white = np.iinfo(kind).max
    assert np.abs(photo.pixels[..., 0].astype(int) - RAMP.astype(int) * (white // 255)).max() <= white * 0.015
    assert photo.pixels.min() <= white // 1000
    assert photo.alpha is None
    assert photo.pixels.max() == white


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_alpha_beside_grey_in_limited_range_keeps_its_full_range(tmp_path: Path, bits: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    planes = np.dstack([RAMP, RAMP.T]).astype(np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    with (tmp_path / "a.heif").open("wb") as stream:
        mode = "LA" if bits == 8 else "LA;16"
        pillow_heif.encode(mode, (64, 64), planes.tobytes(), stream, quality=100, bit_depth=bits)
    content = bytearray((tmp_path / "a.heif").read_bytes())
    content[content.index(b"nclx") + 10] = 0  # the picture says now that its black is 16
    photo = _photo(tmp_path / "a.heif", bytes(content))
    assert photo.alpha is not None
    assert (photo.alpha.min(), photo.alpha.max()) == (0, np.iinfo(planes.dtype).max)
    assert (photo.pixels.min(), photo.pixels.max()) == (0, np.iinfo(planes.dtype).max)


@pytest.mark.parametrize("codes", [(12, 13), (9, 16), (9, 18), (1, 8), (5, 4)], ids=str)
def test_colour_code_of_an_avif_is_written_into_avif_and_png(tmp_path: Path, codes: tuple[int, int]) -> None:
    item = _tile()
    item.properties.append(bmff.nclx(*codes))
    photo = _photo(tmp_path / "a.avif", bmff.build(b"avif", {1: item}, 1))
    for file_format in ("avif", "png"):
        image_io.write_photo(photo, tmp_path / "b", file_format=file_format, quality=None, stamp="r", times_of=None)
        assert image_io.read_photo(tmp_path / "b").metadata.png_chunks == ((b"cICP", bytes([*codes, 0, 1])),)
    assert image_io.find_losses(photo, "jpeg") == ("the code of its colour space (CICP)",)


@pytest.mark.parametrize("rotation", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
def test_regions_turn_as_the_boxes_turn_the_pixels(tmp_path: Path, rotation: int, mirror: int | None) -> None:
    pixels = np.full((64, 96, 3), 30, np.uint8)
    pixels[:16, :24] = 230
    item = bmff.coded_item(bmff.avif(pixels, subsampling="4:4:4"))
    item.properties.append(box := bmff.box(b"irot", bytes([rotation])))
    if mirror is not None:
        item.properties.insert(item.properties.index(box) + 1, bmff.box(b"imir", bytes([mirror])))
    area = '<a:Area a:x="0.125" a:y="0.125" a:w="0.25" a:h="0.25"/>'
    words = Item(b"mime", jpeg.packet(area, 'xmlns:a="http://ns.adobe.com/xmp/sType/Area#"'), mime=bmff.XMP_TYPE)
    photo = _photo(tmp_path / "a.avif", bmff.build(b"avif", {1: item, 2: words}, 1, [(b"cdsc", 2, [1])]))
    rows, columns = np.nonzero(photo.pixels[..., 0] > 130)
    height, width = photo.pixels.shape[:2]
    said = [float((photo.metadata.xmp or b"").split(b' a:%s="' % axis)[1].split(b'"')[0]) for axis in (b"x", b"y")]
    assert said == pytest.approx([(columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height], abs=0.03)


def test_video_and_depth_map_beside_the_photo_are_named(tmp_path: Path) -> None:
    tile = _tile()
    depth = Item(tile.kind, tile.data, [*tile.properties, bmff.auxiliary(b"urn:com:apple:photo:2018:aux:depth")])
    claim = 'xmlns:G="http://ns.google.com/photos/1.0/camera/" G:MotionPhoto="1"'
    words = Item(b"mime", jpeg.packet("", claim), mime=bmff.XMP_TYPE)
    content = bmff.build(b"avif", {1: tile, 2: depth, 3: words}, 1, [(b"auxl", 2, [1]), (b"cdsc", 3, [1])])
    photo = _photo(tmp_path / "a.avif", content + bmff.box(b"mpvd", bytes(100)))
    assert photo.notes == ("left out, since it belongs to the old pixels: its video, its depth map or mattes",)
    assert b"MotionPhoto" not in (photo.metadata.xmp or b"")
