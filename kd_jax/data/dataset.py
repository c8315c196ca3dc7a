"""The one face that data shows to training and extraction, whatever kind of examples it has.

`Dataset` answers every question that depends on the kind: how examples become the input of a network, which arrays lie on the
devices during a run, what one training step is given, how examples are batched for evaluation, and which options make no sense.
Its defaults are those of examples that lie on the devices as two arrays. A new kind of data is one subclass; see `images`,
`streamed` and `tokenised`.

Nothing here imports JAX when it is imported: worker processes that decode images import this package.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from kd_jax.config import Data, Training, shown
from kd_jax.data.order import order
from kd_jax.errors import BadInput

LANES = 128  # of a TPU's registers: rows of 784 bytes would be copied, all of them in every call, to be gathered


class Split(NamedTuple):
    """Examples of one split.

    Attributes:
        x: uint8 images [examples, height, width, channels], or what stands in for them (`encoded.Images`); of texts token ids
            [examples, length]; of numbers float32 [examples, ...].
        y: the labels that networks see, int32 [examples].
        true_y: the labels as published, int32 [examples]; they differ from `y` only under label noise.
        ids: positions in the published split, int64 [examples], rising.
        published: the size of the published split; 0 where it is not known.
    """

    x: Any
    y: np.ndarray
    true_y: np.ndarray
    ids: np.ndarray
    published: int = 0


class Given(NamedTuple):
    """What is fixed about the tokens of texts before the texts are read; other kinds of data do not look at it.

    Attributes:
        tokenizer: contents of the tokenizer.json that the study's work folder holds; None for a new study.
        vocabulary: the number of token ids that pre-trained weights have; None without such.
        positions: the length, in tokens, of the longest text that they can read; None for `Data.max_length`.
        beside: path of the tokenizer.json that belongs to the pre-trained weights; empty without such. It is used where neither
            the work folder nor `Data.tokenizer` names another.
        place: the file whose contents `tokenizer` are, for messages.
    """

    tokenizer: str | None = None
    vocabulary: int | None = None
    positions: int | None = None
    beside: str = ""
    place: str = "tokenizer.json"


class Feed:
    """What the steps of one training run are given, in order. A context manager.

    This one is for examples that lie on the devices: a step is given the row numbers of its batch and nothing else.

    Args:
        rows_of: `rows_of(epoch) -> int32 [steps, batch]`, the rows of the training set in each batch of an epoch.
        put: `put(tree)` puts arrays [batch, ...] on the devices, split between them. Of several processes that train together each
            puts its part, the slice `put.own(batch)`; who has read that part alone, puts it by `put.part(tree)`. See
            `train.devices.Put`.
    """

    def __init__(self, rows_of: Callable[[int], np.ndarray], put: Any):
        self.rows = lru_cache(maxsize=2)(rows_of)
        self.put = put
        self.steps_per_epoch = len(self.rows(0))

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def item(self, step: int) -> Any:
        """Return what a step, counted from the start of the run, is given: arrays that `put` has split over the devices."""
        epoch, at = divmod(step, self.steps_per_epoch)
        return self.put(self.rows(epoch)[at])

    def stepped(self) -> None:
        """Be told that the devices have finished the step whose item was asked for last."""

    def pace(self, first: int, last: int, seconds: float) -> str:
        """Return how fast the steps from `first` up to `last`, all of one epoch, went by, for a line of progress; may be empty."""
        return ""

    def metrics(self, epoch: int, examples_per_second: float) -> dict[str, float]:
        """Return what a line of `metrics.jsonl` says of this kind of data besides what it says of every kind."""
        return {}

    def close(self) -> None:
        """End whatever reads ahead."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """What a study trains and tests on. One subclass for each kind of data.

    Attributes:
        name: the name in reports.
        train, test: the training set and the test set.
        classes: the number of classes.
        test_split: the name of the published split that serves as the test set.
        fingerprint: sha256, as hex, over the examples and labels of all splits, label noise included; see `encoded.digest` for
            images that stay on disk.
        further: {name: split} of test sets beside the one, such as MNLI's mismatched one.
        class_names: the names of the classes, one each; empty where they have none but their numbers.
        evaluation_size: about how many examples are evaluated at a time.
        is_resident: whether all examples lie on the devices during a run. A step is then given row numbers alone, so many steps
            can run as one loop on the device.
    """

    name: str
    train: Split
    test: Split
    classes: int
    test_split: str
    fingerprint: str
    further: Mapping[str, Split] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    evaluation_size: int = 500
    is_resident: ClassVar[bool] = True

    # ---- what it is

    @property
    def splits(self) -> dict[str, Split]:
        """{name: split} of all splits, the training set first."""
        return {"train": self.train, "test": self.test, **self.further}

    @property
    def examined(self) -> dict[str, Split]:
        """{name: split} of the parts of all splits that analysis looks at."""
        return self.splits

    @property
    def network_settings(self) -> dict[str, Any]:
        """What `models.build` must know of the data besides the number of classes, as keyword arguments."""
        return {}

    @property
    def tokenizer(self) -> str | None:
        """Contents of the tokenizer.json to be kept with a study; None for data without tokens."""
        return None

    @property
    def given(self) -> Given:
        """The `Given` with which the same data is loaded again from a study's work folder."""
        return Given()

    @property
    def positions(self) -> int:
        """How many vectors of an example a network multiplies with each kernel: the tokens of a text, else 1."""
        return 1

    def facts(self, seed: int, batch_size: int) -> dict[str, Any]:
        """Return what `study.json` says about the data, as JSON values.

        Args:
            seed: the first seed of the study; with the batch size it decides the batches in which padding is counted.
            batch_size: the batch size of the students.
        """
        names = {"class_names": list(self.class_names)} if self.class_names else {}
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "classes": self.classes,
            **names,
            "train_examples": len(self.train.y),
            "test_examples": len(self.test.y),
            "test_split": self.test_split,
            "wrong_labels": int((self.train.y != self.train.true_y).sum()),
        }

    def check(self, data: Data, training: Training) -> None:
        """Refuse options that this kind of data has no use for, a batch larger than the training set, and a split of one example.

        A value equal to the default is no request.

        Raises:
            BadInput: in one line, naming the option.
        """
        if training.batch_size > len(self.train.y):
            raise BadInput(
                f"--batch_size={training.batch_size}: expected at most the {len(self.train.y)} training examples; lower it"
            )
        for name, split in self.splits.items():
            if len(split.y) < 2:
                raise BadInput(
                    f"--dataset={data.dataset}: expected at least 2 {name} examples, for intervals are over examples, found"
                    f" {len(split.y)}; pass another set"
                )

    def _refuse(self, section, names, ours, theirs):
        """Raise `BadInput` for the first of some fields of a section that is not at its default.

        Args:
            section: a `Data` or a `Training`.
            names: names of fields that only another kind of data can use.
            ours, theirs: what examples of this kind, and of the kind that can use them, are called.
        """
        defaults = {each.name: each.default for each in fields(section)}
        for name in names:
            value, default = getattr(section, name), defaults[name]
            if value != default:
                wanted = f"{default:g}" if isinstance(default, float) else default or (0 if default == 0 else "none")
                raise BadInput(
                    f"--{name}={shown(value)}: expected {wanted} for {ours}, {self.name}; it is for {theirs}; leave it out"
                )

    def shown(self, x: Any, rows: np.ndarray) -> np.ndarray | None:
        """Return what people are shown of some examples: thumbnails, uint8 [rows, height, width, 1 or 3], or texts, str [rows].

        Args:
            x: `Split.x` of one of the splits.
            rows: which examples, int [rows].

        Returns:
            None for examples that nobody can look at.
        """
        return None

    def for_devices(self, platform: str, count: int, batch_size: int) -> "Dataset":
        """Return the data in the form that suits the devices on which it is trained on; results differ by rounding alone.

        Args:
            platform: what JAX calls the devices, such as `cpu` or `tpu`.
            count: the number of devices over which a batch is split.
            batch_size: the examples of a training step, over all devices.
        """
        return self

    # ---- inside jit

    def example(self, dtype: Any = np.float32) -> np.ndarray:
        """Return a batch of one example of zeros, as a network is given it, for shapes; float examples have this dtype."""
        return np.zeros((1, *self.train.x.shape[1:]), dtype)

    def clean_view(self, dtype: Any) -> Callable[[Any], Any]:
        """Return `view(x)`, which makes the input of a network from examples as they are stored; floats have this dtype."""
        raise NotImplementedError

    def random_view(self, augment: str, dtype: Any) -> Callable[[Any, Any, Any, Any], Any]:
        """Return `view(key, step, ids, x)`, which makes a random training input; it depends on (key, step, id) alone.

        Args:
            augment: the kind of random views, `Training.augment`.
            dtype: the dtype of float inputs.
        """
        clean = self.clean_view(dtype)
        return lambda key, step, ids, x: clean(x)

    def view_count(self, augment: str) -> int:
        """Return how many different views of an example `random_view` makes; 0 where they cannot be counted."""
        return 1

    def view_numbers(self, augment: str) -> Callable[[Any, Any, Any], Any]:
        """Return `numbers(key, step, ids)`: which of its views each example is shown as at a step, int [batch] from 0."""
        return lambda key, step, ids: np.zeros(np.shape(ids), np.int32)

    def numbered_view(self, augment: str, dtype: Any) -> Callable[[Any, Any], Any]:
        """Return `view(number, x)`, which makes the view of this number, an int scalar, of all of some stored examples."""
        clean = self.clean_view(dtype)
        return lambda number, x: clean(x)

    def on_shortest(self, run: Callable[[Any], Any], x: Any, axis_name: str | None = None) -> Any:
        """Return `run(x)`, computed on no more of a batch of inputs than its examples need.

        What `run` returns must not depend on the part in shape. It may talk to other devices only where their `pmap` axis is named;
        all devices then take what the longest example of the whole batch needs.
        """
        return run(x)

    def resident(self, split: Split) -> Any:
        """Return what of a split lies on every device during a run, as NumPy arrays.

        An example is one row of numbers. Of arrays with more axes a TPU would copy all examples to gather some, for the layout in
        which it stores images is not that in which it gathers them. For the same reason rows of bytes are filled up to a multiple
        of `LANES`.
        """
        rows = split.x.reshape(len(split.x), -1)
        missing = -rows.shape[1] % LANES if rows.dtype == np.uint8 else 0
        return np.pad(rows, ((0, 0), (0, missing))) if missing else rows, split.y

    def batch(self, resident: Any, item: Any) -> tuple[Any, Any, Any]:
        """Return (ids, x, y) of what a step is given: rows of the split, stored examples, labels; each [batch, ...].

        Args:
            resident: what `resident` returned for the split, now on the device.
            item: a device's share of what `Feed.item` or `evaluation_items` hands out.
        """
        x, y = resident
        shape = self.train.x.shape[1:]
        return item, x[item][..., : math.prod(shape)].reshape(*item.shape, *shape), y[item]

    # ---- on the host

    def rows_of(self, seed: int, stream: int, batch_size: int) -> Callable[[int], np.ndarray]:
        """Return `rows_of(epoch) -> int32 [steps, batch]`, the order of the training set in every epoch of a run.

        It can be pickled, and is a function of its arguments alone; see `order.order`.
        """
        return partial(order, seed, stream, examples=len(self.train.y), batch_size=batch_size)

    def feed(
        self,
        rows_of: Callable[[int], np.ndarray],
        epochs: int,
        augment: str,
        key_words: tuple[int, ...],
        put: Any,
    ) -> Feed:
        """Return what the steps of a training run are given.

        Args:
            rows_of: the order of the run, as `rows_of` returns it.
            epochs: the length of the run.
            augment: the kind of random views, `Training.augment`.
            key_words: the words of the run's key, for views that are drawn on the host.
            put: as for `Feed`.
        """
        return Feed(rows_of, put)

    def evaluation_items(self, split: Split, size: int, put: Any) -> Iterator[Any]:
        """Yield (item, weights) for all examples of a split: each once with weight 1, then padding of weight 0.

        Args:
            split: one of `splits`.
            size: the number of examples in every item.
            put: as for `Feed`.
        """
        for rows, weights in zip(*padded_batches(len(split.y), size), strict=True):
            yield put((rows, weights))

    def blocks(self, x: Any, size: int, rows: np.ndarray | None = None, pad: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (rows, stored examples), for running a network over many examples on one device.

        Args:
            x: `Split.x` of one of the splits, or some rows of it.
            size: the number of examples in a block.
            rows: the rows to go through, int [count]; all by default. Their order is free.
            pad: whether the last block is filled up to `size`. It may then hold more examples than rows are named, at its end.
        """
        rows = np.arange(len(x)) if rows is None else rows
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            yield block, filled(x[block], size) if pad else x[block]


def filled(x: np.ndarray, size: int) -> np.ndarray:
    """Return an array with zeros added along its first axis up to a size.

    >>> filled(np.array([[1, 2]]), 3).tolist()
    [[1, 2], [0, 0], [0, 0]]
    """
    return np.pad(x, [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1))


def padded_batches(examples: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows int32, weights float32), both [batches, size]: all rows once with weight 1, then row 0 with weight 0.

    >>> rows, weights = padded_batches(3, 2)
    >>> rows.tolist(), weights.tolist()
    ([[0, 1], [2, 0]], [[1.0, 1.0], [1.0, 0.0]])
    """
    batches = -(-examples // size)
    rows = np.zeros(batches * size, np.int32)
    rows[:examples] = np.arange(examples)
    weights = (np.arange(len(rows)) < examples).astype(np.float32)
    return rows.reshape(batches, size), weights.reshape(batches, size)
