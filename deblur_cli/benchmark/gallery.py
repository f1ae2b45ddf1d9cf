"""Pictures kept beside the report for its page: worst, best and a spread between, restored a second time.

A second pass costs a few restorations and keeps the first one free of pictures: which photos are the worst is
known only at its end.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deblur_cli.benchmark.bench_plan import BenchPlan
from deblur_cli.benchmark.datasets import Dataset, Pair
from deblur_cli.benchmark.records import BLURRY, SHARP, BenchmarkReport, ImageScore, picture_path
from deblur_cli.benchmark.report_files import write_text
from deblur_cli.benchmark.scoring import Restorer, pick_truth, read_pair
from deblur_cli.benchmark.statistics import spread_over
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.metrics.sample import Rgb, to_8bit
from deblur_cli.system.files import whole_file, write_whole

_INDEX = "images/kept.json"  # picture -> key of the score it belongs to
Keys = Mapping[tuple[str, str, str], str]  # (data set, model, image) -> key in the journal


@dataclass(frozen=True, slots=True)
class Wanted:
    """One picture to have."""

    pair: Pair
    model: str
    place: str  # below the report's folder
    key: str


def keep_pictures(plan: BenchPlan, wanted: list[Wanted], folder: Path, on_kept: Callable[[Wanted], None]) -> None:
    """Make the pictures that are not there yet; one model is in memory at a time.

    Raises:
        InputError: in the place of one lies a file that is not in the index.
    """
    kept = _read_index(folder)
    todo = [picture for picture in wanted if kept.get(picture.place) != picture.key]
    for model in dict.fromkeys(picture.model for picture in todo):
        restorer = Restorer(plan, model, plan.options.devices[0], warm=True) if model in plan.models else None
        for picture in todo:
            if picture.model != model:
                continue
            _make_room(folder / picture.place, is_ours=picture.place in kept)
            # Entered first: if this run is killed, the next one knows whose picture it is.
            write_text(folder / _INDEX, json.dumps({**kept, picture.place: picture.key}, indent=1))
            if _keep(picture, restorer, folder / picture.place):
                kept[picture.place] = picture.key
                on_kept(picture)
    write_text(folder / _INDEX, json.dumps(kept, indent=1))


def drop_outdated(folder: Path, keys: Keys) -> None:
    """Delete pictures of this report's photos that belong to other scores: of older weights, files or options."""
    kept = _read_index(folder)
    current = {picture_path(*row): key for row, key in keys.items()}
    current |= {picture_path(name, SHARP, image): key for (name, model, image), key in keys.items() if model == BLURRY}
    for place, key in current.items():
        if place in kept and kept[place] != key:
            (folder / place).unlink(missing_ok=True)


def copy_pictures(parts: Sequence[Path], folder: Path) -> None:
    """Have the pictures that the parts of a report kept; one that is there is not copied again.

    Raises:
        InputError: as `keep_pictures`.
    """
    kept = _read_index(folder)
    for part in parts:
        for place, key in _read_index(part).items():
            if kept.get(place) == key:
                continue
            _make_room(folder / place, is_ours=place in kept)
            write_text(folder / _INDEX, json.dumps({**kept, place: key}, indent=1))
            write_whole(folder / place, (part / place).read_bytes())
            kept[place] = key


def list_pictures(plan: BenchPlan, report: BenchmarkReport, keys: Keys, most: int) -> Iterator[Wanted]:
    """Every picture of at most `most` photos per data set: the truth, the photo as taken, each model's answer."""
    for model in (SHARP, *plan.rows):
        for dataset in plan.datasets:
            if model == SHARP and not dataset.has_truth:
                continue
            for pair in choose_photos(dataset, report, most):
                key = keys[dataset.name, BLURRY if model == SHARP else model, pair.image]
                yield Wanted(pair, model, picture_path(dataset.name, model, pair.image), key)


def choose_photos(dataset: Dataset, report: BenchmarkReport, most: int) -> list[Pair]:
    """From the worst to the best by the first metric of the last model, evenly spread."""
    rows = [row for row in report.images if row.dataset == dataset.name]
    metric = next((row.name for row in report.metrics if any(row.name in image.scores for image in rows)), "")
    ranked = sorted((row for row in rows if row.model == rows[-1].model), key=lambda row: _value(row, metric))
    names = {ranked[rank].image for rank in spread_over(len(ranked), most)}
    return [pair for pair in dataset.pairs if pair.image in names]


def _keep(picture: Wanted, restorer: Restorer | None, path: Path) -> bool:
    """Write one picture as 8-bit PNG; false where the photo is at fault, which its row of the table says."""
    try:
        pixels = _make(picture, restorer)
    except PhotoError:
        return False
    with whole_file(path) as temporary:
        Image.fromarray(np.ascontiguousarray(to_8bit(pixels))).save(temporary, format="png", compress_level=3)
    return True


def _make_room(path: Path, *, is_ours: bool) -> None:
    if os.path.lexists(path) and not is_ours:
        raise InputError(f"{path}: was not made by this tool; move it away, or choose another --report")
    path.unlink(missing_ok=True)


def _make(picture: Wanted, restorer: Restorer | None) -> Rgb:
    photos = read_pair(picture.pair)
    if restorer is not None:
        return restorer(photos.blurry).pixels
    truth = pick_truth(picture.pair, photos, photos.blurry) if picture.model == SHARP else None
    return photos.blurry if truth is None else truth


def _value(row: ImageScore, metric: str) -> float:
    value = row.scores.get(metric)
    return float("-inf") if value is None else value


def _read_index(folder: Path) -> dict[str, str]:
    """The index, without pictures that are gone."""
    try:
        table: Any = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {place: key for place, key in table.items() if (folder / place).is_file()} if isinstance(table, dict) else {}
