"""Which photos of a report have pictures on disk, and which of them are worth a viewer first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.benchmark.page.columns import Column, difference, metric_columns
from deblur_cli.benchmark.page.trade_off import pick_distortion
from deblur_cli.benchmark.records import BLURRY, SHARP, BenchmarkReport, ImageScore, picture_path

EXTREMES = 4  # worst and best cases shown of each


@dataclass(frozen=True, slots=True)
class PagePhoto:
    """A photo of which at least two versions lie on disk."""

    dataset: str
    image: str
    files: dict[str, Path]  # model -> file, in the order blurry, models, sharp


@dataclass(frozen=True, slots=True)
class Extremes:
    """The photos that one model helped least and most."""

    dataset: str
    model: str
    worst: list[tuple[str, float]]  # image and gain in dB, the worst first
    best: list[tuple[str, float]]  # the best first


def model_names(report: BenchmarkReport) -> list[str]:
    """All rows' names in the order of the report, doing nothing first."""
    names = dict.fromkeys(row.name for row in report.models)
    names.update(dict.fromkeys(row.model for row in report.images))
    return sorted(names, key=lambda name: name != BLURRY)


def gather_photos(report: BenchmarkReport, folder: Path) -> list[PagePhoto]:
    """Every photo with pictures, in the order of the report."""
    versions = [*model_names(report), SHARP]
    photos = []
    for dataset, image in dict.fromkeys((row.dataset, row.image) for row in report.images):
        files = {name: folder / picture_path(dataset, name, image) for name in versions}
        found = {name: file for name, file in files.items() if file.is_file()}
        if len(found) > 1:
            photos.append(PagePhoto(dataset, image, found))
    return photos


def find_extremes(report: BenchmarkReport) -> list[Extremes]:
    """Worst and best photos of every model on every data set that has PSNR, by gain over doing nothing."""
    columns = metric_columns(report)
    found = []
    for dataset in report.datasets:
        rows = [row for row in report.models if row.dataset == dataset.name]
        column = pick_distortion(columns, rows)
        if column is not None:
            found += [_extremes_of(report.images, dataset.name, row.name, column) for row in rows if row.name != BLURRY]
    return [extremes for extremes in found if extremes.worst or extremes.best]


def order_of_worth(photos: Sequence[PagePhoto], extremes: Sequence[Extremes]) -> list[PagePhoto]:
    """The photos in the order in which they deserve the page's room: extremes first, then as they come."""
    ranks: dict[tuple[str, str], int] = {}
    for case in extremes:
        for side in (case.worst, case.best):
            for rank, (image, _) in enumerate(side):
                key = (case.dataset, image)
                ranks[key] = min(rank, ranks.get(key, rank))
    return sorted(photos, key=lambda photo: ranks.get((photo.dataset, photo.image), EXTREMES))


def _extremes_of(images: Sequence[ImageScore], dataset: str, model: str, column: Column) -> Extremes:
    nothing = _scores(images, dataset, BLURRY, column.key)
    gains = [
        (image, gain)
        for image, value in _scores(images, dataset, model, column.key).items()
        if (gain := difference(value, nothing.get(image))) is not None
    ]
    gains.sort(key=lambda pair: pair[1])
    count = min(EXTREMES, math.ceil(len(gains) / 2))
    worst = gains[: min(count, len(gains) - count)]  # a photo is never in both
    return Extremes(dataset, model, worst, gains[::-1][:count])


def _scores(images: Sequence[ImageScore], dataset: str, model: str, metric: str) -> dict[str, float | None]:
    return {row.image: row.scores.get(metric) for row in images if row.dataset == dataset and row.model == model}
