"""Images of many sizes that do not fit in memory: they stay encoded in their array_record files and are decoded when needed.

Labels are in memory. `Images` stands in a `Split` where others have an array, so code that asks for a few examples sees no
difference; `loader` reads many of them ahead.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kd_jax.data import jpeg
from kd_jax.data.arrays import hashed
from kd_jax.data.dataset import Split
from kd_jax.data.features import builder_of
from kd_jax.errors import BadInput


class Encoded(NamedTuple):
    """A prepared set of images of many sizes as TFDS published it, without the images.

    Attributes:
        name: the name in reports.
        train_y, test_y: int32 [examples].
        classes: the number of classes.
        test_split: the name of the published split that serves as the test set.
        image_key: the name of the image among the features.
        files: JSON of {name: bytes} of its files.
        folder: the folder that holds them.
        class_names: the names of the classes, str [classes]; empty where they have none but their numbers.
        train_ids, test_ids: where the test set is held out of the training split, the positions in that of the examples of each,
            int64 [examples]; empty elsewhere.
    """

    name: str
    train_y: np.ndarray
    test_y: np.ndarray
    classes: int
    test_split: str
    image_key: str
    files: str
    folder: str
    class_names: np.ndarray = np.array([], np.str_)
    train_ids: np.ndarray = np.array([], np.int64)
    test_ids: np.ndarray = np.array([], np.int64)


class Records:
    """The encoded images of a split, by position. The files are opened at the first question, in whichever process asks it.

    Args:
        folder: the folder of the prepared set.
        split: the name of the split.
        image_key: the name of the image among the features.
    """

    def __init__(self, folder: str, split: str, image_key: str):
        self._named = folder, split, image_key
        self._opened = None

    def __getstate__(self):
        return self._named

    def __setstate__(self, named):
        self.__init__(*named)

    def read(self, ids: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the encoded images at some positions, int [count]."""
        return [example[self._named[2]] for example in self._source().__getitems__([int(i) for i in ids])]

    def where(self, position: int) -> str:
        """Return the file of the image at a position, and its place in it, for messages."""
        folder, split, _ = self._named
        info = self._builder().info.splits[split]
        ends = np.cumsum(info.shard_lengths)
        shard = int(np.searchsorted(ends, position, side="right"))
        first = ends[shard] - info.shard_lengths[shard]
        return f"{folder}/{info.filenames[shard]}: record {position - first} ({split} example {position})"

    def _builder(self):
        return builder_of(self._named[0])

    def _source(self):
        if self._opened is None:
            self._opened = source(self._builder(), self._named[1])
        return self._opened


def source(builder: Any, split: str) -> Any:
    """Return TFDS's random-access source of a split, set to hand out images as bytes."""
    import tensorflow_datasets as tfds

    _allow_open_files(len(builder.info.splits[split].filenames))
    features = builder.info.features
    skip = {key: tfds.decode.SkipDecoding() for key in features if isinstance(features[key], tfds.features.Image)}
    return builder.as_data_source(split, decoders=skip)


def _allow_open_files(count):
    """Raise this process's limit of open files by a count: ImageNet has 1,024 for training, often the limit itself."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = soft + count if hard == resource.RLIM_INFINITY else min(soft + count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Images:
    """Images of a split that look like an array uint8 [examples, size, size, 3]; indexing decodes them, in this process.

    Args:
        records: the encoded images.
        ids: positions in the records, int64 [examples].
        size: the side of a view [pixels].
        workers: the number of processes that decode where `loader` reads many images; 0 for threads of this process.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, records: Records, ids: np.ndarray, size: int, workers: int = 0):
        self.records, self.ids, self.size, self.workers = records, ids, size, workers
        self.shape = (len(ids), size, size, 3)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return the evaluation views of some rows, given as a slice or int [count]."""
        return self.views(np.arange(len(self))[rows])

    def views(self, rows: Sequence[int] | np.ndarray, draw: tuple[int, ...] | None = None) -> np.ndarray:
        """Return views of some images, uint8 [count, size, size, 3].

        Args:
            rows: int [count].
            draw: integers that, with an image's position in the published split, decide its random-resized crop. Nothing else
                does: neither the process that decodes it nor the time. None for evaluation views.

        Raises:
            BadInput: for an image that is damaged, naming its file and position.
        """
        views = np.empty((len(rows), *self.shape[1:]), np.uint8)
        ids = self.ids[rows]
        for view, position, encoded in zip(views, ids, self.records.read(ids), strict=True):
            try:
                if draw is None:
                    view[:] = jpeg.evaluation_view(encoded, self.size)
                else:
                    words = np.random.SeedSequence([*draw, int(position)])
                    view[:] = jpeg.training_view(encoded, self.size, np.random.Generator(np.random.Philox(words)))
            except jpeg.Undecodable as error:
                raise BadInput(
                    f"{self.records.where(position)}: expected a whole image, found: {error}; prepare the set again"
                ) from None
        return views


def digest(files: str, *splits: Split) -> str:
    """Return the sha256, as hex, over labels, positions, and the names and sizes of all files.

    Pixels are left out, for reading them would take hours: a file changed in place without changing its length is not noticed.

    Args:
        files: JSON of {name: bytes}.
        splits: all splits.
    """
    arrays = (array for split in splits for array in (split.ids, split.y, split.true_y))
    return hashed(hashlib.sha256(json.dumps(json.loads(files), sort_keys=True).encode()), *arrays)
