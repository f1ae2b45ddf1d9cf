"""`deblur preview`: sheets of crops, with a network that only inverts."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.blurred_scene import portrait, save
from support.photo_folders import broken, photo, tree

from deblur_cli.batch.looks.crops import Crop, choose_crop, parse_crop
from deblur_cli.commands.preview import choose_models
from deblur_cli.errors import InputError
from deblur_cli.system.pages import MARK

pytestmark = pytest.mark.usefixtures("inverting")


def textured(name: str, size: tuple[int, int] = (320, 240), box: tuple[int, int] = (200, 140)) -> Path:
    """A grey photo with a patch of texture, 64 pixels wide."""
    pixels = np.full((size[1], size[0], 3), 128, np.uint8)
    patch = np.random.default_rng(0).integers(60, 200, (8, 8, 1), np.uint8).repeat(8, 0).repeat(8, 1)
    pixels[box[1] : box[1] + 64, box[0] : box[0] + 64] = patch
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(name)
    return Path(name)


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in found]


def test_a_sheet_shows_the_crop_as_taken_and_by_every_choice(command):
    source = textured("in/a.png")
    answer = command("preview", source, "-o", "sheet.html", "--crop", "10,20,30,40", "--model", "one", "--model", "two")
    assert answer[:2] == (0, ["sheet.html"])
    page = Path("sheet.html").read_text(encoding="utf-8")
    taken, one, two = pictures(page)
    assert taken.size == (30, 40)
    assert np.array_equal(np.asarray(taken), np.asarray(Image.open(source))[20:60, 10:40])
    assert np.array_equal(np.asarray(one), 255 - np.asarray(taken))
    assert one == two
    assert tree(".") == ["in/a.png", "sheet.html"]
    assert "http" not in re.sub(r"http-equiv|data:[^\"]+", "", page)


def test_the_crop_is_what_run_makes_of_that_place(command):
    source = textured("in/a.png")
    command("preview", source, "-o", "sheet.html", "--model", "one", "-q")
    command("run", source, "-o", "out", "--model", "one", "-q")
    page = Path("sheet.html").read_text(encoding="utf-8")
    left, top = map(int, re.search(r"pixels at (\d+), (\d+) of", page).groups())
    width, height = pictures(page)[1].size
    whole = np.asarray(Image.open("out/a.png"))
    assert np.array_equal(np.asarray(pictures(page)[1]), whole[top : top + height, left : left + width])


def test_a_crop_keeps_the_soft_background_that_run_keeps(command):
    save(portrait()[0], "in/a.png")
    for place in ("0,0,200,200", "120,100,160,120"):  # in the background, and across the border of the subject
        for words in ((), ("--where", "all")):
            command("preview", "in/a.png", "-o", "sheet.html", "--model", "one", "--crop", place, *words, "-q")
            command("run", "in/a.png", "-o", "out", "--model", "one", "-q", "--overwrite", *words)
            page = Path("sheet.html").read_text(encoding="utf-8")
            left, top, width, height = map(int, place.split(","))
            crop = np.asarray(Image.open("out/a.png"))[top : top + height, left : left + width]
            assert np.array_equal(np.asarray(pictures(page)[1]), crop)
            assert ("stays as it is (--where auto)" in page) == (not words)


def test_a_sheet_may_be_one_picture_with_a_row_for_each_photo(command):
    command("preview", textured("a.png"), textured("b.png"), "-o", "sheet.png", "--crop", "0,0,50,40", "--model", "one")
    with Image.open("sheet.png") as sheet:
        assert sheet.info["Software"] == MARK
        assert sheet.height > 2 * 40


def test_a_picture_of_a_sheet_says_what_is_kept_as_a_page_does(command):
    save(portrait()[0], "a.png")
    heights = []
    for words in ((), ("--where", "all")):
        command("preview", "a.png", "-o", "sheet.png", "--crop", "0,0,50,40", "--model", "one", *words)
        with Image.open("sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] == heights[1] + 22  # a line more


def test_crops_are_chosen_where_the_texture_is_and_nothing_is_clipped():
    pixels = np.asarray(Image.open(textured("a.png"))).copy()
    crop = choose_crop(pixels, (80, 80))
    assert crop.left <= 200 and crop.left + 80 >= 264 and crop.top <= 140 and crop.top + 80 >= 204
    pixels[:100, :100] = np.random.default_rng(1).integers(0, 2, (25, 25, 1), np.uint8).repeat(4, 0).repeat(4, 1) * 255
    assert choose_crop(pixels, (80, 80)) == crop
    assert choose_crop(pixels.astype(np.uint16) * 257, (80, 80)) == crop
    for height, width in ((1, 1), (7, 900), (300, 5)):
        found = choose_crop(np.zeros((height, width, 3), np.uint8), (80, 80))
        assert (found.left, found.top, found.width, found.height) == (0, 0, min(width, 80), min(height, 80))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "-1,2,3,4", "a,b,c,d", "1.5,2,3,4"])
def test_a_crop_of_another_form_is_refused(text):
    with pytest.raises(InputError, match=r"^--crop .*: must be X,Y,W,H"):
        parse_crop(text)
    assert parse_crop("1,2,3,4") == Crop(1, 2, 3, 4)


def test_every_mistake_is_one_line_and_nothing_is_written(command):
    source, foreign = textured("in/a.png"), photo("mine.png")
    Path("folder.html").mkdir()
    cases = {
        ("-o", "s.html"): "no photo",
        (source,): "no sheet; add --output",
        (source, "-o", "s.jpg"): "must end in .html or .png",
        (source, "-o", foreign): "mine.png: exists and is no page of this tool",
        (source, "-o", "folder.html"): "folder.html: is a folder",
        (source, "-o", "in/a.png/s.html"): "is a file, so no folder can be made there",
        (
            source,
            "-o",
            "s.html",
            "--crop",
            "300,0,30,30",
        ): "--crop 300,0,30,30: lies outside of in/a.png, which is 320x240",
        (source, "-o", "s.html", "--crop", "a"): "must be X,Y,W,H",
        ("in/none.png", "-o", "s.html"): "none.png",
    }
    for arguments, words in cases.items():
        status, out, err = command("preview", *arguments, "--model", "one")
        assert (status, out, len(err)) == (2, [], 1), err
        assert words in err[0]
    assert tree(".") == ["in/a.png", "mine.png"]


def test_a_broken_photo_has_its_place_on_the_sheet_and_the_others_are_shown(command):
    status, out, err = command(
        "preview", broken("in/a.jpg"), textured("in/b.png"), "-o", "sheet.html", "--model", "one", "-q"
    )
    assert (status, out) == (3, ["sheet.html"])
    assert err[0].startswith("deblur: in/a.jpg: ")
    assert err[1] == "deblur: error: 1 of 2 photos failed; the sheet says so"
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert len(pictures(page)) == 2
    assert '<p class="fault">in/a.jpg: ' in page


def test_a_sheet_is_replaced_by_the_next_one(command):
    for _ in range(2):
        assert command("preview", textured("a.png"), "-o", "sheet.html", "--model", "one")[0] == 0


def test_models_at_hand_are_shown_and_one_with_a_flow_in_three_strengths(monkeypatch):
    monkeypatch.undo()
    assert [model.name for model in choose_models((), None)] == ["quick", "standard", "best"]
    from support.benchmark_factory import FILE

    from deblur_cli import weights

    entry = weights.ModelEntry("flow", "dual_expert", "s", {"weights": FILE})
    monkeypatch.setattr(weights, "find_model", lambda name: entry)
    assert [model.settings["strength"] for model in choose_models(("flow",), None)] == [0, 0.5, 1]
    assert [model.settings["strength"] for model in choose_models(("flow:strength=0.3",), None)] == [0.3]
