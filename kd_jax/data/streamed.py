"""Data sets that do not fit in memory: the images stay encoded in their array_record files and are decoded when they are needed.

Labels are in memory. `Images` stands in a `Split` where others have an array, so what asks for a few examples sees no difference;
`kd_jax.data.loader` reads many of them ahead.
"""

import contextlib
import hashlib
import json
from typing import NamedTuple

import numpy as np

from kd_jax.config import BadInput
from kd_jax.data import jpeg
from kd_jax.data.arrays import Dataset, Split, check_batch_size, positions
from kd_jax.data.noise import symmetric

SIZE = 224  # of a side of a view, unless the study says otherwise [pixels]
AUGMENT = ("none", "resized_crop_flip")
# Of ImageNet's channels, as everyone standardises with them since Torch's ResNets (torchvision's Normalize, times 255).
MEAN = 255 * np.array([0.485, 0.456, 0.406])
STD = 255 * np.array([0.229, 0.224, 0.225])
EXAMINED = 50_000  # at most so many training examples are analysed, as many as ImageNet has for validation


class Encoded(NamedTuple):
    """A prepared set of images of many sizes, as TFDS published it, but for the images.

    Attributes:
        name: what it is called in reports.
        train_y, test_y: int32 [examples].
        classes: number of classes.
        test_split: which published split serves as the test set.
        image_key: name of the image among the features.
        files: JSON of {name: bytes} of its files.
        folder: where they are.
    """

    name: str
    train_y: np.ndarray
    test_y: np.ndarray
    classes: int
    test_split: str
    image_key: str
    files: str
    folder: str


class Records:
    """Encoded images of a split, by their position in it. Opens the files when first asked, in whichever process that is.

    Args:
        folder: of the prepared set.
        split: its name.
        image_key: name of the image among the features.
    """

    def __init__(self, folder, split, image_key):
        self._named = folder, split, image_key
        self._opened = None

    def __getstate__(self):
        return self._named

    def __setstate__(self, named):
        self.__init__(*named)

    def read(self, ids):
        """Return [bytes] of the images at some positions, int [count]."""
        return [example[self._named[2]] for example in self._source().__getitems__([int(i) for i in ids])]

    def where(self, position):
        """The file, and the place in it, of the image at a position: for messages."""
        folder, split, _ = self._named
        info = self._builder().info.splits[split]
        ends = np.cumsum(info.shard_lengths)
        shard = int(np.searchsorted(ends, position, side="right"))
        first = ends[shard] - info.shard_lengths[shard]
        return f"{folder}/{info.filenames[shard]}: record {position - first} ({split} example {position})"

    def _builder(self):
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self._named[0])

    def _source(self):
        if self._opened is None:
            self._opened = source(self._builder(), self._named[1])
        return self._opened


def source(builder, split):
    """TFDS's random-access source of a split, which hands out images as bytes."""
    import tensorflow_datasets as tfds

    _allow_open_files(len(builder.info.splits[split].filenames))
    features = builder.info.features
    skip = {key: tfds.decode.SkipDecoding() for key in features if isinstance(features[key], tfds.features.Image)}
    return builder.as_data_source(split, decoders=skip)


def _allow_open_files(count):
    """Let this process keep so many more files open: ImageNet has 1,024 for training, and often no more are allowed in all."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = soft + count if hard == resource.RLIM_INFINITY else min(soft + count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Images:
    """Images of a split that look like an array uint8 [examples, size, size, 3]: what is indexed is decoded, by this process.

    Args:
        records: the `Records` that hold them.
        ids: positions in the records, int64 [examples].
        size: of a side of a view [pixels].
        workers: processes that decode where `kd_jax.data.loader` reads many of them; 0: threads of this one.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, records, ids, size, workers=0):
        self.records, self.ids, self.size, self.workers = records, ids, size, workers
        self.shape = (len(ids), size, size, 3)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, rows):
        """Their evaluation views; `rows` is a slice or int [count]."""
        return self.views(np.arange(len(self))[rows])

    def views(self, rows, draw=None):
        """Return views of some images, uint8 [count, size, size, 3].

        Args:
            rows: int [count].
            draw: ints that, with an image's position in the published split, decide its random-resized crop, and nothing else
                does: not who decodes it, nor when. None for evaluation views.

        Raises:
            BadInput: for an image that is damaged, by file and position.
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
            except jpeg.Damaged as error:
                raise BadInput(
                    f"{self.records.where(position)}: expected a whole image, found: {error}; prepare the set again"
                ) from None
        return views


def is_streamed(split):
    """Whether the images of a `Split` stay on disk."""
    return isinstance(split.x, Images)


def assemble(encoded, study, workers=0):
    """Return the `Dataset` of a study, with `Images` in its splits.

    Mean and deviation are ImageNet's usual ones, whatever the set. The fingerprint is a sha256 over labels, positions, and the
    names and sizes of all files, and not over pixels, which would take hours to read: a file changed in place without changing its
    length is not noticed.

    Args:
        encoded: an `Encoded`.
        study: a `kd_jax.config.Study`.
        workers: of its `Images`.

    Raises:
        BadInput: for a part larger than the whole, a batch larger than the training set, or views that need images in memory.
    """
    _check(study, encoded.name)
    train, test = (
        positions(labels, count, flag)
        for labels, count, flag in (
            (encoded.train_y, study.train_examples, "train_examples"),
            (encoded.test_y, study.test_examples, "test_examples"),
        )
    )
    check_batch_size(study, len(train))
    splits = []
    for ids, labels, split, noise in (
        (train, encoded.train_y, "train", study.label_noise),
        (test, encoded.test_y, encoded.test_split, 0.0),
    ):
        true_y = labels[ids].astype(np.int32)
        y = symmetric(true_y, noise, encoded.classes, study.noise_seed)
        images = Images(Records(encoded.folder, split, encoded.image_key), ids, study.image_size or SIZE, workers)
        splits.append(Split(images, y, true_y, ids))
    return Dataset(
        encoded.name, *splits, encoded.classes, MEAN, STD, encoded.test_split, _digest(encoded.files, *splits)
    )


def _check(study, name):
    streamed = f"{name} is streamed, for its images have many sizes"
    if study.augment not in AUGMENT:
        raise BadInput(
            f"--augment={study.augment}: expected {' or '.join(AUGMENT)}: {streamed}; pass --augment={AUGMENT[1]}"
        )
    for flag in ("mixup", "cutmix"):
        if getattr(study, flag):
            raise BadInput(
                f"--{flag}={getattr(study, flag)}: expected 0: {streamed}, and a partner would have to be read too; pass --{flag}=0"
            )


def _digest(files, *splits):
    digest = hashlib.sha256(json.dumps(json.loads(files), sort_keys=True).encode())
    for split in splits:
        for array in (split.ids, split.y, split.true_y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def examined(split):
    """Return the `Split` that analysis looks at: all of it, or of a streamed one the first `EXAMINED` of a fixed random order.

    All of ImageNet would be 5 GB of logits per network, and an hour of decoding.
    """
    if not is_streamed(split) or len(split.y) <= EXAMINED:
        return split
    chosen = np.sort(np.random.default_rng(0).permutation(len(split.y))[:EXAMINED])
    images = Images(split.x.records, split.x.ids[chosen], split.x.size, split.x.workers)
    return Split(images, split.y[chosen], split.true_y[chosen], split.ids[chosen])
