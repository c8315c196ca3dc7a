"""CIFAR and MNIST as their makers publish them, packed or unpacked; and any set in these layouts.

CIFAR: `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`, those of CIFAR-100, or the folder that is in one. MNIST: a folder of the
four IDX files, such as `train-images-idx3-ubyte.gz`, packed or not, of which Fashion-MNIST and others have the same.
"""

import gzip
import io
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.data.importing.contents import Contents, Options, check_trained, classified, listed
from kd_jax.data.pixels import square
from kd_jax.data.prepared import Image
from kd_jax.data.publishers.cifar import CIFAR10, CIFAR100, PIXELS, SIZE, Layout
from kd_jax.data.publishers.mnist import PARTS, idx
from kd_jax.errors import BadInput

PACKED = (".tar.gz", ".tgz", ".tar")
IDX = re.compile(r"(train|t10k)-(images|labels)[.-]idx[13]-ubyte(\.gz)?")
BINARY = {"cifar10": CIFAR10, "cifar100": CIFAR100}
# {set: ({split: files}, name of the labels, file of names and the entry in it)} of the archives for Python.
PYTHON = {
    "cifar10": (
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        "labels",
        ("batches.meta", "label_names"),
    ),
    "cifar100": ({"train": ("train",), "test": ("test",)}, "fine_labels", ("meta", "fine_label_names")),
}


def is_one(path: Path) -> bool:
    """Return whether a path is an archive, or a folder with the files of CIFAR or MNIST, or one of MNIST's files."""
    if path.is_file():
        return path.name.lower().endswith(PACKED) or bool(IDX.fullmatch(path.name))
    there = {child.name for child in path.iterdir() if child.is_file()}
    return any(map(IDX.fullmatch, there)) or _layout(there) is not None


def read(path: Path, options: Options) -> Contents:
    """Return what is published in an archive or folder.

    Raises:
        BadInput: when it has another layout, or is damaged.
    """
    options.only("CIFAR and MNIST as published", "image_size")
    folder = path if path.is_dir() else path.parent
    is_mnist = path.is_dir() and any(IDX.fullmatch(child.name) for child in path.iterdir())
    try:
        if is_mnist or IDX.fullmatch(path.name):
            parts, notes = _mnist(folder), []
            labels, names, more = classified({part: y.tolist() for part, (_, y) in parts.items()}, str(folder))
            notes += more
        else:
            parts, names, notes = _cifar(path)
            labels = {part: y.astype(np.int32) for part, (_, y) in parts.items()}
            check_trained(labels["train"], names, str(path))
    except (OSError, EOFError, ValueError, KeyError, TypeError, tarfile.TarError, pickle.UnpicklingError) as error:
        said = " ".join(str(error).split())
        raise BadInput(
            f"{path}: expected CIFAR or MNIST as published, found: {said}; copy or download it again"
        ) from None
    height, width, channels = parts["train"][0].shape[1:]
    size = options.image_size
    if size:
        height = width = size

    def rows_of(x) -> Any:
        return lambda rows: ((row, {"image": square(x[row], size) if size else x[row]}) for row in rows.tolist())

    return Contents(
        features={"image": Image((height, width, channels), "png")},
        parts={part: rows_of(x) for part, (x, _) in parts.items()},
        labels=labels,
        class_names=names,
        kind="images",
        about=f"{width}x{height} {'grey' if channels == 1 else 'colour'}",
        notes=notes,
    )


def _mnist(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{part: (images, labels)}."""
    files = {match.group(1, 2): path for path in folder.iterdir() if (match := IDX.fullmatch(path.name))}
    parts = {}
    for part, word in PARTS.items():
        wanted = (word, "images"), (word, "labels")
        if part == "test" and not any(key in files for key in wanted):
            continue
        for key in wanted:
            if key not in files:
                raise ValueError(f"no file {'-'.join(key)}-idx{3 if key[1] == 'images' else 1}-ubyte beside the others")
        x, y = (idx(_unzipped(files[key].read_bytes())) for key in wanted)
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise ValueError(
                f"{files[wanted[0]].name} has shape {list(x.shape)}, {files[wanted[1]].name} {list(y.shape)}"
            )
        parts[part] = x[..., None], y
    return parts


def _unzipped(data):
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _layout(names) -> tuple[str, bool] | None:
    """(set, whether it is the binary layout) of files of these names, without their folders."""
    for name, layout in BINARY.items():
        if {Path(file).name for files in layout.records.values() for file in files} <= names:
            return name, True
    for name, (splits, _, (names_in, _)) in PYTHON.items():
        if {*splits["train"], *splits["test"], names_in} <= names:
            return name, False
    return None


def _cifar(path):
    """({part: (images, labels)}, names of the classes, notes)."""
    if path.is_dir():
        paths = {child.name: child for child in path.iterdir() if child.is_file()}
        found = _layout(set(paths))
        files = {name: child.read_bytes() for name, child in paths.items() if name in _wanted(found)}
    else:
        with tarfile.open(path) as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}
            found = _layout(set(members))
            if found is None:
                raise ValueError(f"an archive of {listed(sorted(members)) or 'nothing'}; unpack it and pass its folder")
            files = {name: archive.extractfile(members[name]).read() for name in _wanted(found) & set(members)}
    assert found is not None
    name, is_binary = found
    notes = ["classes are the fine ones; the coarse ones were left out"] if name == "cifar100" else []
    if is_binary:
        return *_binary(BINARY[name], files), notes
    splits, label, names_in = PYTHON[name]
    return *_pickled(splits, label, names_in, files), notes


def _wanted(found):
    """The names of all files of a layout."""
    name, is_binary = found
    if is_binary:
        layout = BINARY[name]
        return {Path(file).name for files in layout.records.values() for file in files} | {
            Path(file).name for file in layout.names.values()
        }
    splits, _, (names_in, _) = PYTHON[name]
    return {file for of_split in splits.values() for file in of_split} | {names_in}


def _binary(layout: Layout, files):
    labels = list(layout.names)
    parts = {}
    for part, of_part in layout.records.items():
        data = b"".join(files[Path(file).name] for file in of_part)
        records = np.frombuffer(data, np.uint8).reshape(-1, len(labels) + PIXELS)
        parts[part] = _images(records[:, len(labels) :]), records[:, labels.index("label")]
    names = files[Path(layout.names["label"]).name].decode().split()
    return parts, names


def _pickled(splits, label, names_in, files):
    parts = {}
    for part, of_part in splits.items():
        found = [_Arrays(io.BytesIO(files[file]), encoding="latin1").load() for file in of_part]
        y = np.concatenate([np.asarray(each[label]) for each in found])
        parts[part] = _images(np.concatenate([np.asarray(each["data"], np.uint8) for each in found])), y
    file, key = names_in
    return parts, list(_Arrays(io.BytesIO(files[file]), encoding="latin1").load()[key])


def _images(rows):
    """Images uint8 [examples, 32, 32, 3] of rows of red, green and blue."""
    return rows.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)


class _Arrays(pickle.Unpickler):
    """Loads NumPy arrays and what Python itself has; a pickle could call anything else."""

    def find_class(self, module, name):
        allowed = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer", "encode"}
        if name in allowed and module.split(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it would call {module}.{name}, which an archive of images has no use for")
