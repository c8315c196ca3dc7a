"""How good one model's probabilities are.

Logits are float [examples, classes], labels int [examples]; results are computed in float64.
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from kd_jax.analysis.intervals import GROUPS, LEVEL
from kd_jax.analysis.results import Interval

ECE_BINS = 15


def correct(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return whether the largest logit is the label's, bool [examples]."""
    return np.asarray(logits).argmax(axis=1) == np.asarray(labels)


def share_left(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return what a fit by squared loss leaves of the variance of the one-hot labels, as a share of it: 1 - R^2.

    It is the squared distance of the logits from the one-hot labels over that of the labels' mean from them.
    """
    one_hot = np.eye(np.shape(logits)[1])[np.asarray(labels)]
    return float(np.square(np.asarray(logits) - one_hot).sum() / np.square(one_hot - one_hot.mean(axis=0)).sum())


def ece(confidences: np.ndarray, hits: ArrayLike, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: the mean over examples of |accuracy - confidence| of their bin.

    >>> ece(np.array([0.9, 0.9]), [True, False]).__round__(3)
    0.4

    Args:
        confidences: largest probabilities, float [examples].
        hits: whether the prediction is right, bool [examples].
        bins: number of bins of equal width, open below and closed above, so that a confidence of 1 counts.

    Source: Guo et al., 2017, On calibration of modern neural networks, equation 5.
    """
    index = _bin(confidences, bins)
    gap = np.bincount(index, weights=np.asarray(hits, np.float64) - confidences, minlength=bins)
    return float(np.abs(gap).sum() / len(confidences))


def ece_interval(
    confidences: np.ndarray,
    hits: ArrayLike,
    level: float = LEVEL,
    groups: np.ndarray | None = None,
    bins: int = ECE_BINS,
) -> Interval:
    """Return the expected calibration error with its interval.

    It adds up sizes, so chance makes it larger: a network that is calibrated has an ECE above 0, and one whose examples are drawn
    anew a larger one still. So the interval is of all factors, the same for the gaps of all bins, with which an ECE such as that
    seen is neither too small nor too large: gaps are normal, with the variance that the examples give, and of the sum of their
    sizes mean and variance are known. It begins at 0 where a calibrated network could have that ECE, and it holds the estimate.

    >>> found = ece_interval(np.full(100, 0.9), np.arange(100) < 89)
    >>> print(f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]")
    0.010 [0.000, 0.070]

    Args:
        confidences, hits, bins: as for `ece`.
        level: confidence level, between 0 and 1.
        groups: the group of each example, int [examples], at least two; None where examples are independent.
    """
    excess = np.asarray(hits, np.float64) - confidences
    index, count = _bin(confidences, bins), len(excess)
    total = np.bincount(index, excess, bins)
    if groups is None:
        number, squares = count, np.bincount(index, excess**2, bins)
    else:
        _, of = np.unique(groups, return_inverse=True)
        number = int(of.max()) + 1
        sums = np.bincount(of * bins + index, excess, number * bins).reshape(number, bins)
        squares = np.square(sums).sum(axis=0)
    variance = np.maximum(squares - total**2 / number, 0) * number / max(number - 1, 1)
    gaps, errors = np.abs(total) / count, np.sqrt(variance) / count
    value = float(np.abs(total).sum() / count)  # as `ece` adds it up
    quantile = scipy.stats.norm.ppf((1 + level) / 2)

    def beyond(share: float, side: float) -> float:
        """By how much the ECE of these gaps, `side` quantiles from its mean, is above the one that was seen."""
        mean = share * gaps
        ratio = np.divide(mean, errors, out=np.zeros(bins), where=errors > 0)
        size = errors * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * (1 - 2 * scipy.special.ndtr(-ratio))
        size = np.where(errors > 0, size, mean)
        spread = np.sqrt(np.maximum(mean**2 + errors**2 - size**2, 0).sum())
        return float(size.sum() + side * quantile * spread - value)

    if not value > 0:
        return Interval(value, 0.0, value + beyond(0.0, 1), level, "examples" if groups is None else GROUPS, number)
    low = 0.0 if beyond(0.0, 1) >= 0 else scipy.optimize.brentq(beyond, 0.0, 1.0, args=(1,))
    top = 1.0
    while beyond(top, -1) < 0:
        top *= 2
    high = top if top == 1.0 else scipy.optimize.brentq(beyond, top / 2, top, args=(-1,))
    resampled = "examples" if groups is None else GROUPS
    return Interval(value, float(low) * value, float(high) * value, level, resampled, number)  # pyright: ignore


class Reliability(NamedTuple):
    """Accuracy against confidence, in bins of equal width; empty bins are left out.

    Attributes:
        confidence, accuracy: the mean of each in the bin, float64 [bins].
        count: the examples in the bin, int [bins].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(confidences: np.ndarray, hits: ArrayLike, bins: int = ECE_BINS) -> Reliability:
    """Return what a reliability diagram shows; arguments as for `ece`, which is the mean distance from its diagonal.

    >>> reliability(np.array([0.9, 0.9, 0.3]), [True, False, True]).accuracy.tolist()
    [1.0, 0.5]
    """
    index = _bin(confidences, bins)
    count = np.bincount(index, minlength=bins)
    used = count > 0
    confidence, accuracy = (
        np.bincount(index, weights=values, minlength=bins)[used] for values in (confidences, np.asarray(hits, float))
    )
    return Reliability(confidence / count[used], accuracy / count[used], count[used])


def _bin(confidences, bins):
    return np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
