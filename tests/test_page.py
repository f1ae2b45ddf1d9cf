"""The report page without a browser: what stands in the file, and what must never stand in it."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur_cli.benchmark.page.columns import find_best, metric_columns, summary_columns
from deblur_cli.benchmark.page.markup import Markup, element, to_script_json
from deblur_cli.benchmark.page.photos import find_extremes
from deblur_cli.benchmark.page.plot import render_plots, ticks
from deblur_cli.benchmark.page.write import render_page
from deblur_cli.benchmark.records import (
    SCHEMA,
    SHARP,
    BenchmarkReport,
    DatasetInfo,
    ImageScore,
    MetricInfo,
    ModelSummary,
    picture_path,
)

NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\u2028<!--'
SIZE = (96, 64)
METRICS = [
    MetricInfo("psnr", "higher", "dB", "RGB, rounded to 8 bits"),
    MetricInfo("lpips", "lower", "", "AlexNet"),
    MetricInfo("detail", "none", "", "mean gradient"),
]
MODELS = ("blurry", "expert", "dual-expert")
PLAIN_MODELS = ("blurry", "expert")


def make_report(images: int = 3) -> BenchmarkReport:
    """Two data sets: "pairs" with truth and three rows, "plain" without truth and two."""
    photos = [f"seq/{number:03}.png" for number in range(images)]
    pairs = [
        ImageScore("pairs", image, model, *SIZE, _paired_scores(number, row), 0.5 * row if row else None)
        for number, image in enumerate(photos)
        for row, model in enumerate(MODELS)
    ]
    plain = [
        ImageScore("plain", image, model, *SIZE, {"detail": 2.0 + row}, None)
        for image in photos
        for row, model in enumerate(PLAIN_MODELS)
    ]
    return BenchmarkReport(
        schema=SCHEMA,
        command="deblur bench pairs plain --model expert --model dual-expert",
        created="2026-05-04T03:02:01+00:00",
        environment={"device": "cpu", "seed": 0, "versions": {"numpy": "2"}, "tile": None},
        datasets=[
            DatasetInfo("pairs", "pairs", "pairs", images),
            DatasetInfo("plain", "plain", "holiday", images),
        ],
        metrics=METRICS,
        models=[_summary(name, "pairs", pairs) for name in MODELS]
        + [_summary(name, "plain", plain) for name in PLAIN_MODELS],
        images=pairs + plain,
    )


def _paired_scores(number: int, row: int) -> dict[str, float | None]:
    return {"psnr": 24.0 + number + row * (number - 0.5), "lpips": 0.3 - 0.05 * row, "detail": 2.0 + row}


def _summary(name: str, dataset: str, images: list[ImageScore]) -> ModelSummary:
    rows = [row.scores for row in images if row.model == name]
    scores: dict[str, float | None] = {
        metric: sum(row[metric] or 0.0 for row in rows) / len(rows) for metric in rows[0]
    }
    if name == "blurry":
        return ModelSummary(name, dataset, {}, scores, {})
    number = MODELS.index(name)
    return ModelSummary(
        name, dataset, {"expert": "ab" * 32}, scores, {}, 0.25 * number, 900.0, None, 26_100_000 * number, 2.5e11
    )


def write_pictures(report: BenchmarkReport, folder: Path, size: tuple[int, int] = SIZE) -> None:
    """Pictures of every row, and the truth where the data set is "pairs"."""
    for row in report.images:
        names = [row.model, SHARP] if row.dataset == "pairs" else [row.model]
        for name in names:
            file = folder / picture_path(row.dataset, name, row.image)
            file.parent.mkdir(parents=True, exist_ok=True)
            make_picture(f"{row.image}{name}", size).save(file)


def make_picture(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth colours that depend on the name."""
    generator = np.random.default_rng(list(name.encode()))
    coarse = Image.fromarray(generator.integers(0, 255, (6, 9, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours, written as six hexadecimal digits."""
    low, high = sorted(_luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    encoded = np.array(list(bytes.fromhex(colour))) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def page_json(page: str, name: str) -> Any:
    """The value of one embedded JSON block."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


class Loads(HTMLParser):
    """Collects what a browser would execute or load from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for key, value in attrs:
            if key.startswith("on"):
                self.handlers.append(f"{tag} {key}")
            if key in {"src", "href", "srcset", "data", "action", "poster"}:
                self.addresses.append(value or "")


def rename(report: BenchmarkReport, old: str, new: str) -> BenchmarkReport:
    """The report with another name for one model."""
    return replace(
        report,
        models=[replace(row, name=new) if row.name == old else row for row in report.models],
        images=[replace(row, model=new) if row.model == old else row for row in report.images],
    )


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    report = make_report()
    write_pictures(report, tmp_path)
    page = render_page(report, tmp_path)
    assert all(address.startswith(("#", "data:")) for address in Loads(page).addresses)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest|\bimport\(", page)
    assert "default-src 'none'" in page
    assert "$" not in re.sub(r"<script.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)


def test_names_and_notes_never_become_html(tmp_path: Path) -> None:
    plain = Loads(render_page(make_report(), tmp_path))
    report = rename(make_report(), "expert", NASTY)
    report = replace(
        report,
        command=NASTY,
        created=NASTY,
        environment={NASTY: [NASTY], "more": {"x": NASTY}},
        datasets=[replace(row, layout=NASTY, root_name=NASTY) for row in report.datasets],
        metrics=[*METRICS, MetricInfo(NASTY, "higher", NASTY, NASTY)],
        models=[replace(row, notes={"lpips": NASTY}, hashes={NASTY: NASTY}) for row in report.models],
        images=[replace(row, note=NASTY, image=NASTY, scores={NASTY: 1.0}) for row in report.images],
    )
    page = render_page(report, tmp_path)
    loads = Loads(page)
    assert loads.scripts == plain.scripts
    assert loads.handlers == []
    assert "<img src=x" not in page
    assert page_json(page, "scores-json")["rows"][0][1] == NASTY


def test_script_json_holds_no_character_that_could_end_the_script() -> None:
    text = to_script_json({NASTY: NASTY})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {NASTY: NASTY}


def test_element_escapes_text_and_attributes_but_not_markup() -> None:
    built = element("b", {"title": 'a"<'}, "<i>", Markup("<br>"))
    assert built == '<b title="a&quot;&lt;">&lt;i&gt;<br></b>'


def test_scores_without_a_value_become_null_and_infinity_a_word(tmp_path: Path) -> None:
    report = make_report(images=1)
    scores: list[dict[str, float | None]] = [
        {"psnr": math.inf, "lpips": None},
        {"psnr": math.nan, "lpips": 0.123456789},
        {"psnr": 1 / 3},
    ]
    rows = [replace(row, scores=found) for row, found in zip(report.images, scores, strict=False)]
    report = replace(report, images=rows)
    table = page_json(render_page(report, tmp_path), "scores-json")
    assert [row[5] for row in table["rows"]] == [["Infinity", None], [None, 0.1234568], [0.3333333, None]]


def test_a_report_without_models_or_images_is_still_a_page(tmp_path: Path) -> None:
    report = BenchmarkReport(SCHEMA, "deblur bench", "yesterday", {}, [], [], [], [])
    page = render_page(report, tmp_path)
    assert "yesterday" in page
    assert page_json(page, "pictures-json")["photos"] == []


def test_an_empty_cell_leads_to_the_note_that_explains_it(tmp_path: Path) -> None:
    report = make_report()
    note = "weights are not here and the machine is offline"
    models = [
        replace(row, scores=row.scores | {"lpips": None}, notes={"lpips": note}) if row.name == "expert" else row
        for row in report.models
    ]
    page = render_page(replace(report, models=models), tmp_path)
    assert re.search(r'–</span><sup><a href="#note-0-1" aria-label="note 1">1</a></sup>', page)  # noqa: RUF001
    assert f'<li id="note-0-1">LPIPS, expert: {note}</li>' in page


def test_the_summary_says_which_value_is_best_in_words_too(tmp_path: Path) -> None:
    page = render_page(make_report(), tmp_path)
    best = re.findall(r'best: </span><span class="value">([^<]+)<', page)
    assert "26.00" in best and "0.2000" in best and "0.250" in best


def test_values_that_print_alike_are_all_best() -> None:
    report = make_report()
    scores = {"blurry": 20.0, "expert": 25.001, "dual-expert": 25.003}
    rows = [replace(row, scores={"psnr": scores[row.name]}) for row in report.models[:3]]
    column = metric_columns(report)[0]
    assert find_best(column, rows) == {1, 2}


def test_a_metric_without_direction_has_no_best_value() -> None:
    report = make_report()
    column = next(column for column in metric_columns(report) if column.key == "detail")
    assert find_best(column, report.models[:3]) == set()


def test_cost_columns_take_the_unit_in_which_the_smallest_cost_is_readable() -> None:
    report = make_report()
    columns = {column.key: column for column in summary_columns(metric_columns(report), report.models[:3])}
    assert columns["parameters"].format(26_100_000) == "26.1"
    assert columns["parameters"].unit == "M"
    assert columns["macs_per_megapixel"].unit == "G"
    assert columns["peak_ram_mb"].format(1234.0) == "1,234"
    assert columns["seconds_per_megapixel"].format(0.25) == "0.250"
    assert "peak_vram_mb" not in columns  # no value and no note: no column


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    column = metric_columns(make_report())[0]
    assert column.format(-1.25, sign=True) == "\u22121.25"
    assert column.format(-0.001, sign=True) == "0.00"
    assert column.format(0.5, sign=True) == "+0.50"
    assert column.format(math.inf) == "∞"


def test_extremes_rank_by_gain_and_hold_no_photo_twice() -> None:
    case = find_extremes(make_report(images=5))[0]
    assert (case.dataset, case.model) == ("pairs", "expert")
    assert [image for image, _ in case.worst] == ["seq/000.png", "seq/001.png"]
    assert [image for image, _ in case.best] == ["seq/004.png", "seq/003.png", "seq/002.png"]
    assert case.worst[0][1] == pytest.approx(-0.5)


def test_extremes_need_truth() -> None:
    assert {case.dataset for case in find_extremes(make_report())} == {"pairs"}


def test_the_plot_names_every_model_and_says_why_a_data_set_has_none() -> None:
    plots = render_plots(make_report())
    assert plots.count("<svg") == 1
    assert all(f">{model}</text>" in plots for model in MODELS)
    assert "No plot for plain: no truth" in plots
    assert "lower right" in plots


def test_the_plot_takes_another_metric_where_lpips_has_no_value() -> None:
    report = make_report()
    models = [replace(row, scores=row.scores | {"lpips": None}) for row in report.models]
    assert ">detail</text>" in render_plots(replace(report, models=models))


def test_the_plot_leaves_out_infinite_scores_and_says_so() -> None:
    report = make_report()
    models = [
        replace(row, scores=row.scores | {"psnr": math.inf}) if row.name == "expert" else row for row in report.models
    ]
    plots = render_plots(replace(report, models=models))
    assert "for want of a finite value: expert" in plots
    assert not re.search(r"\b(inf|nan)\b", plots)


def test_the_plot_of_a_single_model_stays_finite() -> None:
    report = make_report()
    plots = render_plots(replace(report, models=report.models[:1]))
    assert "<svg" in plots
    assert not re.search(r"\b(inf|nan)\b", plots)


@pytest.mark.parametrize(("low", "high"), [(22.1, 41.7), (0.031, 0.26), (-3.0, 3.0), (1e-6, 2e-6)])
def test_ticks_are_few_even_and_within_the_axis(low: float, high: float) -> None:
    values = ticks(low, high)
    steps = np.diff(values)
    assert 2 <= len(values) <= 8
    assert low <= min(values) and max(values) <= high
    assert np.allclose(steps, steps[0])


def test_all_text_and_marks_keep_the_contrast_of_wcag_aa_in_light_and_dark() -> None:
    style = resources.files("deblur_cli.benchmark.page").joinpath("static", "page.css").read_text("utf-8")
    colours = {name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\)", style)}
    for theme in (0, 1):
        paper, sheet = colours["paper"][theme], colours["sheet"][theme]
        for name in ("ink", "quiet", "accent", "better", "worse"):
            assert min(contrast(colours[name][theme], ground) for ground in (paper, sheet)) >= 4.5, name
        for name in ("edge", *(f"series-{number}" for number in range(6))):
            assert contrast(colours[name][theme], paper) >= 3.0, name
