"""Runs as jobs: which of a study or a sweep are to do, and in which order. For schedulers, which start a program for each."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd_jax.config import from_json
from kd_jax.errors import BadInput
from kd_jax.plan import GivenTeacher, Plan, Run, run_key, run_name
from kd_jax.plan import arms as arms_of
from kd_jax.studies import networks
from kd_jax.studies.prepare import Prepared
from kd_jax.studies.train import missing
from kd_jax.workdir import records


class Planned(NamedTuple):
    """The runs of a study, without its data.

    Attributes:
        workdir, plan, record: as in `studies.prepare.Prepared`.
    """

    workdir: Path
    plan: Plan
    record: Mapping[str, Any]

    @classmethod
    def of(cls, prepared: Prepared) -> "Planned":
        """Return the runs of a study that is ready."""
        return cls(prepared.workdir, prepared.plan, prepared.record)


class Job(NamedTuple):
    """A run, as a program of its own trains it.

    Attributes:
        name: what `--only` takes: the name of the run, in a sweep VARIANT/RUN.
        variant: the variant's folder; empty in a study that is no sweep.
        run: the run.
        done: whether it has every step that was asked for, or another variant has a run that is the same.
        trained_as: the name of the job that trains it: its own, or that of an equal run of an earlier variant.
        waits_for: the name of the job that trains its teacher; empty where that is finished or there is none.
    """

    name: str
    variant: str
    run: Run
    done: bool
    trained_as: str
    waits_for: str

    @property
    def is_to_do(self) -> bool:
        """Whether a program is to be started for it, now or when its teacher is finished."""
        return not self.done and self.trained_as == self.name


def of_study(prepared: Prepared) -> list[Job]:
    """Return every run of a study that is trained there: first those that can start, then those that wait for their teachers."""
    return _jobs({"": Planned.of(prepared)}, {})


def of_sweep(workdir: Path | str, variants: Mapping[str, Planned]) -> list[Job]:
    """Return every run of a sweep, in the order of `of_study`. What is equal is trained once, by the first variant that has it.

    Args:
        workdir: the sweep's work folder.
        variants: {folder of a variant: its runs}.
    """
    return _jobs(variants, runs_by_key(workdir))


def to_do(jobs: Sequence[Job], ready: bool = False) -> list[str]:
    """Return the names of the jobs that are to do; with `ready` without those that wait for a teacher."""
    return [job.name for job in jobs if job.is_to_do and not (ready and job.waits_for)]


def given_up(variants: Mapping[str, Planned | Prepared]) -> dict[tuple[str, str], str]:
    """Return {(folder of a variant, end of the names of the runs of a seed that was given up): why}."""
    return {
        (variant, f"-seed{seed}"): skipped["why"]
        for variant, of in variants.items()
        for seed, skipped in of.record.get("skipped", {}).items()
    }


def chosen(jobs: Sequence[Job], only: str, given_up: Mapping[tuple[str, str], str] | None = None) -> Job:
    """Return the job of a name.

    Args:
        jobs: all jobs of the study or sweep.
        only: the name.
        given_up: what the function `given_up` returns.

    Raises:
        BadInput: where there is none, or another is to be done first.
    """
    job = next((job for job in jobs if job.name == only), None)
    for (variant, seed), why in (given_up or {}).items():
        if only.rpartition("/")[0] == variant and only.endswith(seed):
            raise BadInput(f"--only={only}: expected a seed that was not given up; leave it out ({why})")
    if job is None:
        close = difflib.get_close_matches(only, [job.name for job in jobs], n=1)
        hint = f"did you mean {close[0]}?" if close else f"such as {jobs[0].name};" if jobs else ""
        raise BadInput(f"--only={only}: expected the name of a run of this study, {hint} --list prints those to do")
    if job.done:
        return job
    if job.trained_as != only:
        said = "the same run in another variant, which is trained once"
        raise BadInput(f"--only={only}: is {said}; do --only={job.trained_as} instead")
    if job.waits_for:
        raise BadInput(f"--only={only}: expected its teacher to be finished; do --only={job.waits_for} first")
    return job


def runs_by_key(workdir: Path | str, arithmetic: Mapping[str, Any] | None = None) -> dict[str, list[Path]]:
    """Return {`plan.Run.key`: the folders of such runs} of the variants of a sweep, links left out, finished or not.

    Args:
        workdir: the sweep's work folder.
        arithmetic: JAX's options that decide numbers, to leave out variants that were trained under others, whose runs of the same
            key have other bits; None for all.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(workdir).glob("*/study.json")):
        record = records.read_study(path.parent)
        if arithmetic is not None and record.get("arithmetic", arithmetic) != arithmetic:
            continue
        study, given = from_json(record["config"]), GivenTeacher.of(record)
        sources = networks.sources(record.get("networks", {}))
        for arm in arms_of(study, given):
            for seed in study.seed_range():
                there = records.run_folder(path.parent, run_name(arm, seed))
                if there.is_dir() and not there.is_symlink():
                    found.setdefault(run_key(study, arm, seed, given, sources), []).append(there)
    return found


def finished(elsewhere: Mapping[str, Sequence[Path]], run: Run) -> Path | None:
    """Return a folder of an equal run that holds all steps that are asked of this one.

    A teacher may be finished and not have been kept where another variant stops it.

    Args:
        elsewhere: as `runs_by_key` returns it.
        run: the run.
    """
    whole = (at for at in elsewhere.get(run.key, ()) if not records.missing_steps(at, run.length.checkpoint_steps))
    return next(whole, None)


def _jobs(variants: Mapping[str, Planned], elsewhere: Mapping[str, Sequence[Path]]) -> list[Job]:
    found: dict[str, Job] = {}
    for variant, planned in variants.items():
        for run in planned.plan.runs:
            if run.source is not None:
                continue
            name = f"{variant}/{run.name}" if variant else run.name
            own = records.run_folder(planned.workdir, run.name)
            done = not missing(planned.workdir, run, planned.record) or (
                not own.exists() and finished(elsewhere, run) is not None
            )
            trained_as = name if done or own.is_dir() else _equal(found, run) or name
            teacher = found.get(f"{variant}/{run.taught_by}" if variant else str(run.taught_by))
            waits_for = teacher.trained_as if teacher and not teacher.done else ""
            found[name] = Job(name, variant, run, done, trained_as, waits_for)
    return sorted(found.values(), key=lambda job: bool(job.waits_for))


def _equal(found: Mapping[str, Job], run: Run) -> str:
    """The name of an earlier job that trains just this run, with every step that is asked of it; empty where there is none."""
    wanted = set(run.length.checkpoint_steps)
    same = (job for job in found.values() if job.is_to_do and job.run.key == run.key)
    return next((job.name for job in same if wanted <= {*job.run.length.checkpoint_steps}), "")
