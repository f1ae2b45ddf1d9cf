"""What a batch tells while it works and what it leaves behind. Plain values; does nothing."""

from dataclasses import dataclass
from typing import Literal

from deblur_cli.batch.jobs import Job


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

    results: tuple[Result, ...]
    seconds: float  # wall time of the whole batch
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
        return tuple(result for result in self.results if result.status == "done")

    @property
    def skipped(self) -> tuple[Result, ...]:
        """The photos that another run made meanwhile."""
        return tuple(result for result in self.results if result.status == "skipped")

    @property
    def failed(self) -> tuple[Result, ...]:
        """The photos that could not be read, restored or written."""
        return tuple(result for result in self.results if result.status == "failed")
