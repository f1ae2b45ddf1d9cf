"""What a benchmark run found, as frozen records: the one shape that every report file is written from.

Knows no pixels and no files. A score is a float, `None` (no value: the note says why) or infinity (PSNR of
two equal images); JSON has no infinity, so `to_dict` writes it as the string "Infinity", which both Python's
`float` and JavaScript's `Number` read back.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deblur_cli.errors import InputError
from deblur_cli.system.typed_tables import TableFault, read_table

SCHEMA = 1
BLURRY = "blurry"  # the row of doing nothing; no model may take this name
SHARP = "sharp"  # where `picture_path` keeps the truth

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A data set as it was found on disk."""

    name: str  # unique in a report, e.g. "gopro" or "gopro-2"
    layout: str  # "gopro", "hide", "realblur-j", "realblur-r", "koehler", "pairs", "plain", "self"
    root_name: str  # the folder's own name, never its whole path
    images: int  # blurry photos scored


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """One column: how to read it and by which protocol it was computed."""

    name: str
    direction: str  # "higher", "lower" or "none" (a description, neither is better)
    unit: str  # "dB" or ""
    protocol: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One row of the table: one model (or doing nothing) on one data set."""

    name: str
    dataset: str
    hashes: dict[str, str]  # role -> sha256 of the weights; empty for doing nothing
    scores: Scores  # metric -> mean of the per-image scores
    notes: dict[str, str]  # metric or cost column -> why it is empty or partial
    seconds_per_megapixel: float | None = None  # warm, median over the images
    peak_ram_mb: float | None = None  # of the whole process, MB of 10^6 bytes
    peak_vram_mb: float | None = None
    parameters: int | None = None
    macs_per_megapixel: float | None = None


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One photo restored by one model."""

    dataset: str
    image: str  # relative path of the blurry photo, with "/" on every system
    model: str
    width: int
    height: int
    scores: Scores
    seconds: float | None  # of the restoration alone; None for doing nothing
    note: str = ""  # why a score is missing, or what was done about it


@dataclass(frozen=True, slots=True)
class PartInfo:
    """What a report of a part says in `environment["part"]`, for `merging.py`."""

    shard: str  # "2/4"
    plan: str  # hash of the whole plan
    missing: dict[str, str]  # metric -> why it could not be computed there


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """A whole run; `report.json` is this record and nothing else."""

    schema: int
    command: str
    created: str  # ISO 8601, UTC
    environment: dict[str, Any]  # versions, device, dtype, tile, seed, machine
    datasets: list[DatasetInfo]
    metrics: list[MetricInfo]
    models: list[ModelSummary]
    images: list[ImageScore]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values at full precision; infinity becomes the string "Infinity"."""
        plain: dict[str, Any] = _to_json(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "BenchmarkReport":
        """The record that `to_dict` wrote.

        Raises:
            InputError: a field is missing or the schema is another one.
        """
        if isinstance(table, dict) and table.get("schema") != SCHEMA:
            raise InputError(f"benchmark report: schema is {table.get('schema')}, this version reads {SCHEMA}")
        try:
            return read_table(cls, _read_infinity(table))
        except TableFault as fault:
            raise InputError(f"benchmark report: not a report of `deblur bench` ({fault})") from fault


def picture_path(dataset: str, model: str, image: str) -> str:
    """Where a picture kept for the page lies, relative to the report's folder, with "/" on every system.

    Args:
        dataset: `DatasetInfo.name`.
        model: `ModelSummary.name`; "blurry" is the photo as taken, "sharp" the truth. A colon, with which its
            settings begin, becomes "@": not every file system takes it.
        image: `ImageScore.image`; its sub-folders become part of the file's name, and so does a suffix that is not
            .png: IMG_1.CR2 and IMG_1.JPG are two photos.
    """
    place, name = model.replace(":", "@"), image.replace("/", "__")
    return f"images/{dataset}/{place}/{name if name.endswith('.png') else f'{name}.png'}"


def _read_infinity(value: Any) -> Any:
    """What `_to_json` was given: the numbers for their words, wherever scores are."""
    if isinstance(value, list):
        return [_read_infinity(item) for item in value]
    if not isinstance(value, dict):
        return value
    scores = value.get("scores")
    if not isinstance(scores, dict):
        return {key: _read_infinity(item) for key, item in value.items()}
    words = {"Infinity": math.inf, "-Infinity": -math.inf}
    read = {name: words.get(score, score) if isinstance(score, str) else score for name, score in scores.items()}
    return {**value, "scores": read}


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
