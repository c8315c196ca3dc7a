"""Label noise."""

import numpy as np


def symmetric(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Return labels of which a share is replaced by another class, each other class equally likely.

    >>> labels = np.zeros(10, int)
    >>> (symmetric(labels, 0.3, 5, seed=0) != labels).sum()
    np.int64(3)

    Args:
        labels: int [examples].
        share: from 0 to 1, rounded to whole examples. Every replaced label is wrong, so this is the share of wrong labels.
        classes: the number of classes.
        seed: decides which labels are replaced, and by what.

    Returns:
        A new int32 array.
    """
    noisy = np.array(labels, np.int32)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x6E6F697365]))  # a stream of its own: "noise"
    chosen = rng.permutation(len(noisy))[: round(share * len(noisy))]
    noisy[chosen] = (noisy[chosen] + rng.integers(1, classes, size=len(chosen))) % classes
    return noisy
