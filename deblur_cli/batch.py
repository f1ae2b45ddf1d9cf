"""Jobs -> results: decode, network and encode overlap, and one bad photo never stops the others.

A reader thread decodes one photo ahead, the main thread runs the network, a writer thread encodes. Knows no
console and no torch: the network comes as a function, everything worth telling leaves as an event.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from numpy.typing import NDArray

from deblur_cli.errors import BackendError
from deblur_cli.events import Event, Notice, Outcome, PhotoFinished, PhotoStarted, PixelsDone, Result
from deblur_cli.image_io import Photo, check_fit, find_losses, read_photo, read_stamp, write_photo
from deblur_cli.leftovers import remove_dead_leftovers, remove_own_leftovers
from deblur_cli.plan import Job, output_folders
from deblur_cli.recipe import Recipe
from deblur_cli.weights import hash_file

Pixels = NDArray[Any]  # (H, W, 3), uint8 or uint16

_UNSTAMPED = "its XMP is damaged and stays as it is, without the recipe; another run will ask for --overwrite"
_POLL = 0.1  # seconds between two looks at the stop flag while a queue is full or empty


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the network tells and asks between two tiles."""

    on_event: Callable[[str], None]
    on_pixels: Callable[[int], None]
    on_network: Callable[[float], None]  # seconds that the network alone took
    stop: Callable[[], bool]


class Restore(Protocol):
    """The network as a batch sees it; may raise whatever it likes once `hooks.stop()` is true."""

    def __call__(self, blurry: Pixels, hooks: Hooks) -> Pixels: ...


@dataclass(frozen=True, slots=True)
class Work:
    """What is done to every photo, and who is told. `emit` is called from three threads, one at a time."""

    restore: Restore
    recipe: Recipe
    emit: Callable[[Event], None]
    stop: Callable[[], bool]
    quality: int | None = None
    fail_fast: bool = False


def run_batch(jobs: Sequence[Job], work: Work) -> Outcome:
    """Restore and write every job; failures of single photos are recorded, not raised.

    Stops early, with the finished photos written, when `work.stop()` is true, after the first failure under
    `fail_fast`, and on a fault of the machine (`Outcome.fault`). Removes what a killed run left behind.
    """
    folders = output_folders(jobs)
    remove_dead_leftovers(folders)
    batch = _Batch(jobs, work)
    try:
        return batch.run()
    except BaseException:  # a second Ctrl-C: threads are left alone, half-written files are not
        remove_own_leftovers(folders)
        raise


@dataclass(slots=True)
class _Piece:
    """One photo on its way through the three stages."""

    job: Job
    photo: Photo | None = None
    input_sha256: str = ""
    seconds: float = 0.0
    network_seconds: float = 0.0
    fault: Exception | None = None

    def result(self) -> Result:
        if self.fault is not None:
            line, kind = describe_fault(self.job, self.fault), type(self.fault).__name__
            return Result(self.job, "failed", line, kind, self.seconds, self.network_seconds)
        assert self.photo is not None
        height, width = self.photo.pixels.shape[:2]
        bits = self.photo.pixels.dtype.itemsize * 8
        times = (self.seconds, self.network_seconds)
        return Result(self.job, "done", "", "", *times, width=width, height=height, bits=bits)


@dataclass(slots=True)
class _Batch:
    jobs: Sequence[Job]
    work: Work
    results: list[Result] = field(default_factory=list)
    fault: Exception | None = None
    decoded: "queue.Queue[_Piece | None]" = field(default_factory=lambda: queue.Queue(1))
    restored: "queue.Queue[_Piece | None]" = field(default_factory=lambda: queue.Queue(1))
    ahead: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))
    halt: threading.Event = field(default_factory=threading.Event)
    telling: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Outcome:
        started = time.perf_counter()
        threading.Thread(target=self._read_all, name="reader", daemon=True).start()
        writer = threading.Thread(target=self._write_all, name="writer", daemon=True)
        writer.start()
        try:
            while (piece := self._next_decoded()) is not None:
                self._restore_one(piece)
            self.restored.put(None)
            while writer.is_alive():
                writer.join(_POLL)
        finally:
            self.halt.set()
        order = {job.source: index for index, job in enumerate(self.jobs)}
        results = sorted(self.results, key=lambda result: order[result.job.source])
        return Outcome(tuple(results), time.perf_counter() - started, self.fault)

    def _is_stopping(self) -> bool:
        return self.halt.is_set() or self.work.stop()

    def _abort(self, fault: Exception) -> None:
        self.fault = self.fault or fault
        self.halt.set()

    def _tell(self, event: Event) -> None:
        try:
            with self.telling:
                self.work.emit(event)
        except Exception as fault:  # nobody listens any more (a closed pipe); the caller raises it
            self._abort(fault)

    def _finish(self, piece: _Piece) -> None:
        result = piece.result()
        self.results.append(result)
        if piece.fault is not None and self.work.fail_fast:
            self.halt.set()
        self._tell(PhotoFinished(result, piece.fault))

    # The reader thread: one decoded photo waits at most, for memory's sake.

    def _read_all(self) -> None:
        for job in self.jobs:
            if not self._wait_until_taken():
                return
            self.decoded.put(self._read_one(job))
        if self._wait_until_taken():
            self.decoded.put(None)

    def _wait_until_taken(self) -> bool:
        while not self.ahead.acquire(timeout=_POLL):
            if self._is_stopping():
                return False
        return True

    def _read_one(self, job: Job) -> _Piece:
        piece, started = _Piece(job), time.perf_counter()
        try:
            piece.photo = read_photo(job.source)  # first: it knows how to tell a file that cannot be opened
            check_fit(piece.photo, job.source, file_format=job.file_format)
            piece.input_sha256 = hash_file(job.source)
        except Exception as fault:  # recorded: the batch goes on with the next photo
            piece.fault = fault
        piece.seconds = time.perf_counter() - started
        return piece

    # The main thread: the network.

    def _next_decoded(self) -> _Piece | None:
        while not self._is_stopping():
            try:
                piece = self.decoded.get(timeout=_POLL)
            except queue.Empty:
                continue
            self.ahead.release()
            return piece
        return None

    def _restore_one(self, piece: _Piece) -> None:
        if piece.fault is None:
            self._tell(PhotoStarted(piece.job))
            self._run_network(piece)
        if piece.fault is None:
            self.restored.put(piece)
        elif not self._is_stopping():  # a photo that was interrupted has not failed
            self._finish(piece)
            if isinstance(piece.fault, BackendError):
                self._abort(piece.fault)

    def _run_network(self, piece: _Piece) -> None:
        assert piece.photo is not None

        def count(seconds: float) -> None:
            piece.network_seconds += seconds

        hooks = Hooks(
            on_event=lambda text: self._tell(Notice(piece.job, text)),
            on_pixels=lambda pixels: self._tell(PixelsDone(piece.job, pixels)),
            on_network=count,
            stop=self._is_stopping,
        )
        started = time.perf_counter()
        try:
            piece.photo = replace(piece.photo, pixels=self.work.restore(piece.photo.pixels, hooks))
        except Exception as fault:  # recorded: the batch goes on with the next photo
            piece.fault = fault
        piece.seconds += time.perf_counter() - started

    # The writer thread: everything restored is written, whatever happens to the photos after it.

    def _write_all(self) -> None:
        can_write = True
        while (piece := self.restored.get()) is not None:
            if not can_write:
                continue  # the disk is full: take what still comes and drop it
            self._write_one(piece)
            self._finish(piece)
            can_write = not isinstance(piece.fault, BackendError)

    def _write_one(self, piece: _Piece) -> None:
        job, started = piece.job, time.perf_counter()
        try:
            assert piece.photo is not None
            for note in piece.photo.notes:
                self._tell(Notice(job, note))
            if losses := find_losses(piece.photo, job.file_format):
                self._tell(Notice(job, f"{job.file_format} has no place for {', '.join(losses)}"))
            job.output.parent.mkdir(parents=True, exist_ok=True)
            write_photo(
                piece.photo,
                job.output,
                file_format=job.file_format,
                quality=self.work.quality,
                stamp=self.work.recipe.stamp(file_format=job.file_format, input_sha256=piece.input_sha256),
                times_of=job.source,
            )
            if read_stamp(job.output) is None:
                self._tell(Notice(job, _UNSTAMPED))
        except Exception as fault:  # recorded: the batch goes on with the next photo
            piece.fault = fault
            if isinstance(fault, BackendError):
                self._abort(fault)
        piece.seconds += time.perf_counter() - started


def describe_fault(job: Job, fault: Exception) -> str:
    """One line that names the photo: the fault's own text, or the kind of an unexpected one."""
    text, source = _join_lines(str(fault)), _join_lines(str(job.source))
    if isinstance(fault, MemoryError):
        text = "not enough memory for this photo"
    elif not text or type(fault).__module__ == "builtins":
        text = f"{type(fault).__name__}: {text}" if text else type(fault).__name__
    return text if source in text else f"{source}: {text}"


def _join_lines(text: str) -> str:
    return " ".join(line for line in map(str.strip, text.splitlines()) if line)
