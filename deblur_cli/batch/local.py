"""Jobs -> results: decode, network and encode overlap, and one bad photo never stops the others.

A reader thread decodes one photo ahead, the main thread runs the network, a writer thread encodes. Knows no
console and no torch: the network comes as a function, everything worth telling leaves as an event.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from deblur_cli.batch.events import Event, Notice, Outcome, PhotoFinished, PhotoStarted, PixelsDone, Result
from deblur_cli.batch.jobs import Job, decide_again
from deblur_cli.batch.origin import read_original
from deblur_cli.batch.piece import Piece
from deblur_cli.batch.plan import output_folders
from deblur_cli.batch.stamp import Stamp
from deblur_cli.errors import BackendError
from deblur_cli.image_io import Photo, check_fit, find_losses, read_stamp, write_photo
from deblur_cli.system import claims
from deblur_cli.system.atomic import find_leftovers, is_leftover_of, remove_leftovers, remove_own_files

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
    recipe: Stamp
    emit: Callable[[Event], None]
    stop: Callable[[], bool]
    quality: int | None = None
    fail_fast: bool = False
    overwrite: bool = False


def run_batch(jobs: Sequence[Job], work: Work) -> Outcome:
    """Restore and write every job; failures of single photos are recorded, not raised.

    Stops early, with the finished photos written, when `work.stop()` is true, after the first failure under
    `fail_fast`, and on a fault of the machine (`Outcome.fault`). Removes what a killed run left behind.
    """
    batch = _Batch(jobs, work, clear_away(jobs))
    try:
        return batch.run()
    except BaseException:  # a second Ctrl-C: threads are left alone, half-written files are not
        remove_own_files()
        raise


def clear_away(jobs: Sequence[Job]) -> list[Path]:
    """Remove what killed runs left beside these outputs; the temporary files that are too young to be sure of."""
    folders = output_folders(jobs)
    claims.remove_stale(folders)
    return remove_leftovers(find_leftovers(folders))


@dataclass(slots=True)
class _Batch:
    jobs: Sequence[Job]
    work: Work
    leftovers: list[Path]  # too young to be removed by another than who has claimed the photo
    results: list[Result] = field(default_factory=list)
    held: set[claims.Claim] = field(default_factory=set)
    claiming: threading.Lock = field(default_factory=threading.Lock)  # no claim is taken once the batch has ended
    fault: Exception | None = None
    decoded: "queue.Queue[Piece | None]" = field(default_factory=lambda: queue.Queue(1))
    restored: "queue.Queue[Piece | None]" = field(default_factory=lambda: queue.Queue(1))
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
            with self.claiming:
                self.halt.set()
                for claim in tuple(self.held):
                    claim.release()
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

    def _finish(self, piece: Piece) -> None:
        result = piece.result()
        self.results.append(result)
        if piece.claim is not None:
            self.held.discard(piece.claim)
            piece.claim.release()
        if piece.fault is not None and self.work.fail_fast:
            self.halt.set()
        self._tell(PhotoFinished(result, piece.fault))

    # The reader thread: one decoded photo waits at most, for memory's sake.

    def _read_all(self) -> None:
        left = [job for job in self.jobs if not self._read_one(job)]
        for job in left:
            while not (self._is_stopping() or self._read_one(job)):
                self._wait_for_other(job)
        if self._wait_until_taken():
            self.decoded.put(None)

    def _wait_until_taken(self) -> bool:
        while not self.ahead.acquire(timeout=_POLL):
            if self._is_stopping():
                return False
        return True

    def _wait_for_other(self, job: Job) -> None:
        """Until the run that has claimed this photo has finished it, or is dead."""
        self._tell(Notice(job, "another run is at work on this photo; waiting for it"))
        while claims.is_taken(job.output) and not self.halt.wait(_POLL) and not self._is_stopping():
            pass

    def _read_one(self, job: Job) -> bool:
        """Read a photo for the network; False while another run is at work on it."""
        if claims.is_taken(job.output):
            return False
        if not self._wait_until_taken():
            return True
        piece, started = Piece(job), time.perf_counter()
        try:
            if not self._prepare(piece):
                self.ahead.release()
                return False
        except Exception as fault:  # recorded: the batch goes on with the next photo
            piece.photo, piece.fault = None, fault
        piece.seconds = time.perf_counter() - started
        self.decoded.put(piece)
        return True

    def _prepare(self, piece: Piece) -> bool:
        """Read the photo and claim it, unless it is done meanwhile; False when another run was faster."""
        piece.job = self._decide_again(piece.job)
        if piece.job.action == "skip":
            return True
        photo, piece.origin = read_original(piece.job.source)
        check_fit(photo, piece.job.source, file_format=piece.job.file_format)
        if not self._claim(piece):
            return False
        piece.job = self._decide_again(piece.job)
        piece.photo = photo if piece.job.action != "skip" else None
        return True

    def _decide_again(self, job: Job) -> Job:
        return decide_again(job, self.work.recipe, overwrite=self.work.overwrite)

    def _claim(self, piece: Piece) -> bool:
        output = piece.job.output
        output.parent.mkdir(parents=True, exist_ok=True)
        with self.claiming:
            piece.claim = None if self.halt.is_set() else claims.take(output)
            if piece.claim is None:
                return False
            self.held.add(piece.claim)
        remove_leftovers([path for path in self.leftovers if is_leftover_of(path, output)], age=0)
        return True

    # The main thread: the network.

    def _next_decoded(self) -> Piece | None:
        while not self._is_stopping():
            try:
                piece = self.decoded.get(timeout=_POLL)
            except queue.Empty:
                continue
            self.ahead.release()
            return piece
        return None

    def _restore_one(self, piece: Piece) -> None:
        if piece.photo is not None:
            self._tell(PhotoStarted(piece.job))
            self._run_network(piece, piece.photo)
        if piece.photo is not None and piece.fault is None:
            self.restored.put(piece)
        elif not self._is_stopping():  # a photo that was interrupted has not failed
            self._finish(piece)
            if isinstance(piece.fault, BackendError):
                self._abort(piece.fault)

    def _run_network(self, piece: Piece, photo: Photo) -> None:
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
            piece.photo = replace(photo, pixels=self.work.restore(photo.pixels, hooks))
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

    def _write_one(self, piece: Piece) -> None:
        job, file_format, started = piece.job, piece.job.file_format, time.perf_counter()
        try:
            photo, origin = piece.photo, piece.origin
            assert photo is not None and origin is not None, "only what was read is written"
            for note in photo.notes:
                self._tell(Notice(job, note))
            if losses := find_losses(photo, file_format):
                self._tell(Notice(job, f"{file_format} has no place for {', '.join(losses)}"))
            write_photo(
                photo,
                job.output,
                file_format=file_format,
                quality=self.work.quality,
                stamp=self.work.recipe.stamp(file_format=file_format, **origin.proofs),
                times_of=origin.times,
            )
            if read_stamp(job.output) is None:
                self._tell(Notice(job, _UNSTAMPED))
        except Exception as fault:  # recorded: the batch goes on with the next photo
            piece.fault = fault
            if isinstance(fault, BackendError):
                self._abort(fault)
        piece.seconds += time.perf_counter() - started
