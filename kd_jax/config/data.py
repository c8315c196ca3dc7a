"""Which examples a study trains and tests on."""

from dataclasses import dataclass
from typing import Annotated

from kd_jax.config.allowed import SHARE, Allowed, at_least, check, zero_or

NAMED = Allowed(lambda name: bool(name.strip()), "the name of a set, or the folder of a prepared one")
TOKENS = Allowed(lambda count: 8 <= count <= 512, "a whole number of tokens from 8 to 512")
PIECES = Allowed(lambda count: count >= 300, "at least 300, for the bytes, special tokens and some pieces")
TEXTS = Allowed(lambda names: len(names) < 3 and len(set(names)) == len(names), "one name, or two different ones")
FOLDER = "a folder"  # in place of its path, which another machine does not have


@dataclass(frozen=True)
class Data:
    """Which examples a study trains and tests on, with which labels, and how texts become tokens."""

    dataset: Annotated[str, NAMED] = "cifar10"
    """Data: `digits` or `breast_cancer` (embedded, no download), `tiny_imagenet` (from --tiny_imagenet_dir), the name of a set that
    `kd-jax import` took, any TFDS set of classified images or texts by name (cifar10, mnist, emnist/letters, glue/sst2,
    imdb_reviews, ...), or the folder of a prepared one. A set whose images have many sizes (imagenet2012, food101, ...) is
    streamed from disk."""
    train_examples: Annotated[int, zero_or(2, "all")] = 0
    """Size of the fixed random part of the training split that is used [examples; 0: all]."""
    test_examples: Annotated[int, zero_or(2, "all")] = 0
    """Size of the fixed random part of the test split that is used [examples; 0: all]."""
    label_noise: Annotated[float, SHARE] = 0.0
    """Share of training labels that are replaced by another class, drawn uniformly [0 to 1]."""
    noise_seed: Annotated[int, at_least(0, "a whole number")] = 0
    """Seed of the label noise; it is the same for every seed of the study."""
    image_size: Annotated[int, zero_or(8, "224")] = 0
    """Side of the views of a streamed set [pixels; 0: 224]."""
    max_length: Annotated[int, TOKENS] = 128
    """Length up to which a text is read [tokens, RoBERTa's special ones included]; longer texts are cut, and counted."""
    vocabulary: Annotated[int, PIECES] = 8000
    """Largest size of the byte-level BPE that is trained on the training texts where no other tokenizer is given [tokens]."""
    tokenizer: str = ""
    """A tokenizer.json to use instead [empty: that of the pre-trained weights, or else one is trained]."""
    label: str = ""
    """Name of the class label among the features of a prepared set that has several [empty: the supervised one, or `label`]."""
    text: Annotated[tuple[str, ...], TEXTS] = ()
    """Names of the text, or of the two texts of a pair, in their order, among the features of a prepared set [none: by their names
    and the set's supervised keys]."""

    def __post_init__(self):
        check(self)


def is_folder(dataset: str) -> bool:
    """Whether `--dataset` names a prepared set by its folder, and not by its name, which may have a configuration.

    >>> is_folder("/data/mine/1.0.0"), is_folder("~/mine/1.0.0"), is_folder("glue/sst2")
    (True, True, False)
    """
    return dataset.startswith(("/", "~", "./", "../"))
