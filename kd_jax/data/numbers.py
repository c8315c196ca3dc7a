"""Numbers in memory: rows of a table, or arrays with rows and columns such as spectrograms; during a run they lie on the devices.

They are standardised as images are, and not augmented.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kd_jax.config import Data, Training
from kd_jax.data.arrays import Source, digest, noisy, part
from kd_jax.data.dataset import Dataset, Split
from kd_jax.data.images import TEXT_DATA, TEXT_TRAINING
from kd_jax.errors import BadInput

BLOCK = 1000  # examples that are added up at a time
OURS = "numbers"  # what these examples are called in messages


@dataclass(frozen=True, eq=False, kw_only=True)
class Numbers(Dataset):
    """Examples of floats: vectors [examples, features], or arrays [examples, height, width, channels].

    Attributes:
        mean, std: the mean and the standard deviation over the training set, of each feature or of each channel, float64.
    """

    mean: np.ndarray
    std: np.ndarray

    @property
    def network_settings(self) -> dict[str, Any]:
        """Whether an example is a vector, as a keyword argument of `models.build`."""
        return {"vectors": self.train.x.ndim == 2}

    def facts(self, seed: int, batch_size: int) -> dict[str, Any]:
        """Return what `study.json` says about the data; see `Dataset.facts`."""
        shape = {"example_shape": list(self.train.x.shape[1:])}
        return super().facts(seed, batch_size) | shape | {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def check(self, data: Data, training: Training) -> None:
        """Refuse what only texts or images have, besides what `Dataset.check` refuses; mixup blends numbers as well as pixels."""
        super().check(data, training)
        self._refuse(data, TEXT_DATA, OURS, "texts")
        self._refuse(training, TEXT_TRAINING, OURS, "texts")
        self._refuse(data, ("image_size",), OURS, "images")
        if training.augment != "none":
            raise BadInput(
                f"--augment={training.augment}: expected none for {OURS}, {self.name}; it is for images; pass --augment=none"
            )
        if training.cutmix:
            raise BadInput(
                f"--cutmix={training.cutmix}: expected 0 for {OURS}, {self.name}; it is for images; pass --cutmix=0, or"
                " --mixup"
            )

    def clean_view(self, dtype: Any) -> Callable[[Any], Any]:
        """Return `view(x)`, which standardises numbers to floats of this dtype."""
        from kd_jax.data.augment import standardise

        return partial(standardise, mean=self.mean, std=self.std, dtype=dtype)


def are(x: np.ndarray) -> bool:
    """Return whether examples are numbers rather than images."""
    return np.issubdtype(x.dtype, np.floating)


def assemble(source: Source, data: Data) -> Numbers:
    """Return the data set that a study asks for: a part of a published set, with label noise on the training labels.

    The mean and deviation are those of the training set; a feature that does not vary is divided by 1.

    Raises:
        BadInput: when a part is asked for that is larger than the whole, or a number is not finite.
    """
    train = noisy(part(source.train_x, source.train_y, data.train_examples, "train_examples"), data, source.classes)
    test = part(source.test_x, source.test_y, data.test_examples, "test_examples")
    for name, split in (("train", train), (source.test_split, test)):
        _check_finite(source.name, name, split)
    mean, std = statistics(train.x)
    return Numbers(
        name=source.name,
        train=train,
        test=test,
        classes=source.classes,
        test_split=source.test_split,
        class_names=tuple(source.class_names.tolist()),
        fingerprint=digest(train, test),
        mean=mean,
        std=std,
    )


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean, standard deviation) over all axes but the last, float64, the deviation 1 where nothing varies.

    Args:
        x: float [examples, ..., features].
    """
    axes = tuple(range(x.ndim - 1))
    blocks = [x[start : start + BLOCK] for start in range(0, len(x), BLOCK)]
    count = x.size // x.shape[-1]
    lowest, highest = x.min(axes), x.max(axes)
    mean = sum(block.sum(axes, dtype=np.float64) for block in blocks) / count
    # Of differences from the mean: of squares too large a part would cancel where the mean is large.
    std = np.sqrt(sum(np.square(block - mean).sum(axes) for block in blocks) / count)
    constant = lowest == highest  # the sum of equal numbers is rounded, so their deviation need not be 0
    return np.where(constant, lowest, mean), np.where(constant, 1.0, std)


def _check_finite(name: str, split_name: str, split: Split) -> None:
    wrong = first_not_finite(split.x)
    if wrong:
        row, *place = wrong
        where = f"column {place[0]}" if len(place) == 1 else f"place {tuple(place)}"
        raise BadInput(
            f"--dataset={name}: expected finite numbers, found {split.x[wrong]} in row {split.ids[row]}, {where}, of the"
            f" {split_name} split (counted from 0); fill it in, or leave out the row"
        )


def first_not_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """Return the place of the first number that is NaN or infinite, or None.

    >>> first_not_finite(np.array([[0.0, 1.0], [2.0, np.nan]]))
    (1, 1)
    """
    for start in range(0, len(x), BLOCK):
        finite = np.isfinite(x[start : start + BLOCK])
        if not finite.all():
            row, *place = np.argwhere(~finite)[0].tolist()
            return start + row, *place
    return None
