"""Train every run of a study that is not finished. A run is finished when its trajectory has every step that was asked for."""

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kd_jax import data, models, stopping
from kd_jax.config import Study
from kd_jax.data import Dataset
from kd_jax.errors import BadInput, Damaged
from kd_jax.errors import Diverged as Diverged
from kd_jax.errors import Stopped as Stopped
from kd_jax.plan import LOGITS, TEACHER, Run
from kd_jax.provenance import now
from kd_jax.report import about
from kd_jax.stopping import Request, stop_requests
from kd_jax.studies import lanes, pretrained, side_by_side, teachers
from kd_jax.studies import run as run_stage
from kd_jax.studies.analyses import directions
from kd_jax.studies.footprint import check_space, of_runs
from kd_jax.studies.lanes import SeedsAtOnce
from kd_jax.studies.prepare import Prepared, check_workdir, continued, prepare, too_few_seeds
from kd_jax.studies.progress import Quiet
from kd_jax.train import devices as parallel
from kd_jax.train import engine, hosts, table
from kd_jax.train.loop import Sink
from kd_jax.train.teachers import Constants, Table
from kd_jax.workdir import checkpoints, records

OnNan = Literal["stop", "skip_seed"]

ASKING_SECONDS = 5.0  # between two lines about a table that is being filled


def train(
    name: str,
    study: Study,
    workdir: Path | str,
    data_dir: Path | str,
    devices: Sequence[Any],
    also: Iterable[int] = (),
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
    progress: Callable[..., Any] = Quiet,
    sinks: Callable[[Run], Sequence[Sink]] = lambda run: (),
    command: str = "",
    on_nan: OnNan = "stop",
) -> int:
    """Train every run of a study that is not finished yet.

    Args:
        name: the name of the study, for `study.json`.
        study: the configuration.
        workdir: the work folder; made if absent, resumed if it holds the same study.
        data_dir: where the data lies, as `data.load` takes it.
        devices: the devices that `train.devices.select` returned.
        also: steps at which the teachers are to be kept, besides those that the study asks for.
        workers: number of processes that decode a streamed set; 0 for this one.
        load: `data.load`, or a function like it that remembers what it has loaded.
        progress: `progress(total, done)` gives a context manager that counts steps; see `studies.progress`.
        sinks: `sinks(run)` gives what a run reports to besides its folder and the progress, such as a tracker of experiments.
        command: the command line of this program, for `study.json`.
        on_nan: what to do where a loss or a weight is not finite; see `train_prepared`.

    Returns:
        How many runs were trained or finished; 0 when all were finished already.

    Raises:
        BadInput: before anything is written.
        Stopped: told to stop, and saved.
        Diverged: a loss or a weight is not finite, with `on_nan="stop"`; or too few seeds remain.
    """
    prepared = prepare(name, study, workdir, data_dir, devices, also, workers, load, command)
    return train_prepared(prepared, devices, progress, sinks, on_nan)


def train_prepared(
    prepared: Prepared,
    devices: Sequence[Any],
    progress: Callable[..., Any] = Quiet,
    sinks: Callable[[Run], Sequence[Sink]] = lambda run: (),
    on_nan: OnNan = "stop",
    seeds_at_once: SeedsAtOnce = "auto",
    only: str = "",
) -> int:
    """Train what `prepare` has checked; see `train`.

    Where several processes train together, process 0 does so, and the others train with it what it trains.

    Args:
        prepared: the study.
        devices, progress, sinks: as for `train`.
        on_nan: where the loss or a weight of a run is not finite, `stop` raises `Diverged`. `skip_seed` gives the seed up: no arm
            of it is trained further or analysed, `skipped` in `study.json` names it, and the other seeds are trained. It stays
            given up in this work folder.
        seeds_at_once: whether several seeds are trained at the same time: where there are several devices, each on devices of its
            own, see `side_by_side`; on the same devices as one program, see `lanes`. With `sinks`, which expect to be told of one
            run after the other, they never are.
        only: the name of the one run to train, whose teacher is finished, while other programs may train others; empty for all that
            are not finished, of which other programs train none.
    """
    if hosts.leads():
        with hosts.leading():
            return _train(prepared, devices, progress, sinks, on_nan, seeds_at_once, only)
    with stop_requests() as stop:
        runner = _Runner(prepared, devices, Quiet(0), stop, sinks, contextlib.nullcontext())
        return run_stage.follow(prepared.plan, runner.engine, stop)


def _train(
    prepared: Prepared,
    devices: Sequence[Any],
    progress: Callable[..., Any],
    sinks: Callable[[Run], Sequence[Sink]],
    on_nan: OnNan,
    seeds_at_once: SeedsAtOnce,
    only: str,
) -> int:
    workdir, plan, record = prepared.workdir, prepared.plan, prepared.record
    here_trained = [run for run in plan.runs if run.source is None and only in ("", run.name)]
    lacking = [(run, len(steps)) for run in here_trained if (steps := missing(workdir, run, record))]
    footprint = of_runs(prepared, lacking)
    check_space(workdir, footprint)
    _check_seeds(prepared)
    with ExitStack() as held:
        held.enter_context(records.locked(workdir, shared=bool(only)))
        stop = held.enter_context(stop_requests())
        if only:
            held.enter_context(records.locked_run(workdir, only))
        here, todo = _begin(prepared, here_trained, only)
        if not todo:
            return 0
        said = [*about.data(record), *about.teacher(record), *about.controls(record), *about.skipped(record)]
        seeds = len({run.seed for run in todo} - {int(seed) for seed in record.get("skipped", {})})
        of_groups = [list(devices)]
        heard: dict[str, Sequence[Sink]] = {}
        if seeds_at_once != "off" and seeds > 1:
            heard[todo[0].name] = sinks(todo[0])  # asked for once alone: a tracker may open files
        is_heard = any(heard.values())
        if heard and not is_heard:
            of_groups = side_by_side.groups(seeds, devices, [run.training.batch_size for run in todo])

        def no_lane(run):
            if is_heard or not heard:
                return "as asked for" if seeds_at_once == "off" else "trackers hear of one run after the other"
            in_table = _in_table(prepared, run, of_groups[0])
            return lanes.obstacle(prepared, run, seeds_at_once == "on", devices[0].platform, in_table)

        how = [side_by_side.sentence(seeds, of_groups)] if seeds > 1 else []
        if seeds > 1 and (seeds_at_once == "on" or not all(map(no_lane, todo))):
            how.append(lanes.sentence(todo, no_lane))
        for line in [*said, *directions.left_out(plan, prepared.dataset), footprint, *how]:
            print(line, file=sys.stderr)
        total = todo[0].length.total_steps if only else plan.total_steps
        done = total - sum(run.length.total_steps for run in todo)
        ended: dict[str, Any] = {}
        try:
            with progress(total, done) as bar:
                together = len(of_groups) > 1
                writing = threading.Lock() if together else contextlib.nullcontext()
                bar = side_by_side.Locked(bar) if together else bar

                def sinks_of(run):
                    return heard.pop(run.name, ()) or sinks(run)

                def trainer(on, told):
                    runner = _Runner(prepared, on, bar, told, sinks_of, writing)

                    def diverged(run, error):
                        if on_nan == "stop":
                            raise error
                        with writing:
                            give_up(prepared, run.seed, run.name, str(error))

                    def train_all(runs):
                        for batch in lanes.batches(runs, lambda run: not no_lane(run)):
                            if told.requested:
                                raise Stopped("told to")
                            given_up = [run for run in batch if str(run.seed) in record.get("skipped", {})]
                            for run in given_up:
                                bar.skip(run.length.total_steps)
                            if going := [run for run in batch if run not in given_up]:
                                runner.train(going, diverged)

                    return train_all

                if together:
                    side_by_side.train(todo, of_groups, trainer, stop)
                else:
                    trainer(devices, stop)(todo)
            ended["peak_memory"] = parallel.peak_memory(devices)
        finally:
            records.update_study(workdir, record, lambda there: _ended(there, here) | ended)
    return len(todo)


def _begin(prepared: Prepared, here_trained: Sequence[Run], only: str) -> tuple[dict[str, Any], list[Run]]:
    """Enter this program in the study's record, with what the study brings along, and return (its entry, the runs to train).

    The work folder may have been begun, or gone on with, by another program since the study was prepared.
    """
    workdir, study, record = prepared.workdir, prepared.study, prepared.record
    here = record["history"][-1]
    if only:
        here["only"] = only
    with records.updating(workdir):
        there = check_workdir(workdir, record["study"], study)
        if there is not None:
            record.update(continued(record | {"history": [here]}, there))
        if prepared.teacher is not None:
            teachers.bring(workdir, prepared.plan, prepared.dataset, prepared.teacher, record)
        todo = [run for run in here_trained if missing(workdir, run, record)]
        if not todo:
            record["history"].pop()  # this program trains nothing
        if prepared.dataset.tokenizer is not None:
            if there is not None:
                _check_tokenizer(workdir, prepared.dataset.tokenizer)
            records.write_tokenizer(workdir, prepared.dataset.tokenizer)
        records.write_study(workdir, record)
    return here, todo


def _check_tokenizer(workdir: Path, tokenizer: str) -> None:
    """Refuse to go on with a study whose texts have other tokens."""
    there = records.read_tokenizer(workdir)
    if there is not None and there != tokenizer:
        raise BadInput(
            f"--workdir={workdir}: another program has begun it with another tokenizer; give the same command again"
        )


def _ended(record: dict[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """A record in which an entry of the history has ended."""
    history = [entry | {"ended": now()} if entry == here else entry for entry in record["history"]]
    return record | {"history": history}


def give_up(prepared: Prepared, seed: int, run: str, why: str) -> None:
    """Write down that a seed is given up, and say so; raise `Diverged` where too few remain.

    Args:
        prepared: the study.
        seed: the seed.
        run: the name of the run that diverged.
        why: how, in words.
    """
    found = {str(seed): {"run": run, "why": why}}
    records.update_study(
        prepared.workdir, prepared.record, lambda there: there | {"skipped": there.get("skipped", {}) | found}
    )
    print(f"seed {seed} is given up: {why}", file=sys.stderr, flush=True)
    _check_seeds(prepared)


def _check_seeds(prepared: Prepared) -> None:
    if obstacle := too_few_seeds(prepared):
        raise Diverged(f"{prepared.workdir}: {obstacle}")


def missing(workdir: Path | str, run: Run, record: Mapping[str, Any]) -> list[int]:
    """Return the steps that were asked of a run and that its trajectory lacks, rising; steps that were pruned are not missed.

    Args:
        workdir: the work folder.
        run: the run.
        record: contents of `study.json`.
    """
    wanted = set(run.length.checkpoint_steps) - records.pruned_steps(record, run.name)
    return records.missing_steps(records.run_folder(workdir, run.name), wanted)


def _raise(run: Run, error: Diverged) -> None:
    raise error


def _in_table(prepared: Prepared, run: Run, devices: Sequence[Any]) -> bool:
    """Whether the answers of a run's teacher are computed once, for all views."""
    study, dataset, training = prepared.study, prepared.dataset, run.training
    if not run.taught_by or run.taught_by == LOGITS or hosts.count() > 1:
        return False
    students = sum(other.teacher_name == run.teacher_name for other in prepared.plan.runs if other.taught_by)
    itemsize = np.dtype(models.PARAMETER_DTYPES[study.networks.precision]).itemsize
    asked, loss = study.distillation.teacher_table, study.distillation_loss

    def has_room(size):
        return devices[0].platform != "cpu" and table.fits(size, devices[0])

    return table.is_chosen(asked, dataset, training, loss, students, itemsize, has_room, len(devices))


class _Runner:
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
            in_table = _in_table(self._prepared, run, self._devices)
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
                tables[run.teacher_name] = {"views": views, "sha256": checkpoints.tree_digest(found)}
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
                found = checkpoints.tree_digest(variables)
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
