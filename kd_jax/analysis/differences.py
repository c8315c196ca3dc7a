"""The difference of one quantity between two studies, over seeds. Never without an interval: where there is none, it says why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from kd_jax.analysis.intervals import LEVEL, over_seeds
from kd_jax.analysis.results import Interval

PAIRED, WELCH = "paired by seed", "Welch's t"
EQUAL = "equal in every seed"


class Difference(NamedTuple):
    """A quantity of one study less that of another.

    Attributes:
        interval: of the difference of means; None where it has none.
        method: how it was found, `PAIRED` or `WELCH`; without an interval, why there is none.
        values: the differences of single seeds, where they are paired.
    """

    interval: Interval | None
    method: str
    values: tuple[float, ...] = ()


def difference(first: Mapping[int, float], second: Mapping[int, float], same_data: bool) -> Difference:
    """Return the mean of the first less the mean of the second with its interval over seeds.

    Where data and seeds coincide, a seed means the same initialisation, order and data in both studies as far as their
    configurations agree, so that differences are taken seed by seed, which is valid whatever the two have in common and narrower
    the more that is. Otherwise the two are independent samples of unequal variance.

    >>> found = difference({0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.5, 1: 1.4, 2: 3.6}, same_data=True)
    >>> print(f"{found.interval.estimate:.2f}, {found.method}")
    0.50, paired by seed

    Args:
        first, second: {seed: value} of the two.
        same_data: whether both were trained and tested on the same data.
    """
    if not same_data:
        return Difference(None, "other data")
    paired = set(first) == set(second)
    if min(len(first), len(second)) < 2:
        return Difference(None, "one seed")
    if paired:
        values = [first[seed] - second[seed] for seed in sorted(first)]
        varies, interval = len(set(values)) > 1, over_seeds(values)
        found = Difference(interval, PAIRED, tuple(values))
    else:
        one, other = list(first.values()), list(second.values())
        varies = len(set(one)) > 1 or len(set(other)) > 1
        found = Difference(welch(one, other), WELCH)
    if paired and not any(found.values):
        return Difference(None, EQUAL)
    # Shares of a test set are whole counts, on which a few seeds can agree by chance.
    return found if varies else Difference(None, "the same in all seeds, by chance")


def welch(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the difference of two means with Welch's interval, which takes independent samples whose variances may differ.

    Args:
        first, second: one value per seed, at least two of each.
        level: confidence level, between 0 and 1.

    Source: Welch, 1947, The generalization of "Student's" problem when several different population variances are involved. The
    degrees of freedom are Satterthwaite's.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    middle = float(a.mean() - b.mean())
    of_mean = np.array([x.var(ddof=1) / len(x) for x in (a, b)])
    error = np.sqrt(of_mean.sum())
    if error == 0:
        return Interval(middle, middle, middle, level, "seeds", len(a) + len(b))
    freedom = of_mean.sum() ** 2 / (of_mean**2 / [len(a) - 1, len(b) - 1]).sum()
    half = float(scipy.stats.t.ppf((1 + level) / 2, freedom) * error)
    return Interval(middle, middle - half, middle + half, level, "seeds", len(a) + len(b))
