"""Reports of the parts of one plan -> the report of the whole. Knows records, no files and no pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import Any

from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, ImageScore, ModelSummary, PartInfo
from deblur_cli.benchmark.scoring import OUT_OF_MEMORY
from deblur_cli.benchmark.summary import add_means, explain_times, first_known, highest
from deblur_cli.errors import InputError
from deblur_cli.system.parts import Part, parse_part
from deblur_cli.system.typed_tables import TableFault, read_table

Cell = tuple[str, str]  # data set, photo


@dataclass(frozen=True, slots=True)
class _PartReport:
    name: str  # for messages
    report: BenchmarkReport
    part: Part
    info: PartInfo


def merge_reports(named: Sequence[tuple[str, BenchmarkReport]], command: str) -> BenchmarkReport:
    """One report, equal to that of the undivided run but for times, memory and what is said of the machine.

    Args:
        named: each report with the name by which a message tells it, in any order.
    Raises:
        InputError: one is of no part, they are of different plans, or a part is missing or there twice.
    """
    parts = sorted((_read_part(name, report) for name, report in named), key=lambda found: found.part.index)
    _check_complete(parts)
    reports = [found.report for found in parts]
    images = _order_images(parts)
    models = [_merge_row(parts, place, images) for place in range(len(reports[0].models))]
    counts = [sum(report.datasets[place].images for report in reports) for place in range(len(reports[0].datasets))]
    return replace(
        reports[0],
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=_merge_environments([report.environment for report in reports]),
        datasets=[replace(row, images=count) for row, count in zip(reports[0].datasets, counts, strict=True)],
        models=models,
        images=images,
    )


def has_failed(score: ImageScore) -> bool:
    """Whether a photo was not read or not restored, or memory was short for a metric, as its row tells it."""
    return (not score.scores and bool(score.note)) or OUT_OF_MEMORY in score.note


def _read_part(name: str, report: BenchmarkReport) -> _PartReport:
    table = report.environment.get("part")
    if table is None:
        raise InputError(f"{name}: is the report of a whole run, not of a part made by --shard")
    try:
        info = read_table(PartInfo, table)
        return _PartReport(name, report, parse_part(info.shard, {}), info)
    except (TableFault, InputError) as fault:
        raise InputError(f"{name}: not a report of `deblur bench` (part: {fault})") from fault


def _check_complete(parts: Sequence[_PartReport]) -> None:
    first = parts[0]
    for other in parts[1:]:
        if (other.info.plan, other.part.count) != (first.info.plan, first.part.count):
            raise InputError(
                f"{first.name} and {other.name}: are parts of different plans; "
                "data sets, models, options, version and the number of shards must be the same"
            )
    found = [other.part.index for other in parts]
    twice = next((other for before, other in pairwise(parts) if other.part == before.part), None)
    if twice is not None:
        raise InputError(f"{twice.name}: is part {twice.part} once more; name each part once")
    missing = [f"{index + 1}/{first.part.count}" for index in range(first.part.count) if index not in found]
    if missing:
        raise InputError(f"parts are missing: {', '.join(missing)}; run them, then merge all")


def _order_images(parts: Sequence[_PartReport]) -> list[ImageScore]:
    """Model by model, data set by data set, photo by photo, as the undivided run has them."""
    every = {(row.model, row.dataset, row.image): row for found in parts for row in found.report.images}
    turns = [[(row.dataset, row.image) for row in found.report.images if row.model == BLURRY] for found in parts]
    rows = dict.fromkeys(row.name for row in parts[0].report.models)
    try:
        cells: list[Cell] = [turns[place % len(turns)][place // len(turns)] for place in range(sum(map(len, turns)))]
        return [every[model, dataset, image] for model in rows for dataset, image in cells]
    except LookupError as fault:
        raise InputError("the parts do not have the photos that --shard gives them; measure them again") from fault


def _merge_row(parts: Sequence[_PartReport], place: int, images: Sequence[ImageScore]) -> ModelSummary:
    rows = [found.report.models[place] for found in parts]
    name, dataset = rows[0].name, rows[0].dataset
    same_model = [row for found in parts for row in found.report.models if row.name == name]  # counted once in a run
    note = explain_times(chain.from_iterable(_devices_of(found, place) for found in parts))
    costs = replace(
        rows[0],
        notes={"seconds_per_megapixel": note} if note else {},
        peak_ram_mb=highest(row.peak_ram_mb for row in rows),
        peak_vram_mb=highest(row.peak_vram_mb for row in rows),
        parameters=first_known(row.parameters for row in same_model),
        macs_per_megapixel=first_known(row.macs_per_megapixel for row in same_model),
    )
    missing = [found.info.missing for found in parts]
    nowhere = {metric: why for metric, why in missing[0].items() if all(metric in other for other in missing)}
    return add_means(costs, [row for row in images if (row.model, row.dataset) == (name, dataset)], nowhere)


def _devices_of(found: _PartReport, place: int) -> Sequence[str]:
    """Where a row was restored; nowhere if it took no time."""
    return list(found.report.environment["devices"]) if found.report.models[place].seconds_per_megapixel else []


def _merge_environments(environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is equal stays; tables and lists are put together, and of anything else every value is listed once."""
    merged = {}
    for key in dict.fromkeys(chain.from_iterable(environments)):
        if key != "part":
            merged[key] = _merge_values([found[key] for found in environments if key in found])
    return merged


def _merge_values(values: Sequence[Any]) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, dict) for value in values):
        return _merge_environments(values)
    listed = chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    kept: list[Any] = []
    for value in listed:
        kept += [] if value in kept else [value]
    return kept
