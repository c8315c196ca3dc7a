"""Street View House Numbers, cropped to single digits (Netzer et al., NIPS workshop 2011), from its MATLAB files.

The digit 0 has the label 10 there and 0 here, as in TFDS. `extra` are 531,131 further, somewhat easier images.
"""

import numpy as np

from kd_jax.data.download import Remote
from kd_jax.data.prepared import Image, Info, Label, Text
from kd_jax.data.publishers.published import Contents, Published, images

HOME = "http://ufldl.stanford.edu/housenumbers/"
SPLITS = ("train", "test", "extra")
CLASSES = 10


def read(paths) -> Contents:
    """Return what the three files hold; see `Published.read`."""
    from scipy.io import loadmat

    features = {"id": Text(), "image": Image((32, 32, 3)), "label": Label(classes=CLASSES)}
    splits = {}
    for split, path in zip(SPLITS, paths, strict=True):
        found = loadmat(path, variable_names=["X", "y"])
        x, y = np.moveaxis(found["X"], -1, 0), found["y"].ravel()
        splits[split] = images(x, y % CLASSES, f"{split}_{{:06d}}")
    return Contents(features, splits)


SETS = (
    Published(
        Info(
            name="svhn_cropped",
            version="3.1.0",
            features={},
            supervised_keys=("image", "label"),
            description="The Street View House Numbers (SVHN) Dataset is an image digit recognition\ndataset of over 600,000 digit"
            " images coming from real world data. Images are\ncropped to 32x32.",
            citation='''\
"""Street View House Numbers (SVHN) Dataset, cropped version."""

@article{Netzer2011,
author = {Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, Andrew Y},
booktitle = {Advances in Neural Information Processing Systems ({NIPS})},
title = {Reading Digits in Natural Images with Unsupervised Feature Learning},
year = {2011}
}
''',
            homepage=HOME,
            module="tensorflow_datasets.datasets.svhn_cropped.svhn_cropped_dataset_builder",
            release_notes={"3.1.0": "New split API (https://tensorflow.org/datasets/splits)"},
        ),
        (
            Remote(
                f"{HOME}train_32x32.mat",
                182040794,
                "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                "svhn/train_32x32.mat",
            ),
            Remote(
                f"{HOME}test_32x32.mat",
                64275384,
                "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
                "svhn/test_32x32.mat",
            ),
            Remote(
                f"{HOME}extra_32x32.mat",
                1329278602,
                "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
                "svhn/extra_32x32.mat",
            ),
        ),
        read,
    ),
)
