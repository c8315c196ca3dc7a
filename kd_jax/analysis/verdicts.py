"""What the estimates of a study say about the paper's claims, by fixed rules."""

from typing import NamedTuple

import numpy as np

from kd_jax.analysis import intervals


class Verdict(NamedTuple):
    """A claim, whether this study supports it, and the numbers that decided.

    Attributes:
        verdict: `supported`, `contradicted` or `inconclusive`.
    """

    claim: str
    verdict: str
    because: str


def verdicts(estimates, baselines):
    """Return the list of `Verdict` for every student.

    Args:
        estimates: list of `Estimate`.
        baselines: {student arm: its one-hot arm}, which is also its control.
    """
    table = {(e.name, e.arm, e.split, e.subset): e for e in estimates}
    found = []
    for student, onehot in baselines.items():
        for split in ("test", "train"):
            found += _exaggeration(table, student, onehot, split)
        found += _gain(table, student)
    return found


def _exaggeration(table, student, onehot, split):
    slope = table.get(("exaggeration_slope", student, split, "lowest_25"))
    control = table.get(("exaggeration_slope", onehot, split, "lowest_25"))
    if slope is None or control is None:
        return []
    claim = f"{student} exaggerates the teacher's low confidence ({split}, lowest 25 %: slope above 1, and above the control's)"
    because = f"slope {_shown(slope.interval)}; control {onehot} {_shown(control.interval)}"
    if slope.interval.high < 1:
        because += (
            "; a slope below 1 does not show that the student follows the teacher, regression to the mean does that"
        )
        return [Verdict(claim, "contradicted", because)]
    supported = slope.interval.low > 1
    if len(slope.values) > 1:
        excess = intervals.over_seeds(np.subtract(slope.values, control.values))
        because += f"; student minus control, same seed: {_shown(excess)}"
        supported = supported and excess.low > 0
    else:
        supported = supported and slope.interval.low > control.interval.high
    return [Verdict(claim, "supported" if supported else "inconclusive", because)]


def _gain(table, student):
    gain = table.get(("accuracy_gain", student, "test", "all"))
    if gain is None:
        return []
    interval = gain.interval
    verdict = "supported" if interval.low > 0 else "contradicted" if interval.high < 0 else "inconclusive"
    because = f"accuracy gain over the same network on one-hot labels {_shown(interval)}"
    fit = table.get(("accuracy", "teacher", "train", "all"))
    if fit is not None:
        because += f"; the teacher fits {100 * fit.interval.estimate:.1f} % of its training labels"
    return [Verdict(f"{student} has the better test accuracy for being distilled", verdict, because)]


def _shown(interval):
    return (
        f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}] over {interval.count} {interval.resampled}"
    )
