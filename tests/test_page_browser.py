"""The report page in a headless Chromium: every control by hand, and nothing on the console or the network."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.chromium import CHROMEDRIVER, CHROMIUM, needs_chromium
from support.report_page import NASTY, make_report, rename, write_pictures

from deblur_cli.benchmark.page import render_page
from deblur_cli.benchmark.records import BenchmarkReport

pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra: dev)")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from support.report_browser import Browser, start_browser

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = start_browser(CHROMIUM, CHROMEDRIVER, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser; afterwards the console must be silent and the network untouched."""
    chromium.complaints()  # forget what the test before left
    yield chromium
    assert chromium.complaints() == []


def write_page(report: BenchmarkReport, folder: Path) -> None:
    (folder / "report.html").write_text(render_page(report, folder), encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with pictures larger than a crop, two data sets and three rows."""
    folder = tmp_path_factory.mktemp("report")
    report = make_report(images=4)
    write_pictures(report, folder, size=(480, 360))
    write_page(report, folder)
    return folder / "report.html"


def column(browser: Browser, number: int) -> list[str]:
    return browser.texts(f"#rows tbody tr > :nth-child({number}) > .value, #rows tbody th:nth-child({number})")


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_the_order(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.choose("#filter-dataset", "pairs")
    browser.click("#rows th:nth-child(5) button")
    falling = [float(text) for text in column(browser, 5)]
    assert falling == sorted(falling, reverse=True)  # higher is better, so the best comes first
    assert browser.attribute("#rows th:nth-child(5)", "aria-sort") == "descending"
    browser.click("#rows th:nth-child(5) button")
    assert [float(text) for text in column(browser, 5)] == falling[::-1]
    assert browser.attribute("#rows th:nth-child(5)", "aria-sort") == "ascending"
    assert browser.attribute("#rows th:nth-child(1)", "aria-sort") == "none"


def test_a_heading_sorts_by_keyboard_and_rows_without_a_value_come_last(browser: Browser, page: Path) -> None:
    browser.open(page)
    for key in (Keys.ENTER, Keys.SPACE):
        browser.find("#rows th:nth-child(6) button").send_keys(key)
        values = column(browser, 6)
        first_empty = values.index("–")  # noqa: RUF001 - the dash of an empty cell
        assert set(values[first_empty:]) == {"–"}  # noqa: RUF001
    assert browser.attribute("#rows th:nth-child(6)", "aria-sort") == "descending"


def test_sorting_by_difference_orders_the_gains_over_doing_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.choose("#filter-model", "dual-expert")
    browser.click("#sort-by label:nth-of-type(2)")
    browser.click("#rows th:nth-child(5) button")
    gains = browser.texts("#rows td:nth-child(5) .change")
    assert [text[:6] for text in gains] == ["▲+5.00", "▲+3.00", "▲+1.00", "▼\u22121.00"]


def test_filters_narrow_the_table_and_say_how_many_rows_are_left(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.texts("#row-count") == ["20 of 20 rows shown, 20 in all"]
    browser.choose("#filter-dataset", "plain")
    browser.choose("#filter-model", "expert")
    assert browser.texts("#row-count") == ["4 of 4 rows shown, 20 in all"]
    browser.find("#filter-name").send_keys("002")
    assert browser.texts("#rows tbody th") == ["seq/002.png"]


def test_long_tables_show_more_rows_when_asked(browser: Browser, tmp_path: Path) -> None:
    write_page(make_report(images=30), tmp_path)
    browser.open(tmp_path / "report.html")
    assert len(browser.texts("#rows tbody tr")) == 50
    browser.click("#more")
    assert len(browser.texts("#rows tbody tr")) == 100


def test_arrow_keys_move_the_split_and_say_so(browser: Browser, page: Path) -> None:
    browser.open(page)
    split = browser.find("#split")
    assert (split.get_attribute("role"), split.get_attribute("aria-valuenow")) == ("slider", "50")
    for key, now in [
        (Keys.ARROW_RIGHT, "51"),
        (Keys.ARROW_LEFT, "50"),
        (Keys.PAGE_UP, "60"),
        (Keys.END, "100"),
        (Keys.ARROW_RIGHT, "100"),
        (Keys.HOME, "0"),
    ]:
        split.send_keys(key)
        assert split.get_attribute("aria-valuenow") == now
    assert split.get_attribute("aria-valuetext") == "0 % blurry, as taken, 100 % expert"
    clip = "getComputedStyle(document.getElementById('right-image')).clipPath"
    assert browser.run(clip) in {"inset(0px)", "inset(0px 0px 0px 0%)"}


def test_dragging_on_the_picture_moves_the_split(browser: Browser, page: Path) -> None:
    browser.open(page)
    width = browser.run("document.getElementById('stage').clientWidth")
    browser.drag("#stage", (0, 40), (round(width / 4), 10))
    assert int(browser.attribute("#split", "aria-valuenow") or 0) == pytest.approx(75, abs=1)
    browser.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)  # the press gave it the keyboard
    assert int(browser.attribute("#split", "aria-valuenow") or 0) == pytest.approx(74, abs=1)


def test_either_side_of_the_slider_shows_any_version(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.choose("#left", "dual-expert")
    browser.choose("#right", "sharp")
    assert browser.texts(".badge") == ["dual-expert", "truth"]
    sources = [browser.attribute(f"#{side}-image", "src") for side in ("left", "right")]
    assert sources[0] != sources[1]


def test_all_crops_show_the_same_place_whatever_moves_the_frame(browser: Browser, page: Path) -> None:
    browser.open(page)
    frame = browser.find("#frame")
    frame.send_keys(Keys.HOME, Keys.PAGE_UP)
    assert frame.get_attribute("aria-valuetext") == "left 0, top 0 pixels"
    frame.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert frame.get_attribute("aria-valuetext") == "left 8, top 16 pixels"
    assert crop_places(browser) == {"translate(-8px, -16px)"}
    browser.drag(".crop.window[data-version='expert']", (0, 0), (-30, -20))
    assert frame.get_attribute("aria-valuetext") == "left 38, top 36 pixels"
    assert crop_places(browser) == {"translate(-38px, -36px)"}
    browser.click(".plane.map")
    assert crop_places(browser) != {"translate(-38px, -36px)"}
    assert len(browser.texts(".crop.window")) == 4  # blurry, two models, the truth


def crop_places(browser: Browser) -> set[str]:
    script = "[...document.querySelectorAll('.crop.window img')].map((image) => image.style.transform)"
    return set(browser.run(script))


def test_a_crop_shows_one_pixel_of_the_photo_as_one_of_the_screen(browser: Browser, page: Path) -> None:
    browser.open(page)
    width = "document.querySelector('.crop.window img').getBoundingClientRect().width"
    assert browser.run(width) == 480
    browser.click("#zoom label:nth-of-type(2)")
    assert browser.run(width) == 960
    browser.find("#frame").send_keys(Keys.END)
    crop = browser.run("document.querySelector('.crop.window').clientWidth")
    assert int(browser.attribute("#frame", "aria-valuenow") or 0) == pytest.approx(480 - crop / 2, abs=1)


def test_a_photo_without_truth_shows_no_error_maps(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert len(browser.texts(".plane.map")) == 3
    browser.click("#previous")  # from the first photo to the last, which is of the data set without truth
    assert browser.texts("#position") == ["8 / 8"]
    assert browser.find("#no-truth").is_displayed()
    assert not browser.find("#errors").is_displayed()


def test_a_worst_case_opens_in_the_viewer_also_a_second_time(browser: Browser, page: Path) -> None:
    browser.open(page, prefers_reduced_motion="reduce")
    browser.choose("#extremes-model", "dual-expert")
    for _ in range(2):
        browser.click("#extremes-lists .case")
        browser.await_texts("#compare-name", ["pairs · seq/000.png · 480 × 360"])  # noqa: RUF001
        browser.await_texts(".badge", ["blurry, as taken", "dual-expert"])
        assert browser.run("document.activeElement.id") == "split"
        browser.click("#next")
        assert browser.texts("#position") == ["2 / 8"]


def test_the_address_of_a_photo_opens_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    link = browser.attribute("#rows tbody tr:nth-child(9) a", "href")
    browser.driver.get("about:blank")
    browser.driver.get(link)
    assert browser.texts("#compare-name")[0].startswith("plain · seq/001.png")


def test_the_theme_follows_the_system_until_one_is_chosen_and_is_kept(browser: Browser, page: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(page, prefers_color_scheme="dark")
    dark = browser.run(paper)
    browser.click("#theme label:nth-of-type(2)")
    light = browser.run(paper)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(21, 23, 26)")
    browser.driver.refresh()
    assert browser.run(paper) == light
    assert browser.find("#theme input[value=light]").is_selected()
    browser.click("#theme label:nth-of-type(1)")
    assert browser.run(paper) == dark


def test_the_plot_switches_its_data_set(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.find("figure[data-dataset='0']").is_displayed()
    browser.choose("#plot-dataset", "1")
    assert not browser.find("figure[data-dataset='0']").is_displayed()
    assert "no truth" in browser.find("figure[data-dataset='1']").text


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_the_page_is_never_wider_than_its_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.run("document.documentElement.scrollWidth") == width


def test_labels_of_the_plot_stay_apart_and_inside(browser: Browser, page: Path) -> None:
    for width in (360, 1440):
        browser.open(page, width=width)
        boxes = browser.run(
            "[...document.querySelectorAll('.plot .label')].filter((node) => node.checkVisibility())"
            ".map((node) => node.getBoundingClientRect().toJSON())"
        )
        assert len(boxes) == 3
        assert all(box["left"] >= 0 and box["right"] <= width for box in boxes)
        ordered = sorted(boxes, key=lambda box: box["top"])
        for above, below in itertools.pairwise(ordered):
            apart = above["right"] <= below["left"] or below["right"] <= above["left"]
            assert apart or above["bottom"] - 4 <= below["top"]  # a line box is taller than its letters


def test_whoever_asks_for_less_motion_gets_none(browser: Browser, page: Path) -> None:
    moving = "getComputedStyle(document.documentElement).scrollBehavior"
    browser.open(page, prefers_reduced_motion="no-preference")
    assert browser.run(moving) == "smooth"
    browser.open(page, prefers_reduced_motion="reduce")
    assert browser.run(moving) == "auto"


def test_the_keyboard_reaches_the_skip_link_first_and_every_stop_shows_its_focus(browser: Browser, page: Path) -> None:
    browser.open(page)
    seen = []
    for _ in range(12):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        seen.append(browser.run("document.activeElement.className || document.activeElement.tagName"))
        ring = "(node) => getComputedStyle(node).outlineStyle"
        shown = browser.run(
            f"[document.activeElement, document.activeElement.nextElementSibling].filter(Boolean).map({ring})"
        )
        assert "solid" in shown, seen
    assert seen[0] == "skip"


def test_a_hostile_name_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    report = rename(make_report(), "expert", NASTY)
    images = [replace(row, note=NASTY) for row in report.images]
    write_page(replace(report, images=images, command=NASTY), tmp_path)
    browser.open(tmp_path / "report.html")
    assert browser.texts("#rows tbody tr:nth-child(1) th .note") == [NASTY]
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0


def test_without_pictures_the_page_says_so_and_the_rest_works(browser: Browser, tmp_path: Path) -> None:
    write_page(make_report(), tmp_path)
    browser.open(tmp_path / "report.html")
    assert browser.find("#compare-empty").is_displayed()
    assert not browser.find("#viewer").is_displayed()
    assert browser.texts("#extremes-lists .no-picture")[0] == "no picture kept"
    browser.choose("#filter-dataset", "pairs")
    assert browser.texts("#row-count") == ["9 of 9 rows shown, 15 in all"]
