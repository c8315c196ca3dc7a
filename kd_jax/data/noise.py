"""Label noise."""

import numpy as np


def symmetric(labels, share, classes, seed):
    """Return labels of which a share, rounded to whole examples, is replaced by another class, each equally likely.

    Args:
        labels: int [examples].
        share: 0 to 1. Every replaced label is wrong, so this is exactly the share of wrong labels.
        classes: number of classes.
        seed: which draw.

    Returns:
        A new int32 array.
    """
    noisy = np.array(labels, np.int32)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x6E6F697365]))  # a stream of its own: "noise"
    chosen = rng.permutation(len(noisy))[: round(share * len(noisy))]
    noisy[chosen] = (noisy[chosen] + rng.integers(1, classes, size=len(chosen))) % classes
    return noisy
