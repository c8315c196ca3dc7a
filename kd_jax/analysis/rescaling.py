"""The one number by which all of a model's logits are divided, a temperature, that brings it closest to labels or to its teacher.

It changes no prediction, so what it mends is confidence alone. Guo et al., 2017, On calibration of modern neural networks, 4.2.
A class of probability 0 keeps it at every temperature: where a model gives 0 to what it is held against, the loss is infinite
whatever the temperature, and there is no best one.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from kd_jax.analysis import calibration, intervals
from kd_jax.analysis.intervals import LEVEL
from kd_jax.analysis.results import Interval

FEWEST = 20  # examples, of which halves say something
FITTED_ROWS, FITTED_NUMBERS = 20_000, 1 << 25  # examples, and logits, on which a temperature is fitted at most
BLOCK = 1 << 20  # logits that are looked at at a time
COLDEST, HOTTEST = 1e-2, 1e2  # the range in which a temperature is looked for
LOWEST = -700.0  # logits below their largest by more are lifted to this: their probability is 0 in float64 anyway


class Calibration(NamedTuple):
    """What dividing the logits by a temperature does for a model's confidence.

    It is fitted on one half of the examples and tried on the other, and the other way round, so that no example judges a
    temperature that was fitted to it.

    Attributes:
        temperature: fitted on all examples; above 1, the model is too sure.
        ece_before, ece_after: the expected calibration error, as it is and on the halves.
        nll_before, nll_after: the mean negative log-likelihood of the labels, in nats.
        nll_gain: before less after, example by example.
    """

    temperature: Interval
    ece_before: Interval
    ece_after: Interval
    nll_before: Interval
    nll_after: Interval
    nll_gain: Interval

    @property
    def helps(self) -> bool:
        """Whether the gain is above 0 with its whole interval, and there is a best temperature."""
        return self.nll_gain.low > 0 and COLDEST < self.temperature.estimate < HOTTEST

    def to_json(self) -> dict[str, Any]:
        """Return all intervals and whether the temperature helps, as JSON values."""
        return {name: asdict(interval) for name, interval in self._asdict().items()} | {"helps": self.helps}


class Rescaled(NamedTuple):
    """How much of what separates a student from its teacher is a matter of scale.

    Attributes:
        temperature: of the student's logits, at which KL(p_teacher || p_student) is smallest on average; above 1, the student is
            surer than its teacher.
        kl_before, kl_after: the mean of that divergence, in nats, without and with it.
    """

    temperature: Interval
    kl_before: Interval
    kl_after: Interval

    @property
    def removed(self) -> float:
        """The share of the divergence that one temperature removes."""
        return 1 - self.kl_after.estimate / self.kl_before.estimate if self.kl_before.estimate > 0 else 0.0


def temperature(
    logits: ArrayLike, targets: ArrayLike, level: float = LEVEL, groups: np.ndarray | None = None
) -> Interval:
    """Return the temperature at which the mean cross-entropy of softmax(logits / temperature) with the targets is smallest.

    The loss is convex in b = 1 / temperature. Of each example the derivative is E_p[z] - E_t[z] and the second one is Var_p[z],
    with p the softmax of b z. The interval is that of an M-estimator, normal in b over examples, with the standard error
    sqrt(mean of squared derivatives / examples) / mean second derivative.

    >>> z = np.array([[2.0, 0.0]] * 4)
    >>> found = temperature(z, [0, 0, 0, 1])  # three in four are right: the log odds should be log 3
    >>> print(f"{found.estimate * np.log(3) / 2:.6f}")
    1.000000

    Args:
        logits: float [examples, classes].
        targets: labels, int [examples], or probabilities, float [examples, classes].
        level: confidence level.
        groups: which examples depend on each other, int [examples]; None for independent ones.

    Returns:
        The temperature, between `COLDEST` and `HOTTEST`; at the end of that range where the loss still falls there.
    """
    z, t = _lifted(logits), np.asarray(targets)
    aim = z[np.arange(len(z)), t] if t.ndim == 1 else (t * z).sum(axis=1)

    ends = 1 / HOTTEST, 1 / COLDEST
    scale = ends[0] if z.mean(axis=1).mean() >= aim.mean() else _best_scale(z, aim, *ends)
    slopes, curvature = _derivatives(z, aim, scale)
    if groups is None:
        error = np.sqrt(np.square(slopes).mean() / len(z))
        resampled, count = "examples", len(z)
    else:
        error = intervals.error_of_mean(slopes, groups)
        resampled, count = intervals.GROUPS, len(np.unique(groups))
    error = error / curvature if curvature > 0 else np.inf
    of_scale = intervals.of_error(scale, error, count, level, resampled)
    low, high = 1 / min(of_scale.high, ends[1]), 1 / max(of_scale.low, ends[0])
    return Interval(float(1 / scale), float(low), float(high), level, resampled, count)


def _derivatives(z, aim, scale):
    """The loss's derivative by the scale of each example, [examples], and the mean second one. The largest of a row of z is 0."""
    slopes, second = np.empty(len(z)), 0.0
    rows = max(BLOCK // z.shape[1], 1)
    for start in range(0, len(z), rows):
        part = z[start : start + rows]
        p = np.exp(scale * part)
        total = p.sum(axis=1)
        mean = np.einsum("ij,ij->i", p, part) / total
        second += (np.einsum("ij,ij,ij->i", p, part, part) / total - mean**2).sum()
        slopes[start : start + rows] = mean - aim[start : start + rows]
    return slopes, second / len(z)


def _best_scale(z, aim, low, high):
    """The root of the mean derivative, which rises with the scale; an end of the range where the root lies beyond it.

    By Newton's method, and by halving the range of log scales where that leaves it or hardly gets on.
    """

    def at(scale):
        slopes, curvature = _derivatives(z, aim, scale)
        return slopes.mean(), curvature

    scale, before = 1.0, np.inf
    slope, curvature = at(scale)
    end = low if slope > 0 else high
    if (at(end)[0] >= 0) == (slope > 0):
        return end
    for _ in range(200):
        low, high = (low, scale) if slope > 0 else (scale, high)
        step = scale - slope / curvature if curvature > 0 else np.inf
        if abs(step - scale) <= 1e-10 * scale:
            break
        if not low < step < high or abs(slope) > 0.25 * before:
            step = np.sqrt(low * high)
        scale, before = step, abs(slope)
        slope, curvature = at(scale)
    return float(scale)


def fitted_rows(count: int, classes: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the rows on which a temperature is fitted, rising, int [rows]: all, or of many a part that is drawn at random.

    Args:
        count, classes: how many examples and classes there are.
        groups: which examples depend on each other, from 0, int [examples]: whole groups are drawn; None for independent ones.
    """
    most = min(count, FITTED_ROWS, max(FITTED_NUMBERS // classes, 1000))
    rng = np.random.default_rng(0)
    if most == count:
        return np.arange(count)
    if groups is None:
        return np.sort(rng.choice(count, most, replace=False))
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    number = max(int((np.cumsum(sizes[order]) <= most).sum()), min(FEWEST, len(sizes)))
    rows = np.flatnonzero(np.isin(groups, order[:number]))
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def possible(logits: ArrayLike, labels: ArrayLike) -> bool:
    """Return whether a model gives every label a probability above 0, so that its likelihood is finite.

    >>> possible([[0.0, -np.inf], [0.0, -np.inf]], [0, 1])
    False

    Args:
        logits: float [examples, classes].
        labels: int [examples].
    """
    labels = np.asarray(labels)
    return not np.isneginf(np.asarray(logits, np.float64)[np.arange(len(labels)), labels]).any()


def comparable(teacher: np.ndarray, student: np.ndarray) -> bool:
    """Return whether a student gives a probability above 0 wherever its teacher does, so that all divergences are finite.

    Args:
        teacher, student: logits, float [examples, classes].
    """
    return not (np.isneginf(student) & ~np.isneginf(teacher)).any()


def matched(teacher: Any, student: Any, groups: np.ndarray | None = None) -> Interval:
    """Return the temperature of the student at which the mean KL(p_teacher || p_student) is smallest, over `fitted_rows`.

    >>> teacher = np.log([[0.7, 0.3], [0.4, 0.6]])
    >>> print(f"{matched(teacher, 2.5 * teacher).estimate:.6f}")
    2.500000

    Args:
        teacher, student: logits, float [examples, classes]; arrays, or what is indexed like them.
        groups: which examples depend on each other, int [examples]; None for independent ones.

    Returns:
        The temperature; NaN where a divergence is infinite, so that there is none.
    """
    rows = fitted_rows(len(teacher), teacher.shape[1], groups)
    of_rows = None if groups is None else groups[rows]
    of_teacher, of_student = teacher[rows], student[rows]
    if not comparable(of_teacher, of_student):
        return Interval(np.nan, np.nan, np.nan, LEVEL, "examples", len(rows))
    return temperature(of_student, scipy.special.softmax(_lifted(of_teacher), axis=1), groups=of_rows)


def calibrated(
    logits: ArrayLike, labels: ArrayLike, rng: np.random.Generator, groups: np.ndarray | None = None
) -> Calibration:
    """Return what a temperature does for a model's calibration.

    Args:
        logits: float [examples, classes]; `possible` beside the labels.
        labels: int [examples].
        rng: decides the halves.
        groups: which examples depend on each other, int [examples], so that no group is in both halves; None for independent ones.
    """
    z, y = _lifted(logits), np.asarray(labels)
    if groups is None:
        half = rng.permutation(len(z)) % 2 == 0
    else:
        names, group = np.unique(groups, return_inverse=True)
        half = (rng.permutation(len(names)) % 2 == 0)[group]
    scale = np.empty(len(z))
    for part in (half, ~half):
        scale[~part] = 1 / temperature(z[part], y[part]).estimate
    each = np.arange(len(z))
    hits = calibration.correct(z, y)
    nll, ece = [], []
    for log_p in (scipy.special.log_softmax(z, axis=1), scipy.special.log_softmax(scale[:, None] * z, axis=1)):
        nll.append(-log_p[each, y])
        ece.append(calibration.ece_interval(np.exp(log_p.max(axis=1)), hits, groups=groups))
    means = (intervals.of_mean(values, groups=groups) for values in (*nll, nll[0] - nll[1]))
    return Calibration(temperature(z, y, groups=groups), *ece, *means)


def rescaled(teacher: ArrayLike, student: ArrayLike, groups: np.ndarray | None = None) -> Rescaled:
    """Return how much of KL(p_teacher || p_student) one temperature of the student removes.

    Args:
        teacher, student: logits, float [examples, classes]; `comparable`.
        groups: which examples depend on each other, int [examples]; None for independent ones.
    """
    log_t, z = scipy.special.log_softmax(_lifted(teacher), axis=1), _lifted(student)
    p = np.exp(log_t)
    best = temperature(z, p, groups=groups)
    kl = [(p * (log_t - scipy.special.log_softmax(z / each, axis=1))).sum(axis=1) for each in (1.0, best.estimate)]
    return Rescaled(best, *(intervals.of_mean(values, groups=groups) for values in kl))


def _lifted(logits: ArrayLike) -> np.ndarray:
    z = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore"):
        return np.maximum(z - z.max(axis=1, keepdims=True), LOWEST)
