"""`deblur bench --speed`: every part of a made photo has its seconds, and so has every whole process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.app import run_app
from deblur_cli.benchmark import speed
from deblur_cli.benchmark.speed import PARTS, SpeedRow, Spent, make_photo, measure_rate, speed_rows

TABLE = ("model", "what", "MP", "format")


def test_a_row_for_the_start_for_every_size_and_every_number_of_photos(tmp_path: Path, capfd) -> None:
    arguments = ["--speed", "--model", "quick", "--megapixels", "0.02,0.05", "--photos", "2", "--dtype", "float32"]
    assert run_app(["bench", *arguments, "--report", str(tmp_path / "out"), "--quiet"]) == 0
    heading, *lines = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert tuple(heading[:4]) == TABLE
    assert [line[1:3] for line in lines] == [
        ["start", "0.004"],
        ["photo", "0.02"],
        ["photo", "0.05"],
        ["2 photos, whole process", "0.04"],
    ]
    report = json.loads((tmp_path / "out/speed.json").read_text())
    assert report["threads"] == torch.get_num_threads()
    start, small, large, folder = report["rows"]
    assert tuple(small["parts"]) == tuple(large["parts"]) == PARTS
    assert small["parts"]["network"]["wall"] > 0
    assert small["parts"]["flow"] == {"wall": 0.0, "cpu": 0.0}
    assert small["share"] > 0
    assert start["whole"]["wall"] > 0 < folder["whole"]["wall"]
    assert sum(part["wall"] for part in large["parts"].values()) == pytest.approx(large["whole"]["wall"], rel=0.05)


def test_a_flow_is_told_apart_from_its_expert(capfd) -> None:
    arguments = ["--speed", "--model", "quick+flow:steps=1", "--megapixels", "0.02", "--dtype", "float32"]
    assert run_app(["bench", *arguments, "--json", "--quiet"]) == 0
    _, row = json.loads(capfd.readouterr().out)["rows"]
    assert row["model"].startswith("quick+flow:steps=1")
    assert row["parts"]["network"]["wall"] > 0 < row["parts"]["flow"]["wall"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["photos"], "--speed: makes its own photos; leave photos out"),
        (["--limit", "2"], "--limit: not with --speed, which makes its own photos"),
        (["--self"], "--self: not with --speed"),
        (["--megapixels", "big"], "--megapixels big: must be numbers, as in 1,6"),
        (["--megapixels", ""], "--megapixels: name a size"),
        (["--megapixels", "0"], "--megapixels 0: must be from 0.01 to 1000"),
        (["--photos", "1.5"], "--photos: must be whole numbers"),
        (["--engine", "steam"], "--engine steam: unknown; use one of auto, torch, openvino"),
        (["--model", "nothing"], "nothing"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_begun(arguments: list[str], text: str, monkeypatch, capfd) -> None:
    monkeypatch.setattr(speed, "load_model", lambda *_, **__: pytest.fail("begun"))
    assert run_app(["bench", "--speed", *arguments]) != 0
    streams = capfd.readouterr()
    assert streams.out == ""
    assert text in streams.err
    assert len(streams.err.splitlines()) == 1


def test_sizes_of_made_photos_without_speed_are_refused(tmp_path: Path, capfd) -> None:
    assert run_app(["bench", str(tmp_path), "--photos", "2"]) == 2
    assert "--photos: only with --speed" in capfd.readouterr().err


def test_a_made_photo_has_its_size_and_is_no_plain_surface() -> None:
    photo = make_photo(0.06)
    assert photo.shape == (200, 300, 3)
    assert photo.std() > 5
    assert np.array_equal(photo, make_photo(0.06))
    assert not np.array_equal(photo, make_photo(0.06, seed=1))


def test_the_machines_rate_is_that_of_a_matrix_product(monkeypatch) -> None:
    monkeypatch.setattr(speed, "MATRIX_SIDE", 256)
    assert measure_rate(torch.device("cpu"), torch.float32) > 1e8


def test_cells_are_seconds_per_megapixel() -> None:
    parts = {part: Spent(2.0, 1.0) for part in PARTS}
    rows = [
        SpeedRow("m", "photo", 4, 1, Spent(10, 8), "float32", parts, 0.5),
        SpeedRow("m", "start", 0.004, 1, Spent(1, 1)),
    ]
    heading, (photo, start) = speed_rows(rows)
    assert photo == ["m", "photo", "4", "float32", *["0.500"] * 5, "10.00", "8.00", "2.000", "0.50", "-"]
    assert len(heading) == len(photo) == len(start)
    assert start[4:9] == ["-"] * 5
