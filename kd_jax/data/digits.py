"""The 1,797 real handwritten 8x8 digits that come with scikit-learn: no download, no network.

From the test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI, 1998).
"""

from typing import Any

import numpy as np

from kd_jax.data import embedded
from kd_jax.data.arrays import Source

TRAIN_EXAMPLES = 1297  # leaves 500 for testing
SPLIT_SEED = 0


def load() -> Source:
    """Return the digits: 1,297 training and 500 test images, in a random split that is always the same.

    Pixels are counts from 0 to 16. The writers are not known per image, so one writer can be in both parts.
    """
    rows = embedded.table("digits.csv.gz")
    if rows is None:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        rows = np.column_stack([digits.data, digits.target])
    order = np.random.default_rng(SPLIT_SEED).permutation(len(rows))
    train, test = np.sort(order[:TRAIN_EXAMPLES]), np.sort(order[TRAIN_EXAMPLES:])
    x = rows[:, :-1].reshape(-1, 8, 8, 1).astype(np.uint8)
    y = rows[:, -1].astype(np.int32)
    return Source("digits", x[train], y[train], x[test], y[test], classes=10, test_split="test")
