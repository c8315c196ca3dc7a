"""What a student does beyond its teacher's top class: other ranks of the teacher's ordering, entropies, scale against shape.

The mean KL(p_teacher || p_student) is split into two parts. `kl_scale` is what dividing the student's logits by one temperature,
the same for all examples, removes; `kl_shape` is the rest, a difference in what the two say and not in how sure they are. Over the
examples that the temperature is fitted to, both are at least 0; over a part of them the first may be negative.
"""

import numpy as np

from kd_jax.analysis import exaggeration, intervals
from kd_jax.analysis.examples import OfModel, OfPair
from kd_jax.analysis.results import Measured


def measure(
    teacher: OfModel, student: OfModel, pair: OfPair, groups: np.ndarray | None = None
) -> dict[tuple[str, int], Measured]:
    """Return {(name, rank): `Measured`} of a student beside its teacher; rank 0 where a number is about no rank.

    `exaggeration_slope_rank` at rank r is the least-squares slope of the student's confidence log p/(1-p) in the teacher's r-th
    class on the teacher's confidence in it; at rank 1 it is the exaggeration slope. `entropy_difference` is the mean of the
    student's entropy less the teacher's, `entropy_slope` the slope of the one on the other.

    Intervals of the two parts of the divergence take the temperature as given: where it is fitted, the mean divergence does not
    change with it to first order, so that its own uncertainty adds nothing.

    Args:
        teacher, student: what each says of the examples.
        pair: what they say together.
        groups: which examples depend on each other, int [examples]; None for independent ones.
    """
    measured = {("entropy_difference", 0): _mean(student.entropy - teacher.entropy, groups)}
    measured |= _slope("entropy_slope", 0, teacher.entropy, student.entropy, groups)
    measured |= _slope("exaggeration_slope_rank", 1, pair.x, pair.y, groups)
    if pair.lower_x is not None and pair.lower_y is not None:
        for rank, (x, y) in enumerate(zip(pair.lower_x.T, pair.lower_y.T, strict=True), 2):
            measured |= _slope("exaggeration_slope_rank", rank, x.astype(float), y.astype(float), groups)
    if pair.kl_rescaled is not None and np.isfinite(pair.kl).all() and np.isfinite(pair.kl_rescaled).all():
        measured["kl_scale", 0] = _mean(pair.kl - pair.kl_rescaled, groups)
        measured["kl_shape", 0] = _mean(pair.kl_rescaled, groups)
    return measured


def _slope(name, rank, x, y, groups):
    """The slope over the examples in which both are finite; nothing where there is none."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    groups = None if groups is None else groups[finite]
    if len(x) < 3 or not x.min() < x.max():
        return {}
    return {(name, rank): Measured(exaggeration.line(x, y).slope, lambda: intervals.of_slope(x, y, groups=groups))}


def _mean(values, groups):
    return Measured(float(values.mean()), lambda: intervals.of_mean(values, groups=groups))
