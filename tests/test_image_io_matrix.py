"""Every format by EXIF, ICC, XMP, orientation 1-8, 16 bit and alpha; Pillow and libvips write and read the files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import photo_factory as factory

from deblur_cli import image_io

LOSSLESS = ("png", "tiff")
every_format = pytest.mark.parametrize("file_format", factory.ALL_FORMATS)


def _rewrite(tmp_path: Path, file_format: str, pixels: np.ndarray, metadata: image_io.Metadata) -> Path:
    """Pillow writes, the package reads and writes; the path of the result."""
    source = tmp_path / f"source{image_io.default_suffix(file_format)}"
    target = tmp_path / f"target{image_io.default_suffix(file_format)}"
    factory.save_by_pillow(source, file_format, pixels, metadata)
    photo = image_io.read_photo(source)
    assert photo.file_format == file_format
    image_io.write_photo(photo, target, file_format=file_format, quality=None, stamp=None, times_of=None)
    return target


@every_format
def test_exif_survives_with_maker_note_and_gps(tmp_path: Path, file_format: str) -> None:
    metadata = image_io.Metadata(exif=factory.make_exif())
    target = _rewrite(tmp_path, file_format, factory.make_pixels(), metadata)
    exif = factory.load_by_pillow(target).getexif()
    assert exif[0x010F] == "Acme"
    assert exif.get_ifd(0x8769)[0x927C] == factory.MAKER_NOTE
    assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 30.0)
    assert factory.MAKER_NOTE in target.read_bytes()


@every_format
def test_icc_profile_survives_byte_for_byte(tmp_path: Path, file_format: str) -> None:
    target = _rewrite(tmp_path, file_format, factory.make_pixels(), image_io.Metadata(icc=factory.ICC))
    assert factory.load_by_pillow(target).info["icc_profile"] == factory.ICC


@every_format
def test_xmp_survives_byte_for_byte(tmp_path: Path, file_format: str) -> None:
    target = _rewrite(tmp_path, file_format, factory.make_pixels(), image_io.Metadata(xmp=factory.XMP))
    assert factory.XMP in target.read_bytes()
    assert factory.load_by_pillow(target).info["xmp"] == factory.XMP


@every_format
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_and_then_1(tmp_path: Path, file_format: str, orientation: int) -> None:
    pixels = factory.make_pixels()
    expected = Image.fromarray(pixels)
    if orientation > 1:
        expected = expected.transpose(factory.PILLOW_TURNS[orientation])
    target = _rewrite(
        tmp_path, file_format, pixels, image_io.Metadata(exif=factory.make_exif(orientation), xmp=factory.XMP)
    )
    source = target.with_stem("source")
    assert image_io.probe_size(source) == expected.size
    tolerance = 0 if file_format in LOSSLESS else 12
    difference = np.abs(image_io.read_photo(source).pixels.astype(int) - np.asarray(expected, int))
    assert difference.max() <= tolerance
    stored = factory.load_by_vips(target)
    assert np.abs(stored.astype(int) - np.asarray(expected, int)).max() <= tolerance
    assert image_io.probe_size(target) == expected.size
    assert factory.load_by_pillow(target).getexif().get(0x0112, 1) == 1


@every_format
@pytest.mark.parametrize("grey", [False, True])
def test_16_bit_stays_16_bit_or_is_rounded_to_8(tmp_path: Path, file_format: str, grey: bool) -> None:
    photo = factory.make_photo(deep=True, grey=grey)
    target = tmp_path / f"deep{image_io.default_suffix(file_format)}"
    image_io.write_photo(photo, target, file_format=file_format, quality=100, stamp=None, times_of=None)
    stored = factory.load_by_vips(target)
    expected = photo.pixels if stored.shape[2] == 3 else photo.pixels[..., :1]
    if file_format in factory.DEEP_FORMATS:
        assert stored.dtype == np.uint16
        assert stored.shape[2] == (1 if grey else 3)
        np.testing.assert_array_equal(stored, expected)
    else:
        assert stored.dtype == np.uint8
        assert np.abs(stored - np.round(expected / 257)).mean() < 1.5


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_16_bit_of_every_channel_count_is_read_exactly(tmp_path: Path, suffix: str, bands: int) -> None:
    pixels, alpha = factory.make_pixels(deep=True), factory.make_alpha(deep=True)
    colour = pixels if bands >= 3 else pixels[..., :1]
    planes = np.concatenate([colour, alpha[..., None]], axis=2) if bands in (2, 4) else colour
    factory.save_by_vips(tmp_path / f"a{suffix}", planes)
    photo = image_io.read_photo(tmp_path / f"a{suffix}")
    assert photo.pixels.dtype == np.uint16
    assert photo.grey is (bands < 3)
    np.testing.assert_array_equal(photo.pixels, np.broadcast_to(colour, photo.pixels.shape))
    assert (photo.alpha is not None) is (bands in (2, 4))
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, alpha)


@pytest.mark.parametrize("file_format", ["png", "tiff", "webp", "avif"])
@pytest.mark.parametrize("deep", [False, True])
def test_alpha_is_carried_over(tmp_path: Path, file_format: str, deep: bool) -> None:
    photo = factory.make_photo(deep=deep, alpha=True)
    target = tmp_path / f"alpha{image_io.default_suffix(file_format)}"
    image_io.write_photo(photo, target, file_format=file_format, quality=None, stamp=None, times_of=None)
    back = image_io.read_photo(target)
    assert photo.alpha is not None
    assert back.alpha is not None
    if file_format in factory.DEEP_FORMATS:
        np.testing.assert_array_equal(back.alpha, photo.alpha)
    else:
        expected = np.round(photo.alpha / 257) if deep else photo.alpha
        assert np.abs(back.alpha.astype(int) - expected).max() <= (0 if file_format == "webp" else 6)
    if not deep:
        seen = np.asarray(factory.load_by_pillow(target).convert("RGBA"))[..., 3].astype(int)
        assert np.abs(seen - back.alpha).max() <= 1


@pytest.mark.parametrize("file_format", LOSSLESS)
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_formats_return_every_pixel(
    tmp_path: Path, file_format: str, deep: bool, grey: bool, alpha: bool
) -> None:
    photo = factory.make_photo(deep=deep, grey=grey, alpha=alpha)
    target = tmp_path / "a"
    image_io.write_photo(photo, target, file_format=file_format, quality=None, stamp="x", times_of=None)
    back = image_io.read_photo(target)
    np.testing.assert_array_equal(back.pixels, photo.pixels)
    assert back.grey is grey
    stored = factory.load_by_vips(target)
    assert stored.shape[2] == (1 if grey else 3) + alpha
    if not deep:
        np.testing.assert_array_equal(np.asarray(factory.load_by_pillow(target)).reshape(stored.shape), stored)


def test_lossless_webp_stays_lossless_even_under_transparency(tmp_path: Path) -> None:
    planes = np.dstack([factory.make_pixels(), factory.make_alpha()])
    factory.save_by_pillow(tmp_path / "a.webp", "webp", planes)
    photo = image_io.read_photo(tmp_path / "a.webp")
    image_io.write_photo(photo, tmp_path / "b.webp", file_format="webp", quality=None, stamp=None, times_of=None)
    np.testing.assert_array_equal(np.asarray(factory.load_by_pillow(tmp_path / "b.webp")), planes)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_alpha_turns_with_the_pixels(tmp_path: Path, orientation: int) -> None:
    planes = np.dstack([factory.make_pixels(), factory.make_alpha()])
    factory.save_by_pillow(tmp_path / "a.png", "png", planes, image_io.Metadata(exif=factory.make_exif(orientation)))
    photo = image_io.read_photo(tmp_path / "a.png")
    turned = Image.fromarray(planes[..., 3]).transpose(factory.PILLOW_TURNS[orientation])
    np.testing.assert_array_equal(photo.alpha, np.asarray(turned))


def test_avif_turned_by_its_own_properties_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = factory.make_pixels()
    Image.fromarray(pixels).save(tmp_path / "a.avif", exif=exif, quality=97, subsampling="4:4:4")
    photo = image_io.read_photo(tmp_path / "a.avif")
    assert image_io.probe_size(tmp_path / "a.avif") == (24, 32)
    assert np.abs(photo.pixels.astype(int) - np.rot90(pixels, 3)).max() <= 8


def test_avif_of_10_bits_is_read_over_the_full_16_bit_range(tmp_path: Path) -> None:
    pixels = factory.make_pixels(deep=True)
    pixels[:8] = 65535
    factory.save_by_vips(tmp_path / "a.avif", pixels, compression="av1", bitdepth=10, Q=97, subsample_mode="off")
    photo = image_io.read_photo(tmp_path / "a.avif")
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels[:6].min() > 65000
    assert photo.pixels.max() == 65535
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 600
