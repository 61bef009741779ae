"""Means with 95 % intervals by the percentile bootstrap (Efron 1979), the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2_000


@dataclass(frozen=True)
class Summary:
    """A figure with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    count: int  # pairs that it rests on


def summarize_values(values: FloatArray) -> Summary | None:
    """Mean of `(pairs,)` and its interval; None if no value is finite.

    For a comparison of two systems pass their differences pair by pair: what is hard about a pair
    then cancels out, which makes the interval narrower.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    means = values[_picks(len(values))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Summary(float(values.mean()), float(low), float(high), len(values))


def summarize_statistic(
    statistic: Callable[[npt.NDArray[np.intp]], float], count: int, resamples: int = 500
) -> Summary | None:
    """A statistic of a set of pairs and its interval; None without pairs.

    Args:
        statistic: takes indices of pairs, with repetitions, and gives the figure.
        count: pairs.
        resamples: fewer than for means, since each one is slow.
    """
    if count == 0:
        return None
    figures = [statistic(picks) for picks in _picks(count, resamples)]
    low, high = np.quantile(figures, [0.025, 0.975])
    return Summary(statistic(np.arange(count)), float(low), float(high), count)


def _picks(count: int, resamples: int = RESAMPLES) -> npt.NDArray[np.intp]:
    return np.random.default_rng(0).integers(count, size=(resamples, count))
