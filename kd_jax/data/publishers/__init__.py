"""Sets that are made from their publishers' own archives, without TensorFlow.

Addresses, sizes and sha256 of the archives, and the features, names, splits and versions of the sets, are those that TensorFlow
Datasets 4.9.10 registers in its builders. Examples come in TFDS's order too: a prepared set holds the same examples at the same
positions, and equal pixels in PNG files that another encoder has written.
"""

import csv
import dataclasses
import tarfile
import zipfile
import zlib
from pathlib import Path

from kd_jax.data import download, prepared
from kd_jax.data.publishers import cifar, glue, mnist, svhn, texts
from kd_jax.data.publishers.published import Published
from kd_jax.errors import BadInput

SETS = {
    (f"{published.info.name}/{published.info.config}" if published.info.config else published.info.name): published
    for published in (*cifar.SETS, *mnist.SETS, *svhn.SETS, *texts.SETS, *glue.SETS)
}
UNREADABLE = (ValueError, KeyError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, csv.Error)
DEFAULT = {"imdb_reviews": "imdb_reviews/plain_text"}  # the configuration of sets that are asked for by their bare name


def find(name: str) -> Published | None:
    """Return the set of a name as TFDS spells it, optionally with a version, or None for a set or version that is not made here.

    >>> find("cifar10:3.0.2").info.name, find("emnist/letters/3.1.0").info.config, find("emnist/letters/3.0.0"), find("stl10")
    ('cifar10', 'letters', None, None)
    """
    name = name.replace(":", "/")
    if name in DEFAULT:
        name = DEFAULT[name]
    for known, published in SETS.items():
        if name in (known, f"{known}/{published.info.version}"):
            return published
    return None


def configurations(name: str) -> list[str]:
    """Return the names, with their configurations, of the sets that are meant by a name that lacks one."""
    return [known for known in SETS if known.startswith(f"{name}/")]


def prepare(published: Published, data_dir: str | Path) -> Path:
    """Download a set where its files are absent, write it, and return its folder.

    Raises:
        BadInput: when it cannot be downloaded or written; see `download.fetch` and `prepared.write`.
    """
    info = published.info
    paths = download.fetch(published.files, data_dir, info.name)
    try:
        contents = published.read(paths)
    except UNREADABLE as error:
        files = ", ".join(map(str, paths))
        raise BadInput(f"{files}: expected {info.name} in its publisher's layout, cannot read it: {error}") from None
    info = dataclasses.replace(
        info, features=contents.features, download_size=sum(remote.size for remote in published.files)
    )
    splits = {
        split: map(examples.get, prepared.shuffled(examples.keys, split)) for split, examples in contents.splits.items()
    }
    try:
        return prepared.write(
            data_dir, info, splits, {name: len(split.keys) for name, split in contents.splits.items()}
        )
    except prepared.Exists:  # another program has written it meanwhile
        return info.folder(data_dir)
