"""A report's folder as others leave it: edited journals, foreign files, formulas, two runs at once."""

import csv
import json
import shutil

import pytest
from support.benchmark_factory import load_fake, write_pairs

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.benchmark import scoring
from deblur_cli.benchmark.compare import read_report
from deblur_cli.benchmark.journal import FILE_NAME, Journal
from deblur_cli.errors import InputError
from deblur_cli.system import claims
from deblur_cli.weights import ModelEntry


@pytest.fixture
def bench(tmp_path, monkeypatch, capfd):
    """`deblur bench` of three pairs into tmp_path/report: status, and lines of stderr; and how often it restored."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "photos")
    loaded = []
    monkeypatch.setattr(weights, "find_model", lambda name: ModelEntry(name, "fake", "a fake", {}))
    monkeypatch.setattr(
        scoring, "load_model", lambda model, **options: loaded.append(model) or load_fake(model, **options)
    )

    def run(*more, data="photos"):
        status = run_app(
            ["bench", str(data), "--metrics", "psnr", "--report", "report", "--save-images", "1", "-q", *more]
        )
        return status, capfd.readouterr().err.splitlines()

    run.loaded = loaded
    run.folder = tmp_path / "report"
    return run


def lines_of(bench):
    return (bench.folder / FILE_NAME).read_bytes().splitlines()


def put(bench, *lines):
    (bench.folder / FILE_NAME).write_bytes(b"\n".join([*lines, b""]))


WRONG = [None, -1, "x", [[1]], {"a": 1}, float("nan"), 2**70]


@pytest.mark.parametrize(
    "place",
    [
        *(("score", name) for name in ("dataset", "image", "model", "width", "height", "scores", "seconds", "note")),
        ("score", "scores", "psnr"),
        *(("cost", name) for name in ("parameters", "peak_ram_mb", "device")),
        *((name,) for name in ("score", "cost", "key")),
    ],
    ids=".".join,
)
def test_an_edited_line_of_the_journal_is_read_or_computed_again_and_never_a_traceback(bench, place):
    assert bench() == (0, [])
    sound = lines_of(bench)
    for value in WRONG:
        record = json.loads(sound[-1])
        inner = record
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value
        put(bench, *sound[:-1], json.dumps(record).encode())
        assert bench() == (0, []), value


def test_a_record_that_is_said_to_be_of_another_photo_is_not_believed(bench):
    bench()
    sound = lines_of(bench)
    record = json.loads(sound[-1])
    record["score"]["image"] = json.loads(sound[-2])["score"]["image"]
    put(bench, *sound[:-1], json.dumps(record).encode())
    assert bench() == (0, [])
    images = [row.image for row in read_report(bench.folder).images]
    assert len(images) == 2 * len(set(images)) == 6


def test_deep_and_binary_lines_are_passed_over_and_a_torn_one_is_cut_off(bench):
    bench()
    sound = lines_of(bench)
    put(bench, b"\xff\xfe\0", b"[" * 200_000, b'{"key": 1}', *sound)
    before = len(bench.loaded)
    assert bench() == (0, [])
    assert len(bench.loaded) == before
    (bench.folder / FILE_NAME).write_bytes(b"\n".join(sound) + b'\n{"key": "ab')
    assert len(Journal(bench.folder).records) == len(sound)
    assert lines_of(bench) == sound


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_journal_of_something_else_is_left_as_it_is(bench, fresh):
    bench.folder.mkdir()
    (bench.folder / FILE_NAME).write_text('{"mine": true}\nnot the end of a line')
    status, err = bench(*fresh)
    assert status == 2
    text = "was not made by this tool; move it away, or choose another --report"
    assert err == [f"deblur: error: report/{FILE_NAME}: {text}"]
    assert (bench.folder / FILE_NAME).read_text() == '{"mine": true}\nnot the end of a line'


@pytest.mark.parametrize("name", ["report.json", "report.csv", "report.md", "report.html"])
def test_files_that_are_not_ours_or_were_edited_are_not_replaced(bench, name):
    bench.folder.mkdir()
    (bench.folder / name).write_text("my own")
    status, err = bench()
    assert (status, err) == (
        2,
        [f"deblur: error: report/{name}: was not made by this tool; move it away, or choose another --report"],
    )
    (bench.folder / name).unlink()
    assert bench() == (0, [])
    assert bench() == (0, [])
    with (bench.folder / name).open("a") as stream:
        stream.write("a remark")
    status, err = bench()
    assert status == 2
    assert "was changed since this tool wrote it" in err[0]
    assert (bench.folder / name).read_text().endswith("a remark")


def test_a_report_of_a_version_without_an_index_is_ours(bench):
    bench()
    (bench.folder / ".deblur-report.json").unlink()
    assert bench() == (0, [])


def test_a_run_that_was_killed_between_two_files_is_no_foreign_one(bench, monkeypatch):
    bench()
    older = {path.name: path.read_bytes() for path in bench.folder.glob("report.*")}
    index = json.loads((bench.folder / ".deblur-report.json").read_text())
    shutil.rmtree(bench.folder / "images")
    assert bench("--seed", "3") == (0, [])
    newer = json.loads((bench.folder / ".deblur-report.json").read_text())
    (bench.folder / "report.md").write_bytes(older["report.md"])
    both = {name: [*newer[name], *index[name]] for name in newer}
    (bench.folder / ".deblur-report.json").write_text(json.dumps(both))
    assert bench("--seed", "3") == (0, [])


def test_a_picture_that_is_not_ours_is_not_replaced(bench):
    bench()
    [picture, *_] = (bench.folder / "images").rglob("*.png")
    shutil.rmtree(bench.folder / "images")
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"my own")
    status, err = bench()
    assert status == 2
    assert "was not made by this tool" in err[0]
    assert picture.read_bytes() == b"my own"


@pytest.mark.parametrize("name", [FILE_NAME, "report.html", "images"])
def test_what_is_in_the_way_is_one_line(bench, name):
    bench.folder.mkdir()
    (bench.folder / name).mkdir() if name != "images" else (bench.folder / name).touch()
    status, err = bench()
    assert (status, len(err)) == (2, 1)
    assert f"report/{name}: is in the way" in err[0]


def test_two_benches_at_once_are_told_apart(bench):
    bench.folder.mkdir()
    claim = claims.take(bench.folder / "report.json")
    status, err = bench()
    assert (status, len(err)) == (2, 1)
    assert "another deblur bench is at work there" in err[0]
    claim.release()
    assert bench() == (0, [])
    assert bench() == (0, [])


@pytest.mark.parametrize("name", ["=cmd", "-2+3", "+1", "@SUM(1)", "\tx"])
def test_no_cell_of_the_table_is_a_formula(bench, name, tmp_path):
    for kind in ("blur", "sharp"):
        folder = tmp_path / "=evil" / kind
        folder.mkdir(parents=True)
        shutil.copy(tmp_path / "photos" / kind / "a.png", folder / f"{name}.png")
    assert bench(data="=evil") == (0, [])
    text = (bench.folder / "report.csv").read_text()
    cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t"))]
    assert not [cell for cell in cells if cell.startswith("-") and not cell[1:].replace(".", "").isdigit()]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: [],
        lambda table: {"mine": True},
        *(
            lambda table, key=key, value=value: {**table, key: value}
            for key in ("environment", "datasets", "metrics", "models", "images", "command")
            for value in (5, None, "x", [5], [[]], {"a": 1}, [{}])
        ),
        *(
            lambda table, key=key: {**table, "images": [{**table["images"][0], key: 2**70 if key == "width" else [1]}]}
            for key in ("dataset", "width", "scores", "seconds", "note")
        ),
    ],
)
def test_a_foreign_report_to_compare_is_one_line_that_names_it(bench, change):
    bench()
    table = json.loads((bench.folder / "report.json").read_text())
    changed = change(table)
    path = bench.folder.parent / "foreign.json"
    path.write_text(json.dumps(changed))
    if changed in ({**table, "environment": {"a": 1}}, {**table, "command": "x"}):
        return  # such a report may well be
    with pytest.raises(InputError, match=r"^[^\n]*foreign\.json[^\n]*$"):
        read_report(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "\0", "", "[]", "5"])
def test_a_file_that_is_no_report_is_one_line(tmp_path, text):
    (tmp_path / "foreign.json").write_text(text)
    with pytest.raises(InputError, match=r"^[^\n]*foreign\.json[^\n]*$"):
        read_report(tmp_path / "foreign.json")
