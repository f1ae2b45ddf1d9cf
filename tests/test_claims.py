"""Two runs on one output folder: each photo is made once, and a dead run keeps nothing from the others."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from deblur_cli.batch.jobs import Job, Notice, PhotoFinished
from deblur_cli.batch.local import run_batch
from deblur_cli.batch.stages import WriteOrder
from deblur_cli.batch.stamp import Stamp
from deblur_cli.system import claims
from deblur_cli.system.files import host

posix = pytest.mark.skipif(os.name == "nt", reason="no file locks of this kind there")

_HOLDER = """
import sys, time
from pathlib import Path
from deblur_cli.system import claims

print(claims.take(Path(sys.argv[1])) is not None, flush=True)
time.sleep(60)
"""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "a.jpg"


@pytest.fixture
def holder(output):
    """A process that has claimed the output."""
    with subprocess.Popen([sys.executable, "-c", _HOLDER, output], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout.readline() == "True\n"
        yield made
        made.kill()


def age(folder, seconds):
    [marker] = folder.iterdir()
    os.utime(marker, (time.time() - seconds, time.time() - seconds))


def test_one_has_it_the_other_not_and_after_the_release_nothing_is_left(output):
    first = claims.take(output)
    assert claims.is_taken(output)
    assert claims.take(output) is None
    first.release()
    first.release()
    assert not claims.is_taken(output)
    assert list(output.parent.iterdir()) == []


@posix
def test_the_claim_of_a_killed_run_is_taken_over_at_once(output, holder):
    assert claims.is_taken(output)
    claims.remove_stale([output.parent])
    assert claims.is_taken(output)
    holder.kill()
    holder.wait()
    claim = claims.take(output)
    assert claim is not None
    claim.release()


@posix
def test_markers_of_killed_runs_are_cleared_away(output, holder):
    holder.kill()
    holder.wait()
    claims.remove_stale([output.parent, output.parent / "not there yet"])
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(("content", "seconds"), [("another1", 3600), ("", 60)])
def test_the_claim_of_another_machine_counts_until_it_is_old(output, content, seconds):
    claims.take(output).marker.write_text(content)
    for descriptor_holder in tuple(claims.own_files):
        claims.own_files.discard(descriptor_holder)
    marker = next(output.parent.iterdir())
    marker.unlink()  # the lock above is on the old file
    marker.write_text(content)
    age(output.parent, seconds - 20)
    assert claims.take(output) is None
    age(output.parent, seconds + 20)
    claims.take(output).release()


@posix
@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_only_has_the_name_of_a_marker_stops_nobody(output, make):
    claim = claims.take(output)
    marker = claim.marker
    claim.release()
    make(marker)
    claim = claims.take(output)
    assert claim.marker is None
    claim.release()
    assert os.path.lexists(marker)


def test_without_a_folder_nothing_is_taken_and_nothing_waits(output):
    assert not claims.is_taken(output.parent / "none/a.jpg")
    assert claims.take(output.parent / "none/a.jpg").marker is None


def test_names_that_differ_only_at_their_ends_have_claims_of_their_own(output):
    long = [output.with_name("写" * 80 + end) for end in ("1.jpg", "2.jpg")]
    taken = [claims.take(path) for path in long]
    assert None not in taken
    for claim in taken:
        claim.release()


@pytest.fixture
def jobs(tmp_path):
    made = []
    for number in range(8):
        source = tmp_path / "in" / f"{number}.png"
        source.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (number, 80, 70)).save(source)
        made.append(Job(source, tmp_path / "out" / source.name, "png", "new", 6, 4))
    return made


def run(jobs, restore, *, overwrite=False, **options):
    events, order = [], WriteOrder(Stamp(model="fake", weights={}, options={}), overwrite=overwrite)
    settings = {"emit": events.append, "stop": lambda: False, **options}
    return run_batch(jobs, restore, order, **settings), events


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_at_once_make_each_photo_once(jobs, overwrite):
    made, outcomes = [], []

    def restore(blurry, watch):
        made.append(int(blurry[0, 0, 0]))
        time.sleep(0.03)
        return 255 - blurry

    runs = [
        threading.Thread(target=lambda: outcomes.append(run(jobs, restore, overwrite=overwrite)[0])) for _ in range(3)
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert sorted(made) == list(range(8))
    assert sum(len(outcome.done) for outcome in outcomes) == 8
    assert all(len(outcome.done) + len(outcome.skipped) == 8 for outcome in outcomes)
    assert sorted(path.name for path in jobs[0].output.parent.iterdir()) == [job.output.name for job in jobs]


@posix
def test_a_run_waits_for_another_and_makes_what_that_leaves_when_it_dies(jobs):
    jobs[0].output.parent.mkdir()
    command = [sys.executable, "-c", _HOLDER, jobs[0].output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()

        def restore(blurry, watch):
            if blurry[0, 0, 0] == 7:
                holder.kill()
            return blurry

        outcome, _ = run(jobs, restore)
    assert len(outcome.done) == 8


def test_waiting_is_told_and_ends_when_the_run_is_stopped(jobs):
    jobs[0].output.parent.mkdir()
    claim, told, finished = claims.take(jobs[0].output), [], []

    def listen(event):
        if isinstance(event, Notice):
            told.append(event.text)
        if isinstance(event, PhotoFinished):
            finished.append(event)

    outcome, _ = run(jobs[:2], lambda blurry, watch: blurry, emit=listen, stop=lambda: bool(told and finished))
    claim.release()
    assert [result.job.source.name for result in outcome.results] == ["1.png"]
    assert told == ["another run is at work on this photo; waiting for it"]


def test_a_file_that_comes_while_the_run_is_under_way_is_not_replaced(jobs):
    def restore(blurry, watch):
        if blurry[0, 0, 0] == 0:
            jobs[6].output.write_bytes(b"somebody else's")
        return blurry

    outcome, _ = run(jobs, restore)
    [failed] = outcome.failed
    assert "exists and was not made by this tool; use --overwrite" in failed.error
    assert jobs[6].output.read_bytes() == b"somebody else's"


def test_a_stopped_run_leaves_no_marker(jobs):
    stopping = threading.Event()

    def restore(blurry, watch):
        stopping.set()
        raise RuntimeError("stopped between two tiles")

    run(jobs, restore, stop=stopping.is_set)
    time.sleep(0.3)
    assert list(jobs[0].output.parent.iterdir()) == []


def test_the_marker_names_its_host(output):
    claim = claims.take(output)
    assert claim.marker.read_text() == host()
    claim.release()
