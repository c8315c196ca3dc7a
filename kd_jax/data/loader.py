"""Many images read ahead, in order, with Grain: decoded by worker processes, or by threads of this one.

Which image comes when, and which crop of it, is a function of the position in a plan, so there is no state of an iterator to save:
to resume is to begin at another position. What comes out does not depend on how many decode.
"""

import gc
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np

from kd_jax.config import BadInput
from kd_jax.data.streamed import Images

PIECE = 32  # examples that are decoded at a time; with 224 pixels a side 5 MB
AHEAD = 2  # pieces that a worker may have ready
SHARED = Path("/dev/shm")  # through which workers hand over their pieces, on Linux
THREADS = min(os.cpu_count() or 1, 8)  # that decode where there are no workers; Pillow lets go of Python's lock


@dataclass
class Epochs:
    """A plan: a run's training views, batch by batch, epoch by epoch.

    Attributes:
        rows_of: `rows_of(epoch) -> int32 [steps, batch]`, which workers call too.
        epochs: how many.
        draw: ints that decide the crops, with epoch and example; None for evaluation views.
    """

    rows_of: Callable
    epochs: int
    draw: tuple[int, ...] | None
    _known: tuple = field(default=(None, None), repr=False)

    def __post_init__(self):
        self.steps, self.size = self._rows(0).shape

    def __len__(self):
        return self.epochs * self.steps

    def __call__(self, step):
        """Return (rows, draw) of the batch of a step."""
        epoch, at = divmod(step, self.steps)
        return self._rows(epoch)[at], None if self.draw is None else (*self.draw, epoch)

    def _rows(self, epoch):
        known = self._known  # read once, for threads share it
        if known[0] != epoch:
            self._known = known = epoch, self.rows_of(epoch)
        return known[1]


@dataclass
class Once:
    """A plan: evaluation views of some rows, each once, in blocks.

    Attributes:
        rows: int [examples].
        size: of a block; the last may be shorter.
    """

    rows: np.ndarray
    size: int

    def __len__(self):
        return math.ceil(len(self.rows) / self.size)

    def __call__(self, block):
        """Return (rows, None) of a block."""
        return self.rows[block * self.size : (block + 1) * self.size], None


class _Pieces:
    """What Grain reads at random: the pieces of all blocks of a plan, each with the seconds that its decoding took."""

    def __init__(self, images, plan):
        self._images, self._plan = images, plan
        self.per_block = math.ceil(plan.size / PIECE)

    def __len__(self):
        return len(self._plan) * self.per_block

    def __getitem__(self, index):
        block, at = divmod(int(index), self.per_block)
        rows, draw = self._plan(block)
        began = time.perf_counter()
        views = self._images.views(rows[at * PIECE : (at + 1) * PIECE], draw)
        return views, time.perf_counter() - began


def stream(images, plan, start=0):
    """Yield (x uint8 [block, size, size, 3], seconds) of the blocks of a plan; close it to end the workers.

    The seconds are those that decoding took, summed over all that took part in it.

    Args:
        images: `Images`.
        plan: `Epochs` or `Once`.
        start: block to begin at.

    Raises:
        BadInput: when Grain is not installed, workers have too little shared memory, or an image is damaged.
    """
    grain = _grain()
    pieces = _Pieces(images, plan)
    left = grain.MapDataset.source(pieces)[start * pieces.per_block :]
    workers = min(images.workers, len(left))
    if workers:
        _check_shared_memory(images)
        read = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        many = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=AHEAD)
        left = left.to_iter_dataset(read).mp_prefetch(many, _start_worker)
    else:
        left = left.to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD * THREADS))
    iterator = iter(left)
    try:
        with _signals_held_back():
            parts = [next(iterator)]  # starts the workers
        for _ in range(start, len(plan)):
            parts += [next(iterator) for _ in range(pieces.per_block - len(parts))]
            yield np.concatenate([views for views, _ in parts]), sum(seconds for _, seconds in parts)
            parts = []
    finally:
        iterator.close()
        if workers:
            # Grain's iterators are in cycles that hold on to shared memory; what is left of it at exit would be complained of.
            parts = iterator = None
            gc.collect()


def blocks(x, size, rows=None):
    """Yield the images of some rows, `size` at a time, uint8 [up to size, height, width, channels].

    Args:
        x: uint8 array [examples, ...], or `Images`, whose evaluation views are read ahead.
        size: of a block.
        rows: int [count]; by default all, in order.
    """
    rows = np.arange(len(x)) if rows is None else rows
    if isinstance(x, Images):
        for block, _ in stream(x, Once(rows, size)):
            yield block
    else:
        for start in range(0, len(rows), size):
            yield x[rows[start : start + size]]


def ahead(items):
    """Yield what a generator yields, with the next already under way in a thread; closes it at the end."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        try:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item
        finally:
            thread.submit(items.close)


def check_workers(count):
    """Raise `BadInput` unless there can be so many workers."""
    if count < 0:
        raise BadInput(f"--workers={count}: expected a whole number of at least 0; pass 0 to decode in this process")


def _grain():
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain asks for its flags, which only a program of absl's makes ready
    try:
        import grain
    except ImportError:
        raise BadInput(
            "--dataset: expected the package grain, which reads a set of images of many sizes in a stream;"
            " pip install '.[stream]', or pip install grain"
        ) from None
    return grain


def _check_shared_memory(images):
    """Too little of it would end a worker without a word."""
    if not SHARED.is_dir():
        return
    each = (AHEAD + 2) * PIECE * images.size**2 * 3  # one more is in the making, and one in use
    free = shutil.disk_usage(SHARED).free
    if images.workers * each > free:
        raise BadInput(
            f"--workers={images.workers}: expected at most {free // each}, for they need {each / 1e6:.0f} MB each of shared memory"
            f" and {SHARED} has {free / 1e6:.0f} MB free; pass fewer, or give a container more (docker run --shm-size=8g)"
        )


@contextmanager
def _signals_held_back():
    """Processes started here never hear SIGINT and SIGTERM, which go to whole groups: the main process saves and stops."""
    resource_tracker.ensure_running()  # starting it would let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(index, count):
    """In a worker: do not outlive the main process."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
