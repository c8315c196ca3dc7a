"""Training runs from their first step, or from where they were stopped, to their last: one, or several of a kind as one program.

Never touches the disk: sinks do.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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
        """The network at a step of the trajectory, NumPy arrays.

        It comes before the next `epoch`, `segment` or `save`, when some more steps may have been taken: on an accelerator they are
        taken while it is copied from there. Where an average of the weights is kept, it comes with it, as a
        `train.state.Averaged`.
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
        state: the state after the last step, on the devices; of one of several runs NumPy arrays.
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

    State and totals have an axis of lanes where the engine has.
    """

    step: int
    epoch: int
    ends_epoch: bool
    state: TrainState
    totals: dict[str, jax.Array]


class _Lane:
    """One of the runs that are trained at the same time.

    Args:
        run: the run.
        sinks: what it reports to, until it diverges.
        totals: sums over the steps of the epoch so far.
    """

    def __init__(self, run: Run, sinks: Sequence[Sink], totals: dict[str, np.ndarray]):
        self.run, self.sinks, self.totals = run, sinks, totals
        self.line: dict[str, Any] | None = None
        self.wrong: Diverged | None = None  # once it has diverged; it is computed further, for nobody
        self.is_told = False  # whether that has been told


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
    (outcome,) = train_runs(engine, [run], [teacher], [sinks], stop, [restore])
    assert outcome is not None  # a run alone that diverges is an error
    return outcome


def train_runs(
    engine: Engine,
    runs: Sequence[Run],
    teachers: Sequence[TeacherConstants | None],
    sinks: Sequence[Sequence[Sink]],
    stop: Request | None = None,
    restores: Sequence[Callable[[Any], Any] | None] | None = None,
    diverged: Callable[[Run, Diverged], None] | None = None,
) -> list[Outcome | None]:
    """Train runs of one kind and length to their end, at the same time; a run alone is one of them.

    Args:
        engine: the compiled functions of this kind of run, with as many lanes as there are runs; or without, for one run.
        runs: the runs to train.
        teachers, sinks, restores: those of each run, as for `train_run`. All runs go on from the same step.
        stop: tells them to save and stop.
        diverged: `diverged(run, error)` is told of a run that diverges. It may return, and the other runs go on without it; or
            raise, and they are saved and stop. None to raise.

    Returns:
        What each run came to; None for a run that diverged.

    Raises:
        Stopped: the runs were told to stop, and have saved their states.
        Diverged: as `train_run`, where it is not told of otherwise.
    """
    of_all = list if engine.lanes else itemgetter(0)
    data, length = engine.dataset, runs[0].length
    init_keys = [_keys(run.seed, run.arm.init)[0] for run in runs]
    view_keys = [_keys(run.seed, run.arm.order)[1] for run in runs]
    orders = [data.rows_of(run.seed, run.arm.order, run.training.batch_size) for run in runs]
    state, totals = _restored(engine, (engine.start(*init_keys), engine.zero()), restores or [None])
    step = _step(state)
    first = step  # the steps that were taken before the clock of this epoch began
    lanes = [_Lane(*of_lane) for of_lane in zip(runs, sinks, engine.apart(totals), strict=True)]
    trajectory = set(length.checkpoint_steps)
    with engine.feed(of_all(orders), of_all(view_keys)) as feed:
        constants = engine.constants(of_all(view_keys), of_all(teachers))
        tests = {name: (split, engine.replicate(data.resident(split))) for name, split in list(data.splits.items())[1:]}
        for lane in lanes:
            for sink in lane.sinks:
                sink.start(lane.run, first)
        coming = _copied(first, state) if first in trajectory else None
        if step == length.total_steps:
            coming = _keep(engine, lanes, coming)
            _tell_of_diverged(lanes, diverged, partial(_save, engine, lanes, step, state, totals))
        began = paused = time.monotonic()
        for pause in segments(state, totals, engine, constants, feed, length.total_steps, sorted(trajectory)):
            state, totals = pause.state, pause.totals
            coming = _keep(engine, lanes, coming)
            pace = feed.pace(step, pause.step, time.monotonic() - paused)
            for lane, of_lane in zip(lanes, engine.apart(totals), strict=True):
                lane.totals, lane.line = of_lane, None
            if pause.ends_epoch:
                seconds = time.monotonic() - began
                _end_epoch(engine, lanes, pause, tests, seconds, pause.step - first, feed)
                began, first = time.monotonic(), pause.step
                totals = None  # the sums start again from nothing
            for lane in _going(lanes):
                segment = Segment(pause.step, pause.step - step, pause.epoch, lane.totals, pace, lane.line)
                for sink in lane.sinks:
                    sink.segment(segment)
            step = pause.step
            if step in trajectory:
                coming = _copied(step, state)
            wanted = any(sink.wants_save() for lane in _going(lanes) for sink in lane.sinks)
            if stop is not None and stop.requested:
                wanted = stop.is_saving = True
            saves = hosts.agree(wanted) or step == length.total_steps
            if saves or any(
                lane.wrong and not lane.is_told for lane in lanes
            ):  # what is saved is behind all that was kept
                coming = _keep(engine, lanes, coming)
            save = partial(_save, engine, lanes, step, state, totals)
            _tell_of_diverged(lanes, diverged, save)
            if not _going(lanes):
                break
            if saves:
                save()
                if hosts.agree(stop is not None and stop.requested):
                    names = ", ".join(lane.run.name for lane in _going(lanes))
                    raise Stopped(f"{names} saved at step {step} of {length.total_steps}")
            paused = time.monotonic()
    for lane in _going(lanes):
        for sink in lane.sinks:
            sink.end(step)
    states = engine.apart(state) if engine.lanes else [state]
    return [
        None if lane.wrong else Outcome(of_lane, lane.totals, lane.line)
        for lane, of_lane in zip(lanes, states, strict=True)
    ]


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
    step, pauses = _step(state), np.asarray(stops)
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


def _restored(engine, fresh, restores):
    """The states and totals that runs begin with, on the devices: those that were saved, where there are."""
    if not any(restores):
        return fresh
    begins = engine.apart(fresh)
    found = [restore(begin) if restore else None for restore, begin in zip(restores, begins, strict=True)]
    if all(one is None for one in found):
        return fresh
    return engine.replicate(
        engine.together([begin if one is None else one for one, begin in zip(found, begins, strict=True)])
    )


def _step(state):
    """The steps that a state has taken, alike in all lanes."""
    (step,) = set(np.ravel(state.step).tolist())
    return step


def _going(lanes):
    """The lanes that have not diverged."""
    return [lane for lane in lanes if lane.wrong is None]


def _tell_of_diverged(lanes, diverged, save):
    """Tell of runs that have just diverged; where that is an error, save the others first."""
    for lane in lanes:
        if lane.wrong is None or lane.is_told:
            continue
        lane.is_told = True
        try:
            if diverged is None:
                raise lane.wrong
            diverged(lane.run, lane.wrong)
        except Exception:
            save()
            raise


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


def _copied(step, state):
    """(Step, a copy of the networks that is on its way to the host's memory); the next steps overwrite those of the state."""
    copy = _copy(state.kept)
    for leaf in jax.tree.leaves(copy):
        leaf.copy_to_host_async()
    return step, copy


def _keep(engine, lanes, coming):
    """Hand networks that `_copied` returned to the sinks, if their numbers are finite; without any, do nothing. Returns None.

    The loss of a step is that before its update, so after the last step nothing else would show that the update went wrong.
    """
    if coming is None:
        return
    step, copy = coming
    for lane, variables in zip(lanes, engine.apart(copy), strict=True):
        if lane.wrong is None and not _is_finite(variables):
            lane.wrong = Diverged(
                f"{lane.run.name}: its weights are no finite numbers at step {step}; lower --learning_rate or raise --warmup"
            )
        for sink in lane.sinks if lane.wrong is None else ():
            sink.keep(step, variables)


def _is_finite(variables):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def _save(engine, lanes, step, state, totals):
    """Hand the whole states to the sinks; totals of None are sums over no steps."""
    totals = engine.zero() if totals is None else totals
    if any(lane.sinks for lane in _going(lanes)):
        for lane, whole in zip(lanes, engine.apart((state, totals)), strict=True):
            for sink in lane.sinks if lane.wrong is None else ():
                sink.save(step, *whole)


def _end_epoch(engine, lanes, pause, tests, seconds, steps, feed):
    """Make the line of metrics of every lane, and hand it to its sinks.

    `seconds` is the time of the last `steps`, which after a restart are not the whole epoch.
    """
    networks = {"": pause.state.variables} | ({"_average": pause.state.average} if pause.state.average else {})
    answers = [
        (name, suffix, engine.apart(engine.evaluate(variables, split, resident)))
        for name, (split, resident) in tests.items()
        for suffix, variables in networks.items()
    ]
    for number, lane in enumerate(lanes):
        if lane.wrong is not None:
            continue
        sums = [(name, suffix, of_lanes[number]) for name, suffix, of_lanes in answers]
        try:
            line = _line(engine, lane.run, pause, lane.totals, sums, number, seconds, steps)
        except Diverged as error:
            lane.wrong = error
            continue
        lane.line = line | feed.metrics(pause.epoch, line["examples_per_second"])
        for sink in lane.sinks:
            sink.epoch(lane.line)


def _line(engine, run, pause, totals, answers, lane, seconds, steps):
    """A line of metrics of one run, of which `answers` are the sums over other splits."""
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
    for name, suffix, sums in answers:
        line[f"{name}_loss{suffix}"] = float(sums["loss"] / sums["count"])
        line[f"{name}_accuracy{suffix}"] = float(sums["correct"] / sums["count"])
    unheard = [name for name, suffix, _ in answers if not suffix and not np.isfinite(line[f"{name}_loss"])]
    # What a run answers on its way may recover. Weights that are not finite are told of where they are kept.
    is_last = pause.epoch + 1 == run.training.epochs
    if unheard and is_last and _is_finite(engine.apart(pause.state.kept)[lane]):
        raise Diverged(
            f"{run.name}: its answers to the {unheard[0]} examples are no finite numbers after its last epoch; lower"
            " --learning_rate or raise --warmup"
        )
    line["seconds"] = seconds
    line["examples_per_second"] = steps * run.training.batch_size / seconds
    if engine.kd_weight is not None:
        line["kd_weight"] = engine.kd_weight(pause.step - 1)
    return line
