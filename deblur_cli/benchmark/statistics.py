"""Paired differences with a bootstrap confidence interval. Pure: numbers in, numbers out."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_CHUNK = 1 << 22  # drawn indices held in memory at once


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of `after - before` over the images and where it lies with the given confidence."""

    count: int
    before: float
    after: float
    difference: float
    low: float
    high: float


def paired_bootstrap(
    before: Sequence[float],
    after: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Percentile interval of the mean paired difference; images are drawn, both scores of one together.

    Pairing takes out what makes an image hard or easy, which is far larger than what makes two models differ.
    The interval is expanded to the width that Student's t has for so few images; plain percentiles of few are too
    narrow.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13; Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap" (arXiv 1411.5279), the expanded percentile interval.

    Raises:
        ValueError: nothing to compare, or the two do not have one length.
    """
    if len(before) != len(after) or not before:
        raise ValueError("paired scores must be as many before as after, and at least one")
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    means = _resampled_means(second - first, seed, resamples)
    tail = _expanded_tail(first.size, (1 - confidence) / 2)
    low, high = np.quantile(means, [tail, 1 - tail])
    return PairedDifference(
        count=len(before),
        before=float(first.mean()),
        after=float(second.mean()),
        difference=float((second - first).mean()),
        low=float(low),
        high=float(high),
    )


def _expanded_tail(count: int, tail: float) -> float:
    """The share of resampled means to leave out at either end, for the width of Student's t; all stay of one."""
    if count < 2:
        return 0.0
    angles = np.linspace(-np.pi / 2, np.pi / 2, 100_001)  # Student's t is √(n - 1) · tan of an angle …
    shares = np.cumsum(np.cos(angles) ** (count - 2))  # … whose density is a power of the cosine
    width = np.sqrt(count) * np.tan(angles[np.searchsorted(shares, tail * shares[-1])])
    return NormalDist().cdf(float(width))


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; nothing of nothing."""
    return float(np.mean(values)) if values else None


def median(values: Sequence[float]) -> float | None:
    """Median; nothing of nothing."""
    return float(np.median(values)) if values else None


def spread_over(count: int, wanted: int) -> list[int]:
    """At most `wanted` ranks out of `count`, evenly spaced, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    return sorted({round(rank) for rank in np.linspace(0, count - 1, wanted)}) if wanted else []


def _resampled_means(
    differences: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int, resamples: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // differences.size)
    means = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, differences.size, (min(rows, resamples - start), differences.size))
        means.append(differences[drawn].mean(axis=1))
    return np.concatenate(means)
