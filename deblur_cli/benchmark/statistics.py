"""Paired differences with a bootstrap confidence interval. Pure: numbers in, numbers out."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.

    Raises:
        ValueError: nothing to compare, or the two do not have one length.
    """
    if len(before) != len(after) or not before:
        raise ValueError("paired scores must be as many before as after, and at least one")
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    means = _resampled_means(second - first, seed, resamples)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(
        count=len(before),
        before=float(first.mean()),
        after=float(second.mean()),
        difference=float((second - first).mean()),
        low=float(low),
        high=float(high),
    )


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
