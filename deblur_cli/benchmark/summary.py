"""Records of a run -> the report. Pure but for `describe_environment`, which asks the system."""

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import torch

from deblur_cli.benchmark.bench_plan import BenchPlan, protocol_of
from deblur_cli.benchmark.datasets import Dataset
from deblur_cli.benchmark.journal import Record
from deblur_cli.benchmark.records import SCHEMA, BenchmarkReport, ImageScore, ModelSummary, PartInfo
from deblur_cli.benchmark.statistics import mean, median
from deblur_cli.system.version import __version__
from deblur_cli.system.wording import count

_Value = TypeVar("_Value")
_LIBRARIES = ("torch", "numpy", "pillow", "pyvips", "opencv-python-headless")


def build_report(plan: BenchPlan, records: Sequence[Record], command: str) -> BenchmarkReport:
    """The whole report of a finished run."""
    return BenchmarkReport(
        schema=SCHEMA,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=describe_environment(plan, records),
        datasets=plan.describe_datasets(),
        metrics=plan.describe_metrics(),
        models=[summarise(plan, dataset, model, records) for dataset in plan.datasets for model in plan.rows],
        images=[record.score for record in records],
    )


def summarise(plan: BenchPlan, dataset: Dataset, model: str, records: Sequence[Record]) -> ModelSummary:
    """One row of the table: means over the photos that have a value, and a note where some have none."""
    rows = [row for row in records if row.score.dataset == dataset.name and row.score.model == model]
    columns = plan.columns[dataset.name]
    costs = ModelSummary(
        name=model,
        dataset=dataset.name,
        hashes=plan.models[model].hashes if model in plan.models else {},
        scores=dict.fromkeys(columns),
        notes={"seconds_per_megapixel": note} if (note := explain_times(row.cost.device for row in rows)) else {},
        peak_ram_mb=highest(row.cost.peak_ram_mb for row in rows),
        peak_vram_mb=highest(row.cost.peak_vram_mb for row in rows),
        parameters=first_known(row.cost.parameters for row in rows),
        macs_per_megapixel=first_known(row.cost.macs_per_megapixel for row in rows),
    )
    return add_means(costs, [row.score for row in rows], plan.missing)


def add_means(costs: ModelSummary, rows: Sequence[ImageScore], missing: Mapping[str, str]) -> ModelSummary:
    """A row of the table with what follows from the scores of its photos.

    Args:
        costs: the row without them; of its scores only the names count.
        missing: metric -> why it was not computed.
    """
    notes = {name: missing[name] for name in costs.scores if name in missing}
    notes |= {name: note for name in costs.scores if name not in notes and (note := _explain_gaps(name, rows))}
    known = {name: [value for row in rows if (value := row.scores.get(name)) is not None] for name in costs.scores}
    speeds = [row.seconds * 1e6 / (row.height * row.width) for row in rows if row.seconds]
    return replace(
        costs,
        scores={name: mean(values) for name, values in known.items()},
        notes={**notes, **costs.notes},
        seconds_per_megapixel=median(speeds),
    )


def describe_environment(plan: BenchPlan, records: Sequence[Record]) -> dict[str, Any]:
    """What a reader needs to repeat the run; no name of the machine or of its user."""
    options = plan.options
    used = {(row.cost.device, row.cost.dtype) for row in records if row.cost.device}
    return {
        "deblur": __version__,
        "python": platform.python_version(),
        **{name: found for name in _LIBRARIES if (found := _find_version(name))},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "devices": {name: _describe_device(name) for name in sorted({device for device, _ in used})},
        "dtypes": sorted({dtype for _, dtype in used}),
        "asked": {"device": list(options.devices), "dtype": options.dtype, "tile": options.tile},
        "seed": options.seed,
        "protocols": {dataset.name: protocol_of(dataset, options) for dataset in plan.datasets},
        "remarks": [remark for dataset in plan.datasets for remark in dataset.remarks],
        **({"part": asdict(PartInfo(str(plan.part), plan.whole, dict(plan.missing)))} if plan.whole else {}),
    }


def _explain_gaps(name: str, rows: Sequence[ImageScore]) -> str:
    """Why a mean is not over all photos; also how many are infinite, which makes the mean infinite."""
    empty = [row for row in rows if row.scores.get(name) is None]
    equal = sum(math.isinf(row.scores.get(name) or 0) for row in rows)
    if equal:
        return f"{equal} of {count(len(rows), 'photo')} equal to the truth"
    if not empty:
        return ""
    first = next((row.note for row in empty if row.note), "not defined here")
    return f"{len(empty)} of {count(len(rows), 'photo')} without a value ({first})"


def explain_times(devices: Iterable[str]) -> str:
    """The note on a row whose photos were restored on several devices; empty for one."""
    found = sorted({device for device in devices if device})
    return f"measured on several devices: {', '.join(found)}" if len(found) > 1 else ""


def highest(values: Iterable[float | None]) -> float | None:
    """The largest of what is known."""
    return max((value for value in values if value is not None), default=None)


def first_known(values: Iterable[_Value | None]) -> _Value | None:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _describe_device(name: str) -> str:
    device = torch.device(name)
    return torch.cuda.get_device_name(device) if device.type == "cuda" and torch.cuda.is_available() else device.type
