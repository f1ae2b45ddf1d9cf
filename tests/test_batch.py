import pickle
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.batch import origin, stages
from deblur_cli.batch.jobs import Job, Notice, PhotoFinished, PhotoStarted, PixelsDone
from deblur_cli.batch.local import run_batch
from deblur_cli.batch.stages import WriteOrder
from deblur_cli.batch.stamp import Stamp, stamped
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.image_io import read_photo, read_stamp
from deblur_cli.restoration.watch import Watch
from deblur_cli.system import files as atomic
from deblur_cli.system.files import hash_file

ORDER = WriteOrder(Stamp(model="fake", weights={}, options={}))


def invert(blurry, watch):
    watch.on_pixels(blurry.shape[0] * blurry.shape[1])
    watch.on_network(1e-6)
    watch.on_network(1e-6)
    return 255 - blurry


@pytest.fixture
def jobs(tmp_path):
    """Five photos, of which the third is broken."""
    made = []
    for number in range(5):
        source = tmp_path / "in" / f"{number}.png"
        source.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (number, 80, 70)).save(source)
        made.append(Job(source, tmp_path / "out" / "tree" / source.name, "png", "new", 6, 4))
    made[2].source.write_bytes(made[2].source.read_bytes()[:40])
    return made


def run(jobs, restore=invert, **options):
    """The outcome and the events of a batch."""
    events = []
    settings = {"emit": events.append, "stop": lambda: False, **options}
    return run_batch(jobs, restore, ORDER, **settings), events


def statuses(outcome):
    return [result.status for result in outcome.results]


def written(jobs):
    return [path.name for path in sorted(jobs[0].output.parent.glob("*"))]


def failing_at(number, fault):
    def restore(blurry, watch):
        if blurry[0, 0, 0] == number:
            raise fault
        return blurry

    return restore


def test_every_good_photo_is_restored_and_stamped_and_the_broken_one_named(jobs):
    outcome, _ = run(jobs)
    assert statuses(outcome) == ["done", "done", "failed", "done", "done"]
    assert outcome.fault is None
    for job in (jobs[0], jobs[4]):
        assert np.array_equal(read_photo(job.output).pixels, 255 - read_photo(job.source).pixels)
        assert stamped(read_stamp(job.output), "input_sha256") == hash_file(job.source)
    [failed] = outcome.failed
    assert str(jobs[2].source) in failed.error
    assert "\n" not in failed.error
    assert failed.error_type == "PhotoError"


def test_a_result_tells_size_depth_and_times(jobs):
    outcome, _ = run(jobs)
    result = outcome.results[0]
    assert (result.width, result.height, result.bits) == (6, 4, 8)
    assert result.network_seconds == pytest.approx(2e-6)
    assert result.network_seconds < result.seconds <= outcome.seconds
    assert outcome.megapixels == pytest.approx(4 * 24 / 1e6)
    assert outcome.network_seconds == pytest.approx(8e-6)


def test_events_tell_each_photo_once_and_never_two_at_a_time(jobs):
    talking = threading.Lock()
    events = []

    def listen(event):
        assert talking.acquire(blocking=False)
        events.append(event)
        talking.release()

    def restore(blurry, watch):
        watch.on_event("a smaller tile")
        return invert(blurry, watch)

    outcome, _ = run(jobs, restore, emit=listen)
    assert outcome.fault is None
    kinds = [type(event) for event in events]
    assert [kinds.count(kind) for kind in (PhotoStarted, PixelsDone, Notice, PhotoFinished)] == [4, 4, 4, 5]
    finished = [event.result.job for event in events if isinstance(event, PhotoFinished)]
    assert sorted(finished, key=jobs.index) == jobs


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (ValueError("odd\nshape"), "ValueError: odd shape"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (MemoryError(), "not enough memory for this photo"),
        (PhotoError("the network's answer is not finite"), "the network's answer is not finite"),
    ],
)
def test_whatever_one_photo_raises_is_recorded_in_one_line_and_the_others_are_written(jobs, fault, text):
    outcome, events = run(jobs, failing_at(1, fault))
    assert statuses(outcome) == ["done", "failed", "failed", "done", "done"]
    assert outcome.results[1].error == f"{jobs[1].source}: {text}"
    assert fault in [event.fault for event in events if isinstance(event, PhotoFinished)]


def test_a_photo_that_cannot_be_written_is_recorded(jobs):
    jobs[0].output.parent.mkdir(parents=True)
    jobs[1].output.mkdir()
    outcome, _ = run(jobs)
    assert statuses(outcome) == ["done", "failed", "failed", "done", "done"]


def test_fail_fast_stops_at_the_first_failure(jobs):
    outcome, _ = run(jobs, fail_fast=True)
    assert statuses(outcome) == ["done", "done", "failed"]
    assert written(jobs) == ["0.png", "1.png"]


def test_a_lost_device_ends_the_batch_after_the_finished_photos_are_written(jobs):
    gone = BackendError("the device is gone")
    outcome, _ = run(jobs, failing_at(1, gone))
    assert outcome.fault is gone
    assert statuses(outcome) == ["done", "failed"]
    assert written(jobs) == ["0.png"]


def test_a_full_disk_ends_the_batch(jobs, monkeypatch):
    full = BackendError("no space left")
    good = stages.write_photo

    def write(photo, path, **options):
        if path.name == "1.png":
            raise full
        return good(photo, path, **options)

    monkeypatch.setattr(stages, "write_photo", write)
    outcome, _ = run(jobs)
    assert outcome.fault is full
    assert statuses(outcome)[:2] == ["done", "failed"]
    assert written(jobs) == ["0.png"]


def test_stopping_drops_the_photo_in_the_network_and_keeps_the_finished_ones(jobs):
    stopping = threading.Event()

    def restore(blurry, watch):
        if blurry[0, 0, 0] == 1:
            stopping.set()
            raise RuntimeError("stopped between two tiles")
        return blurry

    outcome, _ = run(jobs, restore, stop=stopping.is_set)
    assert statuses(outcome) == ["done"]
    assert written(jobs) == ["0.png"]


def test_a_listener_that_fails_ends_the_batch_and_its_fault_is_handed_over(jobs):
    closed = BrokenPipeError()

    def listen(event):
        if isinstance(event, PhotoFinished):
            raise closed

    outcome, _ = run(jobs, emit=listen)
    assert outcome.fault is closed
    assert len(outcome.results) < len(jobs)


def test_an_interrupt_passes_through_and_takes_its_temporary_files_along(jobs):
    def restore(blurry, watch):
        own = jobs[0].output.with_name(".0.png.deblur-0-1.tmp")
        own.touch()
        atomic.own_files.add(own)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jobs, restore)
    assert written(jobs) == []


def test_only_one_photo_is_decoded_ahead(jobs, monkeypatch):
    good_jobs = [job for job in jobs if job is not jobs[2]]
    sources = {job.source for job in good_jobs}
    reads = set()
    good = origin.read_photo
    monkeypatch.setattr(origin, "read_photo", lambda path: reads.add(path) or good(path))
    seen = []

    def restore(blurry, watch):
        threading.Event().wait(0.1)
        seen.append(len(reads & sources))
        return blurry

    run(good_jobs, restore)
    assert all(count <= allowed for count, allowed in zip(seen, [2, 3, 4, 4], strict=True))


def test_reading_and_writing_go_on_while_the_network_works(jobs):
    """The network of the second photo waits until the third is being read and the first is written."""

    def restore(blurry, watch):
        if blurry[0, 0, 0] == 1:
            for _ in range(100):
                if jobs[0].output.exists():
                    return blurry
                threading.Event().wait(0.05)
            pytest.fail("the first photo is not written while the network works")
        return blurry

    outcome, _ = run(jobs, restore)
    assert len(outcome.done) == 4


def test_the_folders_are_made_only_when_there_is_something_to_write(jobs):
    run([jobs[2]])
    assert not Path(jobs[2].output).parent.exists()


def test_a_name_of_two_lines_is_told_on_one(tmp_path):
    source = tmp_path / "two\nlines  and spaces.png"
    source.write_bytes(b"no photo")
    outcome, _ = run([Job(source, tmp_path / "out.png", "png", "new")])
    assert outcome.failed[0].error.startswith(f"{tmp_path}/two lines  and spaces.png: not a photo")
    assert "\n" not in outcome.failed[0].error


def test_a_photo_that_is_gone_is_told_as_such(jobs):
    jobs[2].source.unlink()
    outcome, _ = run(jobs)
    assert outcome.failed[-1].error.startswith(f"{jobs[2].source}: cannot be read (No such file or directory)")


def test_a_photo_that_cannot_carry_the_stamp_is_written_and_told(jobs):
    source = jobs[0].source.with_name("damaged.jpg")
    Image.new("RGB", (6, 4)).save(source, xmp=b"<x:xmpmeta>no end")
    outcome, events = run([Job(source, jobs[0].output.with_name("damaged.jpg"), "jpeg", "new")])
    assert statuses(outcome) == ["done"]
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "its XMP is damaged and stays as it is, without the recipe; another run will ask for --overwrite"
    ]


def test_a_photo_that_does_not_fit_its_format_fails_before_the_network_and_the_others_are_written(jobs):
    wide = jobs[1].source
    Image.new("RGB", (17_000, 4)).save(wide)
    seen = []

    def count(blurry, watch):
        seen.append(blurry.shape[1])
        return blurry

    as_webp = [replace(job, file_format="webp") for job in jobs if job is not jobs[2]]
    outcome, _ = run(as_webp, count)
    assert [result.status for result in outcome.results] == ["done", "failed", "done", "done"]
    assert outcome.results[1].error == f"{wide}: 17000x4 is too large for webp; choose --format png or tiff"
    assert seen == [6, 6, 6]


def test_what_was_mended_or_left_out_in_reading_is_told(jobs):
    content = jobs[0].source.read_bytes()
    chunk = (0).to_bytes(4, "big") + b"caBX" + zlib.crc32(b"caBX").to_bytes(4, "big")
    jobs[0].source.write_bytes(content[:33] + chunk + content[33:])
    _, events = run(jobs[:1])
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["left out, since it belongs to the old pixels: its PNG chunks caBX"]


def send(value):
    """The value as another process gets it."""
    return pickle.loads(pickle.dumps(value))


def test_every_stage_may_be_done_by_another_process_and_the_file_is_the_same(jobs):
    run(jobs[:1])
    by_threads = jobs[0].output.read_bytes()
    jobs[0].output.unlink()
    piece = stages.read(send(jobs[0]), send(ORDER), lambda output: True)
    for stage, what in ((stages.restore, invert), (stages.write, ORDER)):
        piece = send(piece)
        stage(piece, send(what), Watch())
    assert jobs[0].output.read_bytes() == by_threads
    assert (piece.result().status, piece.result().network_seconds) == ("done", pytest.approx(2e-6))


def test_a_broken_photo_is_part_of_its_piece_wherever_it_was_read(jobs):
    piece = send(stages.read(jobs[2], ORDER, lambda output: pytest.fail("claimed what cannot be read")))
    assert piece.photo is None
    assert piece.result().error.startswith(f"{jobs[2].source}: ")


def test_a_photo_that_another_run_has_claimed_meanwhile_is_no_piece(jobs):
    assert stages.read(jobs[0], ORDER, lambda output: False) is None
