from pathlib import Path

import pytest

from deblur_cli.batch.jobs import Job, PhotoFinished, PhotoStarted, PixelsDone, Result
from deblur_cli.commands.progress import (
    Display,
    Gauge,
    LiveDisplay,
    Meter,
    PlainDisplay,
    choose_display,
    format_duration,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def job(name, width, height):
    return Job(Path(name), Path("out") / name, "jpeg", "new", width, height)


BIG, SMALL = job("big.jpg", 3000, 1000), job("small.jpg", 1000, 1000)


def test_the_time_left_is_reckoned_in_pixels_not_in_photos():
    clock = Clock()
    meter = Meter.of([BIG, SMALL], clock)
    assert meter.seconds_left is None
    meter.see(PhotoStarted(BIG))
    meter.see(PixelsDone(BIG, 1_000_000))
    clock.now = 2.0
    assert meter.rate == pytest.approx(0.5)
    assert meter.seconds_left == pytest.approx(6.0)
    assert meter.describe() == "0/2 photos, 0.50 MP/s, 6.0 s left, big.jpg"


def test_a_photo_that_ends_counts_whole_even_if_it_failed_before_its_first_pixel():
    meter = Meter.of([BIG, SMALL], Clock())
    meter.see(PixelsDone(BIG, 3_000_000))
    meter.see(PhotoStarted(SMALL))
    meter.see(PhotoFinished(Result(BIG, "done")))
    meter.see(PhotoFinished(Result(SMALL, "failed", "small.jpg: broken")))
    assert (meter.photos, meter.done) == (2, 4.0)
    assert meter.seconds_left == 0


def test_pixels_reported_twice_never_count_more_than_the_photo_has():
    meter = Meter.of([BIG], Clock())
    meter.see(PixelsDone(BIG, 2_000_000))
    meter.see(PixelsDone(BIG, 2_000_000))
    assert meter.done == 3.0


def test_a_pipe_gets_a_plain_line_every_few_seconds(capsys):
    clock = Clock()
    meter = Meter.of([SMALL], clock)
    display = PlainDisplay(every=5, clock=clock)
    for now in range(12):
        clock.now = float(now)
        display.show(meter)
    assert capsys.readouterr().err.splitlines() == ["deblur: 0/1 photo, 0.00 MP/s"] * 2


def test_pieces_of_work_that_are_shown_together_have_lines_of_their_own(capsys):
    clock = Clock()
    display = PlainDisplay(every=5, clock=clock)
    gauges = [Gauge(total, name=name, clock=clock) for name, total in (("a", 100.0), ("b", None))]
    for now in (4.0, 5.0, 6.0):
        clock.now = now
        for gauge in gauges:
            gauge.done, gauge.text = 10 * now, f"{gauge.name}: {10 * now:.0f} bytes"
            display.show(gauge)
    assert capsys.readouterr().err.splitlines() == ["deblur: a: 50 bytes, 5.0 s left", "deblur: b: 50 bytes"]


def test_no_time_left_is_told_where_nobody_can_know_it():
    clock = Clock()
    resumed = Gauge(100.0, 60.0, begun=60.0, clock=clock)
    uneven = Gauge(100.0, 60.0, steady=False, clock=clock)
    clock.now = 2.0
    assert (resumed.seconds_left, uneven.seconds_left) == (None, None)
    resumed.done = 80.0
    assert resumed.seconds_left == pytest.approx(2.0)


def test_the_display_fits_the_stream(monkeypatch):
    assert type(choose_display(quiet=True)) is Display
    assert type(choose_display(quiet=False)) is PlainDisplay
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert type(choose_display(quiet=False)) is LiveDisplay
    assert type(choose_display(quiet=True)) is Display


def test_the_live_display_passes_notes_and_results_on(capsys):
    meter = Meter.of([SMALL])
    with LiveDisplay() as display:
        display.note("a [bold] note: /path/with/:smile:/" + "x" * 200)
        display.result("out/ünï.jpg")
        display.show(meter)
    streams = capsys.readouterr()
    assert streams.out == "out/ünï.jpg\n"
    assert "deblur: a [bold] note: /path/with/:smile:/" + "x" * 200 in streams.err.splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (150, "2 min"), (9000, "2 h 30 min")]
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert format_duration(seconds) == text
