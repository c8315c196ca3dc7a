"""Arrays of one's own as a published set: what they must be, and how a test part is split off."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.data.arrays import HELD_OUT, HELD_OUT_SHARE, Source, held_out
from kd_jax.data.numbers import first_not_finite
from kd_jax.errors import BadInput

MOST_CLASSES = 100_000
CHANNELS = (1, 3, 4)  # of images
MOVED = "move that axis to the end with numpy.moveaxis(x, 1, -1)"


def from_arrays(
    train_x: Any,
    train_y: Any,
    test_x: Any = None,
    test_y: Any = None,
    *,
    name: str = "arrays",
    classes: Sequence[str] | None = None,
) -> Source:
    """Return arrays as a set of images or of numbers, which a study takes like one that was published.

    >>> source = from_arrays(np.zeros((10, 4)), ["no", "yes"] * 5, name="table")
    >>> source.train_x.shape, source.test_x.shape, source.classes, source.class_names.tolist()
    ((8, 4), (2, 4), 2, ['no', 'yes'])

    Args:
        train_x: images, uint8 [examples, height, width] or [examples, height, width, channels]; or numbers, of a float dtype,
            [examples, features] or shaped as images. Numbers are kept in float32. Whole numbers of other dtypes are
            numbers where there are two axes, and are to be converted where there are more.
        train_y: labels [examples], each a name or a whole number from 0.
        test_x, test_y: the same for the test set. Without them a fifth of every class is split off by a fixed rule,
            `arrays.held_out`, which is said on standard error.
        name: the name in reports.
        classes: the names of the classes, in their order. By default names are sorted; numbers are what they are, and there are
            as many classes as the largest says.

    Raises:
        BadInput: for arrays that are no such data, in one line that names the array.
    """
    if (test_x is None) != (test_y is None):
        raise BadInput("from_arrays: expected test_x and test_y together, found one of them; pass both or neither")
    x, y = examples(train_x, "train_x"), np.asarray(train_y)
    _check_labels(y, x, "train")
    if has_channels_first(x.shape[1:]):
        print(
            f"{name}: the last axis of {list(x.shape[1:])} is taken for the channels; if they are first, as in PyTorch, {MOVED}",
            file=sys.stderr,
        )
    parts = [(x, y)]
    if test_x is not None:
        x, y = examples(test_x, "test_x"), np.asarray(test_y)
        _check_labels(y, x, "test")
        if x.shape[1:] != parts[0][0].shape[1:] or x.dtype != parts[0][0].dtype:
            raise BadInput(
                f"test_x: expected {parts[0][0].dtype} {list(parts[0][0].shape[1:])} as in train_x, found {x.dtype}"
                f" {list(x.shape[1:])} per example; convert one of them"
            )
        parts.append((x, y))
    labels, names = numbered([y for _, y in parts], classes)
    count = len(names) or int(max(y.max() for y in labels)) + 1
    split = "test"
    if len(parts) == 1:
        taken = held_out(labels[0])
        (x, _), y = parts[0], labels[0]
        if not taken.any():
            raise BadInput("train_y: expected two examples or more of some class, to split off a test set; pass test_x")
        parts, labels, split = [(x[~taken], y[~taken]), (x[taken], y[taken])], [y[~taken], y[taken]], HELD_OUT
        print(
            f"{name}: no test set was given; {taken.sum()} examples, {HELD_OUT_SHARE:.0%} of each class, are held out",
            file=sys.stderr,
        )
    check_classes(np.bincount(labels[0], minlength=count), names, "train_y")
    return Source(name, parts[0][0], labels[0], parts[1][0], labels[1], count, split, np.array(names, np.str_))


def examples(x: Any, label: str) -> np.ndarray:
    """Return examples as a set holds them, uint8 [examples, height, width, channels] or float32 [examples, ...].

    Args:
        x: as `from_arrays` takes them.
        label: what to call them in messages.

    Raises:
        BadInput: when they are none, or a number is not finite.
    """
    try:
        x = np.asarray(x)
    except ValueError:
        raise BadInput(
            f"{label}: expected one array of examples of one shape, found several shapes; resize them"
        ) from None
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = x[..., None] if x.ndim == 3 else x
        if has_channels_first(x.shape[1:]):
            raise BadInput(f"{label}: expected images with their channels last, found {list(x.shape[1:])}; {MOVED}")
    elif x.ndim in (2, 3, 4) and (np.issubdtype(x.dtype, np.floating) or (x.ndim == 2 and x.dtype.kind in "biu")):
        wrong = first_not_finite(x)
        if wrong:
            raise BadInput(
                f"{label}: expected finite numbers, found {x[wrong]} at {list(wrong)}; fill it in, or leave out the example"
            )
        with np.errstate(over="ignore"):
            single = x.astype(np.float32)
        wrong = first_not_finite(single)
        if wrong:
            raise BadInput(f"{label}: expected numbers up to 3e38, found {x[wrong]} at {list(wrong)}; rescale them")
        x = single[..., None] if x.ndim == 3 else single
    else:
        raise BadInput(
            f"{label}: expected images, uint8 [examples, height, width(, channels)], or floats [examples, features] or"
            f" [examples, height, width(, channels)], found {x.dtype} {list(x.shape)}; convert it with astype or reshape"
        )
    if 0 in x.shape:
        raise BadInput(
            f"{label}: expected at least one example and one number in it, found shape {list(x.shape)}; pass some"
        )
    return x


def has_channels_first(shape: Sequence[int]) -> bool:
    """Return whether the shape of an example is that of an image as PyTorch has it, and not as it is expected here.

    >>> has_channels_first((3, 32, 32)), has_channels_first((32, 32, 3)), has_channels_first((3, 4, 3))
    (True, False, False)
    """
    return len(shape) == 3 and shape[0] in CHANNELS and shape[-1] not in CHANNELS and shape[1] not in CHANNELS


def _check_labels(y, x, part):
    if y.ndim == 2 and len(y) == len(x) and y.dtype.kind in "iufb":
        raise BadInput(
            f"{part}_y: expected a label per example, found {list(y.shape)}; pass {part}_y.argmax(1) if it is one-hot"
        )
    if y.ndim != 1 or len(y) != len(x):
        raise BadInput(
            f"{part}_y: expected {len(x)} labels, one per example of {part}_x, found {list(y.shape)}; pass arrays of one length"
        )


def numbered(
    labels: Sequence[np.ndarray], classes: Sequence[str] | None = None, label: str = "labels"
) -> tuple[list[np.ndarray], list[str]]:
    """Return (labels int32 per part, names of the classes) of labels that are numbers or names; no names for mere numbers.

    Args:
        labels: labels of every part of a set, [examples] each.
        classes: the names of the classes in their order, if they are known.
        label: what to call them in messages.

    Raises:
        BadInput: for labels that are neither, are negative, or are none of `classes`, and for too many classes.
    """
    if len({y.dtype.kind in "US" or y.dtype == object for y in labels}) > 1:
        raise BadInput(f"{label}: expected names in all parts or numbers in all parts, found both; convert one of them")
    for y in labels:
        if y.dtype == object and (
            lacking := [i for i, value in enumerate(y.tolist()) if value is None or value != value]
        ):
            raise BadInput(
                f"{label}: expected a label for each example, found {y[lacking[0]]} for example {lacking[0]}; leave out examples"
                " without one"
            )
    if labels[0].dtype.kind in "USO":
        labels = [np.array([_text(value) for value in y.tolist()], np.str_) for y in labels]
        names = list(classes) if classes is not None else sorted(set().union(*(y.tolist() for y in labels)))
        _check_count(len(names), label)
        number = {name: i for i, name in enumerate(names)}
        unknown = next((value for y in labels for value in y.tolist() if value not in number), None)
        if unknown is not None:
            raise BadInput(
                f"{label}: expected one of the {len(names)} classes given, found {unknown!r}; add it to them"
            )
        return [np.array([number[value] for value in y.tolist()], np.int32) for y in labels], names
    for y in labels:
        whole = y.dtype.kind in "iub" or (y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.round(y)).all())
        if not whole:
            raise BadInput(
                f"{label}: expected names or whole numbers, found {y.dtype}; this is for classes, not for regression"
            )
        if y.min() < 0:
            raise BadInput(f"{label}: expected whole numbers from 0, found {y.min()}; number the classes from 0")
    highest = int(max(y.max() for y in labels))
    names = list(classes) if classes is not None else []
    if names and highest >= len(names):
        raise BadInput(
            f"{label}: expected numbers below {len(names)}, the number of classes, found {highest}; name them all"
        )
    _check_count(highest + 1, label)
    return [y.astype(np.int32) for y in labels], names


def _text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _check_count(count, label):
    if count > MOST_CLASSES:
        raise BadInput(
            f"{label}: expected at most {MOST_CLASSES:,} classes, found {count:,}; are these labels, and not numbers of examples?"
        )


def check_classes(counts: np.ndarray, names: Sequence[str], label: str) -> None:
    """Refuse a set of one class, and a class without training examples.

    Args:
        counts: the number of training examples of every class.
        names: the names of the classes; empty where they have none.
        label: what to call the labels in messages.

    Raises:
        BadInput: naming the class.
    """
    if len(counts) < 2:
        raise BadInput(f"{label}: expected two classes or more, found {len(counts)}; there is nothing to tell apart")
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        shown = names[absent[0]] if len(names) else absent[0]
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise BadInput(
            f"{label}: expected training examples of all {len(counts)} classes, found none of class {shown}{more}; leave out"
            " the class, or number the others anew"
        )
