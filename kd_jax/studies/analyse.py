"""Analyse what training left in a work folder."""

import json
import shutil
from pathlib import Path
from typing import Any

from kd_jax import config, data
from kd_jax.cli.progress import Progress
from kd_jax.config import BadInput, Study
from kd_jax.data import Dataset
from kd_jax.plan import make_plan
from kd_jax.studies import analyses
from kd_jax.studies.analyses import learning
from kd_jax.studies.report import write_report
from kd_jax.studies.train import _given, set_precision
from kd_jax.workdir import records


def open_study(workdir, data_dir=None, workers=0):
    """Return (record, study, dataset) of a work folder.

    Args:
        workdir: the work folder.
        data_dir: where the data lies now; by default where it lay when the study was trained.
        workers: as `train`.

    Raises:
        BadInput: when there is no study, or the data is absent or not the same.
    """
    record = records.read_study(workdir)
    study = config.from_json(record["config"])
    set_precision(study)
    dataset = data.load(study, data_dir or record["data"]["data_dir"], _given(workdir, record), workers)
    if dataset.fingerprint != record["data"]["fingerprint"]:
        raise BadInput(
            f"{dataset.name}: fingerprint {dataset.fingerprint[:12]}, expected {record['data']['fingerprint'][:12]},"
            " the data of this study; name its --data_dir"
        )
    return record, study, dataset


def is_analysed(workdir, study):
    """Whether the work folder's analysis is of just this study: its seeds, and what it asks to be looked at."""
    path = Path(workdir) / "analysis" / "summary.json"
    if not (path.is_file() and path.with_name("report.html").is_file()):
        return False
    return config.from_json(json.loads(path.read_text())["study"]["config"]) == study


def analyze(workdir, data_dir=None, look=None, workers=0):
    """Recompute every number and figure of a work folder from its checkpoints, and return `summary.json`'s contents.

    Args:
        workdir: the work folder.
        data_dir: as `open_study`.
        look: {name: value} of `config.LOOKED_AT`, instead of the study's own.
        workers: as `train`.

    Raises:
        BadInput: as `open_study`; or when a run is not finished, or another program works in the folder.
    """
    record, study, dataset = open_study(workdir, data_dir, workers)
    study = study.replaced(**look or {})
    with records.locked(workdir):
        return _analyze(workdir, record | {"config": config.to_json(study)}, study, dataset)


def _analyze(workdir: str | Path, record: dict[str, Any], study: Study, dataset: Dataset) -> dict[str, Any]:
    """Ask every question of `analyses.ANALYSES`, write `analysis/`, and return the contents of `summary.json`.

    Args:
        workdir: the work folder, which is locked.
        record: contents of `study.json`, with the configuration that is analysed.
        study: that configuration.
        dataset: its data.

    Raises:
        BadInput: when a run is not finished, or a question cannot be asked.
    """
    workdir = Path(workdir)
    plan = make_plan(study, len(dataset.train.y))
    unfinished = [
        run.name
        for run in plan.runs
        if run.length.total_steps not in records.kept_steps(records.run_folder(workdir, run.name))
    ]
    if unfinished:
        raise BadInput(f"{workdir}: expected finished runs, {unfinished[0]} is not; run the study's command again")
    analyses.check(study, dataset)
    trained = analyses.Trained(workdir, study, plan, dataset)
    # Made beside the old one, which is replaced only by a whole new one.
    folder = workdir / ".analysis"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with Progress(sum(analysis.passes(trained) for analysis in analyses.ANALYSES)) as progress:

        def advance(label: str) -> None:
            progress.advance(1, "analysing", label)

        measured = [analysis.measure(trained, folder, advance) for analysis in analyses.ANALYSES]
    estimates = [estimate for of_analysis in measured for estimate in of_analysis]
    unlearned = learning.unlearned(workdir, folder, study, record["steps_per_epoch"])
    verdicts, warnings = [], [run.sentence() for run in unlearned]
    for analysis in analyses.ANALYSES:
        verdicts += analysis.conclude(trained, estimates, unlearned)
        warnings += analysis.warn(trained, folder)
    found = {
        "estimates": [estimate.to_json() for estimate in estimates],
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "warnings": warnings,
        "unlearned": [run.to_json() for run in unlearned],
        "study": record,
    }
    records.write_json(folder / "summary.json", found)
    write_report(workdir, folder)
    final = workdir / "analysis"
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    return found
