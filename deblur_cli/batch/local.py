"""A runner: the stages of a batch in three threads of this process, so that decode, network and encode overlap.

    reader thread --decoded--> main thread: the network --restored--> writer thread

One bad photo never stops the others. Knows no console: everything worth telling leaves as an event.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.batch.jobs import Event, Job, Notice, Outcome, PhotoFinished, PhotoStarted, PixelsDone, Result
from deblur_cli.batch.stages import Piece, Restore, WriteOrder, read, restore, write
from deblur_cli.errors import BackendError
from deblur_cli.restoration.watch import Watch
from deblur_cli.system import claims
from deblur_cli.system.files import find_leftovers, is_leftover_of, remove_leftovers, remove_own_files

_POLL = 0.1  # seconds between two looks at the stop flag while there is nothing to take or to do


def run_batch(
    jobs: Sequence[Job],
    network: Restore,
    order: WriteOrder,
    *,
    emit: Callable[[Event], None],
    stop: Callable[[], bool],
    fail_fast: bool = False,
) -> Outcome:
    """Restore and write every job; failures of single photos are recorded, not raised.

    Stops early, with the finished photos written, when `stop()` is true, after the first failure under `fail_fast`,
    and on a fault of the machine (`Outcome.fault`). Removes what a killed run left behind.

    Args:
        emit: is called from three threads, one at a time.
    """
    batch = _Batch(jobs, network, order, emit, stop, fail_fast, clear_away(jobs))
    try:
        return batch.run()
    except BaseException:  # a second Ctrl-C: threads are left alone, half-written files are not
        remove_own_files()
        raise


def clear_away(jobs: Sequence[Job]) -> list[Path]:
    """Remove what killed runs left beside these outputs; the temporary files that are too young to be sure of."""
    folders = {Path(os.path.normpath(job.output.parent)) for job in jobs}
    claims.remove_stale(folders)
    return remove_leftovers(find_leftovers(folders))


@dataclass(slots=True)
class _Batch:
    jobs: Sequence[Job]
    network: Restore
    order: WriteOrder
    emit: Callable[[Event], None]
    stop: Callable[[], bool]
    fail_fast: bool
    leftovers: list[Path]  # too young to be removed by another than who has claimed the photo
    results: list[Result] = field(default_factory=list)
    fault: Exception | None = None
    halt: threading.Event = field(default_factory=threading.Event)  # no photo is begun any more
    telling: threading.Lock = field(default_factory=threading.Lock)
    # A decoded photo takes up to 3 GB, so only one waits for the network. The place is taken before the photo is read:
    # a queue that holds one would let the reader decode a second and wait with it in its hand.
    ahead: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))
    decoded: "queue.Queue[Piece | None]" = field(default_factory=queue.Queue)  # None: that was all
    restored: "queue.Queue[Piece | None]" = field(default_factory=lambda: queue.Queue(1))
    held: dict[Path, claims.Claim] = field(default_factory=dict)  # by output
    claiming: threading.Lock = field(default_factory=threading.Lock)  # no claim is taken once the batch has ended

    def run(self) -> Outcome:
        started = time.perf_counter()
        # Daemons: after a second Ctrl-C nobody waits for them.
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
                for claim in tuple(self.held.values()):
                    claim.release()
        order = {job.source: index for index, job in enumerate(self.jobs)}
        results = sorted(self.results, key=lambda result: order[result.job.source])
        return Outcome(tuple(results), time.perf_counter() - started, self.fault)

    # For all three threads.

    def _is_stopping(self) -> bool:
        return self.halt.is_set() or self.stop()

    def _abort(self, fault: Exception) -> None:
        self.fault = self.fault or fault
        self.halt.set()

    def _tell(self, event: Event) -> None:
        try:
            with self.telling:
                self.emit(event)
        except Exception as fault:  # nobody listens any more (a closed pipe); the caller raises it
            self._abort(fault)

    def _watch(self, job: Job) -> Watch:
        return Watch(
            on_event=lambda text: self._tell(Notice(job, text)),
            on_pixels=lambda pixels: self._tell(PixelsDone(job, pixels)),
            stop=self._is_stopping,
        )

    def _finish(self, piece: Piece) -> None:
        result = piece.result()
        self.results.append(result)
        if (claim := self.held.pop(piece.job.output, None)) is not None:
            claim.release()
        if isinstance(piece.fault, BackendError):
            self._abort(piece.fault)
        elif piece.fault is not None and self.fail_fast:
            self.halt.set()
        self._tell(PhotoFinished(result, piece.fault))

    # The reader thread. Photos that another run is at work on come last: most will be done by then.

    def _read_all(self) -> None:
        left = [job for job in self.jobs if not self._read_one(job)]
        for job in left:
            while not (self._is_stopping() or self._read_one(job)):
                self._wait_for_other(job)
        self.decoded.put(None)

    def _read_one(self, job: Job) -> bool:
        """Read a photo for the network; False while another run is at work on it."""
        if claims.is_taken(job.output):
            return False
        while not self.ahead.acquire(timeout=_POLL):
            if self._is_stopping():
                return True
        piece = read(job, self.order, self._claim)
        if piece is None:
            self.ahead.release()
            return False
        self.decoded.put(piece)
        return True

    def _claim(self, output: Path) -> bool:
        with self.claiming:
            if self.halt.is_set():
                return False
            output.parent.mkdir(parents=True, exist_ok=True)
            claim = claims.take(output)
            if claim is None:
                return False
            self.held[output] = claim
        remove_leftovers([path for path in self.leftovers if is_leftover_of(path, output)], age=0)
        return True

    def _wait_for_other(self, job: Job) -> None:
        """Until the run that has claimed this photo has finished it, or is dead."""
        self._tell(Notice(job, "another run is at work on this photo; waiting for it"))
        while claims.is_taken(job.output) and not self.halt.wait(_POLL) and not self._is_stopping():
            pass

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
            restore(piece, self.network, self._watch(piece.job), self.order.selection)
        if piece.photo is not None:
            self.restored.put(piece)
        elif not self._is_stopping():  # a photo that was interrupted has not failed
            self._finish(piece)

    # The writer thread: everything restored is written, whatever happens to the photos after it.

    def _write_all(self) -> None:
        can_write = True
        while (piece := self.restored.get()) is not None:
            if not can_write:
                continue  # the disk is full: take what still comes and drop it
            write(piece, self.order, self._watch(piece.job))
            self._finish(piece)
            can_write = not isinstance(piece.fault, BackendError)
