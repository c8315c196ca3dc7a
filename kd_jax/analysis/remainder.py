"""What is not known where a file holds the most probable classes alone, and what hangs on the assumption about the rest.

The rest of a row's probability is taken to be spread evenly over all classes that are not listed. A confidence log p/(1-p) needs
only the probability of its own class, so the teacher's in its top class is exact, and so is the student's where it lists that
class. Where it does not, all that is known of p is that it is at most the rest, and at most the smallest probability listed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kd_jax.analysis import exaggeration
from kd_jax.analysis.examples import Beside, blocks

Top = Callable[[slice], tuple[np.ndarray, np.ndarray]]  # (probabilities, classes) of rows, [rows, k] each


class Mass(NamedTuple):
    """How much of the probability is outside a model's most probable classes: over examples, its mean and its largest value."""

    mean: float
    largest: float


class Assumed(NamedTuple):
    """What hangs on the assumption about the rest of a student's probability.

    Attributes:
        rows: the share of the examples for which the student does not list the teacher's top class.
        slope: of the student's confidence on the teacher's, over all examples; there with an even share of the rest.
        slope_highest: the same with the largest probability that is possible there.
        slope_listed: the same without these examples.
    """

    rows: float
    slope: float
    slope_highest: float
    slope_listed: float


def mass(top: Top, count: int, k: int) -> Mass:
    """Return how much is outside the k most probable classes.

    >>> mass(lambda rows: (np.array([[0.6, 0.3], [0.5, 0.5]])[rows], None), 2, 2)
    Mass(mean=0.050000000000000044, largest=0.10000000000000009)

    Args:
        top: `top(rows)` returns (probabilities, classes) of a slice of the examples, [rows, k] each.
        count: the number of examples.
        k: how many classes are listed.
    """
    outside = np.concatenate([np.maximum(1 - top(rows)[0].sum(axis=1), 0) for rows in blocks(count, k)])
    return Mass(float(outside.mean()), float(outside.max()))


def assumed(beside: Beside, top: Top, k: int) -> Assumed:
    """Return what hangs on the assumption about the rest of a student's probability; slopes are NaN where they are not defined.

    Args:
        beside: what teacher and student say of each example.
        top: as for `mass`, of the student.
        k: how many classes are listed.
    """
    count = len(beside.pair.x)
    listed, highest = np.empty(count, bool), np.empty(count)
    for rows in blocks(count, k):
        p, classes = top(rows)
        listed[rows] = (classes == beside.teacher.prediction[rows][:, None]).any(axis=1)
        highest[rows] = np.minimum(np.maximum(1 - p.sum(axis=1), 0), p.min(axis=1))
    x, y = beside.pair.x, beside.pair.y
    with np.errstate(divide="ignore"):
        most = np.where(listed, y, np.maximum(y, np.log(highest) - np.log1p(-highest)))
    finite = np.isfinite(x) & np.isfinite(y)

    def slope(y, where):
        return exaggeration.line(x[where], y[where]).slope

    return Assumed(float(1 - listed.mean()), slope(y, finite), slope(most, finite), slope(y, finite & listed))
