"""The pictures of the report page: which are kept, how they are written, and the error maps."""

import base64
import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.report_page import make_picture, make_report, page_json, write_pictures

from deblur_cli.benchmark.page import pictures, render_page
from deblur_cli.benchmark.page.error_map import absolute_error, colour_table, pick_limit, shrink, to_colours
from deblur_cli.benchmark.page.photos import find_extremes, gather_photos, order_of_worth
from deblur_cli.benchmark.page.pictures import build_viewers
from deblur_cli.benchmark.records import SHARP, picture_path
from deblur_cli.system.page_pictures import find_busiest, jpeg, to_data_uri


def decode(address: str) -> Image.Image:
    """The picture in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB")


def test_a_photo_without_pictures_has_no_viewer(tmp_path: Path) -> None:
    report = make_report()
    write_pictures(replace(report, images=[row for row in report.images if row.image == "seq/001.png"]), tmp_path)
    photos = page_json(render_page(report, tmp_path), "pictures-json")["photos"]
    assert [(photo["dataset"], photo["image"]) for photo in photos] == [
        ("pairs", "seq/001.png"),
        ("plain", "seq/001.png"),
    ]


def test_a_photo_without_truth_has_versions_but_no_error_map(tmp_path: Path) -> None:
    report = make_report(images=1)
    write_pictures(report, tmp_path)
    paired, plain = page_json(render_page(report, tmp_path), "pictures-json")["photos"]
    assert [version["name"] for version in plain["versions"]] == ["blurry", "expert"]
    assert all(version["error"] is None for version in plain["versions"])
    assert [bool(version["error"]) for version in paired["versions"]] == [True, True, True, False]


def test_small_pictures_are_embedded_without_loss(tmp_path: Path) -> None:
    report = make_report(images=1)
    write_pictures(report, tmp_path)
    photo = page_json(render_page(report, tmp_path), "pictures-json")["photos"][0]
    assert photo["encoding"] == "WebP, lossless"
    for version in photo["versions"]:
        assert np.array_equal(decode(version["detail"]), make_picture(f"seq/000.png{version['name']}"))


def test_a_broken_picture_or_one_of_another_size_costs_only_its_place(tmp_path: Path) -> None:
    report = make_report(images=1)
    write_pictures(report, tmp_path)
    (tmp_path / picture_path("pairs", "expert", "seq/000.png")).write_bytes(b"\x89PNG\r\n\x1a\nno")
    make_picture("x", (40, 40)).save(tmp_path / picture_path("pairs", SHARP, "seq/000.png"))
    photo = page_json(render_page(report, tmp_path), "pictures-json")["photos"][0]
    assert [version["name"] for version in photo["versions"]] == ["blurry", "dual-expert"]


def test_a_large_photo_keeps_a_preview_and_a_region_of_its_own_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "REGION", (128, 100))
    monkeypatch.setattr(pictures, "PREVIEW_SIDE", 120)
    report = make_report(images=1)
    write_pictures(report, tmp_path, size=(240, 180))
    photo = build_viewers(gather_photos(report, tmp_path))[0].table
    left, top, width, height = photo["region"]
    assert (width, height) == (128, 100)
    assert decode(photo["versions"][0]["preview"]).size == (120, 90)
    whole = make_picture("seq/000.pngblurry", (240, 180))
    region = whole.crop((left, top, left + width, top + height))
    assert np.array_equal(decode(photo["versions"][0]["detail"]), region)


def test_viewers_stay_within_their_budget_and_take_the_extremes_first(tmp_path: Path) -> None:
    report = make_report(images=6)
    write_pictures(report, tmp_path)
    photos = order_of_worth(gather_photos(report, tmp_path), find_extremes(report))
    assert photos[0].image in {"seq/000.png", "seq/005.png"}
    every = build_viewers(photos)
    assert len(every) == 12
    budget = 2 * every[0].characters
    some = build_viewers(photos, budget)
    assert 1 <= len(some) < 12
    assert sum(viewer.characters for viewer in some) <= budget


def test_find_busiest_finds_the_window_with_the_largest_sum() -> None:
    change = np.zeros((200, 300), dtype=np.float32)
    change[100:120, 200:230] = 1.0
    left, top = find_busiest(change, (64, 48))
    assert left <= 200 and left + 64 >= 230
    assert top <= 100 and top + 48 >= 120


def test_the_colour_scale_grows_lighter_all_the_way() -> None:
    luma = colour_table() @ np.array([0.2126, 0.7152, 0.0722])
    assert len(luma) == 256
    assert all(later > earlier for earlier, later in itertools.pairwise(luma[::8]))


def test_error_maps_show_no_error_as_the_darkest_colour_and_the_limit_as_the_lightest() -> None:
    sharp = Image.new("RGB", (8, 4), (10, 10, 10))
    restored = sharp.copy()
    restored.paste((42, 42, 42), (4, 0, 8, 4))
    error = absolute_error(restored, sharp)
    assert error[0, 0] == 0 and error[0, 7] == 32
    assert pick_limit([error]) == 32
    colours = np.asarray(to_colours(error, 32))
    assert tuple(colours[0, 0]) == tuple(colour_table()[0])
    assert tuple(colours[0, 7]) == tuple(colour_table()[255])


def test_shrinking_an_error_keeps_its_mean() -> None:
    error = np.random.default_rng(0).random((720, 960), dtype=np.float32) * 50
    small = shrink(error)
    assert small.shape == (360, 480)
    assert float(small.mean()) == pytest.approx(float(error.mean()), abs=1e-3)


def test_noise_all_over_is_written_too() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    assert decode(to_data_uri(Image.fromarray(noise), jpeg(90))).size == (500, 400)
