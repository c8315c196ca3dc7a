"""Data sets of which only the shapes are there, for what is planned or compiled before any example is at hand.

Their arrays have the shapes and dtypes of real ones, hold one value, and take no memory.
"""

from typing import Any

import numpy as np

from kd_jax.config import Data
from kd_jax.data import buckets
from kd_jax.data.dataset import Dataset, Split
from kd_jax.data.encoded import Images as EncodedImages
from kd_jax.data.encoded import Records
from kd_jax.data.images import ImagesInMemory
from kd_jax.data.numbers import Numbers
from kd_jax.data.streamed import SIZE, StreamedImages
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.errors import BadInput

POSITIONS = 512  # tokens of the longest text that RoBERTa's published weights can read


def stand_in(
    kind: str,
    data: Data,
    train: int,
    test: int,
    classes: int,
    example: tuple[int, ...] = (),
    vocabulary: int = 0,
) -> Dataset:
    """Return a data set of a size without its examples.

    >>> made = stand_in("images", Data("cifar10", train_examples=2000), 50_000, 10_000, 10, (32, 32, 3))
    >>> made.train.x.shape, made.train.x.dtype, len(made.test.y)
    ((2000, 32, 32, 3), dtype('uint8'), 10000)

    Args:
        kind: `images`, `streamed` for images that stay on disk, `numbers` or `texts`.
        data: which part of the published set, how texts are cut, and how large views are.
        train, test: the numbers of examples of the published splits.
        classes: the number of classes.
        example: the shape of an example in memory: [height, width, channels] of an image, [features] of numbers; that of others
            follows from `data`.
        vocabulary: the number of token ids of texts.

    Raises:
        BadInput: for a part that is larger than the whole.
    """
    counts = []
    for flag, asked, there in (
        ("train_examples", data.train_examples, train),
        ("test_examples", data.test_examples, test),
    ):
        if asked > there:
            raise BadInput(f"--{flag}={asked}: expected at most the {there} of {data.dataset}; lower it")
        counts.append(asked or there)
    common: dict[str, Any] = {"name": data.dataset, "classes": classes, "test_split": "test", "fingerprint": ""}
    if kind == "texts":
        cut_to = buckets.buckets_of(data.max_length, data.max_length)
        dtype = np.uint16 if vocabulary <= 2**16 else np.uint32
        training, testing = (_split(_filled((count, cut_to[-1]), dtype)) for count in counts)
        facts = {"positions": max(POSITIONS, data.max_length)}
        return TokenisedTexts(
            train=training,
            test=testing,
            vocabulary=vocabulary,
            buckets=cut_to,
            tokenizer_json="",
            token_facts=facts,
            **common,
        )
    if kind == "streamed":
        side = data.image_size or SIZE
        training, testing = (_split(EncodedImages(Records("", "", ""), np.arange(count), side, 0)) for count in counts)
        return StreamedImages(train=training, test=testing, mean=np.full(3, 120.0), std=np.full(3, 60.0), **common)
    kept, dtype = (Numbers, np.float32) if kind == "numbers" else (ImagesInMemory, np.uint8)
    training, testing = (_split(_filled((count, *example), dtype)) for count in counts)
    channels = example[-1]
    return kept(train=training, test=testing, mean=np.full(channels, 120.0), std=np.full(channels, 60.0), **common)


def _filled(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros that takes no memory, whatever its shape; zero is no padding of a text."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _split(x: Any) -> Split:
    labels = _filled((len(x),), np.int32)
    return Split(x, labels, labels, _filled((len(x),), np.int64))
