"""Confidence intervals of estimates, over seeds or over examples."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kd_jax.analysis.results import Interval

LEVEL = 0.95
RESAMPLES = 400  # the standard error of a bootstrap of 400 is itself known to 3.5 %


def over_seeds(values: ArrayLike, level: float = LEVEL, shared: bool = False) -> Interval:
    """Return the mean over seeds with Student's t interval of n - 1 degrees of freedom.

    >>> found = over_seeds([1.0, 2.0, 3.0])
    >>> print(f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}] over {found.count} {found.resampled}")
    2.000 [-0.484, 4.484] over 3 seeds

    Args:
        values: one per seed, at least two.
        level: confidence level, between 0 and 1.
        shared: whether they are differences from one model, the same for all seeds; see `standard_error`.

    Raises:
        ValueError: for fewer than two values.
    """
    return _t_interval(values, level, "seeds", shared)


def standard_error(count: int, shared: bool = False) -> float:
    """Return the standard error of a mean over seeds, as a multiple of the standard deviation.

    What is measured against one model for all seeds has that model's own chance in it: a further draw of the same distribution, as
    in an interval of prediction.

    >>> standard_error(4), round(standard_error(4, shared=True), 3)
    (0.5, 1.118)
    """
    return float(np.sqrt(1 / count + shared))


def of_mean(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Return the mean over examples with Student's t interval.

    Args:
        values: one per example, at least two.
        level: confidence level, between 0 and 1.

    Raises:
        ValueError: for fewer than two values.
    """
    return _t_interval(values, level, "examples")


@cache
def _quantile(level, freedom):
    return stats.t.ppf((1 + level) / 2, freedom)


def _t_interval(values, level, resampled, shared=False):
    values = np.asarray(values, np.float64)
    count = len(values)
    if count < 2:
        raise ValueError(f"an interval over {resampled} needs at least 2, got {count}")
    mean = values.mean()
    half = _quantile(level, count - 1) * values.std(ddof=1) * standard_error(count, shared)
    return Interval(float(mean), float(mean - half), float(mean + half), level, resampled, count)


def of_proportion(hits: ArrayLike, level: float = LEVEL) -> Interval:
    """Return the share of true among examples with Wilson's score interval, which keeps its width at 0 and at 1.

    >>> found = of_proportion([True] * 20)
    >>> print(f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]")
    1.00 [0.84, 1.00]

    Args:
        hits: whether it is so, bool [examples].
        level: confidence level, between 0 and 1.
    """
    hits = np.asarray(hits, bool)
    result = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(level, method="wilson")
    return Interval(float(hits.mean()), float(result.low), float(result.high), level, "examples", len(hits))


def bootstrap_errors(
    statistic: Callable[[np.ndarray], np.ndarray], count: int, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Return the standard error of each number that a statistic returns, over examples drawn anew with replacement.

    Args:
        statistic: `statistic(index)` returns float64 [...] of the examples `index` (int [count], rising, with repeats).
        count: number of examples.
        rng: the generator of the draws.
        resamples: how many draws.

    Returns:
        float64 [...], of the shape that the statistic returns; NaN where a draw leaves the statistic undefined.
    """
    draws = []
    for _ in range(resamples):
        repeats = np.bincount(rng.integers(0, count, size=count), minlength=count)
        draws.append(statistic(np.repeat(np.arange(count), repeats)))
    return np.std(draws, axis=0, ddof=1)


def of_error(estimate: float, error: float, count: int, level: float = LEVEL) -> Interval:
    """Return an estimate with the normal interval over examples that its standard error gives.

    Args:
        estimate: the estimate.
        error: its standard error.
        count: number of examples.
        level: confidence level, between 0 and 1.
    """
    half = stats.norm.ppf((1 + level) / 2) * error
    return Interval(float(estimate), float(estimate - half), float(estimate + half), level, "examples", int(count))


def of_median(values: ArrayLike, resampled: str, level: float = LEVEL) -> Interval:
    """Return the median with the interval between two order statistics, whatever the distribution of the values.

    It is the narrowest symmetric pair of order statistics that holds the median with at least this probability. So few values that
    not even the smallest and the largest do, get those, with the level that they have: 1 - 2 / 2^n.

    >>> found = of_median([3.0, 1.0, 2.0], "repetitions")
    >>> print(f"{found.estimate} [{found.low}, {found.high}] {found.level}")
    2.0 [1.0, 3.0] 0.75

    Args:
        values: independent repetitions, at least one.
        resampled: what they are repetitions of, for the interval.
        level: confidence level, between 0 and 1.

    Source: David and Nagaraja, 2003, Order statistics, section 7.1.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    # The number of values below the median is binomial; the interval from the k-th value, counted from both ends, misses it with
    # probability 2 P(number < k).
    rank = max(int(stats.binom.ppf((1 - level) / 2, count, 0.5)), 1)
    reached = min(level, 1 - 2 * float(stats.binom.cdf(rank - 1, count, 0.5)))
    return Interval(
        float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[count - rank]), reached, resampled, count
    )
