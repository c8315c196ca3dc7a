"""Published examples in arrays, and what a study makes of them: which part, which label noise, which fingerprint."""

import hashlib
from typing import NamedTuple

import numpy as np

from kd_jax.config import Data
from kd_jax.data.dataset import Split
from kd_jax.data.noise import symmetric
from kd_jax.errors import BadInput

SUBSET_SEED = 0  # decides the part that `--train_examples` takes; fixed, so that every study means the same examples
HELD_OUT = "held-out"  # what a test split is called that was split off by `held_out`
HELD_OUT_SEED = 0  # decides which examples that takes
HELD_OUT_SHARE = 0.2


class Source(NamedTuple):
    """A set of images of one size, or of arrays of floats, as its maker published it.

    Attributes:
        name: the name in reports.
        train_x, test_x: images, uint8 [examples, height, width, channels]; or numbers, float32 [examples, features] or
            [examples, height, width, channels].
        train_y, test_y: int32 [examples].
        classes: the number of classes.
        test_split: the name of the published split that serves as the test set.
        class_names: the names of the classes, str [classes]; empty where they have none but their numbers.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    test_split: str
    class_names: np.ndarray = np.array([], np.str_)


def held_out_of(y: np.ndarray, label: str) -> np.ndarray:
    """Return which examples of the training split of a set without a test or validation split become its test set, bool [examples].

    Args:
        y: labels, int [examples].
        label: the name of the set in messages.

    Raises:
        BadInput: when every class has one example.
    """
    taken = held_out(y)
    if not taken.any():
        raise BadInput(
            f"{label}: expected a test or validation split with visible labels, or two training examples of some class to hold out;"
            " pass another set"
        )
    return taken


def held_out(y: np.ndarray, share: float = HELD_OUT_SHARE) -> np.ndarray:
    """Return which examples a set without a test part gives to one, bool [examples].

    Of every class it takes a share, rounded to whole examples: at least one, and never the last. Which they are is drawn from a
    fixed seed and depends on the class's own number and count alone, so every program splits a set alike.

    >>> held_out(np.array([0, 0, 0, 0, 0, 1, 1, 2])).tolist()
    [False, False, True, False, False, True, False, False]

    Args:
        y: labels, int [examples].
        share: of the examples of each class, above 0 and below 1.
    """
    taken = np.zeros(len(y), bool)
    for label in np.unique(y).tolist():
        rows = np.flatnonzero(y == label)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        taken[np.random.default_rng([HELD_OUT_SEED, label]).permutation(rows)[:count]] = True
    return taken


def noisy(train: Split, data: Data, classes: int) -> Split:
    """Return the training split with the label noise of a study."""
    return train._replace(y=symmetric(train.true_y, data.label_noise, classes, data.noise_seed))


def positions(examples: int, count: int, flag: str) -> np.ndarray:
    """Return the positions, rising, of the part of a split that a study takes, int64 [count].

    >>> positions(4, 0, "train_examples").tolist()
    [0, 1, 2, 3]

    Args:
        examples: the size of the split.
        count: the size of the part; 0 for all.
        flag: the option that asks for it, for messages.

    Raises:
        BadInput: when there are not so many.
    """
    if count > examples:
        raise BadInput(
            f"--{flag}={count}: expected at most {examples}, the size of the split; lower it or pass 0 for all"
        )
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(examples)[:count]) if count else np.arange(examples)


def part(x: np.ndarray, y: np.ndarray, count: int, flag: str) -> Split:
    """Return a fixed random part of a split, or all of it for a count of 0; its x is contiguous in memory.

    Args:
        x: examples.
        y: their labels.
        count, flag: as for `positions`.

    Raises:
        BadInput: when a part is asked for that is larger than the whole.
    """
    published, ids = len(y), positions(len(y), count, flag)
    if count:
        x, y = x[ids], y[ids]
    y = y.astype(np.int32)
    return Split(np.ascontiguousarray(x), y, y, ids, published)


def digest(*splits: Split) -> str:
    """Return the sha256, as hex, over examples and labels of splits."""
    return hashed(hashlib.sha256(), *(array for split in splits for array in (split.x, split.y, split.true_y)))


def hashed(digest, *arrays: np.ndarray) -> str:
    """Return a hash, as hex, after dtype, shape and contents of arrays are added to it."""
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
