"""What the chosen format cannot hold is known from the file, before any work is done on the photo."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import bmff_factory as bmff
from support import jpeg_factory as jpeg
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.batch.inputs import PhotoSearch, find_photos
from deblur_cli.batch.naming import Layout
from deblur_cli.batch.plan import Plan, build_plan
from deblur_cli.batch.stamp import Stamp
from deblur_cli.errors import InputError, PhotoError

GREY_PROFILE = factory.ICC[:16] + b"GRAY" + factory.ICC[20:]
TRANSPARENCY = "it has transparency, which JPEG cannot hold; choose --format png, tiff, webp or avif"


def _save_wide(path: Path, width: int, height: int = 8) -> Path:
    Image.new("RGB", (width, height), (90, 80, 70)).save(path)
    return path


def _save_alpha(path: Path, lowest: int) -> Path:
    alpha = np.full((24, 32), 255, np.uint8)
    alpha[3, 3] = lowest
    Image.fromarray(np.dstack([factory.make_pixels(), alpha])).save(path, lossless=True)
    return path


@pytest.mark.parametrize(
    ("size", "file_format", "fits"),
    [
        ((16_383, 8), "webp", True),
        ((16_384, 8), "webp", False),
        ((8, 16_384), "webp", False),
        ((65_500, 8), "jpeg", True),
        ((65_501, 8), "jpeg", False),
        ((65_536, 8), "avif", False),
        ((70_000, 8), "png", True),
        ((70_000, 8), "tiff", True),
    ],
)
def test_size_is_checked_by_the_header(tmp_path: Path, size: tuple[int, int], file_format: str, fits: bool) -> None:
    misfit = image_io.find_misfit(_save_wide(tmp_path / "a.png", *size), file_format)
    assert misfit == (
        None if fits else f"{size[0]}x{size[1]} is too large for {file_format}; choose --format png or tiff"
    )


def test_size_counts_as_it_is_once_turned(tmp_path: Path) -> None:
    pixels = np.zeros((8, 17_000, 3), np.uint8)
    factory.save_by_pillow(tmp_path / "a.jpg", "jpeg", pixels, image_io.Metadata(exif=factory.make_exif(6)))
    assert (image_io.find_misfit(tmp_path / "a.jpg", "webp") or "").startswith("8x17000 is too large for webp")


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "avif"])
@pytest.mark.parametrize("lowest", [255, 0])
def test_transparency_is_known_for_every_format_that_has_it(tmp_path: Path, suffix: str, lowest: int) -> None:
    path = _save_alpha(tmp_path / f"a.{suffix}", lowest)
    assert image_io.find_misfit(path, "jpeg") == (TRANSPARENCY if lowest == 0 else None)
    assert image_io.find_misfit(path, "png") is None


def test_transparency_of_a_palette_and_of_a_heif_is_known(tmp_path: Path) -> None:
    Image.fromarray(factory.make_pixels()).quantize(16).save(tmp_path / "a.png", transparency=3)
    assert image_io.find_misfit(tmp_path / "a.png", "jpeg") == TRANSPARENCY
    pillow_heif = pytest.importorskip("pillow_heif")
    planes = np.dstack([factory.make_pixels(64, 64), factory.make_alpha(64, 64)])
    pillow_heif.from_bytes(mode="RGBA", size=(64, 64), data=planes.tobytes()).save(tmp_path / "a.heic", quality=90)
    assert image_io.find_misfit(tmp_path / "a.heic", "jpeg") == TRANSPARENCY


def test_grey_profile_and_metadata_without_room_are_known(tmp_path: Path) -> None:
    grey = factory.make_photo(grey=True, metadata=image_io.Metadata(icc=GREY_PROFILE))
    broken = factory.make_photo(metadata=image_io.Metadata(xmp=b"<x" + b"y" * 66_000))
    comment = factory.make_photo(metadata=image_io.Metadata(comments=(b"c" * 70_000,)))
    for photo, file_format, words in (
        (grey, "webp", "its grey colour profile does not fit into webp"),
        (broken, "jpeg", "its XMP is damaged and over JPEG's limit"),
        (comment, "jpeg", "its comment of 70000 bytes is over JPEG's limit"),
    ):
        path = tmp_path / "a.png"
        image_io.write_photo(photo, path, file_format="png", quality=None, stamp=None, times_of=None)
        assert words in (image_io.find_misfit(path, file_format) or "")
        with pytest.raises(PhotoError, match=words):
            image_io.check_fit(image_io.read_photo(path), path, file_format=file_format)
        assert image_io.find_misfit(path, "png") is None


def test_damaged_exif_that_a_tiff_cannot_carry_is_known(tmp_path: Path) -> None:
    photo = factory.make_photo(metadata=image_io.Metadata(exif=b"II*\0\xff\xff\xff\xff"))
    image_io.write_photo(photo, tmp_path / "a.png", file_format="png", quality=None, stamp=None, times_of=None)
    assert "its EXIF is damaged" in (image_io.find_misfit(tmp_path / "a.png", "tiff") or "")


def test_whatever_find_misfit_lets_through_can_be_written(tmp_path: Path) -> None:
    for deep, alpha, grey in np.ndindex(2, 2, 2):
        photo = factory.make_photo(
            deep=bool(deep), alpha=bool(alpha), grey=bool(grey), metadata=factory.make_metadata()
        )
        source = tmp_path / "a.png"
        image_io.write_photo(photo, source, file_format="png", quality=None, stamp=None, times_of=None)
        for file_format in factory.ALL_FORMATS:
            fits = image_io.find_misfit(source, file_format) is None
            assert fits is (file_format != "jpeg" or not alpha)
            if fits:
                back = image_io.read_photo(source)
                image_io.write_photo(
                    back, tmp_path / "b", file_format=file_format, quality=None, stamp="r", times_of=None
                )


def test_what_cannot_be_read_is_no_misfit(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    assert image_io.find_misfit(tmp_path / "a.jpg", "webp") is None
    assert image_io.find_misfit(tmp_path / "missing.jpg", "webp") is None


def test_grid_of_tiles_without_alpha_needs_no_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = bmff.coded_item(bmff.avif(factory.make_pixels(64, 64)))
    payload, properties = bmff.grid(128, 64, 2)
    items = {1: tile, 2: replace(tile), 3: bmff.Item(b"grid", payload, properties)}
    (tmp_path / "a.avif").write_bytes(bmff.build(b"avif", items, 3, [(b"dimg", 3, [1, 2])]))
    monkeypatch.setattr("deblur_cli.image_io.reading.read_photo", None)
    assert image_io.find_misfit(tmp_path / "a.avif", "jpeg") is None


def _plan(folder: Path, file_format: str) -> Plan:
    found = find_photos([str(folder)], [], PhotoSearch(recursive=False, excluded=None))
    layout = Layout(folder.parent / "out", False, file_format, "{stem}{ext}", "expert")
    return build_plan(found, layout, Stamp("expert", {}, {}), overwrite=False)


def test_plan_names_the_photos_that_will_not_fit_and_refuses_to_begin_for_these_alone(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    _save_wide(folder / "wide.png", 17_000)
    with pytest.raises(InputError, match=r"wide\.png: 17000x8 is too large for webp; choose --format png or tiff$"):
        _plan(folder, "webp")
    (folder / "b.jpg").write_bytes(jpeg.code(factory.make_pixels()))
    misfits = {job.source.name: bool(job.misfit) for job in _plan(folder, "webp").jobs}
    assert misfits == {"wide.png": True, "b.jpg": False}
    assert not any(job.misfit for job in _plan(folder, "png").jobs)


@pytest.mark.parametrize("quality", [90, 100])
def test_a_photo_that_is_noise_all_over_becomes_a_jpeg(tmp_path: Path, quality: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 500, 3), dtype=np.uint8)  # beyond Pillow's smallest buffer
    image_io.write_photo(
        replace(factory.make_photo(), pixels=noise),
        tmp_path / "a.jpg",
        file_format="jpeg",
        quality=quality,
        stamp=None,
        times_of=None,
    )
    assert (tmp_path / "a.jpg").stat().st_size > 400 * 500
    assert factory.load_by_pillow(tmp_path / "a.jpg").size == (500, 400)
