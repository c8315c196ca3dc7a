"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009) from their binary archives.

A record of CIFAR-10 is the label and 3,072 bytes of the image: red, green, blue, each row by row. CIFAR-100 has the coarse label
before the fine one. The names of classes are in the archive. Identifiers are `train_00000` and so on in the archive's order.
"""

import tarfile
from functools import partial
from typing import NamedTuple

import numpy as np

from kd_jax.data.download import Remote
from kd_jax.data.prepared import Image, Info, Label, Text
from kd_jax.data.publishers.published import Contents, Examples, Published, unpacked

SIZE = 32  # of an image [pixels]
PIXELS = 3 * SIZE * SIZE
CITATION = """\
@TECHREPORT{Krizhevsky09learningmultiple,
    author = {Alex Krizhevsky},
    title = {Learning multiple layers of features from tiny images},
    institution = {},
    year = {2009}
}
"""
DESCRIPTIONS = {
    "cifar10": "The CIFAR-10 dataset consists of 60000 32x32 colour images in 10 classes, with 6000 images per class. There"
    " are 50000 training images and 10000 test images.",
    "cifar100": "This dataset is just like the CIFAR-10, except it has 100 classes containing 600 images each. There are 500"
    " training images and 100 testing images per class. The 100 classes in the CIFAR-100 are grouped into 20 superclasses."
    ' Each image comes with a "fine" label (the class to which it belongs) and a "coarse" label (the superclass to which'
    " it belongs).",
}


class Layout(NamedTuple):
    """The members of an archive: {split: files of records}, and {label in the order of a record: file of its names}."""

    records: dict[str, tuple[str, ...]]
    names: dict[str, str]


CIFAR10 = Layout(
    {
        "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("cifar-10-batches-bin/test_batch.bin",),
    },
    {"label": "cifar-10-batches-bin/batches.meta.txt"},
)
CIFAR100 = Layout(
    {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)},
    {
        "coarse_label": "cifar-100-binary/coarse_label_names.txt",
        "label": "cifar-100-binary/fine_label_names.txt",
    },
)


def read(layout, paths) -> Contents:
    """Return what an archive holds; see `Published.read`."""
    (path,) = paths
    wanted = {name for names in layout.records.values() for name in names} | set(layout.names.values())
    with tarfile.open(path, "r|gz") as archive:
        found = {member.name: unpacked(archive, member) for member in archive if member.name in wanted}
    if absent := sorted(wanted - set(found)):
        raise ValueError(f"there is no {absent[0]} in it")
    features = {"id": Text(), "image": Image((SIZE, SIZE, 3))}
    for label, name in layout.names.items():
        features[label] = Label(tuple(found[name].decode().split()))
    splits = {}
    for split, names in layout.records.items():
        records = np.frombuffer(b"".join(found.pop(name) for name in names), np.uint8)
        if len(records) % (len(layout.names) + PIXELS):
            raise ValueError(f"{names[0]} has no records of {len(layout.names) + PIXELS} bytes")
        splits[split] = _examples(records.reshape(-1, len(layout.names) + PIXELS), list(layout.names), split)
    return Contents(features, splits)


def _examples(records, labels, split):
    def get(i):
        image = records[i, len(labels) :].reshape(3, SIZE, SIZE).transpose(1, 2, 0)
        return {
            "id": f"{split}_{i:05d}",
            "image": image,
            **{label: int(value) for label, value in zip(labels, records[i], strict=False)},
        }

    return Examples(range(len(records)), get)


def _published(name, layout, remote):
    info = Info(
        name=name,
        version="3.0.2",
        features={},
        supervised_keys=("image", "label"),
        description=DESCRIPTIONS[name],
        citation=CITATION,
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        module="tensorflow_datasets.image_classification.cifar",
    )
    return Published(info, (remote,), partial(read, layout))


SETS = (
    _published(
        "cifar10",
        CIFAR10,
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "cifar-10-binary.tar.gz",
        ),
    ),
    _published(
        "cifar100",
        CIFAR100,
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            168513733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            "cifar-100-binary.tar.gz",
        ),
    ),
)
