"""A run from a state to its last step, in segments short enough to watch and to stop."""

import time
from typing import NamedTuple

import jax
import numpy as np

from kd_jax.train.state import TrainState

SEGMENT_SECONDS = 1.0  # about how long the program stays away; what comes out does not depend on it


class Pause(NamedTuple):
    """Where a run is between two segments.

    Attributes:
        step: steps taken.
        epoch: the epoch of the last step, from 0.
        ends_epoch: whether that step was the epoch's last.
        state: the `TrainState`; valid until the next pause, for it is donated to the next segment.
        totals: sums over the epoch's steps so far.
    """

    step: int
    epoch: int
    ends_epoch: bool
    state: TrainState
    totals: dict


def fit(state, totals, advance, feed, rows_of, epochs, stops, zero):
    """Yield a `Pause` after each segment until the last epoch is done.

    Args:
        state: where to start; also in the middle of an epoch.
        totals: sums over that epoch's steps so far.
        advance: of `devices.make_advance`.
        feed: data, key and teacher.
        rows_of: `rows_of(epoch) -> int32 [steps, batch]`.
        epochs: how many.
        stops: steps at which a pause must fall, rising.
        zero: `zero() -> totals` with which an epoch starts.
    """
    step, epoch, rows, pace = int(state.step), -1, None, 1
    steps_per_epoch = len(rows_of(0))
    stops = np.asarray(stops)
    while step < epochs * steps_per_epoch:
        if step // steps_per_epoch != epoch:
            epoch = step // steps_per_epoch
            rows = rows_of(epoch)
        first = epoch * steps_per_epoch
        end = min([first + steps_per_epoch, step + pace, *stops[stops > step][:1].tolist()])
        began = time.monotonic()
        state, totals = advance(state, totals, feed, rows, step - first, end - first)
        jax.block_until_ready(totals)
        if time.monotonic() - began < SEGMENT_SECONDS / 2:
            pace = min(2 * pace, steps_per_epoch)
        elif time.monotonic() - began > 2 * SEGMENT_SECONDS:
            pace = max(pace // 2, 1)
        step = end
        ends_epoch = step == first + steps_per_epoch
        yield Pause(step, epoch, ends_epoch, state, totals)
        if ends_epoch:
            totals = zero()
