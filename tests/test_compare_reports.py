"""Two reports, photo by photo: the interval is honest, repeatable, and a typo never passes a gate."""

import json
import math

import numpy as np
import pytest

from deblur_cli.benchmark.compare import compare_reports, find_crossed, find_differences, parse_limits, read_report
from deblur_cli.benchmark.records import SCHEMA, BenchmarkReport, DatasetInfo, ImageScore, MetricInfo, ModelSummary
from deblur_cli.benchmark.statistics import mean, median, paired_bootstrap, spread_over
from deblur_cli.errors import InputError


def report(scores: dict[str, list[float | None]], model: str = "expert") -> BenchmarkReport:
    directions = {"psnr": "higher", "lpips": "lower"}
    count = len(next(iter(scores.values())))
    images = [
        ImageScore("set", f"{index}.png", model, 8, 8, {name: values[index] for name, values in scores.items()}, 0.1)
        for index in range(count)
    ]
    return BenchmarkReport(
        schema=SCHEMA,
        command="deblur bench",
        created="2026-01-01T00:00:00+00:00",
        environment={},
        datasets=[DatasetInfo("set", "pairs", "set", count)],
        metrics=[MetricInfo(name, directions[name], "", "p") for name in scores],
        models=[ModelSummary(model, "set", {}, {}, {})],
        images=images,
    )


def test_the_interval_has_the_width_that_theory_gives():
    generator = np.random.default_rng(5)
    before = generator.normal(30, 4, 400)  # photos differ a lot …
    after = before + 0.1 + generator.normal(0, 0.5, 400)  # … the models little
    paired = paired_bootstrap(before.tolist(), after.tolist(), seed=1)
    standard_error = np.std(after - before) / math.sqrt(400)
    assert paired.difference == pytest.approx(np.mean(after - before))
    assert paired.low == pytest.approx(paired.difference - 1.96 * standard_error, abs=0.1 * standard_error)
    assert paired.high == pytest.approx(paired.difference + 1.96 * standard_error, abs=0.1 * standard_error)


@pytest.mark.parametrize("photos", [7, 40])
def test_the_interval_covers_the_truth_as_often_as_it_says(photos):
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        before = generator.normal(30, 3, photos)
        after = before + generator.normal(0.2, 1, photos)
        paired = paired_bootstrap(before.tolist(), after.tolist(), seed=trial, resamples=1000)
        hits += paired.low <= 0.2 <= paired.high
    assert 0.91 <= hits / 400 <= 0.99


def test_the_interval_of_one_photo_is_its_difference():
    paired = paired_bootstrap([30.0], [31.0])
    assert (paired.low, paired.high) == (1.0, 1.0)


def test_one_seed_gives_one_interval():
    before, after = np.random.default_rng(0).normal(size=(2, 50)).tolist()
    assert paired_bootstrap(before, after, seed=3) == paired_bootstrap(before, after, seed=3)
    assert paired_bootstrap(before, after, seed=3) != paired_bootstrap(before, after, seed=4)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        paired_bootstrap([], [])
    with pytest.raises(ValueError, match="as many"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_means_of_nothing_are_nothing():
    assert (mean([]), median([]), mean([1, 2]), median([1, 5, 2])) == (None, None, 1.5, 2)


def test_a_spread_has_its_ends():
    assert spread_over(3, 12) == [0, 1, 2]
    assert spread_over(100, 3) == [0, 50, 99]
    assert spread_over(100, 0) == []
    assert len(spread_over(1111, 12)) == 12


def test_photos_are_matched_by_name_and_those_without_value_left_out():
    before = report({"psnr": [30.0, 31.0, None, math.inf, 30.0, 30.0, 30.0]})
    after = report({"psnr": [31.0, 31.5, 32.0, 33.0, 30.5, 30.5, 31.0]})
    after.images.reverse()
    (change,) = compare_reports(before, after)
    assert (change.paired.count, change.left_out) == (5, 2)
    assert change.paired.difference == pytest.approx(0.7)
    assert change.verdict == "better"


def test_for_a_metric_whose_low_values_are_good_a_fall_is_an_improvement():
    changes = compare_reports(report({"lpips": [0.3, 0.4] * 3}), report({"lpips": [0.2, 0.3] * 3}))
    assert changes[0].improvement == pytest.approx(0.1)
    assert changes[0].verdict == "better"


def test_equal_reports_are_equal():
    assert compare_reports(report({"psnr": [30.0, 31.0]}), report({"psnr": [30.0, 31.0]}))[0].verdict == "equal"


def test_a_handful_of_photos_never_decides():
    (four,) = compare_reports(report({"psnr": [30.0] * 4}), report({"psnr": [31.0] * 4}))
    (five,) = compare_reports(report({"psnr": [30.0] * 5}), report({"psnr": [31.0] * 5}))
    assert (four.verdict, five.verdict) == ("unclear", "better")


def test_a_gate_sees_what_is_not_there_any_more():
    before = report({"psnr": [30.0, 31.0, math.inf, math.inf], "lpips": [0.1, 0.1, 0.0, None]})
    assert find_differences(before, before, {"psnr": 0, "lpips": 0}) == []
    worse = report({"psnr": [30.0, None, 50.0, math.inf], "lpips": [0.1, 0.1, 0.0, 0.0]})
    assert find_differences(before, worse, {"psnr": 0, "lpips": 0}) == [
        "set/expert psnr: 2 of 4 photos with nothing to compare any more (1.png)"
    ]
    assert len(find_differences(before, report({"psnr": [30.0]}), {"psnr": 0})) == 1
    assert len(find_differences(before, report({"psnr": [30.0] * 4}, "flow"), {"psnr": 0})) == 1
    assert (
        find_differences(
            before, report({"psnr": [30.0, 30.0, math.inf, math.inf]}, "flow"), {"psnr": 0}, models=("expert", "flow")
        )
        == []
    )


def test_two_models_of_different_names_are_compared_when_named():
    before, after = report({"psnr": [30.0, 31.0]}), report({"psnr": [29.0, 33.0]}, "flow")
    with pytest.raises(InputError, match="share no"):
        compare_reports(before, after)
    (change,) = compare_reports(before, after, models=("expert", "flow"))
    assert (change.model, change.verdict) == ("expert -> flow", "unclear")


@pytest.mark.parametrize(
    ("limit", "crossed"), [("psnr=-0.6", False), ("-0.6", False), ("psnr=-0.4", True), ("lpips=0", True)]
)
def test_a_limit_is_crossed_by_the_mean_improvement(limit, crossed):
    before = report({"psnr": [30.0, 31.0], "lpips": [0.2, 0.3]})
    after = report({"psnr": [29.5, 30.5], "lpips": [0.21, 0.31]})
    assert bool(find_crossed(compare_reports(before, after), parse_limits([limit]))) is crossed


def test_a_limit_for_a_metric_that_is_not_there_is_an_error():
    changes = compare_reports(report({"psnr": [30.0]}), report({"psnr": [30.0]}))
    with pytest.raises(InputError, match="not compared"):
        find_crossed(changes, {"lpips": 0})
    with pytest.raises(InputError, match="METRIC=NUMBER"):
        parse_limits(["psnr=much"])


def test_a_report_survives_json_with_infinities_and_gaps(tmp_path):
    original = report({"psnr": [math.inf, 30.123456789012345, None]})
    path = tmp_path / "report.json"
    path.write_text(json.dumps(original.to_dict(), allow_nan=False))
    assert read_report(path) == original
    assert read_report(tmp_path) == original


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 99}'])
def test_a_file_that_is_no_report_is_one_line(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="report"):
        read_report(path)
