"""What a benchmark run found, as frozen records: the one shape that every report file is written from.

Knows no pixels and no files. A score is a float, `None` (no value: the note says why) or infinity (PSNR of
two equal images); JSON has no infinity, so `to_dict` writes it as the string "Infinity", which both Python's
`float` and JavaScript's `Number` read back.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from deblur_cli.errors import InputError

SCHEMA = 1
BLURRY = "blurry"  # the row of doing nothing; no model may take this name
SHARP = "sharp"  # where `picture_path` keeps the truth

Scores = dict[str, float | None]
_Row = TypeVar("_Row")
_LARGEST = 2**63  # of a whole number


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
class BenchmarkReport:
    """A whole run; `report.json` is this record and nothing else."""

    schema: int
    command: str
    created: str  # ISO 8601, UTC
    environment: dict[str, Any]  # versions, device, dtype, tile, seed, machine
    datasets: list[DatasetInfo] = field(default_factory=list)
    metrics: list[MetricInfo] = field(default_factory=list)
    models: list[ModelSummary] = field(default_factory=list)
    images: list[ImageScore] = field(default_factory=list)

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
        if not isinstance(table, dict):
            raise InputError("benchmark report: not a report of `deblur bench` (no table)")
        if table.get("schema") != SCHEMA:
            raise InputError(f"benchmark report: schema is {table.get('schema')}, this version reads {SCHEMA}")
        try:
            rows = {
                "datasets": [to_row(DatasetInfo, row) for row in table["datasets"]],
                "metrics": [to_row(MetricInfo, row) for row in table["metrics"]],
                "models": [to_row(ModelSummary, row) for row in table["models"]],
                "images": [to_row(ImageScore, row) for row in table["images"]],
            }
            return to_row(cls, {**table, **rows})
        except (KeyError, TypeError, ValueError) as fault:
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


def to_row(kind: type[_Row], table: Any) -> _Row:
    """A record from a table that somebody may have edited: every field is there and of its type.

    Raises:
        TypeError, ValueError: it is not; the text names the field.
    """
    if not isinstance(table, dict):
        raise TypeError(f"{kind.__name__} is no table")
    values = {**table, **({"scores": _to_scores(table["scores"])} if "scores" in table else {})}
    row = kind(**values)
    for name, wanted in get_type_hints(kind).items():
        if not _fits(getattr(row, name), wanted):
            raise ValueError(f"{kind.__name__}.{name} is {str(getattr(row, name))[:40]!r}")
    return row


def _fits(value: Any, wanted: Any) -> bool:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is UnionType:
        return any(_fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if wanted is int or wanted is float:
        is_number = isinstance(value, (int, float) if wanted is float else int) and not isinstance(value, bool)
        return is_number and (isinstance(value, float) or abs(value) < _LARGEST) and not math.isnan(value)
    return wanted is Any or isinstance(value, wanted)


def _to_scores(table: Any) -> Any:
    """Scores as JSON has them: numbers, "Infinity" or null; what is none of these stays for the check."""
    words = {"Infinity": math.inf, "-Infinity": -math.inf}
    if not isinstance(table, dict):
        return table
    return {name: words.get(value, value) if isinstance(value, str) else value for name, value in table.items()}


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
