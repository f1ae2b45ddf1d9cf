"""`deblur run` from end to end, with a network that only inverts."""

import io
import json
import pickle
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.photo_folders import broken, photo, tree

from deblur_cli import backends, weights
from deblur_cli.commands.run_task import RestoreOrder
from deblur_cli.errors import BackendError
from deblur_cli.image_io import read_photo, write_photo
from deblur_cli.image_io.formats import sniff_format
from deblur_cli.restoration.watch import Watch
from deblur_cli.system.files import hash_file, host
from deblur_cli.weights.model_spec import resolve

pytestmark = pytest.mark.usefixtures("inverting")


@pytest.fixture
def deblur(command):
    return partial(command, "run")


def test_a_folder_becomes_a_folder_with_the_same_tree(deblur):
    for name in ("a.jpg", "day 1/ünï çödé.png", "day 1/x/写真.tif"):
        photo(f"in/{name}")
    status, out, err = deblur("in/", "-r", "-o", "out")
    assert status == 0
    assert out == ["out/a.jpg", "out/day 1/x/写真.tif", "out/day 1/ünï çödé.png"]
    assert err[0] == "deblur: standard on cpu in float32, 3 photos, 0.0 megapixels"
    assert err[-1].startswith("deblur: 3 written in ")
    assert tree("out") == tree("in")
    assert read_photo(Path("out/day 1/ünï çödé.png")).pixels[0, 0].tolist() == [165, 175, 185]


def test_one_photo_can_become_one_file(deblur):
    photo("a.jpg")
    assert deblur("a.jpg", "-o", "new/b.png")[:2] == (0, ["new/b.png"])
    assert sniff_format(Path("new/b.png").read_bytes(), Path("new/b.png")) == "png"


def test_globs_lists_names_and_formats_work_together(deblur, monkeypatch):
    for name in ("in/a.png", "in/b.png", "in/sub/c.jpg"):
        photo(name)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"in/sub/c.jpg\0")))
    status, out, _ = deblur(
        "in/*.png", "--files-from", "-", "-o", "out", "--name", "{stem}_sharp{ext}", "--format", "jpg"
    )
    assert (status, out) == (0, ["out/a_sharp.jpg", "out/b_sharp.jpg", "out/in/sub/c_sharp.jpg"])
    assert deblur("in/a.png", "-o", "out", "--name", "{stem}_{model}{ext}")[1] == ["out/a_standard.png"]


def test_options_come_from_the_environment_too(deblur, monkeypatch):
    photo("a.png")
    monkeypatch.setenv("DEBLUR_OUTPUT", "out")
    monkeypatch.setenv("DEBLUR_FORMAT", "webp")
    monkeypatch.setenv("DEBLUR_QUIET", "1")
    assert deblur("a.png") == (0, ["out/a.webp"], [])


def test_a_second_run_has_nothing_left_to_do(deblur):
    photo("in/a.jpg")
    photo("in/b.jpg")
    deblur("in", "-o", "out")
    before = {path: path.stat().st_ino for path in Path("out").iterdir()}
    assert deblur("in", "-o", "out") == (0, [], ["deblur: nothing left to do, 2 photos done before"])
    assert before == {path: path.stat().st_ino for path in Path("out").iterdir()}
    assert deblur("in", "-o", "out", "--seed", "1")[1] == ["out/a.jpg", "out/b.jpg"]
    assert deblur("in", "-o", "out", "--seed", "1", "--overwrite")[1] == ["out/a.jpg", "out/b.jpg"]


def test_verbose_tells_what_is_skipped_and_ignored(deblur):
    photo("in/a.jpg")
    Path("in/notes.txt").touch()
    deblur("in", "-o", "out")
    photo("in/b.jpg")
    _, out, err = deblur("in", "-o", "out", "-v")
    assert out == ["out/b.jpg"]
    assert "deblur: in/a.jpg: skipped, out/a.jpg was made by the same recipe" in err
    assert "deblur: 1 other file ignored" in err


def test_broken_photos_are_named_and_the_others_written(deblur):
    photo("in/a.jpg")
    broken("in/b.jpg")
    Path("in/c.png").touch()
    photo("in/d.jpg")
    status, out, err = deblur("in", "-o", "out", "--quiet")
    assert (status, out) == (3, ["out/a.jpg", "out/d.jpg"])
    assert len(err) == 3
    assert err[0].startswith("deblur: in/b.jpg: ")
    assert err[1].startswith("deblur: in/c.png: ")
    assert err[2] == "deblur: error: 2 of 4 photos failed; the others are written"
    assert tree("out") == ["a.jpg", "d.jpg"]


def test_the_only_photo_failing_is_status_3_too(deblur):
    broken("a.jpg")
    status, _, err = deblur("a.jpg", "-o", "b.jpg")
    assert status == 3
    assert err[-1] == "deblur: error: 1 of 1 photo failed; none is written"
    assert tree(".") == ["a.jpg"]


def test_fail_fast_stops_at_the_first(deblur):
    broken("in/a.jpg")
    photo("in/b.jpg")
    status, out, err = deblur("in", "-o", "out", "--fail-fast")
    assert (status, out) == (3, [])
    assert err[-1] == "deblur: error: 1 of 2 photos failed; stopped there"


def test_a_fault_of_the_machine_is_status_1(deblur, monkeypatch):
    photo("in/a.jpg")

    def refuse(name, device, **_):
        raise BackendError(f"--device {device}: this machine has none")

    monkeypatch.setattr(backends, "load_model", refuse)
    answer = (1, [], ["deblur: error: --device cuda:7: this machine has none"])
    assert deblur("in", "-o", "out", "--device", "cuda:7") == answer
    assert not Path("out").exists()


def test_a_device_lost_in_the_middle_is_status_1_and_still_reported(deblur, inverting):
    photo("in/a.jpg")

    def lose(blurry):
        raise BackendError("the device is gone")

    inverting.answer = lose
    status, out, err = deblur("in", "-o", "out", "--json")
    assert status == 1
    assert err[-1] == "deblur: error: the device is gone"
    report = json.loads("\n".join(out))
    assert report["summary"]["error"] == "the device is gone"
    assert report["results"][0]["status"] == "failed"


def test_an_unknown_model_is_status_1_and_lists_the_known_ones(deblur, monkeypatch):
    monkeypatch.undo()
    status, out, err = deblur("a.jpg", "-o", "out", "--model", "sharpest")
    assert (status, out) == (1, [])
    assert len(err) == 1
    assert "--model sharpest: unknown model; known are" in err[0]


def test_the_json_report_tells_everything_once(deblur):
    photo("in/a.jpg")
    deblur("in", "-o", "out", "--quiet")
    photo("in/b.tif")
    broken("in/c.jpg")
    status, out, err = deblur("in", "-o", "out", "--json", "--quiet", "--tile", "64")
    assert status == 3
    status, out, err = deblur("in", "-o", "out", "--json", "--quiet", "--tile", "64")
    report = json.loads("\n".join(out))
    assert (report["schema"], report["tool"]) == (1, "deblur-cli")
    assert report["model"] == {"name": "standard", "weights": {}}
    assert (report["device"], report["dtype"], report["tile"]) == ("cpu", "float32", 64)
    assert report["options"] == {"dtype": "auto", "seed": 0, "tile": 64, "where": "auto"}
    assert [result["status"] for result in report["results"]] == ["skipped", "skipped", "failed"]
    assert report["results"][2]["error"]["code"] == "PhotoError"
    assert err[0] == f"deblur: {report['results'][2]['error']['message']}"
    counted = {key: report["summary"][key] for key in ("done", "skipped", "failed", "remaining")}
    assert counted == {"done": 0, "skipped": 2, "failed": 1, "remaining": 0}


def test_the_json_report_of_a_written_photo_has_its_size_and_times(deblur):
    photo("a.png")
    report = json.loads("\n".join(deblur("a.png", "-o", "out", "--json")[1]))
    [result] = report["results"]
    assert (result["input"], result["output"], result["status"]) == ("a.png", "out/a.png", "done")
    assert (result["reason"], result["error"]) == ("new", None)
    assert (result["width"], result["height"], result["bits"]) == (12, 8, 8)
    assert 0 < result["network_seconds"] <= result["seconds"] <= report["summary"]["seconds"]
    assert report["summary"]["megapixels"] == pytest.approx(96e-6, abs=1e-4)


def test_json_lines_tell_start_files_and_end_in_order(deblur):
    photo("in/a.jpg")
    deblur("in", "-o", "out")
    photo("in/b.jpg")
    _, out, _ = deblur("in", "-o", "out", "--jsonl")
    events = [json.loads(line) for line in out]
    assert [event["event"] for event in events] == ["start", "file", "file", "end"]
    assert [event["status"] for event in events[1:3]] == ["skipped", "done"]
    counts = {"photos": 2, "new": 1, "replace": 0, "skip": 1, "ignored": 0, "megapixels": 0.0001}
    assert events[0]["plan"] == counts | {"results_left_out": 0, "folders_not_listed": [], "shard": None}
    assert events[-1]["summary"]["done"] == 1


def test_reports_are_made_even_when_nothing_is_left_to_do(deblur):
    photo("a.jpg")
    deblur("a.jpg", "-o", "out")
    report = json.loads("\n".join(deblur("a.jpg", "-o", "out", "--json")[1]))
    assert [result["status"] for result in report["results"]] == ["skipped"]
    assert report["device"] is None


def test_a_dry_run_shows_the_plan_writes_nothing_and_loads_no_model(deblur, monkeypatch):
    photo("in/a.jpg")
    photo("in/c.jpg")
    deblur("in/a.jpg", "-o", "out")
    deblur("in/c.jpg", "-o", "out", "--seed", "3")
    photo("in/b.jpg")
    monkeypatch.setattr(backends, "load_model", lambda *_, **__: pytest.fail("loaded a model"))
    before = tree(".")
    assert deblur("in", "-o", "out", "--dry-run")[:2] == (
        0,
        [
            "input\toutput\taction",
            "in/a.jpg\tout/a.jpg\tskip",
            "in/b.jpg\tout/b.jpg\tnew",
            "in/c.jpg\tout/c.jpg\treplace",
        ],
    )
    planned = json.loads("\n".join(deblur("in", "-o", "out", "--dry-run", "--json")[1]))
    assert [job["action"] for job in planned["plan"]] == ["skip", "new", "replace"]
    lines = [json.loads(line) for line in deblur("in", "-o", "out", "--dry-run", "--jsonl")[1]]
    assert [line["event"] for line in lines] == ["start", "plan", "plan", "plan", "end"]
    assert tree(".") == before


def test_a_dry_run_names_the_photos_that_will_not_fit_their_format(deblur):
    photo("in/a.jpg")
    Image.new("RGBA", (12, 8), (90, 80, 70, 40)).save("in/b.png")
    status, lines, notes = deblur("in", "-o", "out", "--format", "jpg", "--dry-run")
    assert (status, len(lines)) == (0, 3)
    assert [note for note in notes if "in/b.png: will fail: it has transparency" in note]
    planned = json.loads("\n".join(deblur("in", "-o", "out", "--format", "jpg", "--dry-run", "--json")[1]))
    assert [bool(job["misfit"]) for job in planned["plan"]] == [False, True]
    assert deblur("in/b.png", "-o", "out", "--format", "jpg")[0] == 2


@pytest.fixture
def loaded(inverting, monkeypatch):
    """A model `flow` with a flow beside all others, which are experts alone; what was asked of it when loaded."""
    asked = []

    def find_model(name):
        table = {"steps": 4, "strength": 0.75, "keep_low": False}
        kind = ("dual_expert", table) if name == "flow" else ("expert", {})
        return weights.ModelEntry(name, kind[0], "s", {}, flow=kind[1])

    def load_model(model, **_):
        file = model.expert.files["expert"].local if model.expert else ""
        asked.append((model.name, *map(model.settings.get, ("steps", "strength")), file))
        return inverting

    monkeypatch.setattr(weights, "find_model", find_model)
    monkeypatch.setattr(backends, "load_model", load_model)
    return asked


def test_the_stamp_has_the_steps_and_the_strength_and_another_strength_does_the_photos_again(deblur, loaded):
    photo("in/a.jpg")
    run = ("in", "-o", "out", "--model", "flow", "--json", "--quiet")
    report = json.loads("\n".join(deblur(*run)[1]))
    settings = {"steps": 4, "strength": 0.75, "keep_low": False}
    assert report["options"] == {"dtype": "auto", "seed": 0, "where": "auto", **settings}
    for options, status in (
        ((), "skipped"),
        (("--steps", "4"), "skipped"),
        (("--strength", "0.75"), "skipped"),
        (("--strength", "0.5"), "done"),
        (("--strength", "0.5"), "skipped"),
        (("--steps", "8", "--strength", "0.5"), "done"),
    ):
        report = json.loads("\n".join(deblur(*run, *options)[1]))
        assert [result["status"] for result in report["results"]] == [status], options
    assert loaded == [("flow", 4, 0.75, ""), ("flow", 4, 0.5, ""), ("flow", 8, 0.5, "")]


def test_a_specification_says_the_same_as_the_options_which_outdo_it(deblur, loaded, monkeypatch):
    photo("a.jpg")
    assert deblur("a.jpg", "-o", "out", "--model", "flow:steps=2,strength=0.5", "--name", "{stem}_{model}{ext}")[1] == [
        "out/a_flow.jpg"
    ]
    monkeypatch.setenv("DEBLUR_STEPS", "8")
    assert deblur("a.jpg", "-o", "out", "--model", "flow:steps=2,strength=0.5")[0] == 0
    assert loaded == [("flow", 2, 0.5, ""), ("flow", 8, 0.5, "")]


def test_an_expert_alone_takes_neither_steps_nor_strength(deblur, loaded):
    for options, name in ((("--steps", "4"), "steps"), (("--strength", "0"), "strength")):
        answer = deblur("a.jpg", "-o", "out", *options)
        text = f"deblur: error: --model standard: takes no {name}, it is an expert alone, without a flow; leave it out"
        assert answer == (2, [], [text])
    assert not loaded


def test_a_file_takes_the_place_of_the_expert_in_a_model_with_a_flow(deblur, loaded, monkeypatch):
    photo("a.jpg")
    Path("b.pth").write_bytes(b"weights")
    both = ("a.jpg", "-o", "out", "--expert", "b.pth", "--model", "flow")
    report = json.loads("\n".join(deblur(*both, "--json")[1]))
    assert report["model"] == {"name": "flow", "weights": {"expert": hash_file(Path("b.pth"))}}
    assert loaded == [("flow", 4, 0.75, "b.pth")]
    assert deblur("a.jpg", "-o", "out", "--expert", "b.pth", "--model", "other")[0] == 2
    monkeypatch.setenv("DEBLUR_EXPERT", "b.pth")
    deblur("a.jpg", "-o", "out2", "--model", "flow")
    assert loaded[1:] == [("flow", 4, 0.75, "")]  # the command line outdoes the environment


def test_a_model_that_is_not_trained_is_refused_before_photos_are_opened(deblur, monkeypatch):
    line = "deblur train flow --base sd3-medium"
    entry = weights.ModelEntry("big", "dual_expert", "s", {}, untrained=line)
    monkeypatch.setattr(weights, "find_model", lambda name: entry)
    answer = (1, [], [f"deblur: error: big: is not trained yet; {line}"])
    assert deblur("nowhere.jpg", "-o", "out", "--model", "big") == answer


def test_sixteen_bit_stays_and_is_told_when_the_format_has_no_place_for_it(deblur):
    deep = replace(read_photo(photo("a.png")), pixels=np.full((8, 12, 3), 1000, np.uint16))
    write_photo(deep, Path("a.png"), file_format="png", quality=None, stamp=None, times_of=None)
    deblur("a.png", "-o", "out")
    assert read_photo(Path("out/a.png")).pixels[0, 0].tolist() == [64535] * 3
    status, out, err = deblur("a.png", "-o", "out", "--format", "webp", "--quiet")
    assert (status, out) == (0, ["out/a.webp"])
    assert err == ["deblur: a.png: webp has no place for 16 bit"]


def test_what_a_killed_run_left_is_removed_by_the_next(deblur):
    photo("in/a.png")
    Path("out").mkdir()
    Path(f"out/.a.png.deblur-{host()}-0123456789abcdef.tmp").write_bytes(b"half")
    Path("out/.a.png.12345678.deblur-claim").write_text(host())
    assert deblur("in", "-o", "out")[0] == 0
    assert tree("out") == ["a.png"]


def test_the_time_of_the_network_is_told_apart_from_the_time_around_it(deblur, inverting):
    photo("a.png")

    def wait(blurry):
        time.sleep(0.2)
        return blurry

    inverting.answer = wait
    summary = json.loads("\n".join(deblur("a.png", "-o", "out", "--json")[1]))["summary"]
    assert 0.2 <= summary["network_seconds"] < summary["seconds"]


def test_the_order_to_restore_can_be_sent_to_whoever_loads_the_model():
    order = RestoreOrder(resolve("standard"), "cpu", "float32", None, 0)
    sent = pickle.loads(pickle.dumps(order))
    assert sent == order
    pixels = np.full((8, 12, 3), 40, np.uint8)
    assert np.array_equal(sent.load()(pixels, Watch()), 255 - pixels)


@pytest.mark.parametrize("arguments", [("s3://bucket/in", "-o", "out"), ("in", "-o", "gs://bucket/out")])
def test_addresses_of_storage_services_are_refused(deblur, arguments):
    photo("in/a.png")
    status, _, err = deblur(*arguments)
    assert (status, len(err)) == (2, 1)
    assert "is no path of a file system; mount that storage" in err[0]
    assert tree(".") == ["in/a.png"]
