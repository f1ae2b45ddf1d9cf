"""The file that lets an interrupted run go on: one finished score a line, found again by what it depends on."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deblur_cli.backends.engines import has_openvino
from deblur_cli.benchmark.bench_plan import BenchPlan, protocol_of
from deblur_cli.benchmark.datasets import Dataset, Pair
from deblur_cli.benchmark.records import SCHEMA, ImageScore
from deblur_cli.errors import InputError
from deblur_cli.system.devices import find_device, find_dtype
from deblur_cli.system.files import hash_file
from deblur_cli.system.typed_tables import read_table
from deblur_cli.system.version import __version__

FILE_NAME = "records.jsonl"
_DEVICE = re.compile(r"|(cpu|cuda|mps)(:\d+)?")
_BEGINNING = b'{"key": "'  # of a line as `_to_line` writes it


@dataclass(frozen=True, slots=True)
class Cost:
    """What one restoration cost besides time; empty for doing nothing."""

    parameters: int | None = None
    macs_per_megapixel: float | None = None
    peak_ram_mb: float | None = None
    peak_vram_mb: float | None = None
    device: str = ""
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the journal."""

    key: str
    score: ImageScore
    cost: Cost
    failed: bool = False  # not read, not restored, or no memory for a metric; never kept, so that it is tried again


class Journal:
    """Finished scores by key; without a folder they are kept in memory only."""

    def __init__(self, folder: Path | None, *, fresh: bool = False) -> None:
        self._path = folder / FILE_NAME if folder else None
        self.records: dict[str, Record] = {}
        if self._path and self._path.is_file():
            self.records = _read(self._path)
        if self._path and fresh:
            self.records = {}
            self._path.unlink(missing_ok=True)

    def append(self, record: Record) -> None:
        """Keep a record; it is on its way to the disk when this returns."""
        self.records[record.key] = record
        if self._path and not record.failed:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(_to_line(record))


def make_key(plan: BenchPlan, dataset: Dataset, model: str, pair: Pair) -> str:
    """Hash of everything that a score depends on: the files' bytes, the weights, the options, this version.

    Scores depend on the number format and seconds on the kind of device, so what `auto` stands for on this machine
    counts; which of several equal cards it was does not.
    """
    options, chosen = plan.options, plan.models.get(model)
    how = [chosen.hashes, *filter(None, [chosen.settings])] if chosen else [None]
    devices = [find_device(name) for name in options.devices]
    formats = {(device.type, str(find_dtype(options.dtype, device))) for device in devices}
    parts = {
        "schema": SCHEMA,
        "version": __version__,
        "dataset": [dataset.name, dataset.layout, protocol_of(dataset, options)],
        "image": [pair.image, hash_file(pair.blurry), *(hash_file(truth) for truth in pair.truths)],
        "model": [model, *how],
        "metrics": [metric.name for metric in plan.metrics(dataset)],
        "formats": sorted(formats),
        "tile": options.tile,
        "seed": options.seed,
    }
    if has_openvino():  # it decides about seconds
        parts["engine"] = "openvino"
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _to_line(record: Record) -> str:
    # Python's own Infinity is fine here: only this module reads the file.
    return json.dumps({"key": record.key, "score": asdict(record.score), "cost": asdict(record.cost)}) + "\n"


def _read(path: Path) -> dict[str, Record]:
    """Every whole line; a torn last one, left by a power cut, is not a record and is cut off.

    Raises:
        InputError: there are lines, and none of them is this tool's.
    """
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if text.strip() and not any(_is_line_of_ours(line) for line in text.splitlines()):
        raise InputError(f"{path}: was not made by this tool; move it away, or choose another --report")
    if len(whole) < len(text):
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
    records = (_to_record(line) for line in whole.splitlines())
    return {record.key: record for record in records if record}


def _to_record(line: bytes) -> Record | None:
    try:
        table: Mapping[str, Any] = json.loads(line)
        score, cost = read_table(ImageScore, table["score"]), read_table(Cost, table["cost"])
        is_sound = isinstance(table["key"], str) and score.width > 0 and score.height > 0
        is_sound = is_sound and bool(_DEVICE.fullmatch(cost.device))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # written by another version, or edited: computed again
    return Record(table["key"], score, cost) if is_sound else None


def _is_line_of_ours(line: bytes) -> bool:
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
