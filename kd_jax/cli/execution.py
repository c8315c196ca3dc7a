"""What the command of a study does once its flags are read: it lists runs, or trains them and reports."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kd_jax.cli import BEGAN
from kd_jax.cli.session import Session, TrainingSession, workdir_of
from kd_jax.config import Study
from kd_jax.errors import BadInput, Diverged
from kd_jax.plan import Variant
from kd_jax.workdir import records


def join(session: TrainingSession) -> None:
    """Join the other processes of a run that is distributed.

    Raises:
        BadInput: for flags that do not fit, or processes that do not come.
    """
    named = {"coordinator": session.coordinator or None, "num_processes": session.num_processes}
    named["process_id"] = session.process_id
    if not session.distributed:
        for flag, value in named.items():
            if value is not None:
                raise BadInput(f"--{flag}={value}: expected --distributed beside it; pass both, or leave it out")
        return
    if session.list:
        raise BadInput("--distributed: expected runs to train, found --list; leave one of the two out")
    from kd_jax.train import devices, hosts

    devices.only(session.platform)
    hosts.join(session.coordinator, session.num_processes, session.process_id, session.coordinator_timeout)


def train_and_report(name: str, session: TrainingSession, study: Study, command: str) -> None:
    """Train what a study lacks, analyse it and print what came out; or list its runs, or train one of them, as the session says.

    Args:
        name: the name of the study.
        session: where it runs.
        study: the configuration.
        command: the command line, for the record.
    """
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import batch, cost, trackers
    from kd_jax.studies.analyse import analyze_prepared, is_analysed
    from kd_jax.studies.arithmetic import set_precision
    from kd_jax.studies.prepare import prepare
    from kd_jax.studies.progress import Progress
    from kd_jax.studies.train import train_prepared
    from kd_jax.train import compiled, devices, hosts

    began = time.monotonic()
    workdir = workdir_of(session, name)
    trackers.check(session.log)
    set_precision(study.networks)
    chosen = devices.select(_platform(session))
    compiled.keep()
    data_dir = data.folder_of(study.data.dataset, session.data_dir, session.tiny_imagenet_dir)
    prepared = prepare(name, study, workdir, data_dir, chosen, workers=session.workers, command=command)
    if session.list:
        _print_lines(batch.to_do(batch.of_study(prepared), session.ready))
        return
    sinks, only = trackers.sinks(session.log, prepared), session.only
    shown = partial(Progress, since=BEGAN)
    if only:
        job = hosts.told(lambda: batch.chosen(batch.of_study(prepared), only, batch.given_up({"": prepared})))
        if not job.done:
            train_prepared(prepared, chosen, shown, sinks, session.on_nan, only=only)
        hosts.leave()
        if hosts.leads():
            _print_left(workdir, session, batch.of_study(prepared))
        return
    trained = train_prepared(prepared, chosen, shown, sinks, session.on_nan, session.seeds_at_once)
    hosts.leave()
    if not hosts.leads():
        return  # analysis is process 0's
    if not trained and is_analysed(workdir, prepared.study, prepared.record):
        if session.quiet:
            terminal.Screen(quiet=True).answer(records.read_summary(workdir))
        else:
            print(f"{workdir}: all is done already; kd-jax analyze {workdir} computes the numbers again")
        return
    measure = partial(cost.measure, prepared, devices.own(chosen)[0])
    terminal.study(workdir, analyze_prepared(prepared, Progress, measure, session.on_nan), session.quiet)
    _print_seconds(began, session)


def check_batch(session: TrainingSession) -> None:
    """Refuse flags for many runs that contradict each other."""
    if session.list and session.only:
        raise BadInput(f"--only={session.only}: expected --list or --only, found both; leave one out")
    if session.ready and not session.list:
        raise BadInput("--ready: expected --list beside it; add --list or leave --ready out")


def _platform(session: TrainingSession) -> str:
    """The platform to use: whoever lists runs, such as a login node, need not have the devices that train them."""
    return "cpu" if session.list else session.platform


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)


def _print_left(workdir: Path, session: TrainingSession, jobs: Sequence[Any]) -> None:
    """Say that the one run is finished, and what is left."""
    left = sum(job.is_to_do for job in jobs)
    then = f"{left} of {len(jobs)} are to do" if left else "so are all; the same command without --only analyses them"
    if not session.quiet:
        print(f"{workdir}: {session.only} is finished; {then}")


def _print_seconds(began: float, session: Session) -> None:
    if not session.quiet:
        print(f"{time.monotonic() - began:.0f} s in all")


def sweep_and_report(
    name: str, session: TrainingSession, studies: Sequence[tuple[Variant, Study]], command: str
) -> None:
    """Do for a sweep what `train_and_report` does for a study.

    Args:
        name, session, command: as there.
        studies: the variants and their configurations.

    Raises:
        Diverged: at the end, for variants that were left out.
    """
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import batch, sweep, trackers
    from kd_jax.studies.arithmetic import set_precision
    from kd_jax.studies.progress import Progress
    from kd_jax.train import compiled, devices, hosts

    began = time.monotonic()
    workdir = workdir_of(session, name)
    if len({study.networks.precision == "float64" for _, study in studies}) > 1:
        raise BadInput("--sweep=precision: expected float64 in a sweep of its own; sweep float32 and bfloat16 alone")
    if len({study.networks.matmul_precision for _, study in studies}) > 1:
        raise BadInput("--sweep=matmul_precision: expected one for the whole program; run a study for each")
    trackers.check(session.log)
    set_precision(studies[0][1].networks)
    chosen = devices.select(_platform(session))
    compiled.keep()

    def find(dataset):
        return data.folder_of(dataset, session.data_dir, session.tiny_imagenet_dir)

    load, log = data.Loader().load, session.log
    asked = sweep.Sweep(name, studies, workdir, find, chosen, session.workers, load, command)
    if session.list or session.only:
        if session.only:
            sweep.run_one(asked, session.only, Progress, log, session.on_nan)
            hosts.leave()
            if not hosts.leads():
                return
        jobs = batch.of_sweep(workdir, asked.planned())
        if session.list:
            _print_lines(batch.to_do(jobs, session.ready))
        else:
            _print_left(workdir, session, jobs)
        return
    settings = session.on_nan, session.seeds_at_once, session.variant_figures
    _, summary = sweep.run(asked, Progress, log, *settings)
    if not hosts.leads():
        return
    if summary is None:
        if session.quiet:
            terminal.Screen(quiet=True).answer(records.read_summary(workdir, of_sweep=True))
        else:
            print(f"{workdir}: all is done already; kd-jax analyze {workdir} computes the numbers again")
        return
    terminal.sweep(workdir, summary, session.quiet)
    _print_seconds(began, session)
    if diverged := summary["diverged"]:
        raise Diverged(f"{len(diverged)} of {len(studies)} variants diverged and are left out: {', '.join(diverged)}")
