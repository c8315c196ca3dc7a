"""Train every run of a study that is not finished. A run is finished when its trajectory has every step that was asked for."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from kd_jax import data
from kd_jax.config import Study
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.errors import Diverged as Diverged
from kd_jax.errors import Stopped as Stopped
from kd_jax.plan import Run
from kd_jax.provenance import now
from kd_jax.report import about
from kd_jax.stopping import stop_requests
from kd_jax.studies import lanes, side_by_side, teachers
from kd_jax.studies import run as run_stage
from kd_jax.studies.analyses import directions
from kd_jax.studies.footprint import check_space, of_runs
from kd_jax.studies.lanes import SeedsAtOnce
from kd_jax.studies.prepare import Prepared, check_workdir, continued, prepare, too_few_seeds
from kd_jax.studies.progress import Quiet
from kd_jax.studies.runner import Runner, in_table_of
from kd_jax.train import devices as parallel
from kd_jax.train import hosts
from kd_jax.train.loop import Sink
from kd_jax.workdir import records

OnNan = Literal["stop", "skip_seed"]


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
        runner = Runner(prepared, devices, Quiet(0), stop, sinks, contextlib.nullcontext())
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
        all_seeds = 1 if only else len({run.seed for run in here_trained})
        if seeds_at_once != "off" and all_seeds > 1:
            heard[todo[0].name] = sinks(todo[0])  # asked for once alone: a tracker may open files
        is_heard = any(heard.values())
        if heard and not is_heard:
            batches = [run.training.batch_size for run in here_trained]
            of_groups = side_by_side.groups(all_seeds, devices, batches)[: max(seeds, 1)]

        def no_lane(run):
            if is_heard or not heard:
                return "as asked for" if seeds_at_once == "off" else "trackers hear of one run after the other"
            in_table = in_table_of(prepared, run, of_groups[0])
            return lanes.obstacle(prepared, run, seeds_at_once == "on", devices[0].platform, in_table)

        has_part = len(of_groups) == 1 and len(of_groups[0]) < len(devices)
        how = [side_by_side.sentence(seeds, of_groups)] if seeds > 1 or has_part else []
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
                    runner = Runner(prepared, on, bar, told, sinks_of, writing)

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
                    with parallel.working_on(of_groups[0]):
                        trainer(of_groups[0], stop)(todo)
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
