"""How good one model's probabilities are.

Logits are float [examples, classes], labels int [examples]; results are computed in float64.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

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
