"""Prepared TensorFlow Datasets sets of classified texts: which texts, which labels, which split serves as the test set.

A set with one text feature has single texts, one with two has pairs. GLUE hides its test labels (they are -1), so its validation
split serves as the test set; MNLI's matched one does, and the mismatched one is a further split.
Where there is none with visible labels, a part of the training split is held out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from kd_jax.data.arrays import HELD_OUT, held_out_of
from kd_jax.errors import BadInput

BLOCK = 1000  # examples in one read; reading them one by one is several times slower
# The first text of a pair where the alphabet would put it second: a premise precedes its hypothesis, a title its text.
FIRST = ("premise", "title")
VALIDATION = ("validation", "val", "valid", "dev")
TEST_SPLITS = ("test", "test_matched", *VALIDATION, "validation_matched")  # the first with visible labels is taken
IDENTIFIERS = (
    "id",
    "idx",
    "uid",
    "guid",
    "key",
    "url",
    "file_name",
    "filename",
    "path",
)  # texts that nobody is to read
FURTHER = {"validation_matched": {"mismatched": "validation_mismatched"}}  # test split -> {name: split}
USUAL = "*"  # in place of a label's name: the one that earlier versions took, whatever it is called
MADE_OF = "text_feature.Text", "class_label_feature.ClassLabel", "image_feature.Image"


class Texts(NamedTuple):
    """A set of texts as its maker published it, its splits one after the other.

    Attributes:
        name: the name in reports.
        splits: the names of the splits here, str [splits]: `train`, `test`, and further ones.
        published: the names under which they were published, str [splits].
        sizes: the examples in each split, int [splits].
        utf8: the bytes of all texts, uint8 [bytes].
        ends: where each text ends in `utf8`, int64 [examples, 1], or [examples, 2] for pairs.
        y: labels, int32 [examples].
        classes: the number of classes.
        note: a sentence about the choice of the test split, or empty.
        class_names: the names of the classes, str [classes]; empty where they have none but their numbers.
    """

    name: str
    splits: np.ndarray
    published: np.ndarray
    sizes: np.ndarray
    utf8: np.ndarray
    ends: np.ndarray
    y: np.ndarray
    classes: int
    note: str
    class_names: np.ndarray = np.array([], np.str_)

    def of(self, split: str) -> tuple[list[tuple[str, ...]], np.ndarray]:
        """Return (texts, labels int32) of a split: for each example one string, or two, without white space around them."""
        number = self.splits.tolist().index(split)
        first, last = self.sizes[:number].sum(), self.sizes[: number + 1].sum()
        begin = np.append(0, self.ends.ravel())[: self.ends.size].reshape(self.ends.shape)
        whole = self.utf8.tobytes()
        texts = [
            tuple(whole[a:b].decode(errors="replace").strip() for a, b in zip(*spans, strict=True))
            for spans in zip(begin[first:last].tolist(), self.ends[first:last].tolist(), strict=True)
        ]
        return texts, self.y[first:last]


def is_text(folder: Path) -> bool:
    """Return whether a prepared set has texts and no images."""
    try:
        features = json.loads((folder / "features.json").read_text(encoding="utf-8"))["featuresDict"]["features"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False  # reading the set will say what is wrong with it
    kinds = [str(feature.get("pythonClassName", "")) for feature in features.values()]
    texts = any(kind.endswith(MADE_OF[0]) for kind in kinds) or any(
        feature.get("tensor", {}).get("dtype") == "string" and not feature["tensor"].get("shape")
        for feature in features.values()
    )
    return texts and not any(kind.endswith(MADE_OF[2]) for kind in kinds)


def check_label(folder: Path, asked: str) -> None:
    """Refuse a prepared set of several class labels of which none is supervised or called `label`, if the study names none.

    Nothing but their order would decide then. It is looked at without TFDS, and before a decoded copy is taken, for one may be
    there that an earlier version made.

    Args:
        folder: the folder of the set.
        asked: the name that the study gives; empty where it gives none.

    Raises:
        BadInput: naming the labels.
    """
    try:
        features = json.loads((folder / "features.json").read_text(encoding="utf-8"))["featuresDict"]["features"]
        said = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).get("supervisedKeys", "")
        labels = sorted(key for key, of in features.items() if str(of.get("pythonClassName", "")).endswith(MADE_OF[1]))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return  # reading the set will say what is wrong with it
    usual = any(key == "label" or json.dumps(key) in json.dumps(said) for key in labels)
    if not asked and len(labels) > 1 and not usual:
        raise BadInput(
            f"--dataset: {folder}: expected one class label, found {', '.join(labels)}; say which: --label={labels[0]} or another"
        )


def read(builder: Any, label: str, label_asked: str = "", texts_asked: tuple[str, ...] = ()) -> Texts:
    """Return the texts of a prepared set.

    Args:
        builder: a builder of TFDS for a folder of array_record files.
        label: the name of the set in messages.
        label_asked, texts_asked: the names of the label, and of one text or two, that the study asks for; empty for the usual ones.

    Raises:
        BadInput: when it is not text classification, or has no training labels that are visible.
    """
    keys, label_key = _chosen(builder.info, label, label_asked, texts_asked)
    sizes = {split: builder.info.splits[split].num_examples for split in builder.info.splits}
    train = _read(builder, "train", keys, label_key) if sizes.get("train") else None
    if train is None or train[1].min() < 0:
        raise BadInput(f"{label}: expected a train split with visible labels; pass another set")
    hidden = []
    for published in TEST_SPLITS:
        if sizes.get(published):
            test = _read(builder, published, keys, label_key)
            if test[1].min() >= 0:
                break
            hidden.append(published)
    else:
        published, taken = HELD_OUT, held_out_of(train[1], label)
        train, test = (([train[0][row] for row in np.flatnonzero(part)], train[1][part]) for part in (~taken, taken))
    parts = {"train": ("train", train), "test": (published, test)}
    for name, split in FURTHER.get(published, {}).items():
        if sizes.get(split):
            parts[name] = split, _read(builder, split, keys, label_key)
    classes = builder.info.features[label_key].num_classes
    for split, (_, y) in parts.values():
        check_labels(y, classes, split, label)
    serves = "a part of train" if published == HELD_OUT else published
    note = (
        f"the labels of split {' and '.join(hidden)} are hidden (-1): {serves} serves as the test set" if hidden else ""
    )
    texts = [text for _, (split_texts, _) in parts.values() for text in split_texts]
    return Texts(
        builder.info.name if not builder.info.config_name else f"{builder.info.name}/{builder.info.config_name}",
        np.array(list(parts)),
        np.array([split for split, _ in parts.values()]),
        np.array([len(y) for _, (_, y) in parts.values()]),
        np.frombuffer(b"".join(part for text in texts for part in text), np.uint8),
        np.cumsum([[len(part) for part in text] for text in texts]).reshape(len(texts), len(keys)),
        np.concatenate([y for _, (_, y) in parts.values()]),
        classes,
        note,
        class_names(builder.info.features[label_key]),
    )


def chosen_label(asked: str, there: Sequence[str], usual: str, label: str) -> str:
    """Return the name of the class label that a study asks for, or the usual one.

    Args:
        asked: what was asked for; empty for the usual one.
        there: the names of all class labels of the set.
        usual: the one that is taken if nothing is asked for.
        label: the name of the set in messages.

    Raises:
        BadInput: when there is no such label.
    """
    listed = ", ".join(sorted(there))
    if asked and asked not in there:
        raise BadInput(f"--label={asked}: expected a class label of {label.removeprefix('--dataset: ')}: {listed}")
    return asked or usual


def _chosen(info: Any, label: str, label_asked: str, texts_asked: tuple[str, ...]) -> tuple[list[str], str]:
    """(names of the texts, name of the label) that a study asks for."""
    kinds = {key: f"{type(feature).__module__}.{type(feature).__name__}" for key, feature in info.features.items()}
    readable = [key for key in kinds if kinds[key].endswith(MADE_OF[0]) or _is_string(info.features[key])]
    if unknown := [key for key in texts_asked if key not in readable]:
        listed = ", ".join(sorted(readable))
        raise BadInput(f"--text={unknown[0]}: expected a text of {label.removeprefix('--dataset: ')}: {listed}")
    features = info.features
    if texts_asked:  # the others are none
        features = {key: features[key] for key in kinds if key in texts_asked or key not in readable}
    keys, usual = _keys(features, label, info.supervised_keys)
    labels = [key for key in kinds if kinds[key].endswith(MADE_OF[1])]
    return list(texts_asked) or keys, chosen_label(label_asked, labels, usual, label)


def check_labels(y: np.ndarray, classes: int, split: str, label: str) -> None:
    """Refuse fewer than two classes, and labels beyond them.

    Args:
        y: labels, int [examples].
        classes: the number of classes.
        split: the name of the split, for messages.
        label: the name of the set in messages.

    Raises:
        BadInput: in one line.
    """
    if classes < 2:
        raise BadInput(f"{label}: expected two classes or more, found {classes}; there is nothing to tell apart")
    if y.max() >= classes:
        raise BadInput(
            f"{label}: expected labels from 0 to {classes - 1}, found {y.max()} at {split} example {y.argmax()}; prepare the set"
            " again with labels from 0"
        )


def _keys(features, label, supervised=None):
    """Return (names of the texts, name of the label). TFDS lists features in another order in every process.

    Of several labels the supervised one is taken, else the one of the usual name. Of more texts than one, identifiers are left out;
    if more than two remain, the supervised one is taken.
    """
    kinds = {key: f"{type(feature).__module__}.{type(feature).__name__}" for key, feature in features.items()}
    supervised = supervised or ()
    texts = sorted((key for key in kinds if kinds[key].endswith(MADE_OF[0])), key=lambda key: (key not in FIRST, key))
    texts = texts or sorted(
        key for key, feature in features.items() if _is_string(feature) and key.lower() not in IDENTIFIERS
    )
    if len(texts) > 1:
        texts = [key for key in texts if key.lower() not in IDENTIFIERS] or texts
    if len(texts) > 2:
        texts = [key for key in texts if key in supervised] or texts
    labels = [key for key in kinds if kinds[key].endswith(MADE_OF[1])]
    labels.sort(key=lambda key: (key not in supervised, key != "label", key))
    if len(texts) not in (1, 2) or not labels:
        raise BadInput(
            f"{label}: expected one text or two and a class label, found {', '.join(sorted(kinds))}; say which texts with"
            " --text, or pass another set"
        )
    return texts, labels[0]


def _is_string(feature):
    """Whether a feature is a string that was not declared as a text."""
    return feature.shape == () and feature.np_dtype in (np.dtype(object), np.dtype(str), np.str_, bytes, str)


def class_names(feature: Any) -> np.ndarray:
    """Return the names of the classes of TFDS's class label, str [classes]; empty where they are mere numbers."""
    names = list(feature.names or [])
    return np.array([] if names == [str(number) for number in range(len(names))] else names, np.str_)


def _read(builder, split, keys, label_key):
    source = builder.as_data_source(split)
    texts, y = [], np.empty(len(source), np.int32)
    with tqdm(total=len(source), desc=f"reading {builder.info.name} {split}", unit="text", disable=None) as bar:
        for start in range(0, len(source), BLOCK):
            stop = min(start + BLOCK, len(source))
            for i, example in enumerate(source.__getitems__(list(range(start, stop))), start):
                texts.append(tuple(bytes(example[key]) for key in keys))
                y[i] = example[label_key]
            bar.update(stop - start)
    return texts, y
