"""`deblur run --from-view`: choices are done, over what this tool made and nothing else; and contact sheets of runs."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.blurred_scene import blur, line, save, scene
from support.photo_folders import broken, photo, tree

from deblur_cli import weights
from deblur_cli.batch.stamp import read_recipe, stamped
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.image_io import read_photo, read_stamp

pytestmark = pytest.mark.usefixtures("inverting")


@pytest.fixture
def deblur(command):
    return partial(command, "run")


@pytest.fixture
def done(inverting, deblur):
    """Three results by `standard`, one with a quality of its own."""
    for name in ("a.png", "b.png", "day 1/c.jpg"):
        photo(f"in/{name}")
    deblur("in", "-r", "-o", "out", "--seed", "7", "--quality", "80")


def choose(*lines: str) -> Path:
    path = Path("out/deblur-choices.txt")
    path.write_text("# remark\n" + "".join(f"{line}\n" for line in lines))
    return path


def model_of(name: str) -> str:
    return read_recipe(read_stamp(Path("out", name)) or "").model


@pytest.mark.usefixtures("done")
def test_what_is_to_be_done_again_is_and_everything_else_stays(deblur):
    file = choose("keep\ta.png", "redo\tb.png\tbest\t../in/b.png", "reject\tday 1/c.jpg")
    before = tree(".")
    kept = Path("out/a.png").read_bytes()
    status, out, err = deblur("--from-view", file)
    assert (status, out) == (0, ["out/b.png"])
    assert err[:2] == ["deblur: 1 kept as it is", "deblur: 1 rejected; nothing is deleted: day 1/c.jpg"]
    assert (model_of("a.png"), model_of("b.png"), model_of("day 1/c.jpg")) == ("standard", "best", "standard")
    assert tree(".") == before
    assert Path("out/a.png").read_bytes() == kept
    assert deblur("--from-view", file, "-q") == (0, [], [])
    assert read_recipe(read_stamp(Path("out/b.png"))).options["seed"] == 7


@pytest.mark.usefixtures("done")
def test_each_model_has_its_batch_and_options_of_before_hold_unless_named(deblur):
    file = choose("redo\ta.png\tbest\t../in/a.png", "redo\tday 1/c.jpg\tquick\t../in/day 1/c.jpg")
    assert deblur("--from-view", file, "--seed", "9", "-q")[1] == ["out/a.png", "out/day 1/c.jpg"]
    assert (model_of("a.png"), model_of("day 1/c.jpg")) == ("best", "quick")
    options = {"dtype": "auto", "seed": 9, "quality": 80, "where": "auto"}
    assert read_recipe(read_stamp(Path("out/day 1/c.jpg"))).options == options
    plan = deblur("--from-view", choose("redo\ta.png\tquick\t../in/a.png"), "--dry-run", "-q")
    assert plan[1][1:] == ["in/a.png\tout/a.png\treplace"]


def test_a_result_that_was_restored_everywhere_is_so_again(inverting, deblur):
    photo("in/a.png")
    deblur("in/a.png", "-o", "out/", "--where", "all")
    assert deblur("--from-view", choose("redo\ta.png\tbest\t../in/a.png"), "-q")[1] == ["out/a.png"]
    assert "where" not in read_recipe(read_stamp(Path("out/a.png"))).options


def test_a_result_that_was_made_with_a_mask_is_done_again_with_it_only(inverting, deblur):
    photo("in/a.png")
    photo("mask.png")
    deblur("in/a.png", "-o", "out/", "--mask", "mask.png")
    status, out, err = deblur("--from-view", choose("redo\ta.png\tbest\t../in/a.png"))
    assert (status, out) == (2, [])
    assert "out/a.png: was made with a mask; do it again by deblur run PHOTO -o OUTPUT --mask FILE" in err[0]


@pytest.mark.usefixtures("done")
def test_a_result_that_was_edited_since_is_refused_and_nothing_is_begun(deblur):
    file = choose("redo\ta.png\tbest\t../in/a.png", "redo\tb.png\tbest\t../in/b.png")
    content = Path("out/b.png").read_bytes()
    Path("out/b.png").write_bytes(content[:-12] + b"\0\0\0\4teXtabcd\0\0\0\0" + content[-12:])
    status, out, err = deblur("--from-view", file)
    assert (status, out) == (2, [])
    assert err[-1].endswith("out/b.png: was changed since this tool wrote it; use --overwrite to replace it")
    assert model_of("a.png") == "standard"
    assert deblur("--from-view", file, "--overwrite", "-q")[0] == 0


@pytest.mark.usefixtures("done")
def test_every_mistake_is_one_line(deblur):
    good = "redo\ta.png\tbest\t../in/a.png"
    cases = {
        ("redo\ta.png\tbest\t../in/none.png",): "in/none.png: is not there; --from-view out/deblur-choices.txt",
        ("redo\ta.png\tbest:x=1\t../in/a.png",): "best:x=1",
        ("redo\ta.png\tbest\t../out/a.png",): "an output would replace an input",
        ("nonsense",): "line 2 is no choice",
        (): "holds no choices",
    }
    for lines, words in cases.items():
        status, out, err = deblur("--from-view", choose(*lines))
        assert (status, out, len(err)) == (2, [], 1), err
        assert words in err[0]
    both = (("in/a.png",), ("-o", "new"), ("--model", "best"), ("--shard", "1/2"), ("--json",), ("--only-blurred",))
    for options in (*both, ("--mask", "mask.png")):
        status, _, err = deblur("--from-view", choose(good), *options)
        assert (status, "exclude each other" in err[0]) == (2, True)
    assert deblur("--from-view", choose(good), "--where", "nowhere")[0] == 2
    assert "no such file" in deblur("--from-view", "none.txt")[2][0]


@pytest.mark.usefixtures("done")
def test_a_model_that_is_not_known_is_named_with_the_file_that_asks_for_it(deblur, monkeypatch):
    def miss(name):
        raise WeightsError(f"--model {name}: unknown model")

    monkeypatch.setattr(weights, "find_model", miss)
    status, out, err = deblur("--from-view", choose("redo\ta.png\tbets\t../in/a.png"))
    assert (status, out) == (1, [])
    assert err == ["deblur: error: --from-view out/deblur-choices.txt: --model bets: unknown model"]


def test_a_contact_sheet_shows_what_was_done_and_names_what_failed(deblur):
    photo("in/a.png")
    broken("in/b.jpg")
    status, out, err = deblur("in", "-o", "out", "--report", "sheet.html", "-q")
    assert (status, out) == (3, ["out/a.png"])
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 2
    assert f'<p class="fault">{err[0].removeprefix("deblur: ")}' in page
    assert "1 written, 1 failed in " in page
    assert "standard · seed 0" in page
    deblur("in", "-o", "out", "--report", "sheet.html", "-q")
    assert "in/a.png: done before, by the same recipe" in Path("sheet.html").read_text(encoding="utf-8")


def test_a_contact_sheet_tells_how_blurred_each_photo_was_and_which_were_sharp(deblur):
    save(scene(), "in/still.png")
    save(blur(scene(), line(24, 45)), "in/moved.png")
    assert deblur("in", "-o", "out", "--report", "sheet.html", "--only-blurred", "-q")[0] == 0
    page = Path("sheet.html").read_text(encoding="utf-8")
    told = re.search(r"as taken: moved by about (\d+) pixels at (\d+)°, sharpness 0\.\d\d", page)
    assert told is not None
    assert int(told[1]) == pytest.approx(24, rel=0.3)
    assert int(told[2]) == pytest.approx(45, abs=12)
    assert "1 written, 1 left out as sharp in " in page
    assert "in/still.png: sharp, and only blurred photos were wanted" in page
    assert page.count('http-equiv="Content-Security-Policy"') == page.count('name="generator"') == 1


def test_a_contact_sheet_is_written_when_the_run_is_cut_short(deblur, inverting):
    def lose(blurry):
        raise BackendError("the device is gone")

    for name in "ab":
        photo(f"in/{name}.png")
    inverting.answer = lose
    assert deblur("in", "-o", "out", "--report", "sheet.html", "-q")[0] == 1
    page = Path("sheet.html").read_text(encoding="utf-8")
    assert "the device is gone" in page
    assert "in/b.png: not begun or not finished; run again to go on" in page


def test_a_contact_sheet_that_cannot_be_written_is_told_before_any_work(deblur):
    photo("in/a.png")
    Path("mine.html").write_text("my page")
    for sheet, words in {
        "mine.html": "exists and is no page of this tool",
        "sheet.txt": "must end in .html",
        "in/a.png/sheet.html": "is a file, so no folder can be made there",
        "in": "must end in .html",
    }.items():
        status, out, err = deblur("in", "-o", "out", "--report", sheet)
        assert (status, out, len(err)) == (2, [], 1)
        assert words in err[0]
    assert not Path("out").exists()


def test_what_was_told_while_a_photo_was_restored_is_stamped_and_no_other_work(deblur, inverting, monkeypatch):
    photo("in/a.png")
    tried = []

    def halve(blurry):
        tried.append(blurry.shape)
        if len(tried) == 1:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return 1 - blurry

    inverting.answer = halve
    assert deblur("in", "-o", "out", "-q")[0] == 0
    notice = stamped(read_stamp(Path("out/a.png")), "notice")
    assert notice.startswith("out of memory with tiles of ")
    assert deblur("in", "-o", "out", "-q") == (0, [], [])
    assert np.array_equal(read_photo(Path("out/a.png")).pixels, 255 - np.asarray(Image.open("in/a.png")))
