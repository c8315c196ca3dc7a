"""MNIST, Fashion-MNIST, Kuzushiji-MNIST and EMNIST from their IDX files.

EMNIST's images are turned and mirrored, as its makers publish them and TFDS keeps them. Its archive holds all six configurations,
and labels of `letters` begin at 1, hence 37 classes.
"""

import gzip
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kd_jax.data.download import Remote
from kd_jax.data.prepared import Image, Info, Label
from kd_jax.data.publishers.published import Contents, Published, images

SIZE = 28  # of an image [pixels]
PARTS = {"train": "train", "test": "t10k"}  # {split: what file names call it}
EMNIST_PARTS = {"train": "train", "test": "test"}
EMNIST_CLASSES = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 37, "digits": 10, "mnist": 10}
EMNIST_TITLES = {
    "byclass": "EMNIST ByClass",
    "bymerge": "EMNIST ByMerge",
    "balanced": "EMNIST Balanced",
    "letters": "EMNIST Letters",
    "digits": "EMNIST Digits",
    "mnist": "EMNIST MNIST",
}
MODULE = "tensorflow_datasets.image_classification.mnist"


def idx(data: bytes) -> np.ndarray:
    """Return the array of an IDX file of unsigned bytes.

    >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])).tolist()
    [7, 9]
    """
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError("it is no IDX file of bytes")
    begin = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:begin], ">u4").astype(int)
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def read(label: Label, paths: Sequence[Path]) -> Contents:
    """Return what the four files of training and test images and labels hold; see `Published.read`."""
    return _contents(label, {path.name: path.read_bytes() for path in paths}, "", PARTS)


def read_emnist(config: str, paths: Sequence[Path]) -> Contents:
    """Return what EMNIST's archive holds of one configuration; see `Published.read`."""
    (path,) = paths
    prefix = f"gzip/emnist-{config}-"
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name.startswith(prefix)}
    return _contents(Label(classes=EMNIST_CLASSES[config]), found, prefix, EMNIST_PARTS)


def _contents(label, found, prefix, parts):
    splits = {}
    for split, part in parts.items():
        names = f"{prefix}{part}-images-idx3-ubyte.gz", f"{prefix}{part}-labels-idx1-ubyte.gz"
        x, y = (idx(gzip.decompress(found[name])) for name in names)
        splits[split] = images(x.reshape(-1, SIZE, SIZE, 1), y)
    return Contents({"image": Image((SIZE, SIZE, 1)), "label": label}, splits)


def _published(name, base, sums, label, **more):
    files = [f"{part}-{kind}-ubyte.gz" for part in PARTS.values() for kind in ("images-idx3", "labels-idx1")]
    remotes = tuple(Remote(base + file, sums[file][0], sums[file][1], f"{name}/{file}") for file in files)
    info = Info(name=name, version="3.0.1", features={}, supervised_keys=("image", "label"), module=MODULE, **more)
    return Published(info, remotes, partial(read, label))


def _emnist(config):
    info = Info(
        name="emnist",
        config=config,
        version="3.1.0",
        features={},
        supervised_keys=("image", "label"),
        description="The EMNIST dataset is a set of handwritten character digits derived from the NIST Special Database 19 and"
        " converted to a 28x28 pixel image format and dataset structure that directly matches the MNIST dataset.\n\nNote: Like"
        " the original EMNIST data, images provided here are inverted horizontally and rotated 90 anti-clockwise. You can use"
        " `tf.transpose` within `ds.map` to convert the images to a human-friendlier format.",
        citation="""\
@article{cohen_afshar_tapson_schaik_2017,
    title={EMNIST: Extending MNIST to handwritten letters},
    DOI={10.1109/ijcnn.2017.7966217},
    journal={2017 International Joint Conference on Neural Networks (IJCNN)},
    author={Cohen, Gregory and Afshar, Saeed and Tapson, Jonathan and Schaik, Andre Van},
    year={2017}
}
""",
        homepage="https://www.nist.gov/itl/products-and-services/emnist-dataset",
        module=MODULE,
        config_description=EMNIST_TITLES[config],
        release_notes={
            "3.0.0": "New split API (https://tensorflow.org/datasets/splits)",
            "3.1.0": "Updated broken download URL",
        },
    )
    return Published(info, (EMNIST_ARCHIVE,), partial(read_emnist, config))


EMNIST_ARCHIVE = Remote(
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    561753746,
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    "emnist/gzip.zip",
)
SETS = (
    _published(
        "mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "t10k-images-idx3-ubyte.gz": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1-ubyte.gz": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
            "train-images-idx3-ubyte.gz": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            "train-labels-idx1-ubyte.gz": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        },
        Label(classes=10),
        description="The MNIST database of handwritten digits.",
        homepage="http://yann.lecun.com/exdb/mnist/",
        citation="""\
@article{lecun2010mnist,
  title={MNIST handwritten digit database},
  author={LeCun, Yann and Cortes, Corinna and Burges, CJ},
  journal={ATT Labs [Online]. Available: http://yann.lecun.com/exdb/mnist},
  volume={2},
  year={2010}
}
""",
    ),
    _published(
        "fashion_mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "t10k-images-idx3-ubyte.gz": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1-ubyte.gz": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
            "train-images-idx3-ubyte.gz": (
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte.gz": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        },
        Label(
            (
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            )
        ),
        description="Fashion-MNIST is a dataset of Zalando's article images consisting of a training set of 60,000 examples and a"
        " test set of 10,000 examples. Each example is a 28x28 grayscale image, associated with a label from 10 classes.",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        citation="""\
@article{DBLP:journals/corr/abs-1708-07747,
  author    = {Han Xiao and
               Kashif Rasul and
               Roland Vollgraf},
  title     = {Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
               Algorithms},
  journal   = {CoRR},
  volume    = {abs/1708.07747},
  year      = {2017},
  url       = {http://arxiv.org/abs/1708.07747},
  archivePrefix = {arXiv},
  eprint    = {1708.07747},
  timestamp = {Mon, 13 Aug 2018 16:47:27 +0200},
  biburl    = {https://dblp.org/rec/bib/journals/corr/abs-1708-07747},
  bibsource = {dblp computer science bibliography, https://dblp.org}
}
""",
    ),
    _published(
        "kmnist",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        {
            "t10k-images-idx3-ubyte.gz": (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            "t10k-labels-idx1-ubyte.gz": (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
            "train-images-idx3-ubyte.gz": (
                18165135,
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            ),
            "train-labels-idx1-ubyte.gz": (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        },
        Label(("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
        description="Kuzushiji-MNIST is a drop-in replacement for the MNIST dataset (28x28 grayscale, 70,000 images), provided in"
        " the original MNIST format as well as a NumPy format. Since MNIST restricts us to 10 classes, we chose one character to"
        " represent each of the 10 rows of Hiragana when creating Kuzushiji-MNIST.",
        homepage="http://codh.rois.ac.jp/kmnist/index.html.en",
        citation="""\
@online{clanuwat2018deep,
  author       = {Tarin Clanuwat and Mikel Bober-Irizar and Asanobu Kitamoto and Alex Lamb and Kazuaki Yamamoto and David Ha},
  title        = {Deep Learning for Classical Japanese Literature},
  date         = {2018-12-03},
  year         = {2018},
  eprintclass  = {cs.CV},
  eprinttype   = {arXiv},
  eprint       = {cs.CV/1812.01718},
}
""",
    ),
    *(_emnist(config) for config in EMNIST_CLASSES),
)
