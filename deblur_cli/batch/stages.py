"""What happens to one photo: read, restore, write. Plain functions of one job, without threads, queues or locks.

When they are called, and by whom, is a runner's business (`local.py`: three threads of this process). Whatever goes in
or comes out can be pickled, so that a stage may as well run in another process or on another machine. A fault of the
photo is no exception there but part of its piece: one bad photo never stops the others. Knows no network and no torch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from deblur_cli.batch.jobs import Job, Result
from deblur_cli.batch.origin import Origin, decide_again, read_original
from deblur_cli.batch.selection import Place, Selection, restore_where
from deblur_cli.batch.stamp import Stamp
from deblur_cli.image_io import Photo, check_fit, find_losses, write_photo
from deblur_cli.restoration.watch import Pixels, Watch

if TYPE_CHECKING:
    from deblur_cli.restoration.blur_measure import BlurMeasure

_UNSTAMPED = "its XMP is damaged and stays as it is, without the recipe; another run will ask for --overwrite"


class Restore(Protocol):
    """The network as a batch sees it; may raise whatever it likes once `watch.stop()` is true."""

    def __call__(self, blurry: Pixels, watch: Watch, place: Place | None = None) -> Pixels:
        """The photo restored, or the place of it: rows and columns, which are wanted alone where it is smaller."""


@dataclass(frozen=True, slots=True)
class WriteOrder:
    """What of a run is to be restored, how the results are to be written, and over what."""

    stamp: Stamp
    quality: int | None = None
    overwrite: bool = False
    selection: Selection | None = None
    measures_blur: bool = False  # a sheet is to tell how blurred each photo was

    @property
    def only_blurred(self) -> bool:
        """Whether sharp photos are left out."""
        return self.selection is not None and self.selection.only_blurred


@dataclass(slots=True, eq=False)
class Piece:
    """One photo on its way through the stages. Without a photo nothing is left to do: it failed, or it was there."""

    job: Job
    photo: Photo | None = None
    origin: Origin | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0
    fault: Exception | None = None
    told: list[str] = field(default_factory=list)  # while it was restored
    blur: str = ""  # how blurred the photo was, if it was asked for
    measure: "BlurMeasure | None" = None  # the same in figures
    kept: str = ""  # what was left as it is because it is out of focus
    is_left_out: bool = False  # it is sharp, and only blurred ones are wanted

    def result(self) -> Result:
        """What became of it."""
        times = (self.seconds, self.network_seconds)
        if self.fault is not None:
            return Result(self.job, "failed", _describe(self.fault, self.job), type(self.fault).__name__, *times)
        if self.photo is None:
            return Result(self.job, "skipped", "", "", *times, reason="sharp" if self.is_left_out else "")
        height, width = self.photo.pixels.shape[:2]
        bits = self.photo.pixels.dtype.itemsize * 8
        done = Result(self.job, "done", "", "", *times, width=width, height=height, bits=bits)
        return replace(done, blur=self.blur, kept=self.kept)


def read(job: Job, order: WriteOrder, claim: Callable[[Path], bool]) -> Piece | None:
    """Read a photo and claim its output, unless it is done meanwhile.

    Args:
        claim: takes an output for this run, until its piece is written; false when another run was faster.
    Returns:
        The piece; None while another run is at work on the photo.
    """
    piece = Piece(job)
    with _recorded(piece):
        piece.job = decide_again(job, order.stamp, overwrite=order.overwrite)
        if piece.job.action == "skip":
            return piece
        photo, piece.origin = read_original(job.source)
        check_fit(photo, job.source, file_format=job.file_format)
        if order.measures_blur or order.only_blurred:
            from deblur_cli.batch.inspection import describe_blur  # brings torch, as the next one
            from deblur_cli.restoration.blur_measure import measure_blur

            piece.measure = blur = measure_blur(photo.pixels)
            piece.blur, piece.is_left_out = describe_blur(blur), order.only_blurred and blur.verdict == "sharp"
            if piece.is_left_out:
                return piece
        if not claim(job.output):  # not before: what cannot be read claims nothing, and no folder is made for it
            return None
        # Another run may have finished the photo between the first look at the output and the claim.
        piece.job = decide_again(piece.job, order.stamp, overwrite=order.overwrite)
        if piece.job.action != "skip":
            piece.photo = photo
    return piece


def restore(piece: Piece, network: Restore, watch: Watch, selection: Selection | None = None) -> None:
    """Put the restored pixels in the place of the blurred ones; the piece counts the network's seconds, and keeps
    what was told: it is stamped.
    """

    def count(seconds: float) -> None:
        piece.network_seconds += seconds

    def note(text: str) -> None:
        piece.told.append(text)
        watch.on_event(text)

    told = replace(watch, on_network=count, on_event=note)
    with _recorded(piece):
        photo = _photo_of(piece)
        weights = None
        if selection is not None:
            weights = selection.weigh(photo.pixels, piece.measure)
            piece.kept = selection.describe_kept(weights)
        pixels = restore_where(photo.pixels, lambda *place: network(photo.pixels, told, *place), weights)
        piece.photo = replace(photo, pixels=pixels)


def write(piece: Piece, order: WriteOrder, watch: Watch) -> None:
    """Write the photo with its stamp, and tell what of it the file does not keep."""
    file_format = piece.job.file_format
    with _recorded(piece):
        photo, origin = _photo_of(piece), piece.origin
        assert origin is not None, "only what was read is written"
        for note in photo.notes:
            watch.on_event(note)
        if losses := find_losses(photo, file_format):
            watch.on_event(f"{file_format} has no place for {', '.join(losses)}")
        notices = [*piece.told, *([piece.kept] if piece.kept else [])]
        told = {"notice": "; ".join(notices)} if notices else {}
        is_stamped = write_photo(
            photo,
            piece.job.output,
            file_format=file_format,
            quality=order.quality,
            stamp=order.stamp.text(file_format=file_format, **origin.proofs, **told),
            times_of=origin.times,
        )
        if not is_stamped:
            watch.on_event(_UNSTAMPED)


def _photo_of(piece: Piece) -> Photo:
    assert piece.photo is not None, "a piece without a photo has no further stage"
    return piece.photo


@contextmanager
def _recorded(piece: Piece) -> Iterator[None]:
    """Adds the seconds of the block to the piece; a fault in it ends the piece, not the batch."""
    started = time.perf_counter()
    try:
        yield
    except Exception as fault:
        piece.photo, piece.fault = None, fault
    piece.seconds += time.perf_counter() - started


def _describe(fault: Exception, job: Job) -> str:
    """One line that names the photo: the fault's own text, or the kind of an unexpected one."""
    text, source = _join_lines(str(fault)), _join_lines(str(job.source))
    if isinstance(fault, MemoryError):
        text = "not enough memory for this photo"
    elif not text or type(fault).__module__ == "builtins":
        text = f"{type(fault).__name__}: {text}" if text else type(fault).__name__
    return text if source in text else f"{source}: {text}"


def _join_lines(text: str) -> str:
    return " ".join(line for line in map(str.strip, text.splitlines()) if line)
