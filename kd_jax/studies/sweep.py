"""A sweep: one study for every value of some of its fields, in one work folder, with one table; equal runs are trained once.

WORKDIR/
  sweep.json           the variants: folder, what was typed, the full configuration
  FIELD=VALUE,.../     a work folder for each; a run that another variant has already is a relative link to it
  analysis/            of all variants: summary.json, table, figures, report.html
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kd_jax import data, stopping
from kd_jax.config import SCHEMA, Study, to_json, versions
from kd_jax.data import Dataset
from kd_jax.errors import BadInput, Diverged
from kd_jax.plan import Variant
from kd_jax.studies import arithmetic, batch, trackers
from kd_jax.studies.analyse import analyze as analyze_study
from kd_jax.studies.analyse import analyze_prepared, is_analysed
from kd_jax.studies.lanes import SeedsAtOnce
from kd_jax.studies.prepare import Prepared, prepare
from kd_jax.studies.progress import Quiet
from kd_jax.studies.report import write_report as write_study_report
from kd_jax.studies.sweep_summary import is_summarised, left_out, summarise
from kd_jax.studies.train import OnNan, train_prepared
from kd_jax.train import hosts
from kd_jax.workdir import records


@dataclass(frozen=True)
class Sweep:
    """A sweep that is to be trained, and where.

    Attributes:
        name: the name of the study, for `sweep.json`.
        studies: every variant with its study.
        workdir: the sweep's work folder; made if absent.
        find: `find(dataset)` returns the folder in which a data set is looked for.
        devices: the devices that `train.devices.select` returned.
        workers, load, command: as for `studies.train.train`.
    """

    name: str
    studies: Sequence[tuple[Variant, Study]]
    workdir: Path | str
    find: Callable[[str], Path | str]
    devices: Sequence[Any]
    workers: int = 0
    load: Callable[..., Dataset] = data.load
    command: str = ""

    def prepared(self, variant: Variant, study: Study) -> Prepared:
        """Return a variant that can be trained, after every check; the variants can share their runs. Writes nothing.

        Raises:
            BadInput: for a variant that cannot be trained.
        """
        also = sorted({study.distillation.teacher_step for _, study in self.studies} - {0})
        folder, data_dir = Path(self.workdir) / variant.folder, self.find(study.data.dataset)
        return prepare(self.name, study, folder, data_dir, self.devices, also, self.workers, self.load, self.command)

    def planned(self) -> dict[str, batch.Planned]:
        """Return {folder of a variant: its runs}, after every check. Writes nothing; processes as for `run`.

        Raises:
            BadInput: for a variant that cannot be trained, or a work folder that holds something else.
        """
        hosts.told(lambda: _check(Path(self.workdir), self.name))
        return {variant.folder: batch.Planned.of(self.prepared(variant, study)) for variant, study in self.studies}


def run(
    sweep: Sweep,
    progress: Callable[..., Any] = Quiet,
    log: Sequence[str] = (),
    on_nan: OnNan = "stop",
    seeds_at_once: SeedsAtOnce = "auto",
    variant_figures: bool = False,
) -> tuple[int, dict[str, Any] | None]:
    """Train and analyse every variant that is not finished, then what the variants say together.

    Where several processes train together, all call it, with the same arguments. Process 0 reads and writes the work folder, and
    analyses when all variants are trained and the others have left.

    Args:
        sweep: the sweep.
        progress: as for `studies.train.train`.
        log: the trackers to report to, keys of `trackers.TRACKERS`.
        on_nan, seeds_at_once: as for `studies.train.train_prepared`.
        variant_figures: as for `analyze`.

    Returns:
        The number of runs trained, and the contents of `summary.json`, or None where everything was done before, and in processes
        other than 0.

    Raises:
        BadInput: for a variant that cannot be trained, before anything is written.
        Stopped: as `studies.train.train`.
        Diverged: when every variant did. Of fewer, the rest is summarised, and `diverged` of the summary names them.
    """
    workdir = Path(sweep.workdir)
    hosts.told(lambda: _check(workdir, sweep.name))
    # What cannot be done is said now, not hours later; and a teacher that exists already has given its network.
    studies = [(variant, sweep.prepared(variant, study).study) for variant, study in sweep.studies]
    sweep = replace(sweep, studies=studies)
    record = _record(sweep.name, studies)
    trained = analysed = 0
    diverged: dict[str, str] = {}
    alone = hosts.count() == 1

    def analyse(ready):
        if is_analysed(ready.workdir, ready.study, ready.record):
            return 0
        analyze_prepared(ready, progress, on_nan=on_nan, with_figures=variant_figures)
        return 1

    @contextmanager
    def unless_diverged(variant):
        try:
            yield
        except Diverged as error:  # the others have nothing to do with it
            diverged[variant.folder] = str(error)
            _say(f"{variant.folder}: {error}")

    with ExitStack() as held:
        with hosts.each():
            if hosts.leads():
                held.enter_context(records.locked(workdir))
                records.write_json(workdir / "sweep.json", record)
        for number, (variant, study) in enumerate(studies, 1):
            hosts.check_stop()
            _say(f"variant {number} of {len(studies)}: {variant.folder}")
            ready = sweep.prepared(variant, study)
            hosts.told(partial(_share, workdir, ready.workdir, ready.plan, ready.record))
            with unless_diverged(variant):
                sinks = trackers.sinks(log, ready)
                trained += train_prepared(ready, sweep.devices, progress, sinks, on_nan, seeds_at_once)
                analysed += analyse(ready) if alone else 0
        if not alone:
            hosts.leave()
            if not hosts.leads():
                return trained, None
            for variant, study in studies:
                stopping.check()
                if variant.folder not in diverged:
                    with unless_diverged(variant):
                        analysed += analyse(sweep.prepared(variant, study))
        if len(diverged) == len(studies):
            raise Diverged(f"every variant diverged; {next(iter(diverged.values()))}")
        if not analysed and not diverged and is_summarised(workdir, record):
            return trained, None
        return trained, summarise(workdir, record, diverged)


def run_one(
    sweep: Sweep,
    only: str,
    progress: Callable[..., Any] = Quiet,
    log: Sequence[str] = (),
    on_nan: OnNan = "stop",
) -> int:
    """Train one run of a sweep, while other programs may train others, and return 1, or 0 where it was finished already.

    Where several processes train it together, all call this, with the same arguments.

    Args:
        sweep: the sweep.
        only: VARIANT/RUN.
        progress, log, on_nan: as for `run`.

    Raises:
        BadInput: for a run that there is not, or whose teacher is not finished, or that another program trains.
        Stopped, Diverged: as `studies.train.train`.
    """
    workdir, variants = Path(sweep.workdir), sweep.planned()
    record = _record(sweep.name, [(variant, variants[variant.folder].plan.study) for variant, _ in sweep.studies])

    def chosen():
        return batch.chosen(batch.of_sweep(workdir, variants), only, batch.given_up(variants))

    def begun():
        job = chosen()
        with records.updating(workdir):
            if not is_sweep(workdir) or read(workdir) != record:
                records.write_json(workdir / "sweep.json", record)
            of_variant = variants[job.variant]
            _share(workdir, workdir / job.variant, of_variant.plan, of_variant.record)
        return job

    hosts.told(chosen)  # before anything is written
    with ExitStack() as held:
        with hosts.each():
            if hosts.leads():
                held.enter_context(records.locked(workdir, shared=True))
        job = hosts.told(begun)
        if job.done:
            return 0
        ready = next(sweep.prepared(*each) for each in sweep.studies if each[0].folder == job.variant)
        return train_prepared(ready, sweep.devices, progress, trackers.sinks(log, ready), on_nan, only=job.run.name)


def analyze(
    workdir: Path | str,
    data_dir: Path | str | None = None,
    look: dict[str, Any] | None = None,
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
    progress: Callable[..., Any] = Quiet,
    dataset: str = "",
    variant_figures: bool = False,
) -> dict[str, Any]:
    """Recompute every variant's analysis, and what they say together, from the checkpoints; return `summary.json`'s contents.

    Args:
        workdir: the sweep's work folder.
        data_dir, look, workers, load, progress, dataset: as for `studies.analyse.analyze`.
        variant_figures: whether to draw the figures of every variant too; those that there are already are drawn anew in any case.
    """
    record = read(workdir)
    with records.locked(workdir):
        without = left_out(Path(workdir))
        for variant in record["variants"]:
            if variant["folder"] in without:
                continue
            stopping.check()
            _say(f"variant {variant['folder']}")
            folder = Path(workdir) / variant["folder"]
            analyze_study(folder, data_dir, look, workers, load, progress, dataset, variant_figures)
        return summarise(workdir, record)


def report(workdir: Path | str, variant_figures: bool = False) -> None:
    """Draw table, figures and page of every variant and of the sweep again from the analyses that are there.

    Args:
        workdir: the sweep's work folder.
        variant_figures: as for `analyze`.

    Raises:
        BadInput: when one is not.
    """
    record = read(workdir)
    for variant in record["variants"]:
        if variant["folder"] in left_out(Path(workdir)):
            continue
        folder = Path(workdir) / variant["folder"]
        write_study_report(folder, with_figures=variant_figures or (folder / "analysis" / "figures").is_dir())
    summarise(workdir, record)


def is_sweep(workdir: Path | str) -> bool:
    """Whether the folder holds a sweep."""
    return os.path.lexists(Path(workdir) / "sweep.json")  # whatever it is, `read` says what is wrong with it


def read(workdir: Path | str) -> dict[str, Any]:
    """Return the contents of `sweep.json`."""
    fix = "restore the file or start in another --workdir"
    record = records.read_json(Path(workdir) / "sweep.json", "the record of a sweep", fix)
    variants = record.get("variants")
    if not isinstance(variants, list) or not isinstance(record.get("study"), str):
        raise BadInput(f"{workdir}/sweep.json: expected the record of a sweep, found no study and variants; {fix}")
    for number, variant in enumerate(variants):
        where = f"{workdir}/sweep.json: variant {number}"
        if not isinstance(variant, dict) or not all(isinstance(variant.get(key), dict) for key in ("values", "config")):
            raise BadInput(f"{where}: expected a folder, values and config; {fix}")
        records.check_name(variant.get("folder"), f"{where}: folder", fix)
        if (Path(workdir) / variant["folder"]).is_symlink():
            raise BadInput(
                f"{workdir}/{variant['folder']}: expected a folder, this is a link; put the folder itself there"
            )
    return record


def _record(name, studies):
    """The contents of `sweep.json`."""
    variants = [_described(variant, study) for variant, study in studies]
    return {"schema": SCHEMA, "study": name, "variants": variants, "versions": versions()}


def _described(variant, study):
    return {"folder": variant.folder, "values": variant.values, "config": to_json(study)}


def _say(line):
    if hosts.leads():
        print(line, file=sys.stderr, flush=True)


def _check(workdir, name):
    """Raise `BadInput` where a sweep of that name cannot be kept."""
    if (workdir / "study.json").is_file():
        raise BadInput(
            f"--workdir={workdir}: holds a single study, expected a sweep or nothing; pass another --workdir"
        )
    if is_sweep(workdir) and (there := read(workdir)["study"]) != name:
        raise BadInput(f"--workdir={workdir}: holds a sweep of {there}, expected one of {name}; pass another --workdir")


def _share(workdir, folder, plan, record):
    """Put links in place of the runs that another variant has finished, in the same arithmetic."""
    elsewhere = batch.runs_by_key(workdir, record.get("arithmetic", arithmetic.described()))
    for run in plan.runs:
        own = records.run_folder(folder, run.name)
        if own.is_symlink() and not own.exists():
            own.unlink()  # the variant that had it is gone
        there = batch.finished(elsewhere, run)
        if there and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(os.path.relpath(there, own.parent), own)
