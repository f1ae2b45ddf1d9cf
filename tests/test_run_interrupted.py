"""`deblur run` that is stopped half way, by a signal or by who reads from it: in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from support.deblur_process import run_python, start_waiting
from support.photo_folders import photo, tree

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def many():
    """A folder of 200 photos, 5 of them broken."""
    template = photo("in/000.png").read_bytes()
    for number in range(200):
        whole = number % 40 != 20
        Path(f"in/{number:03}.png").write_bytes(template if whole else template[:60])


def wait_for(condition, process):
    for _ in range(600):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("nothing happened for 30 seconds")


def run_waiting(*arguments):
    """Status, report and lines of stderr of a run that nobody disturbs."""
    with start_waiting(["run", "in", "-o", "out", "--json", *arguments], seconds=0) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, json.loads(out), err.splitlines()


@contextmanager
def pressing_ctrl_c(seconds, cut="tiles"):
    """A run of two photos, of which the large one takes so many seconds a tile; Ctrl-C once the first is written."""
    photo("in/a.png")
    Image.new("RGB", (900, 900)).save("in/b.png")
    with start_waiting(["run", "in", "-o", "out"], seconds=0, large=seconds, cut=cut) as process:
        wait_for(lambda: Path("out/a.png").exists() and Path("a large tile is begun").exists(), process)
        process.send_signal(signal.SIGINT)
        yield process


def test_two_hundred_photos_killed_half_way_and_run_again_are_each_written_once(many):
    with start_waiting(["run", "in", "-o", "out", "--json"], seconds=0.02) as process:
        wait_for(lambda: len(list(Path().glob("out/*.png"))) >= 60, process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    report = json.loads(out)
    done = [result["output"] for result in report["results"] if result["status"] == "done"]
    assert 60 <= len(done) < 195
    assert tree("out") == sorted(Path(path).name for path in done)
    assert report["summary"]["remaining"] == 200 - len(report["results"])
    before = {path: path.stat().st_ino for path in Path("out").iterdir()}

    status, report, err = run_waiting()
    assert status == 3, err
    statuses = [result["status"] for result in report["results"]]
    counted = {status: statuses.count(status) for status in ("done", "skipped", "failed")}
    assert counted == {"done": 195 - len(done), "skipped": len(done), "failed": 5}
    assert len(tree("out")) == 195
    assert {path: path.stat().st_ino for path in before} == before
    assert sum(line.startswith("deblur: in/") for line in err) == 5

    status, report, _ = run_waiting("--quiet")
    assert (status, report["summary"]["skipped"], report["summary"]["done"]) == (3, 195, 0)


def test_a_run_killed_without_warning_leaves_nothing_that_the_next_does_not_mend(many):
    with start_waiting(["run", "in", "-o", "out"], seconds=0) as process:
        wait_for(lambda: len(list(Path().glob("out/*.png"))) >= 60, process)
        process.kill()
    status, report, _ = run_waiting("--quiet")
    assert status == 3
    assert report["summary"]["done"] + report["summary"]["skipped"] == 195
    assert len(tree("out")) == 195


@pytest.mark.parametrize("cut", ["tiles", "windows"])
def test_ctrl_c_drops_the_photo_in_work_and_leaves_no_partial_file(cut):
    with pressing_ctrl_c(0.05, cut) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == "out/a.png\n"
    assert tree("out") == ["a.png"]
    assert "Traceback" not in err
    assert "1 written, 1 not begun or not finished" in err


@pytest.mark.parametrize("cut", ["tiles", "windows"])
def test_a_second_ctrl_c_ends_at_once(cut):
    with pressing_ctrl_c(120, cut) as process:  # a tile; the first Ctrl-C waits for its end
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert tree("out") == ["a.png"]
    assert "Traceback" not in err


def test_a_reader_that_leaves_ends_the_run_quietly():
    for number in range(30):
        photo(f"in/{number}.png")
    with start_waiting(["run", "in", "-o", "out", "--quiet"], seconds=0.05) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        said = process.stderr.read()
    assert said.startswith("deblur: error: nobody reads standard output any more; ")
    assert said.endswith(" photos not begun or not finished, run again to go on\n")
    assert len(tree("out")) < 30


@pytest.mark.parametrize("report", ["--jsonl", "--json"])
def test_a_report_that_nobody_reads_is_told_in_one_line(report):
    photo("in/a.png")
    with start_waiting(["run", "in", "-o", "out", "--quiet", report], seconds=0) as process:
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr.read().count("\n") == 1


def test_help_that_nobody_reads_to_its_end_says_nothing():
    command = f"{sys.executable} -m deblur_cli run --help | true; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (answer.returncode in (0, 1), answer.stderr) == (True, "")


def test_ctrl_c_while_the_program_is_loaded_is_quiet():
    probe = "import signal, sys, deblur_cli.__main__ as main\n"
    probe += "sys.meta_path.insert(0, type('Now', (), {'find_spec': lambda *_: signal.raise_signal(signal.SIGINT)}))\n"
    probe += "main.main()"
    answer = run_python(["-c", probe])
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "")
