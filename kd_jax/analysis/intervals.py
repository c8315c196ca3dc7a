"""Confidence intervals, and the estimate that never travels without one."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 400  # the standard error of a bootstrap of 400 is itself known to 3.5 %


@dataclass(frozen=True)
class Interval:
    """An estimate and the range that holds the true value in `level` of all repetitions.

    Attributes:
        resampled: what a repetition would draw anew: "examples" of the same networks, or "seeds", whole trainings.
        count: how many of them there were.
    """

    estimate: float
    low: float
    high: float
    level: float
    resampled: str
    count: int


@dataclass(frozen=True)
class Estimate:
    """One number of `summary.json`: what was measured, on what, its interval, and the value of each seed.

    Attributes:
        name: one of the names of the interface, such as `exaggeration_slope`.
        arm: which runs.
        interval: over seeds where there are two or more, else over examples.
        values: one per seed, in the order of the seeds.
        split: `train` or `test`.
        subset: `all`, `lowest_25`, `highest_25` (by the teacher's confidence), `clean`, `noisy` (by the label), and the quarters
            of those, such as `noisy_lowest_25`.
    """

    name: str
    arm: str
    interval: Interval
    values: tuple[float, ...]
    split: str
    subset: str

    def to_json(self):
        """The estimate as a flat dict of JSON values."""
        labels = {"name": self.name, "arm": self.arm, "split": self.split, "subset": self.subset}
        return {**labels, **vars(self.interval), "values": list(self.values)}


def over_seeds(values, level=LEVEL):
    """Mean over seeds, with Student's t interval of n - 1 degrees of freedom.

    Args:
        values: one per seed, at least two.
        level: of confidence.
    """
    return _t_interval(values, level, "seeds")


def of_mean(values, level=LEVEL):
    """Mean over examples, with Student's t interval."""
    return _t_interval(values, level, "examples")


def _t_interval(values, level, resampled):
    values = np.asarray(values, np.float64)
    count = len(values)
    if count < 2:
        raise ValueError(f"an interval over {resampled} needs at least 2, got {count}")
    mean = values.mean()
    half = stats.t.ppf((1 + level) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Interval(float(mean), float(mean - half), float(mean + half), level, resampled, count)


def of_proportion(hits, level=LEVEL):
    """Share of true among examples, with Wilson's score interval, which keeps its width at 0 and at 1."""
    hits = np.asarray(hits, bool)
    result = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(level, method="wilson")
    return Interval(float(hits.mean()), float(result.low), float(result.high), level, "examples", len(hits))


def bootstrap_errors(statistic, count, rng, resamples=RESAMPLES):
    """Standard error of each number that a statistic returns, over examples drawn anew with replacement.

    Args:
        statistic: `statistic(index) -> float64 [numbers]`, of the examples `index` (int [count], rising, with repeats).
        count: number of examples.
        rng: NumPy generator.
        resamples: how many draws.

    Returns:
        float64 [numbers]; NaN where a draw leaves the statistic undefined.
    """
    draws = []
    for _ in range(resamples):
        repeats = np.bincount(rng.integers(0, count, size=count), minlength=count)
        draws.append(statistic(np.repeat(np.arange(count), repeats)))
    return np.std(draws, axis=0, ddof=1)


def of_error(estimate, error, count, level=LEVEL):
    """Normal interval over examples from a standard error."""
    half = stats.norm.ppf((1 + level) / 2) * error
    return Interval(float(estimate), float(estimate - half), float(estimate + half), level, "examples", int(count))
