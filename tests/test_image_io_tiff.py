"""TIFF: kinds that would come out wrong are refused by their name, damage never counts as read."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from support import photo_factory as factory
from support import tiff_factory as tiff

from deblur_cli import image_io
from deblur_cli.errors import PhotoError

PIXELS = factory.make_pixels(32, 48)
NOISE = np.random.default_rng(4).integers(0, 256, (96, 96, 3), dtype=np.uint8)
both_orders = pytest.mark.parametrize("order", ["<", ">"])


def _read(path: Path, content: bytes) -> image_io.Photo:
    path.write_bytes(content)
    return image_io.read_photo(path)


def _refusal(path: Path, content: bytes) -> str:
    with pytest.raises(PhotoError) as caught:
        _read(path, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@both_orders
@pytest.mark.parametrize("big", [False, True])
def test_plain_files_of_the_factory_are_read(tmp_path: Path, order: str, big: bool) -> None:
    content = tiff.build(tiff.photo_tags(PIXELS), {"strip": PIXELS.tobytes()}, order, big=big)
    np.testing.assert_array_equal(_read(tmp_path / "a.tif", content).pixels, PIXELS)


@both_orders
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tag262": (3, [6])}, "a YCbCr TIFF without JPEG compression is not supported; convert it to RGB first"),
        ({"tag262": (3, [6]), "tag530": (3, [2, 2])}, "a YCbCr TIFF without JPEG compression"),
        ({"tag262": (3, [6]), "tag259": (3, [5])}, "a YCbCr TIFF without JPEG compression"),
        ({"tag262": (3, [6]), "tag259": (3, [7]), "tag284": (3, [2])}, "a YCbCr TIFF without JPEG compression"),
        ({"tag262": (3, [34892])}, "a TIFF of photometric kind 34892 is not supported"),
        ({"tag262": (3, [4])}, "a TIFF of photometric kind 4 is not supported"),
        ({"tag262": (3, [3]), "tag258": (3, [16]), "tag277": (3, [1])}, "a TIFF with a palette of 16 bits"),
        ({"tag258": (3, [8, 8, 16])}, "a TIFF with channels of 8 and of 16 bits is not supported"),
        ({"tag258": (3, [32] * 3)}, "a TIFF of 3 channels of 32 bits is not supported"),
        ({"tag258": (3, [4] * 3)}, "a TIFF of 3 channels of 4 bits is not supported"),
        ({"tag322": (3, [48]), "tag323": (3, [32]), "tag324": (4, [8] * 3), "tag325": (4, [9] * 3), "tag284": (3, [2])},
         "a tiled TIFF of separate planes is not supported; save it in strips"),
    ],
)  # fmt: skip
def test_kinds_that_come_out_wrong_are_refused_by_name(
    tmp_path: Path, order: str, changes: dict[str, tiff.Value], words: str
) -> None:
    content = tiff.build(tiff.photo_tags(PIXELS, **changes), {"strip": PIXELS.tobytes()}, order)
    text = _refusal(tmp_path / "a.tif", content)
    assert words in text
    assert "damaged" not in text
    assert "16 bits is not supported; convert it to 8 or 16" not in text


def test_separate_planes_in_strips_are_read(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(np.moveaxis(PIXELS, -1, 0))
    size = planes[0].nbytes
    tags = tiff.photo_tags(PIXELS, tag284=(3, [2]), tag273=(4, ["r", "g", "b"]), tag279=(4, [size] * 3))
    blocks = {name: plane.tobytes() for name, plane in zip("rgb", planes, strict=True)}
    np.testing.assert_array_equal(_read(tmp_path / "a.tif", tiff.build(tags, blocks)).pixels, PIXELS)


def test_jpeg_in_a_tiff_keeps_its_colours(tmp_path: Path) -> None:
    factory.save_by_vips(tmp_path / "a.tif", PIXELS, compression="jpeg", Q=85)
    assert b"\x06\x01\x03\0\1\0\0\0\6" in (tmp_path / "a.tif").read_bytes()  # stored as YCbCr
    assert np.abs(image_io.read_photo(tmp_path / "a.tif").pixels.astype(int) - PIXELS).mean() < 6


@both_orders
@pytest.mark.parametrize(
    "changes",
    [
        {"tag257": (4, [64])},  # twice as high as its strips
        {"tag256": (4, [96])},
        {"tag278": (4, [8])},
        {"tag278": (4, [0])},
        {"tag273": (4, [0])},
        {"tag279": (4, [0])},
        {"tag279": (4, [100])},
        {"tag273": (4, [1 << 31])},
        {"tag273": (4, [8, 8, 8])},
        {"tag259": (3, [8])},
        {"tag324": (4, [8])},
    ],
    ids=str,
)
def test_pieces_that_do_not_make_up_the_picture_are_damage(
    tmp_path: Path, order: str, changes: dict[str, tiff.Value]
) -> None:
    _refusal(tmp_path / "a.tif", tiff.build(tiff.photo_tags(PIXELS, **changes), {"strip": PIXELS.tobytes()}, order))


@pytest.mark.parametrize("options", [{}, {"tile": True, "tile_width": 32, "tile_height": 32}], ids=["strips", "tiles"])
@pytest.mark.parametrize("predictor", ["none", "horizontal"])
def test_no_wrong_byte_of_a_deflated_picture_is_read_as_done(
    tmp_path: Path, options: dict[str, object], predictor: str
) -> None:
    path = tmp_path / "a.tif"
    factory.save_by_vips(path, NOISE, compression="deflate", predictor=predictor, **options)
    content = path.read_bytes()
    start = content.index(b"\x78")
    for at in np.random.default_rng(5).integers(start, start + 20_000, 40):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        assert "damaged" in _refusal(path, bytes(damaged))


@pytest.mark.parametrize("options", [{}, {"tile": True, "tile_width": 32, "tile_height": 32}], ids=["strips", "tiles"])
def test_most_wrong_bytes_of_an_lzw_picture_are_found_by_its_length(tmp_path: Path, options: dict[str, object]) -> None:
    path, smooth = tmp_path / "a.tif", factory.make_pixels(96, 96)
    factory.save_by_vips(path, smooth, compression="lzw", **options)
    content, accepted = path.read_bytes(), 0
    for at in np.random.default_rng(6).integers(8, len(content) // 2, 40):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            image_io.read_photo(path)
        except PhotoError:
            continue
        accepted += 1
    assert accepted <= 6  # LZW has no checksum: two wrong strings may be as long as the right ones


@pytest.mark.parametrize("pixels", [NOISE, np.zeros((700, 900, 3), np.uint8), factory.make_pixels(300, 300, deep=True)])
@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "none"])
@pytest.mark.parametrize("tile", [False, True])
def test_whole_pictures_of_any_content_are_never_called_damaged(
    tmp_path: Path, pixels: np.ndarray, compression: str, tile: bool
) -> None:
    sizes = {"tile": True, "tile_width": 128, "tile_height": 64} if tile else {}
    factory.save_by_vips(tmp_path / "a.tif", pixels, compression=compression, **sizes)
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "a.tif").pixels, pixels)


def test_last_strip_may_be_filled_up(tmp_path: Path) -> None:
    full = np.concatenate([PIXELS, PIXELS[:16]])
    strips = [zlib.compress(full[:24].tobytes()), zlib.compress(full[24:].tobytes())]
    tags = tiff.photo_tags(
        PIXELS, tag259=(3, [8]), tag273=(4, ["a", "b"]), tag278=(4, [24]), tag279=(4, [len(strip) for strip in strips])
    )
    content = tiff.build(tags, dict(zip("ab", strips, strict=True)))
    np.testing.assert_array_equal(_read(tmp_path / "a.tif", content).pixels, PIXELS)


def test_old_file_that_leaves_out_the_counts_is_read(tmp_path: Path) -> None:
    tags = tiff.photo_tags(PIXELS)
    del tags[279]
    np.testing.assert_array_equal(
        _read(tmp_path / "a.tif", tiff.build(tags, {"strip": PIXELS.tobytes()})).pixels, PIXELS
    )


@both_orders
@pytest.mark.parametrize("tag", [0x8769, 0x8825])
@pytest.mark.parametrize("inner", [0xA005, 0x8769])
def test_directories_that_lead_in_a_circle_come_to_an_end(tmp_path: Path, order: str, tag: int, inner: int) -> None:
    circle = struct.pack(order + "HHHI", 1, inner, 4, 1)
    tags = tiff.photo_tags(PIXELS) | {271: (2, b"Maker\0"), tag: (4, ["circle"])}  # type: ignore[list-item]
    at = tiff.build(tags, {"circle": b"", "strip": PIXELS.tobytes()}, order)
    place = 8 + 2 + 12 * len(tags) + 4
    assert at[place:].startswith(PIXELS.tobytes()[:9])
    blocks = {"circle": circle + struct.pack(order + "II", place, 0), "strip": PIXELS.tobytes()}
    photo = _read(tmp_path / "a.tif", tiff.build(tags, blocks, order))
    image_io.write_photo(photo, tmp_path / "b.tif", file_format="tiff", quality=None, stamp="r", times_of=None)
    assert image_io.read_stamp(tmp_path / "b.tif") == "r"
