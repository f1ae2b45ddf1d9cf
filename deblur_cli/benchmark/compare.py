"""Two reports -> what changed, image by image. Reads report files; prints nothing."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, ImageScore
from deblur_cli.benchmark.statistics import PairedDifference, paired_bootstrap
from deblur_cli.errors import InputError
from deblur_cli.system.wording import count

Limits = Mapping[str, float]  # metric -> smallest allowed improvement
_FEWEST = 5  # fewer photos that agree by chance are no rare thing, and an interval of so few does not tell


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one model on one data set, before and after."""

    dataset: str
    model: str  # "old -> new" where the names differ
    metric: str
    direction: str
    paired: PairedDifference
    left_out: int  # images without a finite score on both sides

    @property
    def improvement(self) -> float:
        """The mean difference in the metric's good direction."""
        return -self.paired.difference if self.direction == "lower" else self.paired.difference

    @property
    def verdict(self) -> str:
        """`better` or `worse` when the interval leaves zero out, else `unclear`; `equal` to the last digit.

        Fewer than five photos are always `unclear` unless they are equal.
        """
        low, high = self.paired.low, self.paired.high
        if low == high == 0:
            return "equal"
        if low <= 0 <= high or self.paired.count < _FEWEST:
            return "unclear"
        return "better" if self.improvement > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        table = asdict(self)
        return {**table, "improvement": self.improvement, "verdict": self.verdict}


def read_report(path: Path) -> BenchmarkReport:
    """A report from its file or from the folder that holds `report.json`.

    Raises:
        InputError: it is missing or no report.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return BenchmarkReport.from_dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except InputError as fault:
        raise InputError(f"{file}: {fault}") from fault
    except OSError as fault:
        raise InputError(f"{file}: cannot be read ({fault.strerror}); `deblur bench --report` writes it") from fault
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{file}: not a report of `deblur bench` ({fault})") from fault


def compare_reports(
    before: BenchmarkReport, after: BenchmarkReport, *, models: tuple[str, str] | None = None, seed: int = 0
) -> list[Change]:
    """Every metric that both reports have, for every model of one name (or the one pair named) and data set.

    Raises:
        InputError: nothing in the two can be compared.
    """
    direction = {row.name: row.direction for row in after.metrics}
    shared = [row.name for row in before.metrics if row.name in direction]
    changes = []
    for old, new in [models] if models else _same_models(before, after):
        for dataset in [row.name for row in before.datasets]:
            first, second = _scores(before, dataset, old), _scores(after, dataset, new)
            images = [image for image in first if image in second]
            label = old if old == new else f"{old} -> {new}"
            for metric in shared:
                pairs = _finite_pairs(images, first, second, metric)
                if pairs:
                    paired = paired_bootstrap(*map(list, zip(*pairs, strict=True)), seed=seed)
                    left_out = len(images) - len(pairs)
                    changes.append(Change(dataset, label, metric, direction[metric], paired, left_out))
    if not changes:
        raise InputError("the two reports share no data set, model and metric; name models with --models OLD,NEW")
    return changes


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """`psnr=-0.05` or `-0.05` (of psnr) -> metric and smallest allowed improvement.

    Raises:
        InputError: not a number.
    """
    limits = {}
    for text in texts:
        metric, _, number = text.rpartition("=")
        try:
            limits[metric or "psnr"] = float(number)
        except ValueError as fault:
            raise InputError(f"--fail-below {text}: use METRIC=NUMBER, as in psnr=-0.05") from fault
    return limits


def find_crossed(changes: Sequence[Change], limits: Limits) -> list[Change]:
    """Changes whose improvement lies below their limit.

    Raises:
        InputError: a limit is for a metric that was not compared; a typo must not pass a gate.
    """
    unknown = limits.keys() - {change.metric for change in changes}
    if unknown:
        raise InputError(f"--fail-below {', '.join(sorted(unknown))}: this metric was not compared")
    return [change for change in changes if change.improvement < limits.get(change.metric, -math.inf)]


def find_differences(
    before: BenchmarkReport, after: BenchmarkReport, limits: Limits, *, models: tuple[str, str] | None = None
) -> list[str]:
    """A line for each model, data set and limited metric with photos that only `before` has a score of.

    A photo that came back exactly before and does not any more counts as well: its loss has no mean.
    """
    names = dict.fromkeys(row.name for row in before.models if row.name != BLURRY)
    gaps = []
    for old, new in [models] if models else [(name, name) for name in names]:
        for dataset in [row.name for row in before.datasets]:
            first, second = _scores(before, dataset, old), _scores(after, dataset, new)
            for metric in limits:
                scored = [image for image, row in first.items() if row.scores.get(metric) is not None]
                lost = [image for image in scored if _is_lost(first[image], second.get(image), metric)]
                if lost:
                    of = f"{len(lost)} of {count(len(scored), 'photo')}"
                    gaps.append(f"{dataset}/{new} {metric}: {of} with nothing to compare any more ({lost[0]})")
    return gaps


def _is_lost(first: ImageScore, second: ImageScore | None, metric: str) -> bool:
    value = second.scores.get(metric) if second else None
    return value is None or (first.scores.get(metric) == math.inf and value != math.inf)


def _same_models(before: BenchmarkReport, after: BenchmarkReport) -> list[tuple[str, str]]:
    names = {row.name for row in after.models}
    both = dict.fromkeys(row.name for row in before.models if row.name in names and row.name != BLURRY)
    return [(name, name) for name in both]


def _scores(report: BenchmarkReport, dataset: str, model: str) -> dict[str, ImageScore]:
    return {row.image: row for row in report.images if row.dataset == dataset and row.model == model}


def _finite_pairs(
    images: Sequence[str], first: Mapping[str, ImageScore], second: Mapping[str, ImageScore], metric: str
) -> list[tuple[float, float]]:
    pairs = [(first[image].scores.get(metric), second[image].scores.get(metric)) for image in images]
    return [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]
