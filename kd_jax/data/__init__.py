"""Real data as NumPy arrays: embedded digits, and any TFDS image classification set."""

from kd_jax.data import digits, tfds
from kd_jax.data.arrays import Dataset, Split, assemble

__all__ = ["Dataset", "Split", "default_data_dir", "load"]

default_data_dir = tfds.default_data_dir


def load(study, data_dir):
    """Return the `Dataset` that a study names, reduced and with its label noise.

    Args:
        study: a `kd_jax.config.Study`.
        data_dir: folder of prepared TFDS sets; not looked at for `digits`.

    Raises:
        BadInput: when there is no such set, it cannot be prepared, or it is not image classification.
    """
    source = digits.load() if study.dataset == "digits" else tfds.load(study.dataset, data_dir)
    return assemble(source, study)
