"""One photo on its way through a batch, and what is said of it at the end. Does nothing by itself."""

from dataclasses import dataclass

from deblur_cli.batch.events import Result
from deblur_cli.batch.jobs import Job
from deblur_cli.batch.origin import Origin
from deblur_cli.image_io import Photo
from deblur_cli.system import claims


@dataclass(slots=True, eq=False)
class Piece:
    """One photo on its way through the three stages; without a photo there is nothing to do."""

    job: Job
    photo: Photo | None = None
    origin: Origin | None = None
    claim: claims.Claim | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0
    fault: Exception | None = None

    def result(self) -> Result:
        """What became of it."""
        times = (self.seconds, self.network_seconds)
        if self.fault is not None:
            return Result(self.job, "failed", describe_fault(self.job, self.fault), type(self.fault).__name__, *times)
        if self.photo is None:
            return Result(self.job, "skipped", "", "", *times)
        height, width = self.photo.pixels.shape[:2]
        bits = self.photo.pixels.dtype.itemsize * 8
        return Result(self.job, "done", "", "", *times, width=width, height=height, bits=bits)


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
