"""The runs of a study on some devices: their compiled functions, shared by all runs of a kind, and their frozen teachers."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax import models, stopping
from kd_jax.errors import BadInput, Damaged
from kd_jax.errors import Diverged as Diverged
from kd_jax.errors import Stopped as Stopped
from kd_jax.plan import LOGITS, TEACHER, Run
from kd_jax.stopping import Request
from kd_jax.studies import pretrained, teachers
from kd_jax.studies import run as run_stage
from kd_jax.studies.prepare import Prepared
from kd_jax.train import engine, hosts, table
from kd_jax.train.loop import Sink
from kd_jax.train.teachers import Constants, Table
from kd_jax.workdir import checkpoints, packing, records

ASKING_SECONDS = 5.0  # between two lines about a table that is being filled


def in_table_of(prepared: Prepared, run: Run, devices: Sequence[Any]) -> bool:
    """Return whether the answers of a run's teacher are computed once, for all views."""
    study, dataset, training = prepared.study, prepared.dataset, run.training
    if not run.taught_by or run.taught_by == LOGITS or hosts.count() > 1:
        return False
    students = sum(other.teacher_name == run.teacher_name for other in prepared.plan.runs if other.taught_by)
    itemsize = np.dtype(models.PARAMETER_DTYPES[study.networks.precision]).itemsize
    asked, loss = study.distillation.teacher_table, study.distillation_loss

    platform = devices[0].platform

    def has_room(size):
        return platform != "cpu" and table.fits(size, devices[0])

    return table.is_chosen(asked, dataset, training, loss, students, itemsize, has_room, platform, len(devices))


def _raise(run: Run, error: Diverged) -> None:
    raise error


class Runner:
    """Trains the runs of a study; what is compiled for one serves all runs of its kind."""

    def __init__(
        self,
        prepared: Prepared,
        devices: Sequence[Any],
        progress: Any,
        stop: Request,
        sinks: Callable[[Run], Sequence[Sink]],
        writing: Any,
    ):
        self._prepared, self._devices, self._progress, self._stop = prepared, devices, progress, stop
        self._sinks = sinks
        self._writing = writing  # held while the record, which is one for all, is changed
        self._engines: dict[Any, engine.Engine] = {}
        self._table: Table | None = None
        self._asked: tuple[str, Table] | None = None  # the teacher whose answers were computed last, and they

    def train(self, runs: Sequence[Run], diverged: Callable[[Run, Diverged], None]) -> None:
        """Train a run, or several of one kind at the same time, to the end, with frozen teachers, whose hashes must stay the same.

        Args:
            runs: the runs.
            diverged: `diverged(run, error)` is told of a run that diverges, and may raise what ends the others.
        """
        of_runs: list[tuple[Run, Constants | None]] = []
        for run in runs:
            try:
                of_runs.append((run, self._teacher(run) if run.taught_by else None))
            except Diverged as error:  # of its teacher, trained anew
                diverged(run, error)
        if not of_runs:
            return
        runs, teachers_of = zip(*of_runs, strict=True)
        first, workdir, at_once = runs[0], self._prepared.workdir, len(runs) if len(runs) > 1 else 0
        compiles = self._kind(first, at_once) not in self._engines
        if compiles:
            self._progress.note(f"compiling {first.arm.name}", waits=True)
        if at_once:
            engine_of = functools.partial(self.engine, first)
            run_stage.train_seeds(workdir, runs, engine_of, teachers_of, self._progress, self._stop, diverged, compiles)
        else:
            (teacher,) = teachers_of
            taught = self._looked_up(first, teacher) if isinstance(teacher, models.Variables) else teacher
            sinks = self._sinks(first)
            try:
                run_stage.train(workdir, first, self.engine(first), taught, self._progress, self._stop, sinks, compiles)
            except Diverged as error:
                diverged(first, error)
        for run, teacher in of_runs:
            if run.taught_by:
                teachers.check_digest(run.teacher_name, teacher, self._prepared.record["teacher_hash"])

    def _kind(self, run: Run, at_once: int) -> tuple[Any, ...]:
        return run.arm.model, bool(run.taught_by), run.training, at_once

    def engine(self, run: Run, at_once: int = 0) -> engine.Engine:
        """Return the compiled functions of a run's kind, for one run or so many lanes."""
        study, dataset = self._prepared.study, self._prepared.dataset
        key = self._kind(run, at_once)
        if key not in self._engines:
            start = pretrained.make(self._prepared.record["init_from"], run.arm.model, dataset)
            in_table = in_table_of(self._prepared, run, self._devices)
            taught = engine.Teacher.of(study, self._prepared.plan.given, in_table) if run.taught_by else None
            networks = study.networks
            self._engines[key] = engine.build(
                networks.precision,
                run.training,
                dataset,
                run.arm.model,
                self._devices,
                taught,
                start,
                networks.batch_norm,
                at_once,
            )
        return self._engines[key]

    def _looked_up(self, run: Run, teacher: models.Variables) -> Constants:
        """The answers of a teacher to all views where its students look them up, else the teacher."""
        answers = self.engine(run).answers
        if answers is None:
            return teacher
        if self._asked is None or self._asked[0] != run.teacher_name:
            self._asked = None  # two tables need not fit
            found = answers(teacher, self._asks(run.teacher_name))
            self._asked = run.teacher_name, found
            views = self._prepared.dataset.view_count(run.training.augment)
            with self._writing:
                tables = self._prepared.record.setdefault("teacher_tables", {})
                tables[run.teacher_name] = {"views": views, "sha256": packing.tree_digest(found)}
                records.write_study(self._prepared.workdir, self._prepared.record)
        return self._asked[1]

    def _asks(self, name: str) -> Callable[[int, int], None]:
        """What is told of a table's progress: shown every few seconds, and stopped where the program is."""
        shown = 0.0

        def told(number, count):
            nonlocal shown
            stopping.check()
            if time.monotonic() - shown > ASKING_SECONDS:
                shown = time.monotonic()
                self._progress.note(f"answers of {name} to view {number + 1} of {count}", waits=True)

        return told

    def _teacher(self, run: Run) -> Constants:
        """The frozen teacher's variables, or its answers. Their hash enters the study's record, or must agree with it.

        A damaged checkpoint of the teacher is moved aside and trained anew; one that was copied is named.
        """
        record, name = self._prepared.record, run.teacher_name
        folder = records.run_folder(self._prepared.workdir, str(run.taught_by))
        variables = self._answers() if run.taught_by == LOGITS else self._network(run, folder)
        with self._writing:
            if name not in record["teacher_hash"]:
                found = packing.tree_digest(variables)
                records.update_study(
                    self._prepared.workdir,
                    record,
                    lambda there: there | {"teacher_hash": {name: found} | there["teacher_hash"]},
                )
        teachers.check_digest(name, variables, record["teacher_hash"])
        return variables

    def _network(self, run: Run, folder: Path) -> models.Variables:
        try:
            return teachers.load(folder, run.teacher_step)
        except Damaged as error:
            own = self._prepared.plan.run(TEACHER, run.seed)
            if own.source is not None:
                fix = "remove that run's folder and run the study's command again, which copies it anew"
                raise BadInput(f"{error}; expected a whole checkpoint of the teacher; {fix}") from None
            with records.locked_run(self._prepared.workdir, own.name):
                if run.teacher_step in records.kept_steps(folder):
                    checkpoints.set_aside(folder / "trajectory", run.teacher_step)
                self.train([own], _raise)
            return teachers.load(folder, run.teacher_step)

    def _answers(self) -> Table:
        """The answers to the training set, in no wider type than the network's."""
        if self._table is None:
            prepared = self._prepared
            found = teachers.logits_of(prepared.workdir, prepared.dataset, prepared.record)["train"]
            widest = np.dtype(models.PARAMETER_DTYPES[prepared.study.networks.precision])
            narrow = (
                None if part is None else part.astype(min(part.dtype, widest)) for part in (found.values, found.rest)
            )
            values, rest = narrow
            self._table = Table(values, found.indices, rest)
        return self._table
