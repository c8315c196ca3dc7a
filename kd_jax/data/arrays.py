"""What a data set is once it is in memory, and the choices a study makes about it: which part, which label noise."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kd_jax.config import BadInput
from kd_jax.data.noise import symmetric

BLOCK = 1000  # images at a time
SUBSET_SEED = 0  # which part `--train_examples` takes; fixed, so that every study means the same images


class Source(NamedTuple):
    """A data set as its maker published it.

    Attributes:
        name: what it is called in reports.
        train_x, test_x: uint8 [examples, height, width, channels].
        train_y, test_y: int32 [examples].
        classes: number of classes.
        test_split: which published split serves as the test set.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    test_split: str


class Split(NamedTuple):
    """Examples of one split.

    Attributes:
        x: uint8 [examples, height, width, channels], or what stands in for it (`streamed.Images`); of texts token ids [examples,
            length].
        y: labels the networks see, int32 [examples].
        true_y: labels as published, int32 [examples]; they differ from `y` only under label noise.
        ids: positions in the published split, int64 [examples], rising.
    """

    x: np.ndarray
    y: np.ndarray
    true_y: np.ndarray
    ids: np.ndarray


class Dataset(NamedTuple):
    """What a study trains on.

    Attributes:
        name: what it is called in reports.
        train, test: `Split`.
        classes: number of classes.
        mean, std: of each channel over the training pixels, float64 [channels], in units of the stored uint8; of a set on
            disk the usual constants; None for texts.
        test_split: which published split serves as the test set.
        fingerprint: sha256 over examples and labels of all splits, label noise included; of a set on disk, see `streamed`.
        tokens: a `data.tokens.Tokens`; None for images.
        further: {name: `Split`} of test sets beside the one, such as MNLI's mismatched one.
    """

    name: str
    train: Split
    test: Split
    classes: int
    mean: np.ndarray
    std: np.ndarray
    test_split: str
    fingerprint: str
    tokens: Any = None
    further: Mapping[str, Split] = MappingProxyType({})

    @property
    def splits(self):
        """{name: `Split`} of all, the training set first."""
        return {"train": self.train, "test": self.test, **self.further}

    @property
    def build(self):
        """What `models.build` must know of the data, as keyword arguments beside the classes."""
        return self.tokens.build if self.tokens else {}


def assemble(source, study):
    """Return the `Dataset` of a study: the part it asks for, with its label noise on the training labels.

    Raises:
        BadInput: when a part is asked for that is larger than the whole, or a batch larger than the training set.
    """
    if study.image_size:
        height, width = source.train_x.shape[1:3]
        raise BadInput(
            f"--image_size={study.image_size}: expected a set of images of many sizes, those of {source.name} have"
            f" {width}x{height} pixels; leave it out"
        )
    if study.augment == "resized_crop_flip":
        raise BadInput(
            f"--augment={study.augment}: expected a set of images of many sizes, not {source.name}; pass --augment=crop_flip"
        )
    train = part(source.train_x, source.train_y, study.train_examples, "train_examples")
    test = part(source.test_x, source.test_y, study.test_examples, "test_examples")
    train = with_noise(train, study, source.classes)
    # Integer sums are exact, so these do not depend on the order or the machine.
    pixels = train.x.shape[0] * train.x.shape[1] * train.x.shape[2]
    channels = range(train.x.shape[3])
    sums = np.array([train.x[..., c].sum(dtype=np.int64) for c in channels], np.float64)
    squares = np.array([_sum_of_squares(train.x[..., c]) for c in channels], np.float64)
    mean = sums / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return Dataset(
        source.name,
        train,
        test,
        source.classes,
        mean,
        np.where(std > 0, std, 1.0),
        source.test_split,
        digest(train, test),
    )


def _sum_of_squares(x):
    # Block by block: in int64 the whole of Tiny-ImageNet would take eight times its memory.
    return sum(int(np.square(x[i : i + BLOCK], dtype=np.int64).sum()) for i in range(0, len(x), BLOCK))


def with_noise(train, study, classes):
    """Return the training `Split` with the label noise of a study.

    Raises:
        BadInput: when a batch is larger than it.
    """
    check_batch_size(study, len(train.y))
    return train._replace(y=symmetric(train.true_y, study.label_noise, classes, study.noise_seed))


def positions(y, count, flag):
    """Return the positions, rising, of the part of a split that a study takes, int64 [count].

    Args:
        y: labels of the split.
        count: of examples; 0: all.
        flag: that says so.

    Raises:
        BadInput: when there are not so many.
    """
    if count > len(y):
        raise BadInput(
            f"--{flag}={count}: expected at most {len(y)}, the size of the split; lower it or pass 0 for all"
        )
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(len(y))[:count]) if count else np.arange(len(y))


def check_batch_size(study, examples):
    """Raise `BadInput` where a batch is larger than the training set."""
    if study.batch_size > examples:
        raise BadInput(f"--batch_size={study.batch_size}: expected at most the {examples} training examples; lower it")


def part(x, y, count, flag):
    """Return the `Split` of a fixed random part, or of all for a count of 0, its x contiguous.

    Raises:
        BadInput: when a part is asked for that is larger than the whole.
    """
    ids = positions(y, count, flag)
    if count:
        x, y = x[ids], y[ids]
    y = y.astype(np.int32)
    return Split(np.ascontiguousarray(x), y, y, ids)


def digest(*splits):
    """sha256 over examples and labels of splits, as hex."""
    digest = hashlib.sha256()
    for split in splits:
        for array in (split.x, split.y, split.true_y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
