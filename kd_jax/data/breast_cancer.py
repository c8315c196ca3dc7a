"""The 569 biopsies of breast tumours, 30 measures each, that come with scikit-learn: no download, no network.

"Breast Cancer Wisconsin (Diagnostic)" (Wolberg, Mangasarian, Street and Street, UCI, 1993).
"""

from typing import Any

import numpy as np

from kd_jax.data import embedded
from kd_jax.data.arrays import HELD_OUT, Source, held_out


def load() -> Source:
    """Return the biopsies, malignant or benign: 456 for training, and a fifth of each class, 113, held out for testing."""
    rows = embedded.table("breast_cancer.csv", skip=1)
    if rows is None:
        from sklearn.datasets import load_breast_cancer

        found: Any = load_breast_cancer()
        rows = np.column_stack([found.data, found.target])
    x, y = rows[:, :-1].astype(np.float32), rows[:, -1].astype(np.int32)
    taken = held_out(y)
    names = np.array(["malignant", "benign"])
    return Source("breast_cancer", x[~taken], y[~taken], x[taken], y[taken], 2, HELD_OUT, names)
