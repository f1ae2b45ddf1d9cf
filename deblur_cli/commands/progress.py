"""How work looks while it lasts: a bar on a terminal, a line every few seconds in a pipe, or nothing."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deblur_cli.commands.streams import write_note, write_result
from deblur_cli.system.wording import count

if TYPE_CHECKING:
    from deblur_cli.batch.jobs import Event, Job

_LINE_EVERY = 5.0  # seconds between two plain lines


@dataclass(slots=True)
class Gauge:
    """How far a piece of work is, in whatever it is counted: scores, bytes, seconds, megapixels."""

    total: float | None  # None where nobody knows
    done: float = 0.0
    text: str = ""  # the state in words, but for the time left
    name: str = ""  # of one piece of work among several that are shown together
    begun: float = 0.0  # what was done before the clock started
    steady: bool = True  # whether the pace so far says something about the rest
    clock: Callable[[], float] = time.perf_counter
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def rate(self) -> float:
        """What was done per second since the start."""
        return (self.done - self.begun) / max(self.clock() - self.started, 1e-6)

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at this rate; unknown without a total and before anything is done."""
        is_known = self.steady and self.total is not None and self.done > self.begun
        return max(0.0, (self.total or 0.0) - self.done) / self.rate if is_known else None

    def describe(self) -> str:
        """The state in one line."""
        left = self.seconds_left
        return self.text if left is None else f"{self.text}, {format_duration(left)} left"


@dataclass(slots=True)
class Meter(Gauge):
    """How far a batch is, counted in megapixels: photos differ too much in size to count by."""

    total_photos: int = 0
    photos: int = 0
    current: str = ""
    _finished: int = 0  # pixels of whole photos
    _partial: dict[Path, int] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: "Sequence[Job]", clock: Callable[[], float] = time.perf_counter) -> "Meter":
        """A meter at zero for these jobs, its clock running."""
        return cls(sum(job.pixels for job in jobs) / 1e6, clock=clock, total_photos=len(jobs))

    def see(self, event: "Event") -> None:
        """Take in an event of the batch; a failed photo counts as finished, nothing is left to do on it."""
        from deblur_cli.batch.jobs import PhotoFinished, PhotoStarted, PixelsDone

        match event:
            case PhotoStarted(job):
                self.current = job.source.name
            case PixelsDone(job, pixels):
                self._partial[job.source] = min(job.pixels, self._partial.get(job.source, 0) + pixels)
            case PhotoFinished(result):
                self._partial.pop(result.job.source, None)
                self._finished += result.job.pixels
                self.photos += 1
        self.done = (self._finished + sum(self._partial.values())) / 1e6

    def describe(self) -> str:
        """The state in one line."""
        self.text = f"{self.photos}/{count(self.total_photos, 'photo')}, {self.rate:.2f} MP/s"
        # Not super(): a dataclass with slots is made anew, and the bare call still means the first one.
        return Gauge.describe(self) + (f", {self.current}" if self.current else "")


class Display:
    """What a command writes to while it works; this one shows no progress."""

    def show(self, gauge: Gauge) -> None:
        """The work got further."""

    def note(self, text: str) -> None:
        """A line on stderr, in every mode."""
        write_note(text)

    def result(self, line: str) -> None:
        """A line on stdout."""
        write_result(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        """Nothing to close."""


class PlainDisplay(Display):
    """A line on stderr every few seconds, for logs and pipes; each piece of work has its own."""

    def __init__(self, every: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._every, self._clock, self._opened = every, clock, clock()
        self._last: dict[str, float] = {}

    def show(self, gauge: Gauge) -> None:
        """A line, when the last is old enough."""
        now = self._clock()
        if now - self._last.get(gauge.name, self._opened) >= self._every:
            self._last[gauge.name] = now
            write_note(gauge.describe())


class LiveDisplay(Display):
    """Bars at the bottom of the terminal, one for each piece of work; notes and results scroll above them."""

    def __init__(self, keep: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        column = Column(no_wrap=not keep, overflow="ellipsis")
        text = TextColumn("{task.fields[text]}", markup=False, table_column=column)
        self._progress = Progress(
            BarColumn(), text, console=Console(stderr=True), transient=not keep, redirect_stdout=False
        )
        self._tasks: dict[str, Any] = {}

    def show(self, gauge: Gauge) -> None:
        """Move the bar."""
        if gauge.name not in self._tasks:
            self._tasks[gauge.name] = self._progress.add_task("", text="")
        task = self._tasks[gauge.name]
        self._progress.update(task, total=gauge.total, completed=gauge.done, text=gauge.describe())

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.out(f"deblur: {text}", highlight=False)

    def result(self, line: str) -> None:
        """A line on stdout; above the bars when both share the terminal."""
        if sys.stdout.isatty():
            self._progress.console.out(line, highlight=False)
        else:
            write_result(line)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._progress.stop()


def choose_display(*, quiet: bool, every: float = _LINE_EVERY, keep: bool = False) -> Display:
    """The display that fits where stderr goes.

    Args:
        every: seconds between two lines in a pipe.
        keep: on a terminal the last state stays when the work is over.
    """
    if quiet:
        return Display()
    return LiveDisplay(keep) if sys.stderr.isatty() else PlainDisplay(every)


def format_duration(seconds: float) -> str:
    """A time a person can read at a glance."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
