"""How a batch looks while it works: a bar on a terminal, a line every few seconds in a pipe, or nothing."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from deblur_cli.commands.streams import write_note, write_result

if TYPE_CHECKING:
    from deblur_cli.batch.jobs import Event, Job

_LINE_EVERY = 5.0  # seconds between two plain lines


@dataclass(slots=True)
class Meter:
    """How far a batch is, counted in pixels: photos differ too much in size to count by."""

    total_photos: int
    total_pixels: int
    clock: Callable[[], float] = time.perf_counter
    photos: int = 0
    current: str = ""
    started: float = 0.0
    _done: int = 0
    _partial: dict[Path, int] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: "Sequence[Job]", clock: Callable[[], float] = time.perf_counter) -> "Meter":
        """A meter at zero for these jobs, its clock running."""
        return cls(len(jobs), sum(job.pixels for job in jobs), clock, started=clock())

    def see(self, event: "Event") -> None:
        """Take in an event of the batch."""
        from deblur_cli.batch.jobs import PhotoFinished, PhotoStarted, PixelsDone

        match event:
            case PhotoStarted(job):
                self.current = job.source.name
            case PixelsDone(job, pixels):
                self._partial[job.source] = min(job.pixels, self._partial.get(job.source, 0) + pixels)
            case PhotoFinished(result):
                self._partial.pop(result.job.source, None)
                self._done += result.job.pixels
                self.photos += 1

    @property
    def pixels(self) -> int:
        """Pixels finished; a failed photo counts as finished, nothing is left to do on it."""
        return self._done + sum(self._partial.values())

    @property
    def rate(self) -> float:
        """Megapixels per second since the start."""
        return self.pixels / 1e6 / max(self.clock() - self.started, 1e-6)

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at this rate; unknown before the first pixel."""
        return (self.total_pixels - self.pixels) / 1e6 / self.rate if self.pixels else None

    def describe(self) -> str:
        """The state in one line."""
        left = f", {format_duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        current = f", {self.current}" if self.current else ""
        return f"{self.photos}/{self.total_photos} photos, {self.rate:.2f} MP/s{left}{current}"


class Display(Protocol):
    """What the command writes to while a batch works."""

    def show(self, meter: Meter) -> None:
        """The batch got further."""

    def note(self, text: str) -> None:
        """A line on stderr, in every mode."""

    def result(self, line: str) -> None:
        """A line on stdout."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SilentDisplay:
    """No progress; notes and results pass through."""

    def show(self, meter: Meter) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """A line on stderr."""
        write_note(text)

    def result(self, line: str) -> None:
        """A line on stdout."""
        write_result(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


class PlainDisplay(SilentDisplay):
    """A line on stderr every few seconds, for logs and pipes."""

    def __init__(self, every: float = _LINE_EVERY, clock: Callable[[], float] = time.perf_counter) -> None:
        self._every, self._clock = every, clock
        self._last = clock()

    def show(self, meter: Meter) -> None:
        """A line, when the last is old enough."""
        if self._clock() - self._last >= self._every:
            self._last = self._clock()
            write_note(meter.describe())


class LiveDisplay(SilentDisplay):
    """A bar at the bottom of the terminal; notes and results scroll above it."""

    def __init__(self, meter: Meter) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        one_line = Column(no_wrap=True, overflow="ellipsis")
        text = TextColumn("{task.fields[text]}", markup=False, table_column=one_line)
        self._progress = Progress(
            BarColumn(), text, console=Console(stderr=True), transient=True, redirect_stdout=False
        )
        self._task = self._progress.add_task("", total=max(meter.total_pixels, 1), text=meter.describe())

    def show(self, meter: Meter) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=meter.pixels, text=meter.describe())

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.out(f"deblur: {text}", highlight=False)

    def result(self, line: str) -> None:
        """A line on stdout; above the bar when both share the terminal."""
        if sys.stdout.isatty():
            self._progress.console.out(line, highlight=False)
        else:
            write_result(line)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def choose_display(meter: Meter, *, quiet: bool) -> Display:
    """The display that fits where stderr goes."""
    if quiet:
        return SilentDisplay()
    return LiveDisplay(meter) if sys.stderr.isatty() else PlainDisplay()


def format_duration(seconds: float) -> str:
    """A time a person can read at a glance."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
