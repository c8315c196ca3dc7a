"""What a reader of one's own data hands to the writer, and what it may be told."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kd_jax.data.arrays import HELD_OUT_SHARE, held_out
from kd_jax.data.own import MOST_CLASSES
from kd_jax.data.prepared import Feature, Label
from kd_jax.errors import BadInput

LABEL = "label"  # the name of the class among the features that are written
TEST_PARTS = ("test", "validation")  # parts that can serve as the test set
# What folders, files and arrays of the parts of a set are called -> the split that is written.
PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
}


@dataclass(frozen=True)
class Options:
    """How a source is to be read. Options that a kind of source has no use for are refused.

    Attributes:
        image_size: the side of the square to which images are cut and resized [pixels]; 0 leaves them as they are.
        image_key, label_key: the names of the arrays of a `.npz` file.
        text_column, pair_column, image_column, label_column: the names of the columns of a table.
        image_dir: the folder around the images that a table names; empty for that of the table.
        ignore_columns: columns of a table of numbers that are no features.
        columns: the names of all columns, for a table without a line of names.
        test_share: the share of each class that becomes the test set of a source that has none.
    """

    image_size: int = 0
    image_key: str = ""
    label_key: str = ""
    text_column: str = ""
    pair_column: str = ""
    image_column: str = ""
    image_dir: str = ""
    label_column: str = ""
    ignore_columns: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    test_share: float = HELD_OUT_SHARE

    def __post_init__(self):
        if self.image_size and self.image_size < 2:
            raise BadInput(
                f"--image_size={self.image_size}: expected 0 to leave images as they are, or at least 2 pixels"
            )
        if not 0 < self.test_share < 1:
            raise BadInput(
                f"--test_share={self.test_share}: expected a share above 0 and below 1, such as {HELD_OUT_SHARE}"
            )

    def only(self, what: str, *names: str) -> None:
        """Refuse options that are given and that this kind of source has no use for.

        Args:
            what: what the source is called in messages.
            names: the options that it uses, besides `test_share`.
        """
        default = Options()
        for name in self.__dataclass_fields__:
            given = getattr(self, name)
            if name not in ("test_share", *names) and given != getattr(default, name):
                said = " ".join(given) if isinstance(given, tuple) else given
                raise BadInput(f"--{name}={said}: expected none for {what}, which has no use for it; leave it out")


@dataclass
class Contents:
    """A source that was looked through, and can be read.

    Attributes:
        features: {name: description} of the inputs of an example; the class comes beside them as `LABEL`.
        parts: {part of the source: its examples}, each `read(rows)`, which yields (row, {feature: value}) of some rows, int
            [count], in their order; None instead of the values for an example that is left out.
        labels: {part: classes, int32 [examples]}.
        class_names: the names of the classes, in their order.
        notes: sentences about what was done to the source.
        kind: what it comes to: `images`, `streamed`, `texts`, `numbers`.
        about: a sentence about the examples, such as the size of images.
        description: more about them, for dataset_info.json.
        finish: called after all was read; raises where too much was left out.
    """

    features: Mapping[str, Feature]
    parts: Mapping[str, Callable[[np.ndarray], Iterable[tuple[int, Mapping[str, Any] | None]]]]
    labels: Mapping[str, np.ndarray]
    class_names: Sequence[str]
    kind: str
    about: str
    notes: list[str] = field(default_factory=list)
    description: str = ""
    finish: Callable[[], None] = lambda: None

    def label(self) -> Label:
        """Return the description of the class."""
        return Label(names=tuple(self.class_names))


def splits(contents: Contents, test_share: float) -> dict[str, tuple[str, np.ndarray]]:
    """Return {split to be written: (part of the source, its rows)}; a missing test set is split off the training part.

    What is split off is added to the notes.
    """
    found = {part: (part, np.arange(len(labels))) for part, labels in contents.labels.items()}
    if any(part in found for part in TEST_PARTS):
        return found
    taken = held_out(contents.labels["train"], test_share)
    if not taken.any():
        raise BadInput("expected two training examples or more of some class, to split off a test set; add a test part")
    contents.notes.append(
        f"no test part: {taken.sum():,} examples, {test_share:.0%} of each class, became it; which they are is a fixed rule"
    )
    return {"train": ("train", np.flatnonzero(~taken)), "test": ("train", np.flatnonzero(taken))}


def classified(values: Mapping[str, Sequence[Any]], where: str) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Return ({part: classes int32}, names of the classes, notes) of labels that are names or numbers.

    Names are sorted; where all are whole numbers, by their value. Whole numbers that are not 0, 1, 2, ... are numbered anew, which
    is noted.

    Args:
        values: {part: label of each example}: strings, whole numbers, or floats that are whole numbers. Strings of numbers, as
            tables of text have them, are read as those numbers.
        where: what has these labels, for messages.

    Raises:
        BadInput: for more than `MOST_CLASSES` classes, one class, a class without training examples, numbers with fractions, or
            several labels of one example.
    """
    texts = {part: [_text(value, where) for value in of_part] for part, of_part in values.items()}
    known = set().union(*texts.values())
    if any(not _is_whole(name) for name in known) and all(_is_number(name) for name in known):
        number = {name: _text(float(name), where) for name in sorted(known) if not _is_whole(name)}  # such as 1.0
        texts = {part: [number.get(name, name) for name in of_part] for part, of_part in texts.items()}
        known = set().union(*texts.values())
    _check_count(len(known), where)
    numeric = all(_is_whole(name) for name in known)
    names = sorted(known, key=(lambda name: (int(name), name)) if numeric else None)
    notes = []
    if numeric and [int(name) for name in names] != list(range(len(names))):
        first, last = names[0], names[-1]
        notes.append(
            f"labels {first} to {last} became the classes 0 to {len(names) - 1}; their names stay {first} to {last}"
        )
    number = {name: i for i, name in enumerate(names)}
    labels = {part: np.array([number[name] for name in of_part], np.int32) for part, of_part in texts.items()}
    check_trained(labels["train"], names, where)
    return labels, names, notes


def check_trained(labels: np.ndarray, names: Sequence[str], where: str) -> None:
    """Refuse fewer than two classes, more than `MOST_CLASSES`, and a class without training examples.

    Raises:
        BadInput: naming the class.
    """
    if len(names) < 2:
        raise BadInput(
            f"{where}: expected two classes or more, found {', '.join(names) or 'none'}; there is nothing to tell apart"
        )
    _check_count(len(names), where)
    counts = np.bincount(labels, minlength=len(names))
    absent = [names[i] for i in np.flatnonzero(counts == 0).tolist()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise BadInput(
            f"{where}: expected training examples of every class, found none of {absent[0]!r}{more}; add some, or take the"
            " class out"
        )


def _check_count(count, where):
    if count > MOST_CLASSES:
        raise BadInput(
            f"{where}: expected at most {MOST_CLASSES:,} classes, found {count:,}; name the column, array or folder"
            " that holds classes"
        )


def _text(value, where):
    if isinstance(value, (list, tuple, dict, set, np.ndarray)):
        raise BadInput(f"{where}: expected one label of each example, found {str(value)[:40]}; name another column")
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value) or value != np.round(value):
            raise BadInput(
                f"{where}: expected names or whole numbers, found {value}; this is for classes, not for regression: cut numbers"
                f" into classes, or write names such as 'class {value}'"
            )
        value = int(value)
    if isinstance(value, (bool, np.bool_)):
        value = int(value)
    return str(value).strip()


def _is_whole(name):
    return name.isascii() and name.removeprefix("-").isdigit() and str(int(name)) == name


def _is_number(name):
    """Whether a string is a number as programs write it; `007`, `1e5` and `nan` are names."""
    return re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*([eE][-+]?\d+)?)?", name, re.ASCII) is not None


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of some names, and how many there are besides.

    >>> listed(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
