"""What is read, what is refused, and that a refusal is always one line with the path."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.errors import PhotoError
from deblur_cli.image_io.containers.tiff_writer import write_tiff

RGB = Image.fromarray(factory.make_pixels())


def _refusal(path: Path) -> str:
    with pytest.raises(PhotoError) as caught:
        image_io.read_photo(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert ";" in text or "pip install" in text  # what to do next
    return text


def _png_header(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [ihdr, b"IDAT" + zlib.compress(b"\0"), b"IEND"]
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("name", "image", "options", "words"),
    [
        ("a.jpg", RGB.convert("CMYK"), {}, "CMYK JPEG"),
        ("a.tif", RGB.convert("CMYK"), {}, "CMYK TIFF"),
        ("a.tif", RGB.convert("LAB"), {}, "Lab TIFF"),
        ("a.tif", RGB.convert("F"), {}, "float or signed"),
        ("a.tif", RGB.convert("I"), {}, "float or signed"),
        ("a.tif", RGB, {"save_all": True, "append_images": [RGB]}, "several pages"),
        ("a.png", RGB, {"save_all": True, "append_images": [RGB.rotate(90)]}, "animated PNG"),
        ("a.webp", RGB, {"save_all": True, "append_images": [RGB.rotate(90)]}, "animated WebP"),
        ("a.avif", RGB, {"save_all": True, "append_images": [RGB.rotate(90)]}, "image sequence"),
        ("a.gif", RGB.convert("P"), {}, "not a photo this tool can read"),
        ("a.bmp", RGB, {}, "not a photo this tool can read"),
    ],
)
def test_kinds_that_are_no_plain_photo_are_refused(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, object], words: str
) -> None:
    image.save(tmp_path / name, **options)
    assert words in _refusal(tmp_path / name)


def test_tiff_with_a_preview_is_one_photo(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.tif", save_all=True, append_images=[RGB.resize((8, 6))])
    content = bytearray((tmp_path / "a.tif").read_bytes())
    second = struct.unpack_from("<I", content, 8 + 2 + 12 * struct.unpack_from("<H", content, 8)[0])[0]
    struct.pack_into("<HHIHH", content, second + 2, 254, 4, 1, 1, 0)  # its first tag says: a reduced picture
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "a.tif").pixels, np.asarray(RGB))


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.99])
def test_truncated_file_fails_and_gives_no_half_picture(tmp_path: Path, file_format: str, share: float) -> None:
    path = tmp_path / "a"
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    factory.save_by_pillow(path, file_format, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refusal(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_truncated_16_bit_file_fails(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    factory.save_by_vips(path, factory.make_pixels(deep=True))
    content = path.read_bytes()
    for share in (0.3, 0.7, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        _refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP", b"II*\0", b"just some text, nothing more"],
)
def test_empty_and_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    _refusal(tmp_path / "a.jpg")
    with pytest.raises(PhotoError):
        image_io.probe_size(tmp_path / "a.jpg")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in _refusal(tmp_path / "missing.jpg")
    assert "directory" in _refusal(tmp_path)


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
def test_random_damage_is_a_photo_error_or_a_photo_but_never_a_crash(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    factory.save_by_pillow(path, file_format, factory.make_pixels(), factory.make_metadata())
    content = path.read_bytes()
    generator = np.random.default_rng(7)
    for _ in range(40):
        damaged = bytearray(content)
        for at in generator.integers(0, min(len(content), 1500), 4):
            damaged[at] = generator.integers(0, 256)
        path.write_bytes(damaged)
        try:
            image_io.read_photo(path)
        except PhotoError as fault:
            assert "\n" not in str(fault)
        image_io.read_stamp(path)


def test_photo_is_read_by_its_content_whatever_its_suffix(tmp_path: Path) -> None:
    for file_format in factory.ALL_FORMATS:
        factory.save_by_pillow(tmp_path / "a.jpg", file_format, factory.make_pixels())
        assert image_io.read_photo(tmp_path / "a.jpg").file_format == file_format


def test_picture_over_500_megapixels_is_refused_and_the_limit_named(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_header(40_000, 30_000))
    text = _refusal(tmp_path / "bomb.png")
    assert "1200 megapixels, over this tool's limit of 500" in text


def test_150_megapixels_are_probed_without_a_word_from_pillow(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(_png_header(15_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_io.probe_size(tmp_path / "large.png") == (15_000, 10_000)
        assert "damaged" in _refusal(tmp_path / "large.png")  # it has no pixels, but its size is no obstacle


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_palette_becomes_colour_and_grey_where_it_is_grey(tmp_path: Path, suffix: str) -> None:
    colour = RGB.quantize(16)
    colour.save(tmp_path / f"c.{suffix}")
    photo = image_io.read_photo(tmp_path / f"c.{suffix}")
    assert not photo.grey
    np.testing.assert_array_equal(photo.pixels, np.asarray(colour.convert("RGB")))
    grey = RGB.convert("L").quantize(16)
    grey.save(tmp_path / f"g.{suffix}")
    photo = image_io.read_photo(tmp_path / f"g.{suffix}")
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels, np.asarray(grey.convert("RGB")))


def test_png_transparency_chunk_becomes_alpha(tmp_path: Path) -> None:
    palette = RGB.quantize(16)
    palette.save(tmp_path / "p.png", transparency=3)
    expected = np.where(np.asarray(palette) == 3, 0, 255)
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "p.png").alpha, expected)
    grey = RGB.convert("L")
    grey.save(tmp_path / "g.png", transparency=90)
    photo = image_io.read_photo(tmp_path / "g.png")
    assert photo.grey
    np.testing.assert_array_equal(photo.alpha, np.where(np.asarray(grey) == 90, 0, 255))
    RGB.save(tmp_path / "c.png", transparency=RGB.getpixel((0, 0)))
    alpha = image_io.read_photo(tmp_path / "c.png").alpha
    assert alpha is not None
    assert alpha[0, 0] == 0


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_bilevel_scans_are_read_as_grey(tmp_path: Path, suffix: str) -> None:
    RGB.convert("1").save(tmp_path / f"a.{suffix}")
    photo = image_io.read_photo(tmp_path / f"a.{suffix}")
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels, np.asarray(RGB.convert("1").convert("RGB")))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "lzw", "predictor": "horizontal"},
        {"compression": "deflate", "predictor": "horizontal"},
        {"compression": "packbits"},
        {"bigtiff": True},
        {"tile": True, "tile_width": 16, "tile_height": 16},
    ],
    ids=str,
)
def test_16_bit_tiff_is_read_exactly_however_it_is_packed(tmp_path: Path, options: dict[str, object]) -> None:
    pixels = factory.make_pixels(deep=True)
    factory.save_by_vips(tmp_path / "a.tif", pixels, **options)
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_of_pillow_is_read_exactly_and_pillow_reads_ours(tmp_path: Path, suffix: str) -> None:
    grey = factory.make_pixels(deep=True)[..., 0]
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    photo = image_io.read_photo(tmp_path / f"a.{suffix}")
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels[..., 1], grey)
    target = tmp_path / f"b.{suffix}"
    image_io.write_photo(photo, target, file_format=photo.file_format, quality=None, stamp=None, times_of=None)
    np.testing.assert_array_equal(np.asarray(factory.load_by_pillow(target)), grey)


def test_white_is_zero_tiff_is_read_the_right_way(tmp_path: Path) -> None:
    grey = factory.make_pixels(deep=True)[..., :1]
    factory.save_by_vips(tmp_path / "a.tif", grey, miniswhite=True)
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "a.tif").pixels[..., :1], grey)


def test_premultiplied_tiff_alpha_is_divided_out(tmp_path: Path) -> None:
    planes = np.full((4, 4, 4), 60, np.uint8)
    planes[..., 3] = 120
    (tmp_path / "a.tif").write_bytes(write_tiff(planes, image_io.Metadata(), alpha=True, extra_sample=1))
    photo = image_io.read_photo(tmp_path / "a.tif")
    assert abs(int(photo.pixels[0, 0, 0]) - 128) <= 1
    assert photo.alpha is not None
    assert photo.alpha[0, 0] == 120


def test_unnamed_fourth_channel_of_a_tiff_stays_unnamed(tmp_path: Path) -> None:
    planes = np.dstack([factory.make_pixels(), factory.make_alpha()])
    (tmp_path / "a.tif").write_bytes(write_tiff(planes, image_io.Metadata(), alpha=True, extra_sample=0))
    photo = image_io.read_photo(tmp_path / "a.tif")
    image_io.write_photo(photo, tmp_path / "b.tif", file_format="tiff", quality=None, stamp=None, times_of=None)
    assert factory.load_by_pillow(tmp_path / "b.tif").tag_v2[338] == (0,)
    np.testing.assert_array_equal(factory.load_by_vips(tmp_path / "b.tif"), planes)


@pytest.mark.parametrize(
    "name", ["a [1].png", "a.png[0]", "ünï çödé.png", "a\nb.png", b"latin-\xe9.png".decode("utf-8", "surrogateescape")]
)
def test_odd_names_are_read_like_others(tmp_path: Path, name: str) -> None:
    factory.save_by_pillow(tmp_path / "plain", "png", factory.make_pixels())
    try:
        (tmp_path / "plain").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system refuses the name")
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / name).pixels, factory.make_pixels())


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_may_be_written_to(tmp_path: Path, file_format: str, orientation: int) -> None:
    metadata = image_io.Metadata(exif=factory.make_exif(orientation))
    factory.save_by_pillow(tmp_path / "a", file_format, factory.make_pixels(), metadata)
    pixels = image_io.read_photo(tmp_path / "a").pixels
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
