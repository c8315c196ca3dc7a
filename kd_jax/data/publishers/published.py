"""What a publisher's set is made of, and how it becomes a prepared set."""

import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.data import prepared
from kd_jax.data.download import Remote


class Examples(NamedTuple):
    """The examples of a split, in the publisher's order.

    Attributes:
        keys: what TFDS's builder calls each of them, on which TFDS's order depends.
        get: `get(i)` returns the example at a position, {feature: value}.
    """

    keys: Sequence[int | str]
    get: Callable[[int], dict[str, Any]]


class Contents(NamedTuple):
    """What the files of a set hold.

    Attributes:
        features: the features of an example.
        splits: {split: examples}.
    """

    features: Mapping[str, prepared.Feature]
    splits: Mapping[str, Examples]


class Published(NamedTuple):
    """A set as its makers publish it, and as TFDS describes it.

    Attributes:
        info: what the set is; its features are those of `Contents`.
        files: what is downloaded.
        read: `read(paths) -> Contents` of the downloaded files, in the order of `files`.
    """

    info: prepared.Info
    files: tuple[Remote, ...]
    read: Callable[[Sequence[Path]], Contents]


def images(x: np.ndarray, y: np.ndarray, identifier: str = "") -> Examples:
    """Return the examples of a split of images, whose keys are their positions.

    Args:
        x: uint8 [examples, height, width, channels].
        y: the labels, [examples].
        identifier: a pattern that makes a feature `id` of the position; empty for none.

    >>> images(np.zeros((2, 1, 1, 1), np.uint8), np.array([3, 4]), "test_{:05d}").get(1)["id"]
    'test_00001'
    """

    def get(i):
        named = {"id": identifier.format(i)} if identifier else {}
        return {"image": x[i], "label": int(y[i]), **named}

    return Examples(range(len(y)), get)


def unpacked(archive: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    """Return the contents of a file in an archive.

    Raises:
        KeyError: when there is no such file.
    """
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(f"{member} is no file")
    return stream.read()
