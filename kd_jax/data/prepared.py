"""Writing a prepared TensorFlow Datasets folder without TensorFlow.

The folder is what TFDS's own builders write with `file_format=array_record`, made with TFDS's own descriptions of features and
serialiser, neither of which needs TensorFlow:

    DATA_DIR/NAME[/CONFIG]/VERSION/
      dataset_info.json             name, version, splits with the number of examples in each file, description, citation
      features.json                 the features of an example
      FEATURE.labels.txt            names of the classes, one per line, where they have names
      NAME-SPLIT.array_record-00000-of-00001    serialised tf.train.Example protocol buffers

Examples are written one by one in the order in which they are given, to a temporary folder beside the final one, which is renamed
at the end: a set is found whole or not at all. `shuffled` gives the order in which TFDS writes the examples of a split.
"""

import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from tqdm import tqdm

from kd_jax.errors import BadInput
from kd_jax.files import disk_errors, holding

FILE_FORMAT = "array_record"
RECORD_OPTIONS = "group_size:1"  # as TFDS writes: every record can be read by itself
JPEG_QUALITY = 95  # of TensorFlow's encoder
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*")  # of a set, a configuration or a split: a part of file names
SPLIT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
VERSION = re.compile(r"\d+\.\d+\.\d+")
UNFINISHED = "incomplete"  # in the name of the temporary folder


class Exists(BadInput):
    """The set to be written is there already."""


@dataclass(frozen=True)
class Image:
    """An image, given as uint8 [height, width, channels] or as the bytes of an image file, which are kept as they are.

    Attributes:
        shape: height, width and channels; None for a height or width that differs between images.
        encoding: how arrays are encoded, "png" or "jpeg"; empty for PNG without saying so in features.json.
    """

    shape: tuple[int | None, int | None, int] = (None, None, 3)
    encoding: str = ""


@dataclass(frozen=True)
class Text:
    """A text, given as a string or as bytes of UTF-8."""


@dataclass(frozen=True)
class Label:
    """A class, given as its number, from 0, or its name; -1 where it is not known.

    Attributes:
        names: names of the classes.
        classes: the number of classes, for classes without names.
    """

    names: tuple[str, ...] = ()
    classes: int = 0


@dataclass(frozen=True)
class Tensor:
    """Numbers, given as an array.

    Attributes:
        shape: the shape of the array of one example.
        dtype: float32, float64, or an integer type.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float32"


Feature = Image | Text | Label | Tensor


@dataclass(frozen=True)
class Info:
    """What a set is.

    Attributes:
        name, config, version: by which it is found; the configuration may be empty, the version is three numbers.
        features: {name: description} of what an example has.
        supervised_keys: the names of input and label among the features.
        description, citation, homepage: for readers.
        module: the module of the builder that would write the same set.
        config_description: what the configuration is.
        release_notes: {version: what changed}.
        download_size: bytes that were downloaded to make it.
    """

    name: str
    version: str
    features: Mapping[str, Feature]
    supervised_keys: tuple[str, str] | None = None
    config: str = ""
    description: str = ""
    citation: str = ""
    homepage: str = ""
    module: str = "kd_jax"
    config_description: str = ""
    release_notes: Mapping[str, str] = field(default_factory=dict)
    download_size: int = 0

    def __post_init__(self):
        for value in (self.name, *filter(None, [self.config])):
            if not NAME.fullmatch(value):
                raise BadInput(
                    f"name {value!r}: expected letters, digits and _ . + -, beginning with a letter; pass another name"
                )
        if not VERSION.fullmatch(self.version):
            raise BadInput(f"version {self.version!r}: expected three numbers, such as 1.0.0")
        for key, feature in self.features.items():
            if isinstance(feature, Label):
                _check_names(key, feature.names)

    def folder(self, data_dir: str | Path) -> Path:
        """Return the folder of this set below a folder of prepared sets."""
        return Path(data_dir).expanduser() / self.name / self.config / self.version


def write(
    data_dir: str | Path,
    info: Info,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    sizes: Mapping[str, int] | None = None,
) -> Path:
    """Write a prepared set and return its folder.

    It waits while another program writes into the same folder, and removes what a program that was killed left there.

    Args:
        data_dir: the folder of prepared sets.
        info: what the set is.
        splits: {split: examples}, each example {feature: value}. Examples are asked for one by one, and never held all at once.
        sizes: {split: number of examples}, for the progress bar.

    Raises:
        Exists: when there is such a set already.
        BadInput: when a split has no examples, or the folder cannot be written, such as on a full disk.
        ValueError: when a value does not fit the description of its feature; the message names the split and the example.
    """
    folder = info.folder(data_dir)
    for split in splits:
        if not SPLIT.fullmatch(split):
            raise BadInput(
                f"split {split!r}: expected letters, digits and _, beginning with a letter; pass another name"
            )
    with disk_errors(folder, "free some space, or pass another --data_dir"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with holding(folder.parent):
            if folder.exists():
                raise Exists(f"{folder}: expected no such set yet; remove it, or pass another name or version")
            for left in folder.parent.glob(f"{folder.name}.{UNFINISHED}-*"):
                shutil.rmtree(left)
            temporary = folder.with_name(f"{folder.name}.{UNFINISHED}-{os.getpid()}")
            try:
                temporary.mkdir()
                _write(temporary, info, splits, sizes or {})
                os.rename(temporary, folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
    return folder


def shuffled(keys: Sequence[int | str], split: str) -> list[int]:
    """Return the positions of keys in the order in which TFDS writes the examples that have them.

    TFDS sorts the examples of a split by the MD5 digest of the split's name followed by the key.

    Args:
        keys: the key that TFDS's builder gives each example, most often its position in the publisher's files.
        split: the name of the split.

    >>> shuffled(range(5), "test")
    [1, 4, 3, 2, 0]
    """
    salted = hashlib.md5(split.encode(), usedforsecurity=False)

    def digest(position):
        copy = salted.copy()
        copy.update(str(keys[position]).encode())
        return copy.digest()

    return sorted(range(len(keys)), key=digest)


def _write(folder, info, splits, sizes):
    """Write all files of a set into an empty folder."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import example_serializer, naming
    from tensorflow_datasets.core import splits as tfds_splits
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    features: Any = tfds.features.FeaturesDict({key: _described(feature) for key, feature in info.features.items()})
    serialized: Any = features.get_serialized_info()
    serializer = example_serializer.ExampleSerializer(serialized)
    listed = []
    for split, examples in splits.items():
        files = naming.ShardedFileTemplate(
            data_dir=folder, dataset_name=info.name, split=split, filetype_suffix=FILE_FORMAT
        )
        bar = tqdm(examples, desc=f"writing {info.name} {split}", total=sizes.get(split), unit="example", disable=None)
        with bar:
            lengths, size = _write_split(files, _serialised(bar, info.features, features, serializer, split))
        if not lengths:
            raise BadInput(f"{info.name}: expected examples in split {split}, found none")
        listed.append(tfds_splits.SplitInfo(split, lengths, size, files))
    identity = DatasetIdentity(
        name=info.name,
        version=tfds.core.Version(info.version),
        data_dir=str(folder),
        module_name=info.module,
        config_name=info.config or None,
        config_description=info.config_description or None,
        release_notes=dict(info.release_notes) or None,
    )
    described = tfds.core.DatasetInfo(
        builder=identity,
        description=info.description or info.name,
        features=features,
        supervised_keys=info.supervised_keys,
        homepage=info.homepage or None,
        citation=info.citation or None,
    )
    described.set_file_format(FILE_FORMAT)
    described.download_size = info.download_size
    described.set_splits(tfds_splits.SplitDict(listed))
    described.write_to_directory(folder)


def _described(feature):
    """Return TFDS's description of a feature."""
    import tensorflow_datasets as tfds

    if isinstance(feature, Image):
        return tfds.features.Image(shape=feature.shape, encoding_format=feature.encoding or None)
    if isinstance(feature, Text):
        return tfds.features.Text()
    if isinstance(feature, Label):
        if feature.names:
            return tfds.features.ClassLabel(names=feature.names)
        return tfds.features.ClassLabel(num_classes=feature.classes)
    return tfds.features.Tensor(shape=feature.shape, dtype=np.dtype(feature.dtype))


def _serialised(examples, described, features, serializer, split) -> Iterator[bytes]:
    images = {key: feature for key, feature in described.items() if isinstance(feature, Image)}
    for number, example in enumerate(examples):
        try:
            encoded = {key: _encoded(example[key], feature) for key, feature in images.items()}
            proto = serializer.get_tf_example(features.encode_example({**example, **encoded}))
            yield proto.SerializeToString(deterministic=True)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{split} example {number}: {error}") from error


def _encoded(image, feature):
    """Return the bytes of an image file."""
    if isinstance(image, bytes):
        return image
    image = np.asarray(image)
    fits = len(image.shape) == 3 and all(
        wanted in (None, size) for wanted, size in zip(feature.shape, image.shape, strict=True)
    )
    if not fits or image.dtype != np.uint8:
        raise ValueError(f"expected an image uint8 {list(feature.shape)}, found {image.dtype} {list(image.shape)}")
    stream = io.BytesIO()
    picture = Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if feature.encoding == "jpeg":
        picture.save(stream, "jpeg", quality=JPEG_QUALITY)
    else:
        picture.save(stream, "png")
    return stream.getvalue()


def _write_split(files, records):
    """Write the files of a split, as many as TFDS would write; return the number of records in each, and their bytes.

    How many files there are depends on the size of all records. So they first go to pieces of the size up to which TFDS writes a
    single file. If there are several, they are cut anew, and each is removed when it has been read.
    """
    from tensorflow_datasets.core.utils import shard_utils

    rule = shard_utils.ShardConfig()
    pieces, lengths, size = [], [], 0
    for piece in _pieces(records, 2 * rule.min_shard_size, rule.overhead):
        path = Path(f"{files.data_dir}/{files.split}.piece{len(pieces)}")
        length, written = _write_file(path, piece)
        pieces.append(path)
        lengths.append(length)
        size += written
    total = sum(lengths)
    if not total:
        return [], 0
    count = rule.get_number_shards(size, total)
    paths = [Path(files.sharded_filepath(shard_index=i, num_shards=count)) for i in range(count)]
    if len(pieces) == count == 1:
        os.rename(pieces[0], paths[0])
        return lengths, size
    ends = [0, *shard_utils.get_shard_boundaries(total, count)]
    lengths = [last - first for first, last in pairwise(ends)]
    source = _read(pieces)
    for path, length in zip(paths, lengths, strict=True):
        _write_file(path, (next(source) for _ in range(length)))
    next(source, None)  # removes the last piece
    return lengths, size


def _pieces(records: Iterator[bytes], limit, overhead):
    """Yield iterators over consecutive records, each until its size reaches the limit; each is to be exhausted before the next."""
    first = next(records, None)
    while first is not None:
        held = [first]

        def piece(held=held):
            size = 0
            while held:
                record = held.pop()
                yield record
                size += len(record) + overhead
                if size >= limit:
                    return
                held.extend(record for record in [next(records, None)] if record is not None)

        yield piece()
        first = next(records, None)


def _read(pieces):
    """Yield the records of files, and remove each file when its last record has been asked for."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in pieces:
        reader = ArrayRecordReader(str(path))
        for _ in range(reader.num_records()):
            yield reader.read()
        reader.close()
        path.unlink()


def _write_file(path, records):
    """Write an array_record file; return how many records it has, and their bytes."""
    from array_record.python.array_record_module import ArrayRecordWriter

    count = size = 0
    writer = ArrayRecordWriter(str(path), RECORD_OPTIONS)
    try:
        for record in records:
            writer.write(record)
            count += 1
            size += len(record)
    finally:
        try:
            writer.close()
        except RuntimeError as error:  # it says so in words alone, and only now
            raise OSError(0, str(error).split(";")[0].removeprefix("write() failed: ")) from None
    return count, size


def _check_names(key, names):
    """Refuse names of classes that a file with one name per line would not give back."""
    for name in names:
        if name != name.strip() or not name or "\n" in name or "\r" in name:
            raise BadInput(
                f"class {name!r} of {key}: expected a name of one line without spaces around it; rename the class"
            )
    if len(set(names)) < len(names):
        double = next(name for i, name in enumerate(names) if name in names[:i])
        raise BadInput(f"class {double!r} of {key}: expected different names for different classes; rename one")
