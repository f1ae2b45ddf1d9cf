"""What a run leaves: files, pictures, tables."""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image
from support.benchmark_factory import load_broken, load_fake, loading_with, make_plan, run, write_pairs
from support.report_page import page_json

from deblur_cli.benchmark import report_files
from deblur_cli.benchmark.gallery import choose_photos, drop_outdated, keep_pictures, list_pictures
from deblur_cli.benchmark.page.photos import gather_photos
from deblur_cli.benchmark.records import BLURRY, SHARP, picture_path
from deblur_cli.benchmark.tables import format_score, note_lines, summary_rows, to_csv, to_markdown


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "photos")


def test_the_report_folder_holds_every_file_at_full_precision(pairs, tmp_path):
    report, _ = run(make_plan(pairs))
    report_files.write_report(report, tmp_path)
    table = json.loads((tmp_path / "report.json").read_text())
    assert table["images"][0]["scores"]["psnr"] == report.images[0].scores["psnr"]
    assert "Infinity" in [row["scores"]["psnr"] for row in table["images"]]
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert float(rows[0]["psnr"]) == report.images[0].scores["psnr"]
    text = (tmp_path / "report.md").read_text()
    assert "| photos | fake |" in text
    assert "peak 255" in text
    scores = page_json((tmp_path / "report.html").read_text(), "scores-json")
    assert len(scores["rows"]) == 6


def test_the_report_says_how_to_repeat_the_run(pairs):
    report, _ = run(make_plan(pairs, seed=7))
    assert report.command == "deblur bench photos"
    assert report.environment["seed"] == 7
    assert report.environment["protocols"] == {"photos": "full"}
    assert {"deblur", "python", "torch", "numpy", "devices", "dtypes"} <= report.environment.keys()
    assert all(row.protocol for row in report.metrics)
    assert str(pairs.parent) not in json.dumps({**report.to_dict(), "command": ""})


def test_pictures_are_kept_for_the_worst_the_best_and_a_spread(pairs, tmp_path):
    plan = make_plan(pairs)
    report, records = run(plan)
    keys = {(row.score.dataset, row.score.model, row.score.image): row.key for row in records}
    assert [pair.image for pair in choose_photos(plan.datasets[0], report, 2)] == ["blur/b.png", "blur/c.png"]
    wanted = list(list_pictures(plan, report, keys, 2))
    made = []
    with loading_with(load_fake):
        keep_pictures(plan, wanted, tmp_path, made.append)
    assert len(made) == 6  # sharp, blurry and the model, two photos each
    kept = np.asarray(Image.open(tmp_path / picture_path("photos", "fake", "blur/b.png")))
    assert (kept == np.asarray(Image.open(pairs / "sharp" / "b.png"))).all()
    with loading_with(load_broken):
        keep_pictures(plan, wanted, tmp_path, made.append)
    assert len(made) == 6  # nothing is made twice


def test_pictures_of_older_weights_are_not_shown_beside_new_scores(pairs, tmp_path):
    plan = make_plan(pairs)
    report, records = run(plan)
    keys = {(row.score.dataset, row.score.model, row.score.image): row.key for row in records}
    with loading_with(load_fake):
        keep_pictures(plan, list(list_pictures(plan, report, keys, 3)), tmp_path, lambda _: None)
    drop_outdated(tmp_path, keys)
    assert [len(photo.files) for photo in gather_photos(report, tmp_path)] == [3, 3, 3]
    drop_outdated(tmp_path, {row: f"{key}{row[1]}" if row[1] == "fake" else key for row, key in keys.items()})
    assert [list(photo.files) for photo in gather_photos(report, tmp_path)] == [[BLURRY, SHARP]] * 3


def test_every_photo_has_a_picture_of_its_own():
    names = ("card/IMG_1.CR2", "card/IMG_1.JPG", "card/IMG_1.png", "IMG_1.png")
    places = [picture_path("card", "expert:steps=2", name) for name in names]
    assert len(set(places)) == 4
    assert places[:3:2] == [f"images/card/expert@steps=2/card__IMG_1.{suffix}" for suffix in ("CR2.png", "png")]


def test_a_name_that_is_no_text_keeps_its_bytes_in_the_report(tmp_path):
    report_files.write_text(tmp_path / "report.csv", "photo,psnr\nm\udcffller.png,30\n")
    assert (tmp_path / "report.csv").read_bytes() == b"photo,psnr\nm\xffller.png,30\n"


def test_the_table_has_a_row_for_each_model_and_no_empty_cost_columns(pairs):
    report, _ = run(make_plan(pairs))
    heading, rows = summary_rows(report)
    assert heading[:4] == ["dataset", "model", "psnr↑", "ssim↑"]
    assert "VRAM MB" not in heading
    assert [row[:2] for row in rows] == [["photos", BLURRY], ["photos", "fake"]]
    assert all(len(row) == len(heading) for row in rows)
    assert note_lines(report) == ["psnr: 1 of 3 photos equal to the truth [photos/fake]"]
    assert to_markdown(report).count("\n") > 20
    assert to_csv(report).splitlines()[0].startswith("dataset,image,model,width,height,psnr")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (math.inf, "inf"), (33.705, "33.70"), (0.96682, "0.9668"), (-0.02, "-0.0200")]
)
def test_scores_are_printed_as_the_field_prints_them(value, text):
    assert format_score(value) == text
