"""A photo is written whole or not at all, at the quality of its source."""

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.image_io import pixels
from deblur_cli.system.files import find_leftovers


def _write(photo: image_io.Photo, path: Path, file_format: str = "png", **options: object) -> None:
    arguments = {"quality": None, "stamp": None, "times_of": None} | options
    image_io.write_photo(photo, path, file_format=file_format, **arguments)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.EIO, "broken disk"), SystemExit(143)])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_nothing_is_left_when_writing_stops_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, moment: str
) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"the earlier file")

    def stop(*_: object) -> None:
        [temporary] = find_leftovers([tmp_path])
        assert {target, temporary} == {*tmp_path.iterdir()}
        raise fault

    if moment == "fsync":
        monkeypatch.setattr(os, "fsync", stop)
    else:
        monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(PhotoError if isinstance(fault, OSError) else type(fault)):
        _write(factory.make_photo(), target)
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"the earlier file"


def test_full_disk_is_a_fault_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(BackendError, match=r"^disk full: .*a\.png"):
        _write(factory.make_photo(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PhotoError, match=r"a\.png: cannot be written \((Not a directory|File exists)\); check the fol"):
        _write(factory.make_photo(), tmp_path / "file" / "a.png")


def test_modification_time_is_that_of_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"")
    os.utime(source, ns=(10**18, 1_234_567_890_123_456_789))
    _write(factory.make_photo(), tmp_path / "a.png", times_of=source.stat())
    assert (tmp_path / "a.png").stat().st_mtime_ns == source.stat().st_mtime_ns


@pytest.mark.skipif(os.name == "nt", reason="permissions of Windows are not bits")
def test_permissions_are_those_of_an_ordinary_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _write(factory.make_photo(), tmp_path / "a.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


@pytest.mark.parametrize("file_format", ["heif", "raw", "gif"])
def test_formats_that_are_read_only_are_refused(tmp_path: Path, file_format: str) -> None:
    with pytest.raises(PhotoError, match="cannot be written; choose --format jpeg, png"):
        _write(factory.make_photo(), tmp_path / "a", file_format)


def test_transparency_is_not_dropped_silently_for_jpeg(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="transparency, which JPEG cannot hold; choose --format png"):
        _write(factory.make_photo(alpha=True), tmp_path / "a.jpg", "jpeg")
    opaque = np.full((24, 32), 255, np.uint8)
    photo = factory.make_photo()
    _write(replace(photo, alpha=opaque), tmp_path / "a.jpg", "jpeg")
    assert factory.load_by_pillow(tmp_path / "a.jpg").mode == "RGB"


def test_picture_too_wide_for_webp_is_refused(tmp_path: Path) -> None:
    photo = factory.make_photo(pixels=np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(PhotoError, match="16384x1 is too large for webp; choose --format png or tiff"):
        _write(photo, tmp_path / "a.webp", "webp")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [60, 93, 100])
def test_jpeg_keeps_subsampling_and_is_never_coarser_than_its_source(
    tmp_path: Path, subsampling: str, quality: int
) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.fromarray(factory.make_pixels()).save(source, quality=quality, subsampling=subsampling)
    photo = image_io.read_photo(source)
    assert photo.encoding.subsampling == subsampling
    _write(photo, target, "jpeg")
    assert image_io.read_photo(target).encoding.subsampling == subsampling
    before, after = (factory.load_by_pillow(path).quantization for path in (source, target))
    for number in (0, 1):
        assert all(new <= old for new, old in zip(after[number], before[number], strict=True))
        if quality >= 90:
            assert after[number] == before[number]


def test_jpeg_from_another_format_is_95_without_subsampling(tmp_path: Path) -> None:
    _write(factory.make_photo(), tmp_path / "a.jpg", "jpeg")
    Image.fromarray(factory.make_pixels()).save(tmp_path / "b.jpg", quality=95)
    written = image_io.read_photo(tmp_path / "a.jpg").encoding
    assert written.subsampling == "4:4:4"
    assert written.tables == image_io.read_photo(tmp_path / "b.jpg").encoding.tables


def test_asked_quality_wins_over_the_source(tmp_path: Path) -> None:
    photo = factory.make_photo()
    for file_format in ("jpeg", "webp", "avif"):
        sizes = []
        for quality in (20, 95):
            _write(photo, tmp_path / "a", file_format, quality=quality)
            sizes.append((tmp_path / "a").stat().st_size)
        assert sizes[0] < sizes[1]


def test_grey_jpeg_is_written_back_as_one_channel_from_the_mean(tmp_path: Path) -> None:
    grey = factory.make_pixels()[..., :1]
    uneven = np.concatenate([grey, grey + 1, grey + 2], axis=2)
    _write(factory.make_photo(pixels=uneven, grey=True), tmp_path / "a.jpg", "jpeg", quality=100)
    image = factory.load_by_pillow(tmp_path / "a.jpg")
    assert image.mode == "L"
    assert np.abs(np.asarray(image).astype(int) - (grey[..., 0] + 1)).max() <= 1
    assert image_io.read_photo(tmp_path / "a.jpg").grey


def test_16_bit_is_rounded_to_nearest() -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(pixels.round_to_8(values), np.round(values / 257).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_agrees_with_pillow_on_odd_sizes(orientation: int) -> None:
    planes = factory.make_pixels(7, 5)
    expected = Image.fromarray(planes)
    if orientation > 1:
        expected = expected.transpose(factory.PILLOW_TURNS[orientation])
    np.testing.assert_array_equal(pixels.turn(planes, orientation), np.asarray(expected))


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 1)])
def test_tiny_and_odd_sizes_come_back(tmp_path: Path, file_format: str, size: tuple[int, int]) -> None:
    photo = factory.make_photo(pixels=factory.make_pixels(*size))
    _write(photo, tmp_path / "a", file_format, stamp="r")
    assert image_io.read_photo(tmp_path / "a").pixels.shape == (*size, 3)
    assert image_io.probe_size(tmp_path / "a") == size[::-1]


def test_tiff_of_many_strips_comes_back(tmp_path: Path) -> None:
    photo = factory.make_photo(pixels=factory.make_pixels(900, 400, deep=True))
    _write(photo, tmp_path / "a.tif", "tiff")
    np.testing.assert_array_equal(factory.load_by_vips(tmp_path / "a.tif"), photo.pixels)
    assert len(factory.load_by_pillow(tmp_path / "a.tif").tag_v2[273]) > 1


def test_longest_name_that_the_file_system_takes_is_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".png", "写" * 83 + ".png", "📷" * 62 + ".png"):
        _write(factory.make_photo(), tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
