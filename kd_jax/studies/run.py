"""One run of a study and its folder: the sinks that write it, and being told to stop on the way."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.errors import Diverged, Stopped
from kd_jax.models import Variables
from kd_jax.plan import Plan, Run
from kd_jax.stopping import Request
from kd_jax.studies.progress import Quiet
from kd_jax.train import hosts
from kd_jax.train.engine import Engine
from kd_jax.train.loop import Segment, Sink, train_run, train_runs
from kd_jax.train.state import TrainState
from kd_jax.train.teachers import Constants as TeacherConstants
from kd_jax.workdir import checkpoints, metrics_file, records

RESUME_SECONDS = 30.0  # a crash loses about this much work at most


class ProgressLine(Sink):
    """Shows how a run goes.

    Args:
        progress: counts the steps of all runs of the study.
        counts: whether its steps count; those of a repair are taken for the second time.
        compiles: whether the first steps wait for the compiler.
    """

    def __init__(self, progress: Quiet, counts: bool = True, compiles: bool = False):
        self._progress, self._counts, self._compiles = progress, counts, compiles

    def start(self, run: Run, step: int) -> None:
        """Count the steps that were taken earlier."""
        self._run = run
        self._progress.skip(step if self._counts else 0)
        if not self._compiles:  # else what is shown now stays true until the first steps are taken
            self._progress.advance(0, run.name, f"epoch {step // run.length.steps_per_epoch}/{run.training.epochs}")

    def segment(self, segment: Segment) -> None:
        """Count a segment's steps, and show the loss and accuracy of its epoch."""
        totals, line = segment.totals, segment.line
        detail = f"epoch {segment.epoch + 1}/{self._run.training.epochs}"
        detail += f" loss {totals['loss'] / totals['count']:.3f} accuracy {totals['correct'] / totals['count']:.3f}"
        if line is not None:
            detail += f" test {line['test_accuracy']:.3f}"
            if "input_wait" in line:
                rates = line["input_examples_per_second"], line["step_examples_per_second"]
                detail += " input {:.0f}/s, steps {:.0f}/s".format(*rates)
        is_last = segment.step == self._run.length.total_steps
        steps = segment.steps if self._counts else 0
        self._progress.advance(steps, self._run.name, detail + segment.pace, always=is_last)


class MetricsFile(Sink):
    """Writes `metrics.jsonl`.

    Args:
        folder: the folder of the run.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def start(self, run: Run, step: int) -> None:
        """Drop the lines after the step from which the run goes on, for it will write them again."""
        metrics_file.rewind(self._folder, step)

    def epoch(self, line: dict[str, Any]) -> None:
        """Add a line."""
        metrics_file.append(self._folder, line)


class TrajectoryStore(Sink):
    """Keeps the network at the steps of the run's trajectory.

    Args:
        store: the trajectory of the run, open for writing.
    """

    def __init__(self, store: checkpoints.Checkpoints):
        self._store = store

    def keep(self, step: int, variables: Variables) -> None:
        """Keep the network as it is at this step."""
        self._store.save(step, variables)


class ResumeStore(Sink):
    """Keeps the newest whole states, from which a run goes on after it was stopped or killed.

    Args:
        store: the resume store of the run.
        trajectory: the trajectory of the run, open for writing: a state counts once all steps behind it are on the disk.
    """

    def __init__(self, store: checkpoints.Checkpoints, trajectory: checkpoints.Checkpoints):
        self._store, self._trajectory = store, trajectory

    def start(self, run: Run, step: int) -> None:
        """Start the clock."""
        self._saved = time.monotonic()

    def wants_save(self) -> bool:
        """Return whether the last save is longer ago than `RESUME_SECONDS`."""
        return time.monotonic() - self._saved > RESUME_SECONDS

    def save(self, step: int, state: TrainState, totals: dict[str, np.ndarray]) -> None:
        """Keep the whole state."""
        self._trajectory.wait()
        self._store.save(step, (state, totals))
        self._saved = time.monotonic()


def train(
    workdir: str | Path,
    run: Run,
    engine: Engine,
    teacher: TeacherConstants | None,
    progress: Quiet,
    stop: Request,
    sinks: Sequence[Sink] = (),
    compiles: bool = False,
) -> None:
    """Train a run until its trajectory has every step that was asked for.

    It goes on from its newest whole state. Steps that are missing before that state, because a checkpoint was damaged or a crash
    fell between two saves, are trained again first, from the newest whole state before them; the bits are the same.

    Args:
        workdir: the work folder of the study.
        run: the run to train.
        engine: the compiled functions of this kind of run.
        teacher: what the teacher reads, such as its frozen variables; None for a run on one-hot labels.
        progress: counts the steps of all runs of the study; see `studies.progress`.
        stop: tells the run to save and stop.
        sinks: what the run reports to besides its folder and the progress.
        compiles: whether the engine has not been used yet, so that its first steps wait for the compiler.

    Raises:
        Stopped: the run was told to stop, and has saved its state.
        Diverged: the training loss is not finite.
    """
    with ExitStack() as held:
        own, resume = _opened(held, workdir, run, engine, teacher, progress, stop, compiles)
        _train_together(engine, run, teacher, [*own, *sinks], stop, resume.load_newest_like)


def train_seeds(
    workdir: str | Path,
    runs: Sequence[Run],
    engine_of: Callable[[int], Engine],
    teachers: Sequence[TeacherConstants | None],
    progress: Quiet,
    stop: Request,
    diverged: Callable[[Run, Diverged], None],
    compiles: bool = False,
) -> None:
    """Train runs of one kind and length at the same time, each to where `train` trains it.

    Runs that go on from the same step are lanes of one program; what was saved of the others is at other steps.

    Args:
        workdir: the work folder of the study.
        runs: the runs to train, at least two.
        engine_of: `engine_of(lanes)` returns the compiled functions of this kind of run, as `train.engine.build`.
        teachers: what the teacher of each run reads, as for `train`.
        progress, stop, compiles: as for `train`.
        diverged: as for `train.loop.train_runs`.

    Raises:
        Stopped: the runs were told to stop, and have saved their states.
        Diverged: what `diverged` raises.
    """
    alone = engine_of(0)
    with ExitStack() as held:
        opened, at_step = [], {}
        for run, teacher in zip(runs, teachers, strict=True):
            try:
                opened.append(_opened(held, workdir, run, alone, teacher, progress, stop, compiles))
            except Diverged as error:  # in steps that it takes for the second time
                diverged(run, error)
                opened.append(None)
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), alone.shapes), jax.device_get(alone.zero())
        for number, stores in enumerate(opened):
            if stores is not None:
                state = stores[1].load_newest_like(like)
                at_step.setdefault(0 if state is None else int(state[0].step), []).append((number, state))
        for _, lanes in sorted(at_step.items()):
            numbers, states = zip(*lanes, strict=True)
            train_runs(
                engine_of(len(lanes)) if len(lanes) > 1 else alone,
                [runs[number] for number in numbers],
                [teachers[number] for number in numbers],
                [opened[number][0] for number in numbers],
                stop,
                [lambda tree, state=state: state for state in states],
                diverged,
            )


def _opened(held, workdir, run, engine, teacher, progress, stop, compiles):
    """Open the stores of a run until `held` is left, repair its trajectory, and return (its own sinks, the store of states)."""
    folder = records.run_folder(workdir, run.name)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = run.length.checkpoint_steps
    trajectory = held.enter_context(checkpoints.trajectory(folder, write=True))
    resume = held.enter_context(checkpoints.resume(folder))
    reached = max(resume.steps(), default=0)
    behind = [step for step in records.missing_steps(folder, wanted) if step < reached]
    if behind:
        _repair(folder, run, engine, teacher, progress, stop, trajectory, resume, behind)
    line = ProgressLine(progress, compiles=compiles)
    return [MetricsFile(folder), line, TrajectoryStore(trajectory), ResumeStore(resume, trajectory)], resume


def _repair(folder, run, engine, teacher, progress, stop, trajectory, resume, behind):
    """Train again up to the last of the steps that the trajectory lacks and that lie behind the newest state.

    Metrics and the resume store stay as they are. The states of the repair have a store of their own, so that it can be stopped.
    """
    part = replace(run, length=run.length._replace(total_steps=behind[-1]))
    with checkpoints.repair(folder) as states:

        def newest(tree):
            found = [store.load_newest_like(tree, at_most=behind[0]) for store in (states, resume)]
            return max(
                (state for state in found if state is not None), key=lambda state: int(state[0].step), default=None
            )

        own = [ProgressLine(progress, counts=False), TrajectoryStore(trajectory), ResumeStore(states, trajectory)]
        _train_together(engine, part, teacher, own, stop, newest)
    shutil.rmtree(folder / "repair")


class Work(NamedTuple):
    """What process 0 tells the others to train with it.

    Attributes:
        name: the run.
        total_steps: the step at which it ends this time.
        teacher: what the teacher reads, as NumPy arrays; None for a run on one-hot labels.
    """

    name: str
    total_steps: int
    teacher: TeacherConstants | None


def _train_together(engine, run, teacher, sinks, stop, restore):
    """Train a run to its end, with the other processes where there are any: what is on disk they are told."""
    hosts.told(lambda: Work(run.name, run.length.total_steps, teacher))
    with hosts.together():
        train_run(engine, run, teacher, sinks, stop, lambda tree: hosts.told(lambda: restore(tree)))


def follow(plan: Plan, engine_of: Callable[[Run], Engine], stop: Request) -> int:
    """Train what process 0 trains, on this process's devices, until that has no more to do; write nothing.

    Args:
        plan: the runs of the study.
        engine_of: returns the compiled functions of a run's kind.
        stop: tells all processes to save and stop.

    Returns:
        How often a run was trained.

    Raises:
        Exception: what ends process 0.
    """
    runs, trained = {run.name: run for run in plan.runs}, 0
    while (work := hosts.told(_nothing)) is not None:
        run = runs[work.name]
        run = replace(run, length=run.length._replace(total_steps=work.total_steps))
        # What all processes come to alike, process 0 has the last word on.
        with suppress(Diverged, Stopped), hosts.together():
            train_run(engine_of(run), run, work.teacher, (), stop, lambda tree: hosts.told(_nothing))
        trained += 1
    return trained


def _nothing() -> Any:
    """What a process has to tell that follows."""
