"""Images that are decoded while a run needs them: a batch is read ahead while the devices work on the one before it."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from kd_jax.config import Data, Training
from kd_jax.data import loader
from kd_jax.data.arrays import noisy, positions
from kd_jax.data.dataset import Feed, Split, filled
from kd_jax.data.encoded import Encoded, Records, digest
from kd_jax.data.encoded import Images as EncodedImages
from kd_jax.data.images import Images
from kd_jax.errors import BadInput

SIZE = 224  # the side of a view unless the study says otherwise [pixels]
AUGMENT = ("none", "resized_crop_flip")
# Of ImageNet's channels, as everyone standardises with them since Torch's ResNets (torchvision's Normalize, times 255).
MEAN = 255 * np.array([0.485, 0.456, 0.406])
STD = 255 * np.array([0.229, 0.224, 0.225])
EXAMINED = 50_000  # at most so many training examples are analysed, as many as ImageNet has for validation


class StreamedFeed(Feed):
    """The batches of a training run, decoded on the host: a step is given row numbers, views and labels.

    Args:
        split: the training set; its x are `encoded.Images`.
        plan: the run's batches; of several processes that train together, this one's part of them.
        put: as for `Feed`.
    """

    def __init__(self, split: Split, plan: loader.Epochs, put: Any):
        super().__init__(plan.rows_of, put)
        self._split, self._plan = split, plan
        self._batches: Any = None
        self._next_step = None
        self._forget()

    def item(self, step: int) -> Any:
        """Return (rows, x, y) of a step, on the devices.

        Steps are asked for in a row; after any other, as when a run is resumed, reading begins anew at that step.
        """
        import jax

        asked = time.monotonic()
        self._fresh = step != self._next_step
        if self._fresh or self._batches is None:
            self.close()
            self._batches = loader.ahead(self._read(step))
        item, busy, count = next(self._batches)
        jax.block_until_ready(item)
        self._handed_out = time.monotonic()
        if not self._fresh:  # else this waited for workers to start
            self._waited += self._handed_out - asked
            self._busy += busy
            self._count += count
        self._next_step = step + 1
        return item

    def stepped(self) -> None:
        """Note the time that the devices took for the last step."""
        if not self._fresh:  # else this waited for the compiler
            self._in_steps += time.monotonic() - self._handed_out

    def _read(self, step):
        blocks = loader.stream(self._split.x, self._plan, step)
        try:
            for at, (x, busy) in enumerate(blocks, step):
                rows, _ = self._plan(at)
                yield self.put.part((rows, x, self._split.y[rows])), busy, len(rows)
        finally:
            blocks.close()

    def metrics(self, epoch: int, examples_per_second: float) -> dict[str, float]:
        """Return the speeds of input and steps since this was last asked for; empty where nothing was measured.

        `input_examples_per_second` is what decoding alone can give while training runs beside it: the examples decoded, divided by
        the seconds that one worker was busy with one of them, times the number of workers, of which no more count than there are
        cores. `step_examples_per_second` is what the steps would reach if no batch had to be waited for. `input_wait` is the share
        of the time that the devices did wait. The first step after reading began is left out: workers start and the step compiles
        in it.
        """
        measured = {}
        if self._count and self._in_steps:
            decoders = min(self._split.x.workers or loader.THREADS, os.cpu_count() or 1)
            measured = {
                "input_examples_per_second": self._count * decoders / self._busy,
                "step_examples_per_second": self._count / self._in_steps,
                "input_wait": self._waited / (self._waited + self._in_steps),
            }
        self._forget()
        return measured

    def _forget(self):
        self._waited = self._in_steps = self._busy = 0.0
        self._count = 0

    def close(self) -> None:
        """End the threads and processes that read ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamedImages(Images):
    """Images of many sizes that stay encoded on disk. Random views are drawn on the host, where images are decoded."""

    is_resident: ClassVar[bool] = False

    @property
    def examined(self) -> dict[str, Split]:
        """{name: split} of what analysis looks at: of the training set at most `EXAMINED`, the first of a fixed random order.

        All of ImageNet would be 5 GB of logits per network, and an hour of decoding.
        """
        train = self.train
        if len(train.y) > EXAMINED:
            chosen = np.sort(np.random.default_rng(0).permutation(len(train.y))[:EXAMINED])
            images = EncodedImages(train.x.records, train.x.ids[chosen], train.x.size, train.x.workers)
            train = Split(images, train.y[chosen], train.true_y[chosen], train.ids[chosen])
        return self.splits | {"train": train}

    def check(self, data: Data, training: Training) -> None:
        """Refuse views that need images in memory, besides what `Images.check` refuses."""
        super().check(data, training)
        reason = f"{self.name} is streamed, for its images have many sizes"
        if training.augment not in AUGMENT:
            raise BadInput(
                f"--augment={training.augment}: expected {' or '.join(AUGMENT)}: {reason}; pass --augment={AUGMENT[1]}"
            )
        for flag in ("mixup", "cutmix"):
            if getattr(training, flag):
                raise BadInput(
                    f"--{flag}={getattr(training, flag)}: expected 0: {reason}, and a partner would have to be read too;"
                    f" pass --{flag}=0"
                )

    def view_count(self, augment: str) -> int:
        """Return 0: views of many sizes, drawn on the host, are not counted."""
        return 0

    def resident(self, split: Split) -> Any:
        """Return nothing: no example lies on the devices during a run."""
        return ()

    def batch(self, resident: Any, item: Any) -> tuple[Any, Any, Any]:
        """Return (ids, x, y) of a step, which its item holds already."""
        return item

    def feed(
        self,
        rows_of: Callable[[int], np.ndarray],
        epochs: int,
        augment: str,
        key_words: tuple[int, ...],
        put: Any,
    ) -> StreamedFeed:
        """Return the batches of a training run, read ahead; see `Dataset.feed`."""
        part = partial(_part, rows_of, put.own(rows_of(0).shape[1]))
        return StreamedFeed(self.train, loader.Epochs(part, epochs, None if augment == "none" else key_words), put)

    def evaluation_items(self, split: Split, size: int, put: Any) -> Iterator[Any]:
        """Yield (item, weights) for all examples of a split, read ahead; see `Dataset.evaluation_items`."""
        return loader.ahead(self._padded(split, size, put))

    def _padded(self, split, size, put):
        # Of every block the part of this process, which of the last may be short, or nothing.
        part = put.own(size)
        most = part.stop - part.start
        starts = range(part.start, -(-len(split.y) // size) * size, size)
        parts = [np.arange(start, min(start + most, len(split.y)), dtype=np.int32) for start in starts]
        blocks = loader.stream(split.x, loader.Once(np.concatenate(parts), most))
        try:
            for rows in parts:
                x = next(blocks)[0] if len(rows) else np.zeros((0, *split.x.shape[1:]), np.uint8)
                batch = rows, x, split.y[rows], np.ones(len(x), np.float32)
                *item, weights = (filled(each, most) for each in batch)
                yield put.part((tuple(item), weights))
        finally:
            blocks.close()

    def blocks(self, x: Any, size: int, rows: np.ndarray | None = None, pad: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (rows, evaluation views), read ahead; see `Dataset.blocks`."""
        rows = np.arange(len(x)) if rows is None else rows
        if not isinstance(x, EncodedImages):  # some rows that are decoded already
            yield from super().blocks(x, size, rows, pad)
            return
        for number, (block, _) in enumerate(loader.stream(x, loader.Once(rows, size))):
            yield rows[number * size : (number + 1) * size], filled(block, size) if pad else block


def _part(rows_of, part, epoch):
    """The columns of the rows of an epoch that are a process's part; workers call it too, so it can be pickled."""
    return rows_of(epoch)[:, part]


def assemble(encoded: Encoded, data: Data, workers: int = 0) -> StreamedImages:
    """Return the data set that a study asks for, with `encoded.Images` in its splits.

    Mean and deviation are ImageNet's usual ones, whatever the set.

    Args:
        encoded: the published set.
        data: says which part, which label noise and which size of the views.
        workers: the number of processes that decode; 0 for threads of this process.

    Raises:
        BadInput: for a part larger than the whole, or when Grain is not installed.
    """
    loader.check_installed()
    test_split = "train" if len(encoded.test_ids) else encoded.test_split
    wanted = (
        ("train", encoded.train_y, encoded.train_ids, data.train_examples, "train_examples"),
        (test_split, encoded.test_y, encoded.test_ids, data.test_examples, "test_examples"),
    )
    splits = []
    for name, labels, part, count, flag in wanted:
        ids = positions(len(labels), count, flag)
        y = labels[ids].astype(np.int32)
        ids = part[ids] if len(part) else ids
        published = len(encoded.train_ids) + len(encoded.test_ids) if len(part) else len(labels)
        records = Records(encoded.folder, name, encoded.image_key)
        splits.append(Split(EncodedImages(records, ids, data.image_size or SIZE, workers), y, y, ids, published))
    train, test = splits
    train = noisy(train, data, encoded.classes)
    return StreamedImages(
        name=encoded.name,
        train=train,
        test=test,
        classes=encoded.classes,
        test_split=encoded.test_split,
        class_names=tuple(encoded.class_names.tolist()),
        fingerprint=digest(encoded.files, train, test),
        mean=MEAN,
        std=STD,
    )
