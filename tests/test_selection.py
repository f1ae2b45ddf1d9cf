"""`deblur run --only-blurred`, `--where` and `--mask`, with a network that only inverts."""

import json
import pickle
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.blurred_scene import blur, line, portrait, save, scene
from support.photo_folders import tree

from deblur_cli.batch.origin import stamp_of
from deblur_cli.batch.selection import Selection, mix
from deblur_cli.batch.stamp import stamped

pytestmark = pytest.mark.usefixtures("inverting")


@pytest.fixture
def deblur(command):
    return partial(command, "run")


@pytest.fixture
def card(inverting):
    """A sharp and a moved photo."""
    save(scene(), "in/still.png")
    save(blur(scene(), line(24, 45)), "in/moved.png")


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def mask(path, size=None, black=slice(0, 100)):
    """Black to the left, white to the right."""
    height, width = size or scene().shape[:2]
    picture = np.full((height, width), 255, np.uint8)
    picture[:, black] = 0
    Image.fromarray(picture).save(path)
    return path


@pytest.mark.usefixtures("card")
def test_only_blurred_leaves_sharp_photos_out_and_tells_so(deblur):
    status, out, err = deblur("in", "-o", "out", "--only-blurred", "-v")
    assert (status, out, tree("out")) == (0, ["out/moved.png"], ["moved.png"])
    assert "deblur: in/still.png: skipped, it is sharp" in err
    assert err[-1].startswith("deblur: 1 written, 1 skipped, 1 of them sharp in ")
    status, out, _ = deblur("in", "-o", "out", "--only-blurred", "--json")
    report = json.loads("\n".join(out))
    assert [(row["status"], row["reason"]) for row in report["results"]] == [
        ("skipped", "same recipe"),
        ("skipped", "sharp"),
    ]
    assert (status, report["summary"]["skipped"], report["summary"]["sharp"]) == (0, 2, 1)


@pytest.mark.usefixtures("card")
def test_a_card_of_sharp_photos_makes_no_folder(deblur):
    status, out, _ = deblur("in/still.png", "-o", "out/", "--only-blurred")
    assert (status, out) == (0, [])
    assert not Path("out").exists()


@pytest.mark.usefixtures("card")
def test_a_dry_run_says_that_sharp_photos_show_in_the_work(deblur):
    status, _, err = deblur("in", "-o", "out", "--only-blurred", "--dry-run")
    assert status == 0
    assert "deblur inspect" in err[0]


@pytest.mark.usefixtures("card")
def test_where_blurry_keeps_what_did_not_move_to_the_last_bit(deblur):
    assert deblur("in", "-o", "out", "--where", "blurry")[0] == 0
    assert (pixels("out/still.png") == pixels("in/still.png")).all()
    assert (pixels("out/moved.png") == 255 - pixels("in/moved.png")).mean() > 0.95


def test_the_soft_background_of_a_sharp_photo_stays_as_it_is(deblur):
    picture, oval = portrait()
    save(picture, "in/portrait.png")
    status, _, err = deblur("in", "-o", "out", "-v", "--report", "sheet.html")
    assert status == 0
    kept = (pixels("out/portrait.png") == picture).all(2)
    assert kept[~oval].mean() > 0.9
    assert kept[oval].mean() < 0.1  # what is smooth there
    told = re.search(r"the background is out of focus: (\d+)% of the photo stays as it is \(--where auto\)", str(err))
    assert abs(int(told[1]) / 100 - kept.mean()) < 0.1
    assert told[0] in Path("sheet.html").read_text(encoding="utf-8")
    assert told[0] in stamped(stamp_of(Path("out/portrait.png")), "notice")
    assert deblur("in", "-o", "out", "-q")[1] == []
    assert deblur("in", "-o", "all", "--where", "all")[0] == 0
    assert (pixels("all/portrait.png") == 255 - picture).all()


@pytest.mark.usefixtures("card")
def test_what_moved_as_a_whole_is_restored_as_a_whole(deblur):
    save(blur(portrait()[0], line(24, 45)), "in/portrait.png")
    assert deblur("in/moved.png", "in/portrait.png", "-o", "out")[0] == 0
    assert all((pixels(f"out/{name}") == 255 - pixels(f"in/{name}")).all() for name in ("moved.png", "portrait.png"))


@pytest.mark.usefixtures("card")
def test_a_mask_restores_its_white_and_keeps_its_black(deblur):
    mask("mask.png")
    assert deblur("in/moved.png", "-o", "a.png", "--mask", "mask.png")[0] == 0
    before, after = pixels("in/moved.png"), pixels("a.png")
    assert (after[:, :100] == before[:, :100]).all()
    assert (after[:, 100:] == 255 - before[:, 100:]).all()


@pytest.mark.usefixtures("card")
def test_a_mask_of_the_same_proportions_is_enlarged(deblur):
    height, width = scene().shape[:2]
    mask("mask.png", (height // 4, width // 4), slice(0, 25))
    assert deblur("in/moved.png", "-o", "a.png", "--mask", "mask.png")[0] == 0
    assert (pixels("a.png")[:, :90] == pixels("in/moved.png")[:, :90]).all()
    assert (pixels("a.png")[:, 110:] == 255 - pixels("in/moved.png")[:, 110:]).all()


@pytest.mark.usefixtures("card")
def test_what_is_selected_is_part_of_the_recipe(deblur):
    mask("mask.png")
    for words in ((), ("--where", "blurry"), ("--mask", "mask.png")):
        assert deblur("in/moved.png", "-o", "out/", *words)[1] == ["out/moved.png"]
        assert deblur("in/moved.png", "-o", "out/", *words)[1] == []
    mask("mask.png", black=slice(0, 50))
    assert deblur("in/moved.png", "-o", "out/", "--mask", "mask.png")[1] == ["out/moved.png"]
    assert deblur("in/moved.png", "-o", "out/", "--mask", "mask.png", "--only-blurred")[1] == []


@pytest.mark.usefixtures("card")
def test_a_mask_that_fits_not_is_refused_in_one_line(deblur):
    mask("wide.png", (100, 400))
    save(scene("astronaut"), "two/a.png")
    save(scene(), "two/b.png")
    Path("text.png").write_text("no picture", encoding="utf-8")
    for words, text in (
        (("in", "--mask", "wide.png"), "proportions"),
        (("two", "--mask", mask("mask.png")), "one mask is for photos of one size"),
        (("in", "--mask", "none.png"), "none.png"),
        (("in", "--mask", "text.png"), "text.png"),
        (("in", "--where", "here"), "--where here: unknown; use one of auto, all, blurry"),
    ):
        status, out, err = deblur(*words, "-o", "out")
        assert (status, out, len(err)) == (2, [], 1)
        assert text in err[0]
    assert not Path("out").exists()


@pytest.mark.usefixtures("card")
def test_one_mask_serves_a_folder_of_one_size(deblur):
    mask("mask.png")
    assert deblur("in", "-o", "out", "--mask", "mask.png")[0] == 0
    assert all((pixels(f"out/{name}")[:, :100] == pixels(f"in/{name}")[:, :100]).all() for name in tree("in"))


@pytest.mark.usefixtures("card")
def test_what_a_mask_keeps_costs_no_network(inverting, deblur):
    height, width = scene().shape[:2]
    picture = np.zeros((height, width), np.uint8)
    picture[40:100, 150:190] = 255
    Image.fromarray(picture).save("mask.png")
    assert deblur("in/moved.png", "-o", "whole.png", "--where", "all")[0] == 0
    whole = len(inverting.shapes)
    assert deblur("in/moved.png", "-o", "a.png", "--mask", "mask.png")[0] == 0
    assert len(inverting.shapes) - whole < whole / 4
    before, after = pixels("in/moved.png"), pixels("a.png")
    assert (after == np.where(picture[..., None], 255 - before, before)).all()


def test_a_photo_that_is_kept_whole_costs_no_network(inverting, deblur):
    save(scene(), "in/still.png")
    mask("black.png", black=slice(0, None))
    assert deblur("in", "-o", "out", "--mask", "black.png")[0] == 0
    assert (pixels("out/still.png") == pixels("in/still.png")).all()
    assert inverting.shapes == []


def test_a_selection_travels_to_a_worker_and_says_what_changes_pixels():
    chosen = Selection(only_blurred=True, where="blurry", mask=Path("mask.png"), mask_sha256="f" * 64)
    assert pickle.loads(pickle.dumps(chosen)) == chosen
    assert chosen.options == {"where": "blurry", "mask_sha256": "f" * 64}
    assert Selection(only_blurred=True, where="all").options == {}
    assert Selection().options == {"where": "auto"}
    assert Selection(mask=Path("mask.png")).options == {"mask_sha256": ""}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_mixing_is_exact_at_both_ends_and_between_them_in_proportion(kind):
    top = np.iinfo(kind).max
    dice = np.random.default_rng(0)
    before, after = (dice.integers(0, top, (300, 7, 3), endpoint=True).astype(kind) for _ in range(2))
    weights = np.zeros((300, 7), np.float32)
    weights[100:200], weights[200:] = 1, 0.5
    mixed = mix(before, after, weights)
    assert mixed.dtype == kind
    assert (mixed[:100] == before[:100]).all()
    assert (mixed[100:200] == after[100:200]).all()
    assert np.abs(mixed[200:] - (before[200:].astype(float) + after[200:]) / 2).max() <= 0.51
