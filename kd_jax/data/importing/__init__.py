"""One way in for data of one's own: any source becomes a prepared TFDS folder, which every study takes by name.

A reader per kind of source looks it through and returns `Contents`; the writer is `data.prepared`. Examples are read one by one, so
a source need not fit in memory, but for tables and `.npz` files.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.data import prepared, tfds, tiny_imagenet
from kd_jax.data.importing import arrays, columns, folders, hugging_face, published, tables, tfrecord
from kd_jax.data.importing.contents import LABEL, Contents, listed, splits
from kd_jax.data.importing.contents import Options as Options
from kd_jax.errors import BadInput

VERSION = "1.0.0"
OURS = ("digits", "breast_cancer", tiny_imagenet.NAME)  # sets that are not looked for among the prepared ones
KINDS = (
    "a folder of images by class, a .npz file, .npy files, a .csv, .tsv, .jsonl or .parquet table, an archive of CIFAR or MNIST,"
    " a prepared TFDS folder, a data set saved by Hugging Face's datasets, or hf:NAME"
)


@dataclass(frozen=True)
class Imported:
    """A set that was imported.

    Attributes:
        name: its name, for `--dataset`.
        folder: where it lies.
        kind: `images`, `streamed`, `texts`, `numbers`, or `tfds` for a set that was TFDS's.
        about: what its examples are, in words.
        class_names: the names of the classes.
        counts: {split: examples of each class, int [classes]}.
        notes: sentences about what was done to the source.
    """

    name: str
    folder: Path
    kind: str
    about: str
    class_names: tuple[str, ...]
    counts: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


def import_set(
    source: str | Path, name: str, data_dir: str | Path | None = None, options: Options | None = None
) -> Imported:
    """Write a source as a prepared set.

    Args:
        source: a path, or `hf:NAME` of a set on the Hugging Face Hub.
        name: what it is to be called, for `--dataset`.
        data_dir: the folder of prepared sets; by default `tfds.default_data_dir()`.
        options: how the source is to be read.

    Raises:
        BadInput: when the source cannot be read, or there is a set of this name; nothing is written then.
    """
    options = options or Options()
    data_dir = Path(data_dir or tfds.default_data_dir()).expanduser()
    path = _version_of(Path(source).expanduser())
    is_tfds = tfrecord.is_one(path)
    _check_name(name, data_dir, source, own=is_tfds)
    if is_tfds:
        options.only("a prepared TFDS set")
    try:
        if is_tfds:
            return _converted(path, name, data_dir)
        return _write(_read(str(source), path, options), name, data_dir, options, source)
    except BaseException:
        with contextlib.suppress(OSError):
            (data_dir / name).rmdir()  # if it is empty
        raise


def _version_of(path: Path) -> Path:
    """The newest version of a prepared TFDS set, where a path is the folder around its versions."""
    versions = [child.parent for child in path.glob("*/features.json") if tfds.VERSION.fullmatch(child.parent.name)]
    return max(versions, key=lambda child: tuple(map(int, child.name.split("."))), default=path)


def _read(source: str, path: Path, options: Options) -> Contents:
    """Look a source through with the reader of its kind."""
    if source.startswith(hugging_face.PREFIX):
        return hugging_face.read(source, options)
    if not path.exists():
        raise BadInput(f"kd-jax import {source}: expected {KINDS}, found no such file; check the path")
    if hugging_face.is_saved(path):
        return hugging_face.read(source, options)
    if published.is_one(path):
        return published.read(path, options)
    if path.suffix.lower() in (".npz", ".npy"):
        return arrays.read(path, options)
    if path.is_dir():
        names = [child for child in path.iterdir() if child.is_file()]
        if any(child.suffix.lower() == ".npy" for child in names):
            return arrays.read(path, options)
        if any(tables.kind_of(child) for child in names):
            return columns.read(path, options)
        return folders.read(path, options)
    if tables.kind_of(path):
        return columns.read(path, options)
    raise BadInput(f"kd-jax import {source}: expected {KINDS}, found a file named {path.name}; unpack or convert it")


def _check_name(name: str, data_dir: Path, source: str | Path, own: bool) -> None:
    """Refuse a name that cannot be one, is taken, or would hide another set.

    Args:
        name: the name.
        data_dir: the folder of prepared sets.
        source: what is imported.
        own: whether the source is a prepared TFDS set, which keeps its name.
    """
    if not prepared.NAME.fullmatch(name):
        raise BadInput(
            f"--name={name}: expected letters, digits and _ . + -, beginning with a letter; pass another name"
        )
    if name in OURS:
        raise BadInput(
            f"--name={name}: expected another name, for --dataset={name} is a set of kd_jax's own; pass --name=my_{name}"
        )
    found = tfds.find(name, data_dir)
    if found is not None and found == Path(source).expanduser().resolve():
        raise BadInput(
            f"--name={name}: expected another name than that of the source, for here --dataset={name} would mean the folder"
            f" {found}; pass --name=my_{name}, or import it from another directory"
        )
    if found is not None:
        raise BadInput(
            f"--name={name}: expected a name that is free, found a set in {found}; remove it, or pass another name or --data_dir"
        )
    if not own:
        import tensorflow_datasets

        if name in tensorflow_datasets.list_builders(with_community_datasets=False):
            raise BadInput(
                f"--name={name}: expected another name, for {source} would hide the set {name} of TFDS; pass --name=my_{name}"
            )


def _write(contents: Contents, name: str, data_dir: Path, options: Options, source: str | Path) -> Imported:
    written = splits(contents, options.test_share)
    classes = len(contents.class_names)
    counts = {split: np.zeros(classes, np.int64) for split in written}
    last = list(written)[-1]

    def examples(split: str, part: str, rows: np.ndarray) -> Iterator[Mapping[str, Any]]:
        labels = contents.labels[part]
        for row, example in contents.parts[part](rows):
            if example is not None:
                counts[split][labels[row]] += 1
                yield {**example, LABEL: int(labels[row])}
        if split == last:  # what is raised here leaves nothing behind
            contents.finish()
            lacking = np.flatnonzero(counts["train"] == 0)
            if len(lacking):
                first = contents.class_names[lacking[0]]
                raise BadInput(
                    f"{source}: expected training examples of every class, found none of {first!r} that can be read; add some"
                )

    info = prepared.Info(
        name=name,
        version=VERSION,
        features={**contents.features, LABEL: contents.label()},
        supervised_keys=(next(iter(contents.features)), LABEL) if len(contents.features) == 1 else None,
        description=f"{contents.about}. {contents.description} Imported by kd-jax import.".replace("  ", " "),
    )
    sizes = {split: len(rows) for split, (_, rows) in written.items()}
    folder = prepared.write(data_dir, info, {split: examples(split, *of) for split, of in written.items()}, sizes)
    names = tuple(contents.class_names)
    return Imported(name, folder, contents.kind, contents.about, names, counts, tuple(contents.notes))


def _converted(path: Path, name: str, data_dir: Path) -> Imported:
    import json

    folder = tfrecord.convert(path, name, data_dir)
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
    about = f"examples as in {path}: {listed([f'{count:,} {split}' for split, count in sizes.items()], 5)}"
    return Imported(name, folder, "tfds", about, (), {}, ())
