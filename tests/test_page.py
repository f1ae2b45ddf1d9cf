"""The report page without a browser: what stands in the file, and what must never stand in it."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.report_page import (
    METRICS,
    MODELS,
    NASTY,
    Loads,
    make_report,
    page_json,
    read_figures,
    rename,
    write_pictures,
)

from deblur_cli.benchmark.page import render_page
from deblur_cli.benchmark.page.columns import find_best, metric_columns, summary_columns
from deblur_cli.benchmark.page.photos import find_extremes
from deblur_cli.benchmark.records import SCHEMA, BenchmarkReport, MetricInfo
from deblur_cli.system.pages import to_script_json
from deblur_cli.system.plot import ticks


def plots_of(report: BenchmarkReport) -> str:
    """The figures of its page."""
    return read_figures(render_page(report, Path("no pictures")))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours, written as six hexadecimal digits."""
    low, high = sorted(_luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    encoded = np.array(list(bytes.fromhex(colour))) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    report = make_report()
    write_pictures(report, tmp_path)
    page = render_page(report, tmp_path)
    assert all(address.startswith(("#", "data:")) for address in Loads(page).addresses)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest|\bimport\(", page)
    assert "default-src 'none'" in page
    text = re.sub(r"<script.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"[{][{%#]|[}%#][}]", text)


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
    plots = plots_of(make_report())
    assert plots.count("<svg") == 1
    assert all(f">{model}</text>" in plots for model in MODELS)
    assert "No plot for plain: no truth" in plots
    assert "lower right" in plots


def test_the_plot_takes_another_metric_where_lpips_has_no_value() -> None:
    report = make_report()
    models = [replace(row, scores=row.scores | {"lpips": None}) for row in report.models]
    assert ">detail</text>" in plots_of(replace(report, models=models))


def test_the_plot_leaves_out_infinite_scores_and_says_so() -> None:
    report = make_report()
    models = [
        replace(row, scores=row.scores | {"psnr": math.inf}) if row.name == "expert" else row for row in report.models
    ]
    plots = plots_of(replace(report, models=models))
    assert "for want of a finite value: expert" in plots
    assert not re.search(r"\b(inf|nan)\b", plots)


def test_the_plot_of_a_single_model_stays_finite() -> None:
    report = make_report()
    plots = plots_of(replace(report, models=report.models[:1]))
    assert "<svg" in plots
    assert not re.search(r"\b(inf|nan)\b", plots)


@pytest.mark.parametrize(("low", "high"), [(22.1, 41.7), (0.031, 0.26), (-3.0, 3.0), (1e-6, 2e-6)])
def test_ticks_are_few_even_and_within_the_axis(low: float, high: float) -> None:
    values = ticks(low, high)
    steps = np.diff(values)
    assert 2 <= len(values) <= 8
    assert low <= min(values) and max(values) <= high
    assert np.allclose(steps, steps[0])


def test_all_text_and_marks_keep_the_contrast_of_wcag_aa_in_light_and_dark(tmp_path: Path) -> None:
    style = render_page(make_report(), tmp_path)
    colours = {name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\)", style)}
    for theme in (0, 1):
        paper, sheet = colours["paper"][theme], colours["sheet"][theme]
        for name in ("ink", "quiet", "accent", "better", "worse"):
            assert min(contrast(colours[name][theme], ground) for ground in (paper, sheet)) >= 4.5, name
        for name in ("edge", *(f"series-{number}" for number in range(6))):
            assert contrast(colours[name][theme], paper) >= 3.0, name
