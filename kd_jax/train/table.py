"""All answers of a frozen teacher in a table: its logits of every view of every training example, computed once.

Crops and flips give 81 and 2 choices, so an image has 162 views. A student that takes more epochs than that asks its teacher the
same questions again, and so do the next student, the next temperature and the next seed of a student. From a table, distilling
costs no more than training on labels. The answers are those of the network within rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kd_jax import losses
from kd_jax.config import Training
from kd_jax.data import Dataset
from kd_jax.data.dataset import LANES
from kd_jax.models import Outputs, Variables
from kd_jax.train.teachers import Table

BLOCK = 2000  # images that are asked about at a time; of texts, as many as are evaluated at a time
SHARE = 0.25  # of a device's memory that a table may take
FEW_CLASSES = 48  # by what libtpu compiles: of so many no table is copied, of 64 one is


def obstacle(dataset: Dataset, training: Training, loss: str) -> str:
    """Return, in words, why a teacher cannot be a table of its answers; empty where it can.

    Args:
        dataset: the data.
        training: how the students are trained.
        loss: the name of the distillation loss.
    """
    if losses.compares_features(loss):
        return f"a loss on logits, {loss} compares features"
    if training.mixup or training.cutmix:
        return "images that are not mixed"
    if not dataset.view_count(training.augment):
        return f"examples that stay in memory, {dataset.name} is streamed"
    return ""


def size(dataset: Dataset, training: Training, itemsize: int, platform: str) -> int:
    """Return the bytes of a table on a kind of device; `itemsize` is that of a logit."""
    return len(dataset.train.y) * dataset.view_count(training.augment) * width(dataset.classes, platform) * itemsize


def width(classes: int, platform: str) -> int:
    """Return the numbers in a row of a table: the classes, and on a TPU where they are many, zeros up to a multiple of `LANES`.

    Else each call would copy the whole table into rows of that length before it looks anything up: of CIFAR-100 4 GB.

    >>> width(10, "tpu"), width(100, "tpu"), width(100, "gpu")
    (10, 128, 100)
    """
    return -(-classes // LANES) * LANES if platform == "tpu" and classes > FEW_CLASSES else classes


def pays(dataset: Dataset, training: Training, students: int, devices: int = 1) -> bool:
    """Return whether so many students of one teacher ask longer than a table takes to fill, which one of the devices does alone."""
    return students * training.epochs > devices * dataset.view_count(training.augment)


def fits(bytes_: int, device: Any) -> bool:
    """Return whether a device has room for a table of this size beside the training; unknown where it does not tell its memory."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return limit is not None and bytes_ <= SHARE * limit


def is_chosen(
    asked: str,
    dataset: Dataset,
    training: Training,
    loss: str,
    students: int,
    itemsize: int,
    has_room: Callable[[int], bool],
    platform: str,
    devices: int = 1,
) -> bool:
    """Return whether the answers of a teacher are looked up in a table.

    Args:
        asked: `Distillation.teacher_table`.
        dataset, training, loss: as for `obstacle`.
        students: how many students the teacher has.
        itemsize: the bytes of a logit.
        has_room: `has_room(bytes)`, whether this is an accelerator that has room for a table of this size.
        platform: the kind of device, such as `tpu`.
        devices: how many devices share a batch.
    """
    if asked == "off" or obstacle(dataset, training, loss):
        return False
    if asked == "on":
        return True
    if not pays(dataset, training, students, devices):
        return False
    return has_room(size(dataset, training, itemsize, platform))


def make_answers(
    apply: Callable[..., Outputs],
    dataset: Dataset,
    augment: str,
    dtype: Any,
    adapt: Callable[[jax.Array], jax.Array] | None = None,
    row: int = 0,
) -> Callable[[Variables, Callable[[int, int], None]], Table]:
    """Return `answers(variables, told) -> Table`, which calls `told(number, count)` before it asks about a view of all examples.

    A row of it is one view of one example, the views of an example side by side; see `teachers.rows_of_views`. It is computed on
    JAX's default device.

    Args:
        apply: the teacher's `apply`.
        dataset: the data.
        augment: the kind of random views, `Training.augment`.
        dtype: the dtype of float inputs, and of the logits.
        adapt: as for `teachers.from_network`.
        row: how long a row is, `width`; 0 for as long as there are classes.
    """
    view, count = dataset.numbered_view(augment, dtype), dataset.view_count(augment)
    examples = len(dataset.train.y)
    at_once = BLOCK if dataset.positions == 1 else dataset.evaluation_size

    @jax.jit
    def of_block(variables, resident, rows, number):
        x = view(number, dataset.batch(resident, rows)[1])
        logits = dataset.on_shortest(
            lambda x: apply(variables, x, train=False).logits, x if adapt is None else adapt(x)
        )
        return logits.astype(dtype)

    def answers(variables, told):
        resident, here = jax.device_put((dataset.resident(dataset.train), variables))
        values = np.zeros((examples, count, row or dataset.classes), dtype)
        blocks = [np.arange(start, start + at_once) for start in range(0, examples, at_once)]
        for number in range(count):
            told(number, count)
            # Rows past the end read the last example again, and are not kept.
            asked = [of_block(here, resident, np.minimum(block, examples - 1), np.int32(number)) for block in blocks]
            for block, logits in zip(blocks, jax.device_get(asked), strict=True):
                kept = logits[: examples - block[0]]
                values[block[0] : block[0] + at_once, number, : dataset.classes] = kept
        return Table(values.reshape(examples * count, -1))

    return answers
