"""How sure a mean, or a difference of means, is: percentile bootstrap over images."""

from typing import NamedTuple

import numpy as np

BLOCK = 1 << 20  # drawn indices at a time


class Interval(NamedTuple):
    """mean: of the values as they are. low, high: ends of the interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: np.ndarray, groups: np.ndarray | None = None, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of values with its percentile interval (Efron and Tibshirani 1993, chapter 13).

    Objects of one image are not independent, so whole groups are drawn with replacement, as many as there are; each
    draw's mean is over the values of its groups, a group drawn twice counts twice.

    Args:
      values: (n,) finite.
      groups: (n,) to which image a value belongs; None: each value is a group of its own.
      level: probability that the interval is to cover.
      resamples: number of draws.
      seed: of the draws.

    >>> bootstrap_mean(np.array([0.5, 0.5, 0.5]))
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError("a mean needs one row of finite values, at least one")
    which = np.arange(values.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if which.shape != values.shape:
        raise ValueError(f"there are {values.size} values and groups for {which.size}")
    totals, counts = np.bincount(which, values), np.bincount(which)
    rng, means = np.random.default_rng(seed), []
    rows = max(1, BLOCK // counts.size)
    for start in range(0, resamples, rows):
        drawn = rng.integers(counts.size, size=(min(rows, resamples - start), counts.size))
        means.append(totals[drawn].sum(1) / counts[drawn].sum(1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_difference(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, *, level: float = 0.95, resamples: int = 10_000,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """Mean of a minus mean of b, where a[i] and b[i] are of the same object; arguments as for `bootstrap_mean`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal numbers of values, these are {a.shape} and {b.shape}")
    return bootstrap_mean(a - b, groups, level=level, resamples=resamples, seed=seed)
