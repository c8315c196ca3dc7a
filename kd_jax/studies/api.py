"""A study from Python: run it on data that lies in memory or on disk, analyse it again, look at what came out.

These are the functions that `kd_jax` offers under its own name.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kd_jax import data
from kd_jax.config import Study
from kd_jax.data import Published
from kd_jax.plan import Run
from kd_jax.studies import analyse
from kd_jax.studies import cost as costs
from kd_jax.studies import export as exports
from kd_jax.studies.arithmetic import set_precision
from kd_jax.studies.prepare import Prepared, prepare
from kd_jax.studies.prepare import open_study as open_prepared
from kd_jax.studies.progress import Progress, Quiet
from kd_jax.studies.results import Results
from kd_jax.studies.train import OnNan, train_prepared
from kd_jax.train import compiled, devices
from kd_jax.train.loop import Sink
from kd_jax.workdir import remote


def run(
    study: Study,
    workdir: Path | str,
    data: Published | None = None,
    *,
    name: str = "study",
    data_dir: Path | str | None = None,
    platform: str = "auto",
    workers: int = 0,
    progress: bool | Callable[..., Any] = False,
    sinks: Callable[[Run], Sequence[Sink]] = lambda run: (),
    on_nan: OnNan = "stop",
) -> Results:
    """Train every run of a study that is not finished, analyse the study, write its report, and return what came out.

    The same call again resumes it, or returns at once.

    Args:
        study: the configuration.
        workdir: the work folder; made if absent, resumed if it holds the same study. Of the address of an object store, a text such
            as gs://bucket/folder, the results lie in a copy, which stays until the program ends.
        data: examples in memory, such as `kd_jax.data.from_arrays` returns; by default those that `study.data.dataset` names. The
            work folder then holds no data: pass them again to `analyze` and `open_study`, which check that they are the same.
        name: the name of the study in `study.json` and on the page.
        data_dir: the folder of prepared TFDS sets; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        platform: `cpu`, `gpu`, `tpu`, or `auto` for the best there is; all local devices of it share each batch.
        workers: the number of processes that decode a streamed set; 0 for this one.
        progress: whether to show how far it is; or `progress(total, done)`, which returns a context manager that counts steps as
            `studies.progress.Progress` does.
        sinks: `sinks(run)` returns what a run reports to besides its folder; see `train.loop.Sink`.
        on_nan: `stop`, or `skip_seed` to give up the seeds whose loss or weights become NaN or infinite, and go on with the others.

    Raises:
        BadInput: for a study that cannot be done, before anything is written.
        Stopped: the program was told to stop, and has saved; call again to go on.
        Diverged: a loss is not finite, and `on_nan` says to stop, or too few seeds remain.
    """
    with remote.here(workdir) as folder:
        load, study, place = _source(study, data, data_dir)
        set_precision(study.networks)
        chosen = devices.select(platform)
        compiled.keep()
        command = shlex.join([Path(sys.executable).name, *sys.argv])
        prepared = prepare(name, study, folder, place, chosen, workers=workers, load=load, command=command)
        shown = _progress(progress)
        trained = train_prepared(prepared, chosen, shown, sinks, on_nan)
        if trained or not analyse.is_analysed(folder, prepared.study, prepared.record):
            analyse.analyze_prepared(prepared, shown, partial(costs.measure, prepared, chosen[0]), on_nan)
        return Results.of(folder)


def analyze(
    workdir: Path | str,
    data: Published | None = None,
    *,
    data_dir: Path | str | None = None,
    workers: int = 0,
    progress: bool | Callable[..., Any] = False,
    **look: Any,
) -> Results:
    """Compute every number and figure of a work folder again from its checkpoints, and return what came out.

    Args:
        workdir: the work folder.
        data: the examples in memory with which the study was run, if it was.
        data_dir: the folder in which the data lies now; by default where it lay when the study was trained.
        workers, progress: as for `run`.
        look: fields of `config.Look` in place of the study's own, such as `pairs=((0, 8),)`.

    Raises:
        BadInput: when there is no finished study, or its data is absent or not the same.
    """
    with remote.here(workdir) as folder:
        load = _loader(data)
        analyse.analyze(folder, data_dir, look, workers, load, _progress(progress))
        return Results.of(folder)


def open_study(
    workdir: Path | str,
    data_dir: Path | str | None = None,
    workers: int = 0,
    data: Published | None = None,
) -> Prepared:
    """Return the configuration, the plan and the data of a work folder; arguments and errors as for `analyze`."""
    return open_prepared(workdir, data_dir, workers, _loader(data))


def export_run(
    workdir: Path | str,
    run: str,
    form: str = "safetensors",
    data: Published | None = None,
    *,
    step: int | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
) -> Path:
    """Write a network of a study in a form that other programs open, with a card beside it, and return the folder.

    Args:
        workdir: the work folder.
        run: the name of the run, such as `student-seed0`.
        form: `safetensors`, the weights; `hf`, a RoBERTa for transformers; `stablehlo`, a program for JAX alone.
        data: the examples in memory with which the study was run, if it was.
        step: the step of the run's trajectory; its last by default.
        out: the folder to write, which must not be there; by default `export/RUN-FORM` in the work folder.
        data_dir: as for `analyze`.

    Raises:
        BadInput: as `studies.export.export`.
    """
    return exports.export(workdir, run, form, step, out, data_dir, load=_loader(data))


def _progress(asked: bool | Callable[..., Any]) -> Callable[..., Any]:
    return asked if callable(asked) else Progress if asked else Quiet


def _source(study: Study, given: Published | None, data_dir: Path | str | None) -> tuple[Any, Study, Path | str]:
    """(load, study, data_dir) for `prepare`: a study of data in memory is recorded as such."""
    if given is None:
        return data.load, study, data_dir or data.folder_of(study.data.dataset)
    return _loader(given), study.replaced(dataset=data.in_memory_name(given)), ""


def _loader(given: Published | None) -> Any:
    return data.load if given is None else data.loading(given)
