"""How good one model's probabilities are.

Logits are float [examples, classes], labels int [examples]; results are computed in float64.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax

ECE_BINS = 15


def correct(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return whether the largest logit is the label's, bool [examples]."""
    return np.asarray(logits).argmax(axis=1) == np.asarray(labels)


def nll(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the negative log-likelihood of the labels, in nats, float64 [examples].

    >>> nll([[0.0, 0.0]], [1]).round(3).tolist()
    [0.693]
    """
    logits = np.asarray(logits, np.float64)
    return -log_softmax(logits, axis=1)[np.arange(len(logits)), np.asarray(labels)]


def brier(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the squared distance of the probabilities from the one-hot label, float64 [examples], from 0 to 2.

    >>> brier([[0.0, 0.0]], [1]).tolist()
    [0.5]

    Source: Brier, 1950, Verification of forecasts expressed in terms of probability.
    """
    probabilities = softmax(np.asarray(logits, np.float64), axis=1)
    probabilities[np.arange(len(probabilities)), np.asarray(labels)] -= 1
    return np.square(probabilities).sum(axis=1)


def share_left(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return what a fit by squared loss leaves of the variance of the one-hot labels, as a share of it: 1 - R^2.

    It is the squared distance of the logits from the one-hot labels over that of the labels' mean from them.
    """
    one_hot = np.eye(np.shape(logits)[1])[np.asarray(labels)]
    return float(np.square(np.asarray(logits) - one_hot).sum() / np.square(one_hot - one_hot.mean(axis=0)).sum())


def top_confidence(logits: ArrayLike) -> np.ndarray:
    """Return the largest probability of each example, float64 [examples]."""
    return softmax(np.asarray(logits, np.float64), axis=1).max(axis=1)


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
    index = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=np.asarray(hits, np.float64) - confidences, minlength=bins)
    return float(np.abs(gap).sum() / len(confidences))
