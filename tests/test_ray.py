"""`deblur run --ray` on a real cluster of three nodes on this machine: what one machine promises holds there, too."""

import json
import signal
import time
from pathlib import Path

import pytest
from support.photo_folders import photo, tree
from support.ray_machine import ray_machine, start_driver
from support.ray_network import DEADLY, SLOW, STUBBORN, TOO_LARGE

pytest.importorskip("ray", reason="Ray is not installed; pip install 'deblur-cli[ray]'")
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def machine():
    with ray_machine() as machine:
        yield machine


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def many(count, broken=()):
    for number in range(count):
        path = photo(f"in/{number:03}.png", shade=10 + number)
        if number in broken:
            path.write_bytes(path.read_bytes()[:60])


def deblur(*arguments):
    with start_driver("run", "in", *arguments) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err.splitlines()


def wait_for_results(count, process):
    for _ in range(3000):
        if len(list(Path("out").glob("*.png"))) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("no results for two and a half minutes")


def test_a_node_that_is_killed_half_way_costs_no_photo_and_changes_no_byte(machine):
    many(200)
    with start_driver("run", "in", "-o", "out", "--ray", machine.address) as process:
        wait_for_results(60, process)
        machine.kill_node()
        out, err = process.communicate(timeout=120)
    machine.add_node()
    assert process.returncode == 0, err
    assert sorted(out.splitlines()) == [f"out/{number:03}.png" for number in range(200)]
    assert "3 workers of Ray, 200 photos" in err
    assert "deblur: in/080.png: was inverted" in err.splitlines()
    assert deblur("-o", "alone", "-q")[0] == 0
    assert tree("out") == tree("alone")
    assert all(Path("out", name).read_bytes() == Path("alone", name).read_bytes() for name in tree("out"))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_stopped_half_way_goes_on_when_it_is_run_again(machine, end):
    many(200, broken=range(20, 200, 40))
    with start_driver("run", "in", "-o", "out", "--ray", machine.address, "--json") as process:
        wait_for_results(60, process)
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    if end == signal.SIGTERM:
        assert process.returncode == 143, err
        report = json.loads(out)
        assert tree("out") == sorted(Path(row["output"]).name for row in report["results"] if row["status"] == "done")
        assert report["summary"]["remaining"] == 200 - len(report["results"])
    before = {path: path.stat().st_ino for path in Path("out").glob("*.png")}
    assert 60 <= len(before) < 195
    status, out, err = deblur("-o", "out", "--ray", machine.address, "--json")
    assert status == 3, err
    statuses = [row["status"] for row in json.loads(out)["results"]]
    done, skipped, failed = (statuses.count(name) for name in ("done", "skipped", "failed"))
    assert (done + skipped, failed) == (195, 5)
    # Workers whose driver is gone without a word may finish what they hold before Ray ends them.
    assert skipped == len(before) if end == signal.SIGTERM else len(before) <= skipped <= len(before) + 6
    assert len(tree("out")) == 195
    assert before == {path: path.stat().st_ino for path in before}
    assert sum(line.startswith("deblur: in/") and "was inverted" not in line for line in err) == 5


def test_a_photo_that_kills_every_worker_is_named_and_the_others_are_written(machine):
    many(9)
    photo("in/deadly.png", shade=DEADLY)
    status, out, err = deblur("-o", "out", "--ray", machine.address)
    assert status == 3
    assert len(out.splitlines()) == 9
    died = "its workers died 3 times, the last because its process crashed or was killed, "
    assert f"deblur: in/deadly.png: {died}perhaps for want of memory" in err
    assert err[-1] == "deblur: error: 1 of 10 photos failed; the others are written"
    assert tree("out") == [f"{number:03}.png" for number in range(9)]


def test_a_photo_that_no_worker_has_the_memory_for_ends_the_run_as_on_one_machine(machine):
    photo("in/large.png", shade=TOO_LARGE)
    status, _, err = deblur("-o", "out", "--ray", machine.address)
    assert status == 1
    assert err[-1] == "deblur: error: in/large.png: out of memory on this worker; try --tile"
    assert tree("out") == []


def test_ctrl_c_ends_the_photos_in_work_and_leaves_no_partial_file(machine):
    many(4)
    for name in ("x", "y", "z"):
        photo(f"in/{name}.png", shade=SLOW)
    with start_driver("run", "in", "-o", "out", "--ray", machine.address) as process:
        wait_for_results(4, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "4 written, 3 not begun or not finished" in err
    assert "Traceback" not in err
    assert tree("out") == [f"{number:03}.png" for number in range(4)]


@pytest.mark.slow  # half a minute
def test_a_second_ctrl_c_ends_workers_that_do_not_listen_and_leaves_no_claim(machine):
    photo("in/a.png")
    photo("in/b.png", shade=STUBBORN)
    with start_driver("run", "in", "-o", "out", "--ray", machine.address) as process:
        wait_for_results(1, process)
        for _ in range(2):
            time.sleep(1)
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert tree("out") == ["a.png"]


def test_a_cluster_that_is_not_there_is_told_in_a_line(capfd):
    photo("in/a.png")
    status, out, err = deblur("-o", "out", "--ray", "127.0.0.1:1")
    assert (status, out, len(err)) == (1, "", 1)
    assert "--ray 127.0.0.1:1: nobody answers there" in err[0]
