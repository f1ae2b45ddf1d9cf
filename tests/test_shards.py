"""A plan that is divided among machines: which part is whose, and that the parts together are the whole."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from support.photo_folders import photo, tree

from deblur_cli.errors import InputError
from deblur_cli.system.parts import Part, parse_part


@pytest.fixture
def run(command, inverting):
    return partial(command, "run")


@pytest.fixture
def bench(bench_command):
    return bench_command


SLURM = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.mark.parametrize(
    ("text", "environment", "part"),
    [
        ("1/1", {}, Part(0, 1)),
        ("3/8", SLURM, Part(2, 8)),
        ("auto", SLURM, Part(2, 4)),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MAX": "13", "SLURM_ARRAY_TASK_STEP": "1"}, Part(2, 4)),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MAX": "16", "SLURM_ARRAY_TASK_STEP": "2"}, Part(1, 4)),
        ("auto", {"SKYPILOT_JOB_RANK": "0", "SKYPILOT_NUM_JOBS": "16"}, Part(0, 16)),
    ],
)
def test_a_part_is_named_or_found_in_the_environment(text, environment, part):
    assert parse_part(text, environment) == part


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("0/4", {}, "from 1 to N"),
        ("5/4", {}, "from 1 to N"),
        ("1/0", {}, "from 1 to N"),
        ("1", {}, "must be I/N"),
        ("-1/4", {}, "must be I/N"),
        ("auto", {}, "none of SLURM_ARRAY_TASK_ID, SKYPILOT_JOB_RANK is set"),
        ("auto", {**SLURM, "SKYPILOT_JOB_RANK": "0"}, "are both set"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN is not set"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_COUNT": "many"}, "'many', no number"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MAX": "19"}, "has gaps"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_ID": "99"}, "has gaps"),
        ("auto", {"SKYPILOT_JOB_RANK": "4", "SKYPILOT_NUM_JOBS": "4"}, "is not below"),
    ],
)
def test_a_part_that_is_none_is_refused_in_a_line(text, environment, words):
    with pytest.raises(InputError, match=r"^--shard") as refusal:
        parse_part(text, environment)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def holiday():
    for number in range(10):
        photo(f"in/{number}.png", shade=10 * number)
    photo("in/sub/11.png")


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (3, 1, 4, 2)])
def test_the_shards_together_write_what_one_run_writes(run, holiday, order):
    run("in", "-r", "-o", "whole")
    written = []
    for number in order:
        status, out, _ = run("in", "-r", "-o", "parts", "--shard", f"{number}/4")
        assert (status, len(out) in (2, 3)) == (0, True)
        written += out
    assert len(written) == len(set(written)) == 11
    assert {name: Path("whole", name).read_bytes() for name in tree("whole")} == {
        name: Path("parts", name).read_bytes() for name in tree("parts")
    }


def test_a_shard_is_the_same_whatever_is_done_already_and_however_the_shell_sorts(run, holiday):
    photo("in/10.png")
    assert run("in/2.png", "in/10.png", "in/1.png", "-o", "out", "--shard", "1/2")[1] == ["out/1.png", "out/10.png"]
    assert run("in/1.png", "in/10.png", "in/2.png", "-o", "out", "--shard", "1/2")[1] == []
    assert run("in/1.png", "in/10.png", "in/2.png", "-o", "out", "--shard", "2/2")[1] == ["out/2.png"]


def test_a_shard_is_stable_while_results_appear_among_the_photos(run, holiday):
    for number in (1, 2, 3):
        assert run("in", "-r", "-o", "in", "--name", "{stem}_b{ext}", "--shard", f"{number}/3")[0] == 0
    assert len([name for name in tree("in") if name.endswith("_b.png")]) == 11


def test_names_are_checked_for_all_shards_before_one_begins(run):
    for name in ("a.png", "b.jpg", "c.png", "c.jpg"):
        photo(f"in/{name}")
    status, _, err = run("in", "-o", "out", "--format", "webp", "--shard", "1/4")
    assert (status, len(err)) == (2, 1)
    assert "inputs share one output: in/c.jpg and in/c.png" in err[0]
    assert not Path("out").exists()


def test_what_lies_at_the_outputs_of_another_shard_is_its_own_business(run, holiday):
    photo("out/1.png")
    assert run("in", "-o", "out", "--shard", "1/10")[:2] == (0, ["out/0.png"])
    assert run("in", "-o", "out", "--shard", "2/10")[0] == 2


def test_a_shard_without_a_photo_has_nothing_to_do(run):
    photo("in/a.png")
    status, out, err = run("in", "-o", "out", "--shard", "2/2")
    assert (status, out) == (0, [])
    assert err == ["deblur: nothing to do, shard 2/2 has no photo: there are fewer than shards"]


def test_reports_and_the_dry_run_name_the_shard(run, holiday):
    table = json.loads("\n".join(run("in", "-o", "out", "--dry-run", "--json", "--shard", "2/5")[1]))
    assert [job["input"] for job in table["plan"]] == ["in/1.png", "in/6.png"]
    assert table["summary"]["shard"] == "2/5"
    assert json.loads("\n".join(run("in", "-o", "out", "--json")[1]))["summary"]["shard"] is None


def test_slurm_numbers_the_shards(run, holiday, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DEBLUR_SHARD", "auto")
    assert run("in", "-o", "out")[1] == ["out/2.png", "out/6.png"]


@pytest.fixture
def two_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, names in (("one", "abcde"), ("two", "fgh")):
        for shade, name in enumerate(names):
            photo(f"{folder}/blur/{name}.png", shade=40 + shade)
            photo(f"{folder}/sharp/{name}.png", shade=50 + 3 * shade)
    Path("one/blur/c.png").write_bytes(Path("one/blur/c.png").read_bytes()[:60])


OPTIONS = ("--model", "plain", "--model", "lazy", "--metrics", "psnr,ssim")


def measure(bench, folder, *arguments):
    return bench("bench", "one", "two", *OPTIONS, "--report", folder, "--quiet", *arguments)[0]


def comparable(folder):
    """A report without what no two runs have in common: times and memory."""
    table = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    for row in table["models"]:
        del row["seconds_per_megapixel"], row["peak_ram_mb"]
    for row in table["images"]:
        del row["seconds"]
    del table["created"], table["command"]
    return table


def test_the_merged_report_is_the_report_of_one_run_to_the_last_digit(bench, two_sets):
    assert measure(bench, "whole") == 3
    assert [measure(bench, f"part{number}", "--shard", f"{number}/3") for number in (1, 2, 3)] == [0, 0, 3]
    status, out, err = bench("bench", "merge", "part3", "part1/report.json", "part2", "--report", "merged")
    assert status == 3
    assert "3 scores missing" in err
    assert out.startswith("dataset\tmodel\tpsnr↑\tssim↑\t")
    assert comparable("merged") == comparable("whole")
    assert bench("bench", "compare", "whole", "merged", "--fail-below", "psnr=0")[0] == 0
    kept = {name for part in (1, 2, 3) for name in tree(f"part{part}/images") if name != "kept.json"}
    assert {name for name in tree("merged/images") if name != "kept.json"} == kept
    before = {name: Path("merged", name).stat().st_ino for name in tree("merged") if name.startswith("images/one")}
    assert bench("bench", "merge", "part1", "part2", "part3", "--report", "merged")[0] == 3
    assert before == {name: Path("merged", name).stat().st_ino for name in before}


def test_more_shards_than_photos_merge_as_well(bench, two_sets):
    Path("one/blur/c.png").unlink()
    Path("one/sharp/c.png").unlink()
    assert measure(bench, "whole") == 0
    for number in range(1, 10):
        assert measure(bench, f"part{number}", "--shard", f"{number}/9") == 0
    folders = [f"part{number}" for number in range(9, 0, -1)]
    assert bench("bench", "merge", *folders, "--report", "merged")[0] == 0
    assert comparable("merged") == comparable("whole")


def test_what_does_not_belong_together_is_not_merged(bench, two_sets):
    shutil.rmtree("one")
    for number, more in ((1, ()), (2, ()), (3, ("--seed", "1"))):
        options = ("--model", "lazy", "--metrics", "psnr", "--quiet", "--shard", f"{min(number, 2)}/2")
        assert bench("bench", "two", *options, "--report", f"part{number}", *more)[0] == 0
    bench("bench", "two", "--model", "lazy", "--metrics", "psnr", "--report", "whole")
    for arguments, words in (
        (("part1", "part3"), "are parts of different plans"),
        (("part1",), "parts are missing: 2/2"),
        (("part1", "part2", "part2"), "is part 2/2 once more"),
        (("part1", "whole"), "whole: is the report of a whole run"),
        (("part1", "nothing"), "cannot be read"),
        (("part1", "part2", "--report", "part1"), "is one of the parts"),
    ):
        status, out, err = bench("bench", "merge", *arguments)
        assert (status, out, words in err) == (2, "", True), err
    assert bench("bench", "merge", "part1", "part2")[0] == 0


def test_part_picks_differ_by_one_entry_at_most():
    for count in (1, 2, 3, 7, 12):
        parts = [Part(index, count).pick(range(11)) for index in range(count)]
        assert sorted(entry for part in parts for entry in part) == list(range(11))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
