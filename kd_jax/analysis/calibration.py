"""How good one model's probabilities are. Logits [examples, classes], labels int [examples]; float64 results."""

import numpy as np
from scipy.special import log_softmax, softmax

ECE_BINS = 15


def correct(logits, labels):
    """Whether the largest logit is the label's, bool [examples]."""
    return np.asarray(logits).argmax(axis=1) == np.asarray(labels)


def nll(logits, labels):
    """Negative log-likelihood of the labels, in nats, [examples]."""
    logits = np.asarray(logits, np.float64)
    return -log_softmax(logits, axis=1)[np.arange(len(logits)), labels]


def brier(logits, labels):
    """Squared distance of the probabilities from the one-hot label, [examples]; 0 to 2 (Brier 1950)."""
    probabilities = softmax(np.asarray(logits, np.float64), axis=1)
    probabilities[np.arange(len(probabilities)), labels] -= 1
    return np.square(probabilities).sum(axis=1)


def share_left(logits, labels):
    """Squared distance of the logits from the one-hot labels, as a share of the labels' variance: 1 - R^2 of a squared-loss fit."""
    one_hot = np.eye(np.shape(logits)[1])[labels]
    return float(np.square(logits - one_hot).sum() / np.square(one_hot - one_hot.mean(axis=0)).sum())


def top_confidence(logits):
    """Largest probability, [examples]."""
    return softmax(np.asarray(logits, np.float64), axis=1).max(axis=1)


def ece(confidences, hits, bins=ECE_BINS):
    """Expected calibration error: mean over examples of |accuracy - confidence| of their bin (Guo et al. 2017, eq. 5).

    Args:
        confidences: largest probabilities, [examples].
        hits: whether right, [examples].
        bins: of equal width, open below and closed above, so a confidence of 1 counts.
    """
    index = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=np.asarray(hits, np.float64) - confidences, minlength=bins)
    return float(np.abs(gap).sum() / len(confidences))
