"""Prepared TensorFlow Datasets sets of classified images or texts, read without TensorFlow.

Prepared sets are looked for without TFDS first: asked for an absent set without a network, TFDS hangs for minutes and leaves
half-made folders. Images of one size are decoded once and kept in one file; of images of many sizes, which are streamed, only
labels are; texts are kept in one file too (`text` reads them).
"""

import difflib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kd_jax.data import cache, download, encoded, pixels, publishers, text
from kd_jax.data.arrays import HELD_OUT, Source, held_out_of
from kd_jax.data.encoded import Encoded
from kd_jax.data.features import builder_of
from kd_jax.data.text import check_labels
from kd_jax.errors import BadInput

DOWNLOAD_ADDRESS = "https://storage.googleapis.com"  # where TFDS keeps its checksums and most of its sets
BLOCK = 1000  # examples in one read; reading them one by one is several times slower
VERSION = re.compile(r"\d+\.\d+\.\d+")
DEFAULT_CONFIG = {name: known.partition("/")[2] for name, known in publishers.DEFAULT.items()}


def default_data_dir() -> Path:
    """Return `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`, or that of this folder where a user has no home."""
    try:
        return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    except RuntimeError:  # neither HOME nor an entry for this user, as in a container
        return Path("tensorflow_datasets")


def load(
    name: str, data_dir: str | Path, label: str = "", texts: tuple[str, ...] = ()
) -> Source | Encoded | text.Texts:
    """Return a set of images, as `Encoded` where they have many sizes, or of texts.

    Args:
        name: the name as TFDS spells it (`cifar10`, `emnist/letters`, optionally with a version), or the folder of a prepared set.
        data_dir: the folder in which prepared sets are looked for, and prepared.
        label: the name of the class label among the features; empty for the supervised one, or that called `label`; `text.USUAL`
            for what earlier versions took, the first of the alphabet where there is neither.
        texts: the names of one text or two; none for what their names and the supervised keys say.

    Raises:
        BadInput: when it is absent and cannot be prepared, cannot be read, has neither images nor texts with classes, or several
            labels none of which is the usual one.
    """
    folder = find(name, data_dir) or prepare(name, data_dir)
    files = {
        path.name: path.stat() for path in folder.iterdir() if path.is_file() and not path.name.startswith(cache.PREFIX)
    }
    if label == text.USUAL:
        label = ""
    else:
        text.check_label(folder, label)
    choice = "".join(f" {key}" for key in (label, *texts)) if label or texts else ""
    if text.is_text(folder):
        return cache.kept(
            folder,
            files,
            lambda: _whole(folder, lambda: text.read(*_opened(folder), label, texts)),
            (text.Texts,),
            choice=choice,
        )
    return cache.kept(folder, files, lambda: _whole(folder, lambda: _decode(folder, label)), choice=choice)


def _whole(folder, read):
    """Return `read()`; of a damaged set, TFDS and its libraries raise errors of many types."""
    try:
        return read()
    except BadInput:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"--dataset: expected a whole prepared set in {folder}, found: {said}; prepare it again"
        ) from error


def find(name: str, data_dir: str | Path) -> Path | None:
    """Return the folder of a prepared set, the newest if there are several versions, or None if there is none.

    Raises:
        BadInput: for a path that is no folder of a prepared set.
    """
    given = Path(os.path.expanduser(name))
    if (given / "dataset_info.json").is_file():
        return given.resolve()
    if given.is_absolute() or name.startswith((".", "~")):
        raise BadInput(f"--dataset={name}: expected a folder with a dataset_info.json; name the version's own folder")
    base = Path(data_dir).expanduser() / name.replace(":", "/") / DEFAULT_CONFIG.get(name, "")
    if (base / "dataset_info.json").is_file():
        return base.resolve()
    versions = [path.parent for path in base.glob("*/dataset_info.json") if VERSION.fullmatch(path.parent.name)]
    return max(versions, key=lambda path: tuple(map(int, path.name.split(".")))).resolve() if versions else None


def available(data_dir: str | Path) -> list[tuple[str, Path, str]]:
    """Return [(name, folder, file format)] for every prepared set below `data_dir`."""
    prepared = []
    base = Path(data_dir).expanduser()
    for depth in ("*/*", "*/*/*"):
        for path in sorted(base.glob(f"{depth}/dataset_info.json")):
            if VERSION.fullmatch(path.parent.name):
                name = str(path.parent.parent.relative_to(base))
                try:
                    file_format = json.loads(path.read_text(encoding="utf-8")).get("fileFormat", "unknown")
                except (OSError, ValueError, RecursionError, AttributeError):
                    file_format = "damaged"
                prepared.append((name, path.parent, file_format))
    return sorted(prepared)


def prepare(name: str, data_dir: str | Path) -> Path:
    """Download and prepare a set, and return its folder.

    The sets in `publishers` are made from their publishers' archives; TFDS prepares all others, with TensorFlow.

    Raises:
        BadInput: when nobody knows such a set, there is no network, the download fails, or TFDS has to prepare it and TensorFlow is
            absent.
    """
    searched = f"--dataset={name}: expected a prepared set in {data_dir} (--data_dir)"
    there = {path.parent.parent.name for path in Path(data_dir).expanduser().glob(f"{name}/*/*/dataset_info.json")}
    if there:
        configs = sorted(there)
        raise BadInput(f"{searched}; found its configurations {', '.join(configs)}: pass --dataset={name}/{configs[0]}")
    if published := publishers.find(name):
        try:
            return publishers.prepare(published, data_dir)
        except BadInput as error:
            raise BadInput(f"{searched}, and {error}") from None
    if configs := publishers.configurations(name):
        raise BadInput(f"{searched}; expected one of its configurations: pass --dataset={' or '.join(configs)}")
    return _prepare_with_tensorflow(name, data_dir, searched)


def _prepare_with_tensorflow(name, data_dir, searched):
    import tensorflow_datasets as tfds
    import tensorflow_datasets.text  # without this, sets of texts such as GLUE are not known

    known = tfds.list_builders(with_community_datasets=False)
    base_name = name.split("/")[0].split(":")[0]
    if base_name not in known:
        prepared = [found for found, *_ in available(data_dir)]
        close = difflib.get_close_matches(name, [*known, *prepared, "digits", "tiny_imagenet"], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see https://www.tensorflow.org/datasets/catalog"
        raise BadInput(f"{searched}, or a name that TFDS knows; {hint}")
    command = f"pip install tensorflow && tfds build {name} --file_format=array_record --data_dir={data_dir}"
    if tfds.builder_cls(base_name).MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise BadInput(
            f"{searched}; put the files that its makers give out (https://www.tensorflow.org/datasets/catalog/{base_name}) into"
            f" {data_dir}/downloads/manual, then {command}"
        )
    if download.reachable(DOWNLOAD_ADDRESS):
        raise BadInput(f"{searched}, and there is no network to download it; where there is: {command}")
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        raise BadInput(f"{searched}, and TFDS prepares it with TensorFlow, which is not installed: {command}") from None
    builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _opened(folder):
    """Return (builder, what messages call the set) for a folder of array_record files."""
    builder = builder_of(folder)
    label = f"--dataset: {builder.info.full_name} in {folder}"
    file_format = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).get("fileFormat", "tfrecord")
    if file_format != "array_record":
        command = (
            f"kd-jax import {folder} --name NEW_NAME"
            if file_format == "tfrecord"
            else f"pip install tensorflow && tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record"
            " --out_dir=NEW_DIR"
        )
        raise BadInput(f"{label}: expected files of format array_record, found {file_format}; convert them: {command}")
    return builder, label


def _decode(folder, label_asked=""):
    import tensorflow_datasets as tfds

    builder, label = _opened(folder)
    info: Any = builder.info
    key, label_key = _keys(tfds, info, label)
    kinds = [name for name, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    label_key = text.chosen_label(label_asked, kinds, label_key, label)
    test_split = _test_split(info.splits, label)
    splits = ("train",) if test_split == HELD_OUT else ("train", test_split)
    streams, examples = None in info.features[key].shape, []
    if streams:
        labels = [_read_labels(builder, split, label_key) for split in splits]
    else:
        examples, labels = zip(*(_read(builder, split, key, label_key, label) for split in splits), strict=True)
    classes = info.features[label_key].num_classes
    for split, y in zip(splits, labels, strict=True):
        if (y < 0).any():
            raise BadInput(f"{label}: expected labels in split {split}, found hidden ones (-1)")
        check_labels(y, classes, split, label)
    rows: tuple[np.ndarray, ...] = ()
    if test_split == HELD_OUT:
        taken = held_out_of(labels[0], label)
        rows = np.flatnonzero(~taken), np.flatnonzero(taken)
        labels = [labels[0][of_part] for of_part in rows]
        examples = [] if streams else [examples[0][of_part] for of_part in rows]
    name = info.name if not info.config_name else f"{info.name}/{info.config_name}"
    names = text.class_names(info.features[label_key])
    if not streams:
        return Source(name, examples[0], labels[0], examples[1], labels[1], classes, test_split, names)
    files = {file: (folder / file).stat().st_size for split in splits for file in info.splits[split].filenames}
    return Encoded(name, labels[0], labels[1], classes, test_split, key, json.dumps(files), str(folder), names, *rows)


def _keys(tfds, info, label):
    """Return the names of the image, or else of the array of floats, and of the label among the features."""
    features = info.features
    supervised = info.supervised_keys or ()

    def first(is_one, usual):
        """The supervised one, else the one of the usual name. TFDS lists features in another order in every process."""
        keys = [key for key in features if is_one(features[key])]
        return min(keys, key=lambda key: (key not in supervised, key != usual, key), default=None)

    def is_floats(feature):
        kept = type(feature) is tfds.features.Tensor and len(feature.shape) in (1, 2, 3) and None not in feature.shape
        return kept and np.issubdtype(feature.np_dtype, np.floating)

    image_key = first(lambda feature: isinstance(feature, tfds.features.Image), "image")
    label_key = first(lambda feature: isinstance(feature, tfds.features.ClassLabel), "label")
    floats_key = first(is_floats, "features")
    if image_key is None and floats_key is not None and label_key is not None:
        return floats_key, label_key
    if image_key is None or label_key is None:
        raise BadInput(
            f"{label}: expected an image, a text or floats, and a class label, found {', '.join(sorted(features))}; pass"
            " another set"
        )
    if features[image_key].np_dtype != np.uint8:
        raise BadInput(
            f"{label}: expected uint8 images, found {features[image_key].np_dtype}; pass a set such as cifar10"
        )
    return image_key, label_key


def _test_split(splits, label):
    """The name of the split that serves as the test set: the first of the usual names that has examples, else a part of `train`."""
    sizes = {name: splits[name].num_examples for name in splits}
    for name in ("test", *text.VALIDATION):
        if sizes.get("train") and sizes.get(name):
            return name
    if sizes.get("train"):
        return HELD_OUT
    found = ", ".join(name if size else f"{name} (empty)" for name, size in sizes.items())
    raise BadInput(f"{label}: expected a train split with examples, found {found}; pass another set")


def _read(builder: Any, split, key, label_key, label):
    """Return (images or numbers, labels) of a split."""
    feature = builder.info.features[key]
    is_image = feature.np_dtype == np.uint8
    source = encoded.source(builder, split)  # images as bytes
    x = np.empty((len(source), *feature.shape), np.uint8 if is_image else np.float32)
    y = np.empty(len(source), np.int32)
    for i, example in _each(source, f"decoding {builder.info.name} {split}"):
        x[i] = _decoded(example[key], feature, f"{split} example {i}", label) if is_image else example[key]
        y[i] = example[label_key]
    return (x[..., None] if x.ndim == 3 else x), y


def _decoded(image: bytes, feature, place, label) -> np.ndarray:
    """Return an image as TFDS decodes it; but colours for a palette, 8 bits for 16, and as many channels as the set has."""
    channels = feature.shape[-1]
    if channels in (1, 3) and pixels.is_odd(image):
        return _brought(image, channels, place, label)
    try:
        found = feature.decode_example_np(image)
    except Exception:  # of many types; what follows says what is wrong
        return _brought(image, channels, place, label)
    if found.shape[:2] == feature.shape[:2] and found.shape[-1] not in (1, channels) and channels in (1, 3):
        return _brought(image, channels, place, label)
    if found.shape[:2] != feature.shape[:2] or found.shape[-1] not in (1, channels):
        shown = "x".join(map(str, found.shape))
        raise BadInput(
            f"{label}: expected images of {'x'.join(map(str, feature.shape))}, found {shown} at {place}; prepare the set again"
        )
    return found


def _brought(image, channels, place, label):
    try:
        return pixels.pixels(io.BytesIO(image), channels)
    except pixels.Unreadable as error:
        raise BadInput(f"{label}: expected a whole image at {place}, found: {error}; prepare the set again") from None


def _read_labels(builder, split, label_key):
    source = encoded.source(builder, split)
    y = np.empty(len(source), np.int32)
    for i, example in _each(source, f"reading labels of {builder.info.name} {split}"):
        y[i] = example[label_key]
    return y


def _each(source, description):
    """Yield (position, example) of all examples."""
    with tqdm(total=len(source), desc=description, unit="example", disable=None) as bar:
        for start in range(0, len(source), BLOCK):
            stop = min(start + BLOCK, len(source))
            yield from enumerate(source.__getitems__(list(range(start, stop))), start)
            bar.update(stop - start)
