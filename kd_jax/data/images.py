"""Images that lie in memory and, during a run, on the devices as uint8; and what they share with images that are streamed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kd_jax.config import Data, Training
from kd_jax.data.arrays import Source, digest, noisy, part
from kd_jax.data.dataset import Dataset
from kd_jax.errors import BadInput

BLOCK = 1000  # images whose squares are summed at a time
TEXT_DATA = ("tokenizer", "vocabulary", "max_length", "text")  # fields of `Data` that only texts use
TEXT_TRAINING = ("dropout",)  # fields of `Training` that only networks for texts use


@dataclass(frozen=True, eq=False, kw_only=True)
class Images(Dataset):
    """What all sets of images share.

    Attributes:
        mean, std: the mean and the standard deviation of each channel, float64 [channels], in units of the stored uint8.
    """

    mean: np.ndarray
    std: np.ndarray

    def facts(self, seed: int, batch_size: int) -> dict[str, Any]:
        """Return what `study.json` says about the data; see `Dataset.facts`."""
        shape = list(self.train.x.shape[1:])
        of_images = {"image_shape": shape, "mean": self.mean.tolist(), "std": self.std.tolist()}
        return super().facts(seed, batch_size) | of_images

    def check(self, data: Data, training: Training) -> None:
        """Refuse what only texts have, besides what `Dataset.check` refuses."""
        super().check(data, training)
        self._refuse(data, TEXT_DATA, "images", "texts")
        self._refuse(training, TEXT_TRAINING, "images", "texts")

    def shown(self, x: Any, rows: np.ndarray) -> np.ndarray:
        """Return thumbnails of some images; see `Dataset.shown`."""
        from kd_jax.data import views

        parts, order = [], []
        for block, images in self.blocks(x, self.evaluation_size, np.asarray(rows)):
            order.append(block)
            parts.append(views.small(images))
        # Blocks may come in another order than the rows.
        place = {row: position for position, row in enumerate(np.concatenate(order).tolist())}
        return np.concatenate(parts)[[place[row] for row in np.asarray(rows).tolist()]]

    def clean_view(self, dtype: Any) -> Callable[[Any], Any]:
        """Return `view(x)`, which standardises uint8 images to floats of this dtype."""
        from kd_jax.data.augment import standardise

        return partial(standardise, mean=self.mean, std=self.std, dtype=dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImagesInMemory(Images):
    """Images of one size, whose random views are drawn on the device."""

    def check(self, data: Data, training: Training) -> None:
        """Refuse what only streamed images have, besides what `Images.check` refuses."""
        super().check(data, training)
        if data.image_size:
            height, width = self.train.x.shape[1:3]
            raise BadInput(
                f"--image_size={data.image_size}: expected a set of images of many sizes, those of {self.name} have"
                f" {width}x{height} pixels; leave it out"
            )
        if training.augment == "resized_crop_flip":
            raise BadInput(
                f"--augment={training.augment}: expected a set of images of many sizes, not {self.name};"
                " pass --augment=crop_flip"
            )

    def random_view(self, augment: str, dtype: Any) -> Callable[[Any, Any, Any, Any], Any]:
        """Return `view(key, step, ids, x)`, which standardises, crops and flips; see `augment.random_views`."""
        from kd_jax.data.augment import random_views

        clean = self.clean_view(dtype)
        return lambda key, step, ids, x: random_views(key, step, ids, x, augment, clean)

    def view_count(self, augment: str) -> int:
        """Return how many different views of an image `random_view` makes."""
        from kd_jax.data.augment import VIEWS

        return VIEWS[augment]

    def view_numbers(self, augment: str) -> Callable[[Any, Any, Any], Any]:
        """Return `numbers(key, step, ids)`, which of its views each image is shown as; see `augment.view_numbers`."""
        from kd_jax.data.augment import view_numbers

        return partial(view_numbers, kind=augment)

    def numbered_view(self, augment: str, dtype: Any) -> Callable[[Any, Any], Any]:
        """Return `view(number, x)`, which makes the view of this number of all of some stored images."""
        from kd_jax.data.augment import numbered_view

        clean = self.clean_view(dtype)
        return lambda number, x: numbered_view(clean(x), number, augment)


def assemble(source: Source, data: Data) -> ImagesInMemory:
    """Return the data set that a study asks for: a part of a published set, with label noise on the training labels.

    The mean and deviation are those of the training pixels.

    Raises:
        BadInput: when a part is asked for that is larger than the whole.
    """
    train = noisy(part(source.train_x, source.train_y, data.train_examples, "train_examples"), data, source.classes)
    test = part(source.test_x, source.test_y, data.test_examples, "test_examples")
    # Sums of integers are exact, so these do not depend on the order of examples or on the machine.
    pixels = train.x.shape[0] * train.x.shape[1] * train.x.shape[2]
    channels = range(train.x.shape[3])
    sums = np.array([train.x[..., c].sum(dtype=np.int64) for c in channels], np.float64)
    squares = np.array([_sum_of_squares(train.x[..., c]) for c in channels], np.float64)
    mean = sums / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return ImagesInMemory(
        name=source.name,
        train=train,
        test=test,
        classes=source.classes,
        test_split=source.test_split,
        class_names=tuple(source.class_names.tolist()),
        fingerprint=digest(train, test),
        mean=mean,
        std=np.where(std > 0, std, 1.0),
    )


def _sum_of_squares(x):
    # Block by block: in int64 the whole of Tiny-ImageNet would take eight times its memory.
    return sum(int(np.square(x[i : i + BLOCK], dtype=np.int64).sum()) for i in range(0, len(x), BLOCK))
