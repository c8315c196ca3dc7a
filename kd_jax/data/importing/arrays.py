"""NumPy files: a `.npz` with images or numbers and labels, or a folder of `.npy` files of such names."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.data import own, pixels, stored
from kd_jax.data.importing.contents import PARTS, Contents, Options, classified, listed
from kd_jax.data.prepared import Image, Tensor
from kd_jax.errors import BadInput

INPUTS = ("x", "images", "image", "data", "features")  # in the order in which they are tried
LABELS = ("y", "labels", "label", "targets", "target")
ACCEPTED = "x, images, data or features, and y, labels or targets, each with _train, train_, _test, test_, _val or val_"


def read(source: Path, options: Options) -> Contents:
    """Return the arrays of a file, or of a folder of `.npy` files, or of the folder around one.

    Names are one of `INPUTS` or `LABELS` with a part before or behind it, such as `x_train` or `train_labels`; without a part they
    are the training part. `--image_key` and `--label_key` name others, of the training part.

    Raises:
        BadInput: when arrays are missing or are no images, numbers or labels.
    """
    options.only("arrays", "image_key", "label_key", "image_size")
    arrays = _opened(source)
    keys = _keys(arrays, options, source)
    shape, kind, parts, values = None, None, {}, {}
    for part, (x_key, y_key) in keys.items():
        x, y = arrays[x_key], np.asarray(arrays[y_key])
        if y.ndim == 2 and 1 in y.shape:  # MedMNIST has columns
            y = y.ravel()
        if y.ndim == 2 and y.shape[0] == len(x) and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
            y = y.argmax(1)  # one-hot
        if x.dtype == object or y.dtype == object:
            wrong = x_key if x.dtype == object else y_key
            raise BadInput(
                f"{source}: expected in {wrong} one array of one shape, found objects of several; resize them"
            )
        if y.ndim != 1 or len(y) != len(x):
            raise BadInput(
                f"{source}: expected in {y_key} one label for each of the {len(x)} examples of {x_key}, found shape"
                f" {list(y.shape)}; make them of one length"
            )
        # What it would come to; images are not copied.
        seen = own.examples(x, f"{source}: {x_key}")
        if shape is not None and (seen.shape[1:] != shape or seen.dtype != kind):
            raise BadInput(
                f"{source}: expected in {x_key} examples like those of {keys['train'][0]}, {kind} {list(shape)}, found {seen.dtype}"
                f" {list(seen.shape[1:])}; make them alike"
            )
        shape, kind = seen.shape[1:], seen.dtype
        parts[part], values[part] = seen, y.tolist()
    labels, names, notes = classified(values, f"{source}: {listed([y for _, y in keys.values()])}")
    assert shape is not None
    if kind == np.uint8:
        return _images(parts, shape, labels, names, notes, options, str(source))
    options.only("arrays of numbers", "image_key", "label_key")
    if len(shape) == 3:
        notes = [*notes, *_about_axes(shape)]

    def rows_of(x) -> Any:
        return lambda rows: ((row, {"features": x[row]}) for row in rows.tolist())

    return Contents(
        features={"features": Tensor(shape)},
        parts={part: rows_of(x) for part, x in parts.items()},
        labels=labels,
        class_names=names,
        kind="numbers",
        about=f"{'x'.join(map(str, shape))} numbers",
        notes=notes,
    )


def _about_axes(shape) -> list[str]:
    """What is to be known of floats that are shaped as images."""
    rows, columns, channels = shape
    said = [
        f"floats are numbers: {rows} rows, {columns} columns, {channels} channels, without random views; for images save uint8"
    ]
    if own.has_channels_first(shape):
        said.append(
            f"the last axis, of {channels}, is taken for the channels; if they are first, as in PyTorch, {own.MOVED}"
        )
    return said


def _images(parts: Mapping[str, np.ndarray], shape, labels, names, notes, options: Options, source: str) -> Contents:
    height, width, channels = shape
    size = options.image_size
    if channels not in (1, 3):
        raise BadInput(
            f"{source}: expected images of 1 or 3 channels last, found {channels}: {list(shape)}; leave the others out, or pass"
            " floats"
        )
    if size and (height, width) != (size, size):
        notes = [
            *notes,
            f"images of {width}x{height} brought to {size}x{size}: the largest square in the centre, resized",
        ]
        height = width = size

    def rows_of(x) -> Any:
        return lambda rows: (
            (row, {"image": pixels.square(x[row], size) if size else np.asarray(x[row])}) for row in rows.tolist()
        )

    return Contents(
        features={"image": Image((height, width, channels), "png")},
        parts={part: rows_of(x) for part, x in parts.items()},
        labels=labels,
        class_names=names,
        kind="images",
        about=f"{width}x{height} {'grey' if channels == 1 else 'colour'}",
        notes=notes,
    )


def _opened(source: Path) -> Mapping[str, np.ndarray]:
    """{name: array}; those of `.npy` files stay on disk."""
    if source.suffix.lower() == ".npz":
        try:
            return dict(_loaded(source))
        except Exception as error:  # whatever NumPy, the zip file or its compression find wrong
            said = " ".join(str(error).split()) or type(error).__name__
            raise BadInput(
                f"{source}: expected a whole .npz file of arrays, found: {said}; {stored.fix(error, 'savez')}"
            ) from None
    folder = source if source.is_dir() else source.parent
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r")
        except Exception as error:  # whatever NumPy finds wrong
            said = " ".join(str(error).split()) or type(error).__name__
            raise BadInput(
                f"{path}: expected a whole .npy file of numbers, found: {said}; {stored.fix(error, 'save')}"
            ) from None
    return arrays


def _loaded(source) -> Iterable[tuple[str, Any]]:
    with np.load(source) as arrays:
        for name in arrays.files:
            yield name, arrays[name]


def _keys(arrays, options, source) -> dict[str, tuple[str, str]]:
    """{part: (name of the inputs, name of the labels)}, the training part first."""
    if options.image_key or options.label_key:
        for flag in ("image_key", "label_key"):
            key = getattr(options, flag)
            if key not in arrays:
                raise BadInput(
                    f"--{flag}={key}: expected one of {listed(sorted(arrays), 20)} in {source}; pass both keys"
                )
        return {"train": (options.image_key, options.label_key)}
    inputs, labels = _by_part(arrays, INPUTS), _by_part(arrays, LABELS)
    both = {part: (inputs[part], labels[part]) for part in inputs if part in labels}
    if "train" not in both:
        found = listed(sorted(arrays), 20) or "none"
        raise BadInput(
            f"{source}: expected arrays named {ACCEPTED}, found {found}; rename them, or pass --image_key and --label_key"
        )
    unlabelled = sorted(inputs.keys() ^ labels.keys())
    if unlabelled:
        lone = {**inputs, **labels}[unlabelled[0]]
        raise BadInput(
            f"{source}: expected inputs and labels of each part, found {lone} alone; add the other, or leave it out"
        )
    return {"train": both.pop("train"), **both}


def _by_part(arrays, wanted) -> dict[str, str]:
    """{part: the name of its array}."""
    found: dict[str, str] = {}
    for base in wanted:
        for name in arrays:
            match = re.fullmatch(rf"(?:([a-z]+)_)?{base}(?:_([a-z]+))?", name.lower())
            word = match and (match[1] or match[2] or "train")
            if match and not (match[1] and match[2]) and word in PARTS:
                found.setdefault(PARTS[word], name)
    return found
