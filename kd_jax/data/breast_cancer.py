"""The 569 biopsies of breast tumours, 30 measures each, that come with scikit-learn: no download, no network.

"Breast Cancer Wisconsin (Diagnostic)" (Wolberg, Mangasarian, Street and Street, UCI, 1993).
"""

from typing import Any

import numpy as np

from kd_jax.data.arrays import HELD_OUT, Source, held_out


def load() -> Source:
    """Return the biopsies, malignant or benign: 455 for training, and a fifth of each class, 114, held out for testing."""
    from sklearn.datasets import load_breast_cancer  # imported here because it takes a second

    found: Any = load_breast_cancer()
    x, y = found.data.astype(np.float32), found.target.astype(np.int32)
    taken = held_out(y)
    names = np.array([str(name) for name in found.target_names])
    return Source("breast_cancer", x[~taken], y[~taken], x[taken], y[taken], 2, HELD_OUT, names)
