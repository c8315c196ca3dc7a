"""How large an effect a number of seeds can show, and how many seeds an effect would take."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from kd_jax.analysis.intervals import standard_error

POWER = 0.8  # the usual share of studies that shall find an effect that is there
MOST_SEEDS = 1000  # more is no answer


class Effect(NamedTuple):
    """The size of an effect, as a t test sees it.

    Attributes:
        size: its mean over its standard deviation from seed to seed.
        shared: whether one model, the same for all seeds, is what it is measured against.
    """

    size: float
    shared: bool = False


def power(effects: Sequence[Effect], seeds: int, level: float) -> float:
    """Return how often a claim that rests on several effects is found: the probability that t tests show all of them.

    The tests are two-sided ones at that level, of which the one side counts. Their outcomes are taken as independent, which errs on
    the side of caution where they go together.

    >>> round(power([Effect(1.0)], 10, 0.05), 3)
    0.803

    Args:
        effects: all effects that have to be shown.
        seeds: number of seeds, at least 2.
        level: two-sided level of the tests.
    """
    critical = scipy.stats.t.isf(level / 2, seeds - 1)
    sizes = [effect.size / standard_error(seeds, effect.shared) for effect in effects]
    each = scipy.stats.nct.sf(critical, seeds - 1, np.minimum(sizes, 1e3))
    return float(np.prod(np.nan_to_num(each, nan=1.0)))  # nan: far beyond every critical value


def seeds_needed(effects: Sequence[Effect], level: float, share: float = POWER, most: int = MOST_SEEDS) -> int | None:
    """Return the least number of seeds at which all effects are shown in a share of studies; None for more than `most`.

    >>> seeds_needed([Effect(1.0)], 0.05)
    10

    Args:
        effects, level: as for `power`.
        share: the share of studies.
        most: the largest number of seeds that is tried.
    """
    if any(effect.size <= 0 for effect in effects) or power(effects, most, level) < share:
        return None
    low, high = 1, most  # too few, enough: power rises with the number of seeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effects, middle, level) >= share else (middle, high)
    return high


def effect_found(seeds: int, level: float, share: float = POWER, shared: bool = False) -> float:
    """Return the least effect, in standard deviations from seed to seed, that is shown in a share of studies.

    >>> [round(effect_found(seeds, 0.05), 2) for seeds in (3, 5, 10)]
    [3.26, 1.68, 1.0]

    Args:
        seeds, level, share: as above.
        shared: whether it is measured against one model for all seeds.
    """

    def excess(size):
        return power([Effect(size, shared)], seeds, level) - share

    return float(scipy.optimize.brentq(excess, 1e-6, 1e3, xtol=1e-6))  # pyright: ignore
