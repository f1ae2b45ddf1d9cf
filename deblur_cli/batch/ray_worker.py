"""What runs on the nodes of a Ray cluster: one process with the loaded model, which photos come to by their paths.

Knows the stages of one photo and nothing of the run around it, which is `ray_runner.py`; and no Ray either, so that
whatever comes in or goes out is a plain value.
"""

import os
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deblur_cli.batch.jobs import Job, Result
from deblur_cli.batch.stages import Piece, Restore, WriteOrder, read, restore, write
from deblur_cli.errors import BackendError
from deblur_cli.restoration.watch import Watch
from deblur_cli.system import claims
from deblur_cli.system.files import CAREFUL, host, remove_leftovers, remove_own_files, try_lock
from deblur_cli.system.version import __version__


class ReadyRestore(Restore, Protocol):
    """A loaded model, and where it runs."""

    @property
    def device(self) -> str:
        """As torch names it."""

    @property
    def dtype(self) -> str:
        """The number format."""


class Loadable(Protocol):
    """What becomes a loaded model on the node that it is sent to."""

    def load(self, cores: int | None = None) -> ReadyRestore:
        """The model, for so many cores of the node; raises DeblurError where it cannot run."""


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """Everything that holds for all photos of a run.

    Attributes:
        run: the name that its claims carry.
        folder: the absolute one that relative paths of jobs begin at.
    """

    model: Loadable
    writing: WriteOrder
    run: str
    folder: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker that has loaded its model."""

    host: str
    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of a photo: its result, or why there is none."""

    result: Result | None = None
    notices: tuple[str, ...] = ()
    trace: str = ""  # of the fault of a photo that failed
    is_machine_at_fault: bool = False
    holder: str = ""  # host of another run that is at work on the photo
    is_taken: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """What every node must see, and the file beside the marker that it must be able to write.

    Attributes:
        folder: as in `WorkerOrder`.
        marker: a file with the run's name in it, where the results will go.
        inputs: some photos and their sizes in bytes.
    """

    folder: str
    marker: Path
    run: str
    inputs: tuple[tuple[Path, int], ...]
    version: str = __version__


def find_obstacle(storage: Storage, answer: Path) -> str:
    """Why the work cannot be done on this node, in words that follow its name; empty if it can."""
    if __version__ != storage.version:
        return f"has deblur-cli {__version__}, this is {storage.version}; install the same version on all nodes"
    root = Path(storage.folder)
    try:
        if (root / storage.marker).read_text(encoding="ascii") != storage.run:
            raise FileNotFoundError
        (root / answer).write_text(storage.run, encoding="ascii")
    except OSError as fault:
        reason = f" ({fault.strerror})" if fault.strerror else ""
        return (
            f"does not share the folder {(root / storage.marker).parent}{reason}; results must go where all nodes write"
        )
    for source, size in storage.inputs:
        with suppress(OSError):
            if (root / source).stat().st_size == size:
                continue
        return f"does not see {root / source}; photos must lie where all nodes read"
    return ""


@contextmanager
def first_alone(run: str) -> Iterator[None]:
    """One worker of a machine in the block, and once it has left, all others together.

    So weights are downloaded, checked and converted once, and the others read what is in the system's memory.
    """
    path = Path(tempfile.gettempdir()) / f"deblur-{run}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | CAREFUL, 0o600)
    except OSError:  # it costs only time
        yield
        return
    try:
        if try_lock(descriptor) is False:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


@dataclass(slots=True, eq=False)
class RayWorker:
    """A process of the run. Two photos may be in work, so that one is read or written while the other is restored."""

    order: WorkerOrder
    cores: int
    _network: Restore | None = None
    _pixels: tuple[Path, int] | None = None  # of the photo in the network, that are finished
    _stop: threading.Event = field(default_factory=threading.Event)
    _turn: threading.Lock = field(default_factory=threading.Lock)  # of the network

    def prepare(self) -> Ready:
        """Load the model.

        Raises:
            DeblurError: it cannot run here.
        """
        os.chdir(self.order.folder)
        from deblur_cli.system.devices import tune_malloc  # brings torch, which a dry run does without

        tune_malloc()
        with first_alone(self.order.run):
            model = self.order.model.load(self.cores)
        self._network = model
        return Ready(host(), model.device, model.dtype)

    def work(self, job: Job, leftovers: tuple[Path, ...] = ()) -> Answer:
        """Read, restore and write one photo.

        Args:
            leftovers: temporary files beside its output that go once the photo is claimed.
        """
        held: list[claims.Claim] = []
        notices: list[str] = []

        def claim(output: Path) -> bool:
            output.parent.mkdir(parents=True, exist_ok=True)
            found = None if self._stop.is_set() else claims.take(output, self.order.run)
            held.extend([] if found is None else [found])
            remove_leftovers(leftovers if found else (), age=0)
            return found is not None

        try:
            piece = read(job, self.order.writing, claim)
            if piece is not None and piece.photo is not None:
                self._restore(piece, notices)
            if self._stop.is_set() and (piece is None or piece.photo is None):
                return Answer()  # a photo that was interrupted has not failed
            if piece is None:
                return Answer(is_taken=True, holder=claims.holder(job.output))
            if piece.photo is not None:
                write(piece, self.order.writing, Watch(on_event=notices.append))
        finally:
            for found in held:
                found.release()
        trace = "".join(traceback.format_exception(piece.fault)) if piece.fault else ""
        return Answer(piece.result(), tuple(notices), trace, isinstance(piece.fault, BackendError))

    def _restore(self, piece: Piece, notices: list[str]) -> None:
        assert self._network is not None, "a worker gets no photos before it is prepared"
        source, done = piece.job.source, 0

        def count(pixels: int) -> None:
            nonlocal done
            done += pixels
            self._pixels = source, done

        with self._turn:
            watch = Watch(on_event=notices.append, on_pixels=count, stop=self._stop.is_set)
            restore(piece, self._network, watch, self.order.writing.selection)

    def progress(self) -> tuple[Path, int] | None:
        """The photo that was in the network last, and how many of its pixels are finished."""
        return self._pixels

    def halt(self) -> None:
        """Begin nothing, and leave the photo in the network; what is being written is written to its end."""
        self._stop.set()

    def abort(self) -> None:
        """End at once, and leave no half-written file."""
        self._stop.set()
        remove_own_files()
        os._exit(1)
