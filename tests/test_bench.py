"""`deblur bench` as a user types it: arguments -> exit status, stdout, stderr."""

import json
import os
import shutil
import sys

import pytest
from support.benchmark_factory import load_fake, write_pairs
from support.deblur_process import run_python
from support.start_up import PROBE

from deblur_cli import weights
from deblur_cli.benchmark import scoring
from deblur_cli.weights import ModelEntry


@pytest.fixture
def deblur(bench_command):
    return bench_command


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "photos", a=8, b=15)


def test_a_pipe_gets_tabs_and_the_layout_is_told_on_stderr(deblur, pairs):
    status, out, err = deblur("bench", pairs, "--metrics", "psnr,ssim")
    heading, nothing, model = [line.split("\t") for line in out.splitlines()]
    assert status == 0
    assert heading[:3] == ["dataset", "model", "psnr↑"]
    assert nothing[:2] == ["photos", "blurry"]
    assert model[:2] == ["photos", "standard"]
    assert "layout pairs, 2 photos" in err


def test_options_may_stand_before_the_folder(deblur, pairs):
    assert deblur("bench", "--metrics", "psnr", "--limit", "1", pairs)[0] == 0


def test_json_is_one_object_and_quiet_says_nothing_else(deblur, pairs):
    status, out, err = deblur("bench", pairs, "--metrics", "psnr", "--json", "--quiet")
    table = json.loads(out)
    assert (status, err) == (0, "")
    assert [row["name"] for row in table["models"]] == ["blurry", "standard"]
    assert len(table["images"]) == 4


def test_several_models_and_data_sets_in_one_run(deblur, pairs):
    status, out, _ = deblur("bench", pairs, pairs, "--model", "one", "--model", "lazy", "--metrics", "psnr")
    assert status == 0
    assert [line.split("\t")[:2] for line in out.splitlines()[1:]] == [
        [dataset, model] for dataset in ("photos", "photos-2") for model in ("blurry", "one", "lazy")
    ]


def test_one_model_with_several_settings_is_a_row_each(deblur, pairs, tmp_path):
    names = ["flow", "flow:steps=1", "flow:steps=8,strength=0.5"]
    wanted = [word for name in (*names, "flow:strength=.5,steps=8") for word in ("--model", name)]
    arguments = (*wanted, "--metrics", "psnr", "--report", tmp_path / "report", "--json", "--quiet")
    status, out, _ = deblur("bench", pairs, *arguments)
    table = json.loads(out)
    assert status == 0
    assert [row["name"] for row in table["models"]] == ["blurry", *names]
    assert [row["hashes"] for row in table["models"]] == [{}, *[{"weights": "ab" * 32}] * 3]
    assert len({row["scores"]["psnr"] for row in table["models"]}) == 4
    kept = {path.name for path in (tmp_path / "report" / "images" / "photos").iterdir()}
    assert kept == {"blurry", "sharp", *(name.replace(":", "@") for name in names)}
    folder = tmp_path / "report"
    status, out, _ = deblur("bench", "compare", folder, folder, "--models", ",".join(names[1:]))
    assert status == 0
    assert "flow:steps=1 -> flow:steps=8,strength=0.5" in out


def test_scores_are_computed_again_when_the_manifests_default_changes(deblur, pairs, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        scoring, "load_model", lambda model, **options: loaded.append(model) or load_fake(model, **options)
    )
    arguments = ("bench", pairs, "--model", "flow", "--metrics", "psnr", "--report", tmp_path, "--save-images", "0")
    for steps, times in ((2, 1), (2, 1), (3, 2)):
        entry = ModelEntry("flow", "dual_expert", "s", {}, flow={"steps": steps})
        monkeypatch.setattr(weights, "find_model", lambda name, entry=entry: entry)
        assert deblur(*arguments)[0] == 0
        assert len(loaded) == times


def test_environment_variables_set_the_options(deblur, pairs, monkeypatch):
    monkeypatch.setenv("DEBLUR_METRICS", "psnr")
    monkeypatch.setenv("DEBLUR_MODEL", "one lazy")
    monkeypatch.setenv("DEBLUR_LIMIT", "1")
    _, out, _ = deblur("bench", pairs, "--json")
    table = json.loads(out)
    assert [row["name"] for row in table["metrics"]] == ["psnr"]
    assert [row["name"] for row in table["models"]] == ["blurry", "one", "lazy"]
    assert table["datasets"][0]["images"] == 1


def test_the_report_folder_is_complete_and_compares_with_itself(deblur, pairs, tmp_path):
    folder = tmp_path / "report"
    status, _, err = deblur("bench", pairs, "--metrics", "psnr,ssim", "--report", folder)
    assert status == 0
    assert "report.html" in err
    assert {"report.json", "report.csv", "report.md", "report.html", "records.jsonl"} <= {
        path.name for path in folder.iterdir()
    }
    assert len(list((folder / "images").rglob("*.png"))) == 6
    assert [path.name for path in folder.rglob(".*")] == [".deblur-report.json"]
    status, out, _ = deblur("bench", "compare", folder, folder / "report.json")
    assert status == 0
    assert {line.split("\t")[-1] for line in out.splitlines()[1:]} == {"equal"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_photo_whose_name_is_no_text_is_measured_and_reported(deblur, pairs, tmp_path):
    for kind in ("blur", "sharp"):
        shutil.copy(pairs / kind / "a.png", pairs / kind / os.fsdecode(b"m\xff.png"))
    status, _, err = deblur("bench", pairs, "--metrics", "psnr", "--report", tmp_path / "report")
    assert status == 0, err
    assert b"m\xff.png" in (tmp_path / "report/report.csv").read_bytes()
    assert "m?.png" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


def test_compare_fails_when_a_limit_is_crossed(deblur, pairs, tmp_path):
    for kind in ("blur", "sharp"):  # five photos: fewer never decide
        for copy in ("d.png", "e.png", "f.png"):
            shutil.copy(pairs / kind / "a.png", pairs / kind / copy)
    for model in ("bundled", "lazy"):
        arguments = ("--metrics", "psnr", "--save-images", "0", "--report", tmp_path / model)
        assert deblur("bench", pairs, "--model", model, *arguments)[0] == 0
    compare = ("bench", "compare", tmp_path / "bundled", tmp_path / "lazy", "--models", "bundled,lazy")
    assert deblur(*compare)[0] == 0
    assert deblur(*compare, "--fail-below", "psnr=-20")[0] == 0
    status, out, err = deblur(*compare, "--fail-below", "psnr=-0.05")
    assert status == 1
    assert "photos/bundled -> lazy psnr -" in err
    assert "worse" in out
    status, out, _ = deblur(*compare, "--json")
    assert json.loads(out)["changes"][0]["verdict"] == "worse"
    (pairs / "blur/f.png").unlink()
    assert deblur("bench", pairs, "--model", "lazy", *arguments[:-1], tmp_path / "fewer", "--allow-missing")[0] == 0
    fewer = ("bench", "compare", tmp_path / "lazy", tmp_path / "fewer", "--fail-below", "psnr=-20", "--json")
    status, out, err = deblur(*fewer)
    table = json.loads(out)
    assert (status, table["crossed"], len(table["gaps"])) == (1, 0, 1)
    assert "1 of 5 photos with nothing to compare any more (blur/f.png)" in err


def test_a_broken_photo_makes_status_3_and_the_others_are_measured(deblur, pairs):
    path = pairs / "blur" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    status, out, err = deblur("bench", pairs, "--metrics", "psnr", "--json")
    assert status == 3
    assert "a.png" in err
    assert [row["scores"].get("psnr") is None for row in json.loads(out)["images"]] == [True, False] * 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no data set"),
        (("nowhere/gopro",), "seungjunnah"),
        (("PAIRS", "--metrics", "psnrr"), "known are psnr"),
        (("PAIRS", "--protocol", "best"), "known are auto, full"),
        (("PAIRS", "--limit", "0"), "--limit 0"),
        (("PAIRS", "--device", "tpu"), "unknown device"),
        (("PAIRS", "--device", "auto,cpu"), "name each"),
        (("PAIRS", "--dtype", "int8"), "--dtype int8"),
        (("PAIRS", "--model", "blurry"), "always a row"),
        (("PAIRS", "--model", "one:steps=1"), "--model one: takes no steps"),
        (("PAIRS", "--model", "flow:seed=1"), "must be NAME or NAME:steps=8"),
        (("PAIRS", "--metrik", "psnr"), "--metrik"),
        (("compare", "nowhere", "nowhere"), "cannot be read"),
        (("compare", "nowhere"), "AFTER"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_one_line(deblur, pairs, arguments, text):
    status, out, err = deblur("bench", *(pairs if word == "PAIRS" else word for word in arguments))
    assert status == 2
    assert out == ""
    assert text in err
    assert len(err.splitlines()) == 1


def test_a_report_that_cannot_be_made_is_found_before_the_work(deblur, pairs, tmp_path):
    (tmp_path / "file").write_text("x")
    status, _, err = deblur("bench", pairs, "--report", tmp_path / "file")
    assert status == 2
    assert "--report" in err


@pytest.mark.parametrize("arguments", [["bench", "--help"], ["bench", "compare", "-h"]])
def test_every_command_has_help_with_examples(deblur, arguments):
    status, out, _ = deblur(*arguments)
    assert status == 0
    assert "deblur bench compare" in out
    assert "measure" not in out.splitlines()[1]


def test_compare_needs_no_torch():
    answer = run_python(["-c", PROBE, "bench", "compare", "a", "b"])
    assert answer.returncode == 2
    said, heavy = answer.stderr.split("heavy: ")
    assert "a: cannot be read" in said
    assert "torch" not in heavy
