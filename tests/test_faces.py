"""Faces that `deblur preview` shows besides the richest place, on a real photo of one."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deblur_cli.batch.looks.crops import Crop
from deblur_cli.batch.looks.faces import choose_face
from deblur_cli.restoration.tiling import Tiling

data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
EYES = ((205, 112), (243, 110))  # of the astronaut


def portrait() -> Image.Image:
    return Image.fromarray(data.astronaut())


def test_a_face_is_found_in_a_blurred_photo_too():
    for picture in (portrait(), portrait().filter(ImageFilter.BoxBlur(3))):
        crop = choose_face(np.asarray(picture))
        assert all(crop.holds(Crop(x, y, 1, 1)) for x, y in EYES)
        assert crop.width == crop.height == 192


def test_a_face_of_sixteen_bit_in_a_large_photo_is_found_and_its_crop_lies_inside():
    large = np.asarray(portrait().crop((130, 0, 330, 200)).resize((900, 900)))
    crop = choose_face(large.astype(np.uint16) * 257)
    assert crop == choose_face(large)
    assert 192 < crop.width <= 768
    assert Crop(0, 0, 900, 900).holds(crop)


def test_no_face_is_found_where_there_is_none():
    for picture in (data.chelsea(), data.coffee(), data.rocket(), np.zeros((5, 900, 3), np.uint8)):
        assert choose_face(picture) is None


def test_without_scikit_image_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    assert choose_face(data.astronaut()) is None


def write_face_and_texture(path: str) -> None:
    picture = Image.new("RGB", (1100, 512), (90, 90, 90))
    picture.paste(portrait(), (0, 0))
    noise = np.random.default_rng(0).integers(60, 200, (36, 48, 1), np.uint8).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    picture.paste(Image.fromarray(noise), (700, 100))
    picture.save(path)


def test_a_model_that_restores_the_whole_photo_does_so_once_for_both_places(command, inverting):
    write_face_and_texture("a.png")
    inverting.share, inverting.enhance = 0.5, lambda blurry, estimate, order: estimate
    arguments = ["preview", "a.png", "-o", "sheet.html", "--model", "one", "-q"]
    assert command(*arguments, "--crop", "0,0,300,300")[0] == 0
    once = len(inverting.shapes)
    assert command(*arguments)[0] == 0
    assert "a face" in Path("sheet.html").read_text(encoding="utf-8")
    assert len(inverting.shapes) == 2 * once


@pytest.mark.usefixtures("inverting")
def test_the_sheet_shows_the_richest_place_and_the_face(command):
    write_face_and_texture("a.png")
    assert command("preview", "a.png", "-o", "sheet.html", "--model", "one", "-q")[0] == 0
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert len(re.findall("<img alt=", page)) == 2
    left, top = map(int, re.search(r"a face, 192x192 pixels at (\d+), (\d+) of 1100x512", page).groups())
    assert Crop(left, top, 192, 192).holds(Crop(*EYES[0], 1, 1))
    assert command("preview", "a.png", "-o", "sheet.png", "--model", "one", "-q")[0] == 0
    assert command("preview", "a.png", "-o", "sheet.html", "--model", "one", "-q", "--crop", "0,0,300,300")[0] == 0
    assert "a face" not in Path("sheet.html").read_text(encoding="utf-8")


def test_a_contact_sheet_shows_the_face_besides_the_place_that_changed_most(command, inverting):
    def change(blurry):  # the texture, not the face
        blurry[..., 600:] = 1 - blurry[..., 600:]
        return blurry

    write_face_and_texture("a.png")
    inverting.answer, inverting.tiling = change, Tiling(2048, 0, 8, 16)
    assert command("run", "a.png", "-o", "out/", "--report", "sheet.html", "-q")[0] == 0
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert page.count("<img alt=") == 2
    left, top = map(int, re.search(r"a face, 192x192 of 1100x512 pixels, at (\d+), (\d+)", page).groups())
    assert Crop(left, top, 192, 192).holds(Crop(*EYES[0], 1, 1))
