"""Many images read ahead, in order, with Grain: decoded by worker processes, or by threads of this process.

Which image comes when, and which crop of it, is a function of the position in a plan. So no state of an iterator has to be saved:
to resume is to begin at another position. The result does not depend on the number of processes or threads.
"""

import gc
import importlib.util
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.data.encoded import Images
from kd_jax.errors import BadInput

PIECE = 32  # examples that one worker decodes at a time; with 224 pixels a side these are 5 MB
AHEAD = 2  # pieces that a worker may have ready
SHARED = Path("/dev/shm")  # the shared memory in which workers hand over their pieces, on Linux
THREADS = min(os.cpu_count() or 1, 8)  # threads that decode where there are no workers; Pillow releases Python's lock


@dataclass
class Epochs:
    """A plan of the training views of a run: batch by batch, epoch by epoch.

    Attributes:
        rows_of: `rows_of(epoch) -> int32 [steps, batch]`; workers call it too, so it must be picklable.
        epochs: the number of epochs.
        draw: integers that, with epoch and example, decide the crops; None for evaluation views.
    """

    rows_of: Callable[[int], np.ndarray]
    epochs: int
    draw: tuple[int, ...] | None
    _known: tuple = field(default=(None, None), repr=False)

    def __post_init__(self):
        self.steps, self.size = self._rows(0).shape

    def __len__(self) -> int:
        return self.epochs * self.steps

    def __call__(self, step: int) -> tuple[np.ndarray, tuple[int, ...] | None]:
        """Return (rows, draw) of the batch of a step."""
        epoch, at = divmod(step, self.steps)
        return self._rows(epoch)[at], None if self.draw is None else (*self.draw, epoch)

    def _rows(self, epoch):
        known = self._known  # read once, since threads share it
        if known[0] != epoch:
            self._known = known = epoch, self.rows_of(epoch)
        return known[1]


@dataclass
class Once:
    """A plan of the evaluation views of some rows: each once, in blocks.

    Attributes:
        rows: int [examples].
        size: examples in a block; the last block may be shorter.
    """

    rows: np.ndarray
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def __call__(self, block: int) -> tuple[np.ndarray, None]:
        """Return (rows, None) of a block."""
        return self.rows[block * self.size : (block + 1) * self.size], None


class _Pieces:
    """The random-access source that Grain reads: the pieces of all blocks of a plan, each with the seconds its decoding took."""

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


def stream(images: Images, plan: Epochs | Once, start: int = 0) -> Generator[tuple[np.ndarray, float], None, None]:
    """Yield (x uint8 [block, size, size, 3], seconds) for the blocks of a plan; close it to end the workers.

    The seconds are the time that decoding took, summed over all workers.

    Args:
        images: the images to read.
        plan: says which images come in which order and in which views.
        start: the block to begin at.

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
            # Grain's iterators sit in reference cycles that hold shared memory; Python would warn at exit that it leaked.
            parts = iterator = None
            gc.collect()


def ahead(items: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Yield the items of a generator while a thread already makes the next one; the generator is closed at the end."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        try:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item
        finally:
            thread.submit(items.close)


def check_workers(count: int) -> None:
    """Raise `BadInput` for a negative number of worker processes."""
    if count < 0:
        raise BadInput(f"--workers={count}: expected a whole number of at least 0; pass 0 to decode in this process")


def check_installed() -> None:
    """Raise `BadInput` where Grain is not installed; it is not imported, which takes a while."""
    there = sys.modules["grain"] if "grain" in sys.modules else importlib.util.find_spec("grain")
    if there is None:
        raise _lacking()


def _lacking():
    return BadInput(
        "--dataset: expected the package grain, which reads a set of images of many sizes in a stream;"
        " pip install 'kd_jax[stream]', or pip install grain"
    )


def _grain():
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads its flags, which only absl's own main parses
    try:
        import grain
    except ImportError:
        raise _lacking() from None
    return grain


def _check_shared_memory(images):
    """Refuse where shared memory is too small: the system would kill workers without a message."""
    if not SHARED.is_dir():
        return
    each = (AHEAD + 2) * PIECE * images.size**2 * 3  # besides those ready, one is being made and one is in use
    free = shutil.disk_usage(SHARED).free
    if images.workers * each > free:
        raise BadInput(
            f"--workers={images.workers}: expected at most {free // each}, for they need {each / 1e6:.0f} MB each of shared memory"
            f" and {SHARED} has {free / 1e6:.0f} MB free; pass fewer, or give a container more (docker run --shm-size=8g)"
        )


@contextmanager
def _signals_held_back():
    """Processes started inside ignore SIGINT and SIGTERM, which a batch system sends to all: the main process saves and stops."""
    resource_tracker.ensure_running()  # starting it later would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(index, count):
    """End this worker with the main process. Grain calls it in every worker."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
