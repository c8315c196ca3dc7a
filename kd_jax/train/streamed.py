"""Batches that come from disk: what takes the place of `epoch.Feed` where the images of a data set do not lie on the device.

The step, the views' standardisation, objectives, teacher and totals are those of `epoch`. A batch is decoded while the devices work
on the one before it; that it is there in time can be read off `StreamedFeed.speed`.
"""

import os
import time
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.data import loader
from kd_jax.train import devices as parallel
from kd_jax.train.epoch import Feed


class StreamedFeed:
    """Where the batches of a run come from; see `open_feed`.

    Attributes:
        key: of the run, on all devices.
        teacher: the frozen teacher's `Variables` on all devices; None for a run on one-hot labels.
    """

    def __init__(self, split, key, teacher, plan, devices):
        self.key, self.teacher = parallel.replicate((key, teacher), devices)
        self._split, self._plan, self._devices = split, plan, devices
        self._batches, self._next_step = None, None
        self._forget()

    def batch(self, step):
        """Return (x uint8 [devices, batch / devices, size, size, 3], y int32 [devices, batch / devices]) of a step, on the devices.

        Steps come in a row; after any other, as in a run that is resumed, reading begins anew at that step.
        """
        asked = time.monotonic()
        self._fresh = step != self._next_step
        if self._fresh:
            self.close()
            self._batches = loader.ahead(self._read(step))
        batch, busy, count = next(self._batches)
        jax.block_until_ready(batch)
        self._handed_out = time.monotonic()
        if not self._fresh:  # it waited for workers to start
            self._waited += self._handed_out - asked
            self._busy += busy
            self._count += count
        self._next_step = step + 1
        return batch

    def stepped(self):
        """Take down that the devices are done with the last batch."""
        if not self._fresh:  # it waited for the compiler
            self._in_steps += time.monotonic() - self._handed_out

    def _read(self, step):
        blocks = loader.stream(self._split.x, self._plan, step)
        try:
            for at, (x, busy) in enumerate(blocks, step):
                rows, _ = self._plan(at)
                yield parallel.split_batch((x, self._split.y[rows]), self._devices), busy, len(rows)
        finally:
            blocks.close()

    def evaluation_batches(self, size):
        """Yield (x, y, weights), [devices, size / devices, ...], on the devices: all examples once, then padding of weight 0."""
        return loader.ahead(self._padded(size))

    def _padded(self, size):
        blocks = loader.blocks(self._split.x, size)
        try:
            for number, x in enumerate(blocks):
                y = self._split.y[number * size : number * size + len(x)]
                batch = x, y, np.ones(len(x), np.float32)
                padded = [np.pad(part, [(0, size - len(x))] + [(0, 0)] * (part.ndim - 1)) for part in batch]
                yield parallel.split_batch(tuple(padded), self._devices)
        finally:
            blocks.close()

    def speed(self):
        """Return what was measured since this was last asked for, as keys of a line of `metrics.jsonl`; empty where nothing was.

        `input_examples_per_second` is what decoding gives while training runs beside it: examples, times those who decode, by the
        seconds that they were busy; no more of them count than there are cores. `step_examples_per_second` is what the steps would
        do if no batch had to be waited for. `input_wait` is the share of the time that the devices did wait. The first step after
        reading began is left out, with its workers to start and its step to compile.
        """
        found = {}
        if self._count and self._in_steps:
            decoders = min(self._split.x.workers or loader.THREADS, os.cpu_count() or 1)
            found = {
                "input_examples_per_second": self._count * decoders / self._busy,
                "step_examples_per_second": self._count / self._in_steps,
                "input_wait": self._waited / (self._waited + self._in_steps),
            }
        self._forget()
        return found

    def _forget(self):
        self._waited = self._in_steps = self._busy = 0.0
        self._count = 0

    def close(self):
        """End the threads and processes that read ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


@contextmanager
def open_feed(split, key, teacher=None, rows_of=None, *, epochs, augment, devices):
    """A `StreamedFeed`, whose workers end with the block.

    Args:
        split: a `data.Split` with `Images`.
        key: of the run; with epoch and example it decides the crops.
        teacher: the frozen teacher's `Variables`, or None.
        rows_of: `rows_of(epoch) -> int32 [steps, batch]`, which can be pickled; None for a feed that is only evaluated on.
        epochs: how many.
        augment: of the `Study`.
        devices: on which batches are split.
    """
    draw = None if augment == "none" else tuple(int(word) for word in np.ravel(jax.random.key_data(key)))
    plan = loader.Epochs(rows_of, epochs, draw) if rows_of is not None else None
    feed = StreamedFeed(split, key, teacher, plan, devices)
    try:
        yield feed
    finally:
        feed.close()


def on_batch(train_on):
    """`epoch.make_train_on`'s function as `devices.make_advance_streamed` takes it."""

    def train_on_batch(state, totals, x, y, key, teacher):
        return train_on(state, totals, Feed(x, y, key, teacher), jnp.arange(len(y)))

    return train_on_batch


def on_evaluation_batch(evaluate_on):
    """`epoch.make_evaluate_on`'s function as `devices.make_evaluate_streamed` takes it."""

    def evaluate_on_batch(variables, x, y, weights):
        return evaluate_on(variables, Feed(x, y, None, None), jnp.arange(len(y)), weights)

    return evaluate_on_batch
