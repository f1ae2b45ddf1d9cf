"""The values of a batch: a job, what became of it, what is told meanwhile, and the end. They do nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Action = Literal["new", "replace", "skip"]
FileState = tuple[int, int, int]  # inode, size, time in nanoseconds


@dataclass(frozen=True, slots=True)
class Job:
    """One photo: where it comes from, where it goes, and whether there is anything to do."""

    source: Path
    output: Path
    file_format: str
    action: Action
    width: int = 0  # 0 when the header cannot be read: the work will say why
    height: int = 0
    misfit: str = ""  # why the format cannot hold the photo: known now, so that nothing is worked for it
    seen: FileState | None = None  # what lay at the output when it was judged; None: nothing, or it was not judged

    @property
    def pixels(self) -> int:
        """Size of the photo as its header tells it."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one photo."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    error: str = ""  # one line; names the photo
    error_type: str = ""
    seconds: float = 0.0  # decode + network + encode of this photo
    network_seconds: float = 0.0  # the network alone, without cutting and merging tiles
    width: int = 0
    height: int = 0
    bits: int = 0
    reason: str = ""  # why it was skipped, where not for the same recipe: "sharp"
    blur: str = ""  # how blurred the photo was, where that was measured
    kept: str = ""  # what of it was left as it is because it is out of focus, in a line


@dataclass(frozen=True, slots=True)
class PhotoStarted:
    """The network begins with this photo."""

    job: Job


@dataclass(frozen=True, slots=True)
class PixelsDone:
    """More pixels of the photo in the network are finished."""

    job: Job
    pixels: int


@dataclass(frozen=True, slots=True)
class Notice:
    """One line worth knowing that is no failure."""

    job: Job
    text: str


@dataclass(frozen=True, slots=True)
class PhotoFinished:
    """A photo is written, or failed for good."""

    result: Result
    fault: Exception | None = None


Event = PhotoStarted | PixelsDone | Notice | PhotoFinished


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a batch. A device or disk fault is handed over here, so that a report can be made first."""

    results: tuple[Result, ...] = ()
    seconds: float = 0.0  # wall time of the whole batch
    fault: Exception | None = None

    @property
    def network_seconds(self) -> float:
        """Time the network ran, all photos together."""
        return sum(result.network_seconds for result in self.results)

    @property
    def megapixels(self) -> float:
        """Size of the written photos."""
        return sum(result.width * result.height for result in self.done) / 1e6

    @property
    def done(self) -> tuple[Result, ...]:
        """The photos that were written."""
        return self._with("done")

    @property
    def skipped(self) -> tuple[Result, ...]:
        """The photos that another run made meanwhile, and those that were left out as sharp."""
        return self._with("skipped")

    @property
    def failed(self) -> tuple[Result, ...]:
        """The photos that could not be read, restored or written."""
        return self._with("failed")

    def _with(self, status: str) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.status == status)
