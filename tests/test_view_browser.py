"""Sheets and the page of results in a headless Chromium, by keyboard and by mouse."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.chromium import CHROMEDRIVER, CHROMIUM, needs_chromium
from support.result_folders import STAMP, make_result, make_source

from deblur_cli.batch.looks.choices import FILE_NAME, ChoiceFile
from deblur_cli.batch.looks.desk import Desk, OfferedModel
from deblur_cli.batch.looks.results import SourceFinder, find_results
from deblur_cli.batch.looks.server import Address, served
from deblur_cli.batch.looks.sheet import Sheet, SheetPhoto, make_look
from deblur_cli.system.page_pictures import LOSSLESS

pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra: dev)")
from selenium.webdriver.common.keys import Keys
from support.report_browser import Browser, start_browser

pytestmark = needs_chromium
MODELS = [OfferedModel("standard", False), OfferedModel("quick+flow", True)]
PLACE = "document.getElementById('after').style.transform"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = start_browser(CHROMIUM, CHROMEDRIVER, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser; afterwards the console must be silent, and nobody asked but the page's own server."""
    chromium.complaints()
    yield chromium
    assert chromium.complaints("http://127.0.0.1:") == []


@contextmanager
def shown(desk: Desk, browser: Browser) -> Iterator[Address]:
    """A desk to look at; the browser leaves it first, for pictures still on their way would find no server."""
    with served(desk) as page:
        yield page
        browser.leave()


@contextmanager
def unreachable(browser: Browser) -> Iterator[None]:
    """The server is there, and the browser does not reach it."""
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**conditions, "offline": True})
    try:
        yield
    finally:
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**conditions, "offline": False})


def lay(folder: Path) -> Desk:
    results = find_results(folder)
    choices = ChoiceFile(folder / FILE_NAME)
    return Desk(results, SourceFinder(folder), choices, MODELS, lambda text: (text.partition(":")[0], None))


def lines(folder: Path) -> list[str]:
    return [line for line in (folder / FILE_NAME).read_text().splitlines() if not line.startswith("#")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three results larger than a phone, each beside its photo but the last, whose photo is gone."""
    for number, name in enumerate("abc"):
        source = make_source(tmp_path / f"in/{name}.jpg", number, size=(1600, 1200))
        make_result(source, tmp_path / f"out/{name}.jpg", notice="the guard acted" if name == "b" else "")
    (tmp_path / "in/c.jpg").unlink()
    return tmp_path / "out"


def test_the_keyboard_goes_through_results_and_decides(browser: Browser, folder: Path) -> None:
    with shown(lay(folder), browser) as page:
        browser.open(page.once)
        browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "k")
        browser.await_texts(".cell .mark", ["", "keep", ""])
        browser.press(Keys.ENTER)
        browser.await_texts("#notice", ["the guard acted"])
        assert browser.texts("#position") == ["2 / 3"]
        assert browser.texts("#recipe") == ["quick · seed 0 · expert abababab"]
        browser.press(" ")
        assert browser.attribute("#split", "aria-valuenow") == "0"
        browser.press(" ")
        assert browser.attribute("#split", "aria-valuenow") == "100"
        browser.press("s", "z")
        assert browser.find("#zoom input[value=fit]").is_selected()
        browser.press("z", "+")
        assert browser.find("#zoom input[value='2']").is_selected()
        before = browser.run(PLACE)
        browser.press(Keys.ARROW_RIGHT, holding=Keys.SHIFT)
        browser.await_true(f"{PLACE} !== '{before}'")
        browser.press(Keys.ARROW_LEFT)
        browser.await_texts("#name", ["a.jpg"])
        browser.press("r")
        browser.choose("#redo-model", "quick+flow")
        browser.find("#redo-strength").send_keys(Keys.HOME, Keys.SHIFT + Keys.END + Keys.NULL, "0.25", Keys.ENTER)
        browser.await_texts("#verdict", ["To be done again with quick+flow:strength=0.25."])
        assert lines(folder) == ["keep\tb.jpg", "redo\ta.jpg\tquick+flow:strength=0.25\t../in/a.jpg"]
        browser.press("x")
        browser.await_texts("#verdict", ["Rejected; the file stays."])
        browser.press(Keys.ESCAPE)
        assert not browser.find("#viewer").is_displayed()
        assert browser.run("document.activeElement.dataset.number") == "0"
        browser.press("u")
        browser.await_texts(".cell .mark", ["", "keep", ""])
    assert lines(folder) == ["keep\tb.jpg"]


def test_the_keyboard_stays_in_what_is_seen_and_goes_on_after_a_press_of_the_mouse(
    browser: Browser, folder: Path
) -> None:
    with shown(lay(folder), browser) as page:
        browser.open(f"{page.lasting}#0")
        browser.await_texts("#notice", [""])
        for _ in range(20):
            browser.press(Keys.TAB)
            assert browser.run("document.activeElement.closest('#bar, #overview')") is None
        browser.click("#zoom label:nth-of-type(1)")
        browser.press(Keys.ARROW_RIGHT)
        browser.await_texts("#name", ["b.jpg"])
        assert browser.find("#zoom input[value=fit]").is_selected()
        browser.press(Keys.ESCAPE)
        browser.click("#filter label:nth-of-type(2)")
        browser.press(Keys.ARROW_RIGHT)
        assert browser.run("document.activeElement.dataset.number") == "0"
        ring = (
            "[document.activeElement, document.activeElement.firstChild].map((node) => node.getBoundingClientRect())"
            ".map(({ left, top, right }) => [left, top, right])"
        )
        (left, top, right), inner = browser.run(ring)
        assert min(inner[0] - left, inner[1] - top, right - inner[2]) >= 5  # an outline of 3 pixels, 2 pixels away
        assert browser.find("#filter input[value='']").is_selected()


def test_a_result_that_is_done_again_meanwhile_is_seen_by_who_comes_back_to_it(browser: Browser, folder: Path) -> None:
    with shown(lay(folder), browser) as page:
        browser.open(page.lasting)
        browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
        browser.await_texts("#recipe", ["quick · seed 0 · expert abababab"])
        browser.await_true("document.getElementById('after').naturalWidth === 1600")
        again = make_source(folder / "../in/a.jpg", 9, size=(1200, 800))
        make_result(again, folder / "a.jpg", replace(STAMP, model="standard"))
        browser.press(Keys.ARROW_RIGHT)
        browser.await_texts("#name", ["b.jpg"])
        browser.press(Keys.ARROW_LEFT)
        browser.await_texts("#recipe", ["standard · seed 0 · expert abababab"])
        browser.await_true("document.getElementById('after').naturalWidth === 1200")
        browser.driver.refresh()
        browser.await_true("document.getElementById('after').naturalWidth === 1200")


def test_once_view_has_ended_no_picture_stands_under_the_name_of_another(browser: Browser, folder: Path) -> None:
    with shown(lay(folder), browser) as page:
        browser.open(f"{page.lasting}#0")
        browser.await_true("document.getElementById('after').naturalWidth === 1600")
        with unreachable(browser):
            browser.press(Keys.ARROW_RIGHT)
            browser.await_texts("#gone", ["deblur view has ended; start it again"])
            assert browser.texts("#name") == ["b.jpg"]
            assert not browser.find("#after").is_displayed()
            assert browser.texts("#recipe") == browser.texts("#source") == [""]
    assert all("ERR_INTERNET_DISCONNECTED" in line for line in browser.complaints("http://127.0.0.1:"))


def test_the_mouse_drags_the_line_and_the_picture(browser: Browser, folder: Path) -> None:
    with shown(lay(folder), browser) as page:
        address = page.lasting
        browser.open(f"{address}#0")
        browser.await_true("document.getElementById('before').naturalWidth === 1600")
        width = browser.run("document.getElementById('stage').clientWidth")
        browser.drag(".grip", (0, 0), (round(width / 4), 0))
        assert int(browser.attribute("#split", "aria-valuenow") or 0) == pytest.approx(75, abs=1)
        before = browser.run(PLACE)
        browser.drag("#stage", (-100, 100), (40, 30))
        assert browser.run(PLACE) != before
        assert int(browser.attribute("#split", "aria-valuenow") or 0) == pytest.approx(75, abs=1)
        assert browser.run("document.getElementById('after').getBoundingClientRect().width") == 1600  # at 100 %
        browser.click("#zoom label:nth-of-type(1)")
        browser.drag("#stage", (-100, 100), (10, 0))
        assert int(browser.attribute("#split", "aria-valuenow") or 0) < 50
        browser.click("[data-choice=keep]")
        browser.await_texts("#verdict", ["Kept."])
        browser.click("#next")
        browser.await_texts("#name", ["b.jpg"])


def test_a_result_whose_photo_is_gone_is_shown_alone_and_says_so(browser: Browser, folder: Path) -> None:
    with shown(lay(folder), browser) as page:
        address = page.lasting
        browser.open(f"{address}#2")
        browser.await_true("document.getElementById('after').naturalWidth === 1600")
        assert "its photo was not found" in browser.find("#gone").text
        assert not browser.find("#split").is_displayed()
        browser.press(" ")
        assert browser.attribute("#split", "aria-valuenow") == "0"
        browser.press("k")
        browser.await_texts("#verdict", ["Kept."])


def test_of_five_hundred_results_only_what_is_in_sight_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    first = make_result(make_source(tmp_path / "in/0.jpg"), tmp_path / "out/0.jpg")
    for number in range(1, 500):
        shutil.copy(first, tmp_path / f"out/{number}.jpg")
    with shown(lay(tmp_path / "out"), browser) as page:
        address = page.lasting
        browser.open(address)
        browser.await_true("document.querySelector('.cell img').naturalWidth > 0")
        assert len(browser.texts(".cell")) == 500
        asked = [url for url in browser.requests() if "/thumb/" in url]
        assert 0 < len(asked) < 250
        browser.run("window.scrollTo({ top: document.body.scrollHeight, behavior: 'instant' })")
        browser.await_true("document.querySelector('[data-number=\"499\"] img').naturalWidth > 0")
        later = [url for url in browser.requests() if "/thumb/" in url]
        assert not set(asked) & set(later)
        assert len(asked) + len(later) < 500


@pytest.mark.parametrize("width", [390, 1920])
def test_no_page_is_wider_than_its_window(browser: Browser, folder: Path, tmp_path: Path, width: int) -> None:
    with shown(lay(folder), browser) as page:
        address = page.lasting
        for place in ("", "#0"):
            browser.open(address + place, width=width)
            browser.await_true("document.querySelectorAll('.cell').length === 3")
            assert browser.run("document.documentElement.scrollWidth") == width
    browser.open(write_sheet(tmp_path), width=width)
    assert browser.run("document.documentElement.scrollWidth") == width


def write_sheet(folder: Path) -> Path:
    """Two photos in three versions, and one that failed."""
    colours = {"as taken": "grey", "quick": "red", "best": "blue"}
    looks = tuple(make_look(name, "", Image.new("RGB", (384, 288), hue), LOSSLESS) for name, hue in colours.items())
    photos = [
        SheetPhoto("<b>a.jpg", ("one fact",), looks),
        SheetPhoto("b.jpg", fault="broken"),
        SheetPhoto("c.jpg", (), looks),
    ]
    file = folder / "sheet.html"
    file.write_text(Sheet("Preview", "photos", "", photos).to_html(), encoding="utf-8")
    return file


def test_a_sheet_by_keyboard_and_mouse(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_sheet(tmp_path), prefers_reduced_motion="reduce")
    assert browser.texts("h2") == ["<b>a.jpg", "b.jpg", "c.jpg"]
    first = ".photo:nth-of-type(1)"
    browser.press("2")
    assert browser.texts(f"{first} .badge") == ["as taken", "best"]
    browser.press(" ")
    assert browser.attribute(f"{first} .split", "aria-valuenow") == "0"
    browser.press("s")
    browser.drag(f"{first} .stage", (0, 40), (96, 0))
    assert int(browser.attribute(f"{first} .split", "aria-valuenow") or 0) == pytest.approx(75, abs=1)
    browser.press("z")
    assert browser.run(f"document.querySelector('{first} .stage').clientWidth") == 768
    browser.click(f"{first} .version:nth-of-type(1)")
    assert browser.texts(f"{first} .badge") == ["as taken", "quick"]
    browser.press("j", "j")
    assert browser.run("document.activeElement.querySelector('h2').textContent") == "c.jpg"


@pytest.mark.parametrize(("width", "zoom"), [(300, 1), (390, 4), (1440, 4)])
def test_the_sides_of_a_sheet_are_named_in_sight_however_large_the_picture(
    browser: Browser, tmp_path: Path, width: int, zoom: int
) -> None:
    browser.open(write_sheet(tmp_path), width=width)
    browser.click(f"#zoom label:has(input[value='{zoom}'])")
    names = (
        "[...document.querySelectorAll('.photo:nth-of-type(1) .badge:not(.is-covered)')].filter((badge) => {"
        " const [a, b] = [badge, badge.closest('.mat')].map((node) => node.getBoundingClientRect());"
        " return a.left >= b.left && a.right <= b.right; }).map((badge) => badge.textContent)"
    )
    assert browser.run(names) == ["as taken", "quick"]
    browser.press(" ")
    assert browser.run(names) == ["quick"]
    browser.press(" ")
    assert browser.run(names) == ["as taken"]
    if (width, zoom) == (390, 4):  # the line is out of sight on the right: all that is seen is as taken
        browser.press("s")
        browser.driver.execute_script("document.querySelector('.mat').scrollLeft = 0")
        browser.await_true(f"{names}.join() === 'as taken'")
