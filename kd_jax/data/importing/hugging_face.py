"""A data set of Hugging Face's `datasets`: one saved by `save_to_disk`, or one of the Hub by name; needs the extra `hf`."""

import io
from pathlib import Path
from typing import Any

from kd_jax.data.importing import columns
from kd_jax.data.importing.contents import PARTS, Contents, Options, classified, listed
from kd_jax.data.importing.pictures import Pictures, contents
from kd_jax.data.importing.tables import Table
from kd_jax.errors import BadInput

PREFIX = "hf:"


def is_saved(path: Path) -> bool:
    """Return whether a folder is one that `save_to_disk` wrote."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def read(source: str, options: Options) -> Contents:
    """Return a set as images, where it has a column of images, else as texts or numbers by its columns.

    Args:
        source: a folder that `save_to_disk` wrote, or `hf:NAME` or `hf:NAME:CONFIG` of the Hub.
        options: `label_column`, by default `label`, and for texts `text_column` and `pair_column`.

    Raises:
        BadInput: when `datasets` is not installed, the set cannot be loaded, or it lacks a column.
    """
    parts = {PARTS[name.lower()]: of for name, of in _loaded(source).items() if name.lower() in PARTS}
    if "train" not in parts:
        raise BadInput(f"{source}: expected a split train, found {listed(list(_loaded(source)))}; pass another set")
    parts = {"train": parts.pop("train"), **parts}
    import datasets

    features = parts["train"].features
    image = next((name for name, feature in features.items() if isinstance(feature, datasets.Image)), None)
    label = options.label_column or _label_of(features, datasets, source)
    notes = []
    for part in list(parts):
        if label not in parts[part].features:
            raise BadInput(
                f"--label_column={label}: expected a column of {source}, which are {listed(list(features), 20)}; pass one of them"
            )
        if part != "train" and not set(parts[part][label]) - {-1, None}:
            notes.append(f"left out the {part} part: its labels are hidden (-1)")
            del parts[part]
    if image is None:
        if not options.label_column:
            options = Options(**{**vars(options), "label_column": label})
        named = {part: _named(of, label, f"{source}: {part}") for part, of in parts.items()}
        found = columns.contents(named, options, source)
        found.notes[:0] = notes
        return _in_order(found, features[label])
    options.only("images of Hugging Face's datasets", "image_size", "label_column")
    encoded = {part: of.cast_column(image, datasets.Image(decode=False)) for part, of in parts.items()}
    labels, names, more = classified(
        {part: _names(of, label, f"{source}: {part}") for part, of in parts.items()}, f"{source}: column {label}"
    )
    pictures = Pictures(
        {part: [f"{part} {row}" for row in range(len(of))] for part, of in parts.items()},
        labels,
        names,
        lambda part, row: _opened(encoded[part][row][image]),
    )
    return _in_order(contents(pictures, options, [*notes, *more]), features[label])


def _loaded(source) -> dict[str, Any]:
    try:
        import datasets
    except ImportError:
        raise BadInput(
            f"{source}: expected the package datasets, which reads it; pip install 'kd_jax[hf]', or pip install datasets"
        ) from None
    try:
        if source.startswith(PREFIX):
            name, _, config = source.removeprefix(PREFIX).partition(":")
            found: Any = datasets.load_dataset(name, config or None)
        else:
            found = datasets.load_from_disk(str(Path(source).expanduser()))
    except Exception as error:  # of many types, some with addresses over several lines
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(
            f"{source}: expected a data set that Hugging Face's datasets loads, found: {said}; check name and network"
        ) from None
    return dict(found) if isinstance(found, dict) else {"train": found}


def _label_of(features, datasets, source):
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    found = [name for name in ("label", "labels", "fine_label") if name in features] or classes
    if not found or (len(classes) > 1 and "label" not in features):
        raise BadInput(
            f"{source}: expected --label_column, the column of the classes, one of {listed(list(features), 20)}; pass it"
        )
    return found[0]


def _names(of, label, where):
    """The labels of a split, as names where they have some; a row without one is refused."""
    feature, values = of.features[label], list(of[label])
    names = list(getattr(feature, "names", None) or [])
    for row, value in enumerate(values):
        # A feature with names numbers its classes from 0; -1 stands for a label that is not known.
        if value is None or value != value or (names and not 0 <= value < len(names)):
            shown = "none" if value is None or value != value else value
            raise BadInput(
                f"{where}, row {row}: expected a label in {label}, found {shown}; leave out rows without one, with filter of"
                " Hugging Face's datasets"
            )
    return [names[value] for value in values] if names else values


def _named(of, label, where) -> Table:
    found = {name: list(of[name]) for name in of.column_names}
    found[label] = _names(of, label, where)
    return Table(found, [f"row {row}" for row in range(len(of))])


def _in_order(found: Contents, feature) -> Contents:
    """Number classes as the set numbers them, where it names them; those of which it has no example are left out."""
    names = [name.strip() for name in getattr(feature, "names", None) or []]
    there = [name for name in dict.fromkeys(names) if name in set(found.class_names)]
    if set(there) != set(found.class_names):
        return found
    import numpy as np

    place = np.array([there.index(name) for name in found.class_names], np.int32)
    found.labels = {part: place[labels] for part, labels in found.labels.items()}
    found.class_names = there
    if lacking := [name for name in dict.fromkeys(names) if name not in there]:
        found.notes.append(f"left out {listed(lacking)}, a class of the set without examples")
    return found


def _opened(value):
    if value is None:
        raise OSError("there is none")
    return io.BytesIO(value["bytes"]) if value.get("bytes") else open(value["path"], "rb")
