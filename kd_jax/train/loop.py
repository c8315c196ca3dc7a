"""One training run from its first step, or from where it was stopped, to its last. Never touches the disk: sinks do."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.data.dataset import Feed
from kd_jax.errors import Diverged, Stopped
from kd_jax.models import Variables
from kd_jax.plan import Run
from kd_jax.stopping import Request
from kd_jax.train import hosts
from kd_jax.train.engine import Engine
from kd_jax.train.epoch import Constants
from kd_jax.train.state import TrainState
from kd_jax.train.teachers import Constants as TeacherConstants


class Segment(NamedTuple):
    """Some steps of a run that have just been taken, all of one epoch.

    Attributes:
        step: the steps taken since the start of the run.
        steps: the steps of this segment.
        epoch: their epoch, from 0.
        totals: sums over the steps of the epoch so far: loss, correct answers, count of examples.
        pace: how fast the segment went by, for a line of progress; may be empty.
        line: the line of metrics of the epoch that this segment ends; None for other segments.
    """

    step: int
    steps: int
    epoch: int
    totals: dict[str, np.ndarray]
    pace: str
    line: dict[str, Any] | None


class Sink:
    """Something that a run reports to: progress, files, stores, whatever tracks an experiment. Each method may be left out."""

    def start(self, run: Run, step: int) -> None:
        """A run begins, or goes on after this many steps."""

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch has ended; this is its line of metrics."""

    def segment(self, segment: Segment) -> None:
        """Some steps have been taken; comes after `epoch` where they end one."""

    def keep(self, step: int, variables: Variables) -> None:
        """The network at a step of the trajectory, NumPy arrays; step 0 comes right after `start`.

        Where an average of the weights is kept, it comes with it, as a `train.state.Averaged`.
        """

    def wants_save(self) -> bool:
        """Return whether the whole state should be saved now. Asked once per segment; the word of any process counts."""
        return False

    def save(self, step: int, state: TrainState, totals: dict[str, np.ndarray]) -> None:
        """The whole state, and the sums over the steps of an unfinished epoch, NumPy arrays: the run can go on from them.

        Comes when a sink wants it, when the run is told to stop, and at its end.
        """

    def end(self, step: int) -> None:
        """The run has taken its last step."""


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        state: the state after the last step, on the devices.
        totals: sums over the steps of the last epoch; of none if the run had been finished before.
        line: the line of metrics of the last epoch; None if the run had been finished before.
    """

    state: TrainState
    totals: dict[str, np.ndarray]
    line: dict[str, Any] | None


class Pause(NamedTuple):
    """Where a run is between two segments.

    Attributes:
        step: the steps taken.
        epoch: the epoch of the last step, from 0.
        ends_epoch: whether that step was the last of its epoch.
        state: the state; valid until the next pause, for it is donated to the next segment.
        totals: sums over the steps of the epoch so far.
    """

    step: int
    epoch: int
    ends_epoch: bool
    state: TrainState
    totals: dict[str, jax.Array]


def train_run(
    engine: Engine,
    run: Run,
    teacher: TeacherConstants | None = None,
    sinks: Sequence[Sink] = (),
    stop: Request | None = None,
    restore: Callable[[Any], Any] | None = None,
) -> Outcome:
    """Train a run to its end.

    Args:
        engine: the compiled functions of this kind of run.
        run: the run to train.
        teacher: what the teacher reads, such as its frozen variables; None for a run on one-hot labels.
        sinks: what it reports to, in this order.
        stop: tells it to save and stop.
        restore: `restore((state, totals)) -> (state, totals)`, which returns what a sink saved of this run earlier, in the
            structure of its argument, or None if there is nothing. Without it the run begins at its first step.

    Raises:
        Stopped: the run was told to stop, and has saved its state.
        Diverged: the training loss, a weight, or at the end the loss on another split is not finite.
    """
    init_key, _ = _keys(run.seed, run.arm.init)
    _, view_key = _keys(run.seed, run.arm.order)
    data, length = engine.dataset, run.length
    rows_of = data.rows_of(run.seed, run.arm.order, run.training.batch_size)
    fresh = engine.start(init_key), engine.zero()
    restored = restore(jax.device_get(fresh)) if restore else None
    state, totals = engine.replicate(restored) if restored is not None else fresh
    first = int(state.step)  # the steps that were taken before the clock of this epoch began
    trajectory = set(length.checkpoint_steps)
    line = None
    with engine.feed(rows_of, view_key) as feed:
        constants = engine.constants(view_key, teacher)
        tests = {name: (split, engine.replicate(data.resident(split))) for name, split in list(data.splits.items())[1:]}
        for sink in sinks:
            sink.start(run, first)
        if first in trajectory:
            _keep(sinks, run, first, state)
        began = paused = time.monotonic()
        step = first
        for pause in segments(state, totals, engine, constants, feed, length.total_steps, sorted(trajectory)):
            state, totals, line = pause.state, jax.device_get(pause.totals), None
            pace = feed.pace(step, pause.step, time.monotonic() - paused)
            if pause.ends_epoch:
                seconds = time.monotonic() - began
                line = _line(engine, run, pause, totals, tests, seconds, pause.step - first)
                line |= feed.metrics(pause.epoch, line["examples_per_second"])
                for sink in sinks:
                    sink.epoch(line)
                began, first = time.monotonic(), pause.step
            for sink in sinks:
                sink.segment(Segment(pause.step, pause.step - step, pause.epoch, totals, pace, line))
            step = pause.step
            if step in trajectory:
                _keep(sinks, run, step, state)
            wanted = any(sink.wants_save() for sink in sinks)
            if stop is not None and stop.requested:
                wanted = stop.is_saving = True
            if hosts.agree(wanted) or step == length.total_steps:
                # After the end of an epoch the sums start again from nothing.
                _save(sinks, step, state, engine.zero() if pause.ends_epoch else totals)
                if hosts.agree(stop is not None and stop.requested):
                    raise Stopped(f"{run.name} saved at step {step} of {length.total_steps}")
            paused = time.monotonic()
    for sink in sinks:
        sink.end(step)
    return Outcome(state, totals, line)


def segments(
    state: TrainState,
    totals: dict[str, jax.Array],
    engine: Engine,
    constants: Constants,
    feed: Feed,
    total_steps: int,
    stops: Sequence[int],
) -> Iterator[Pause]:
    """Yield a pause after each segment until the last step.

    Args:
        state: the state to start from, possibly in the middle of an epoch.
        totals: sums over the steps of that epoch so far.
        engine: its `advance`, `zero` and `segment_steps` are used.
        constants, feed: what the steps read, as `engine` makes them.
        total_steps: the length of the run.
        stops: steps at which a pause must fall, rising; others fall at the ends of epochs and after `engine.segment_steps` steps.
    """
    step, pauses = int(state.step), np.asarray(stops)
    while step < total_steps:
        epoch = step // feed.steps_per_epoch
        epoch_end = (epoch + 1) * feed.steps_per_epoch
        end = min([epoch_end, total_steps, step + engine.segment_steps, *pauses[pauses > step][:1].tolist()])
        state, totals = engine.advance(state, totals, constants, feed, step, end)
        jax.block_until_ready(totals)
        step = end
        yield Pause(step, epoch, step == epoch_end, state, totals)
        if step == epoch_end:
            totals = engine.zero()


def _keys(seed, stream):
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), stream))


def _keep(sinks, run, step, state):
    """Hand the network to the sinks, if its numbers are finite.

    The loss of a step is that before its update, so after the last step nothing else would show that the update went wrong.
    """
    variables = jax.device_get(state.kept)
    if not _is_finite(variables):
        raise Diverged(
            f"{run.name}: its weights are no finite numbers at step {step}; lower --learning_rate or raise --warmup"
        )
    for sink in sinks:
        sink.keep(step, variables)


def _is_finite(variables):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def _save(sinks, step, state, totals):
    if sinks:
        state, totals = jax.device_get((state, totals))
        for sink in sinks:
            sink.save(step, state, totals)


def _line(engine, run, pause, totals, tests, seconds, steps):
    """A line of metrics. `seconds` is the time of the last `steps`, which after a restart are not the whole epoch."""
    line = {
        "epoch": pause.epoch + 1,
        "step": pause.step,
        "learning_rate": engine.learning_rate(pause.step - 1),
        "train_loss": float(totals["loss"] / totals["count"]),
        "train_accuracy": float(totals["correct"] / totals["count"]),
    }
    if not np.isfinite(line["train_loss"]):
        raise Diverged(
            f"{run.name}: the loss is {line['train_loss']} in epoch {line['epoch']}; lower --learning_rate or raise --warmup"
        )
    networks = {"": pause.state.variables} | ({"_average": pause.state.average} if pause.state.average else {})
    for name, (split, resident) in tests.items():
        for suffix, variables in networks.items():
            sums = engine.evaluate(variables, split, resident)
            line[f"{name}_loss{suffix}"] = float(sums["loss"] / sums["count"])
            line[f"{name}_accuracy{suffix}"] = float(sums["correct"] / sums["count"])
    unheard = [name for name in tests if not np.isfinite(line[f"{name}_loss"])]
    # What a run answers on its way may recover. Weights that are not finite are told of where they are kept.
    if unheard and pause.epoch + 1 == run.training.epochs and _is_finite(jax.device_get(pause.state.kept)):
        raise Diverged(
            f"{run.name}: its answers to the {unheard[0]} examples are no finite numbers after its last epoch; lower"
            " --learning_rate or raise --warmup"
        )
    line["seconds"] = seconds
    line["examples_per_second"] = steps * run.training.batch_size / seconds
    if engine.kd_weight is not None:
        line["kd_weight"] = engine.kd_weight(pause.step - 1)
    return line
