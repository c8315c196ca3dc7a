"""Analyse what training left in a work folder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_jax import config, data
from kd_jax.analysis import eigen, functions, summary, verdicts
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.extract import functions as extract_function
from kd_jax.extract import logits as extract_logits
from kd_jax.extract import weights as extract_weights
from kd_jax.plan import arms as arms_of
from kd_jax.plan import run_name
from kd_jax.report import write_report
from kd_jax.studies import findings
from kd_jax.studies.prepare import Prepared, open_study
from kd_jax.studies.progress import Quiet
from kd_jax.studies.train import missing
from kd_jax.workdir import records


def is_analysed(workdir, study):
    """Whether the work folder's analysis is of just this study: its seeds, and what it asks to be looked at."""
    path = Path(workdir) / "analysis" / "summary.json"
    if not (path.is_file() and path.with_name("report.html").is_file()):
        return False
    return config.from_json(json.loads(path.read_text(encoding="utf-8"))["study"]["config"]) == study


def analyze(
    workdir: Path | str,
    data_dir: Path | str | None = None,
    look: dict[str, Any] | None = None,
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
    progress: Callable[..., Any] = Quiet,
) -> dict[str, Any]:
    """Recompute every number and figure of a work folder from its checkpoints, and return `summary.json`'s contents.

    Args:
        workdir: the work folder.
        data_dir: where the data lies now; by default where it lay when the study was trained.
        look: {name: value} of fields of `config.Look`, instead of the study's own.
        workers, load, progress: as for `studies.train.train`.

    Raises:
        BadInput: as `studies.prepare.open_study`; or when a run is not finished, or another program works in the folder.
    """
    opened = open_study(workdir, data_dir, workers, load)
    study = opened.study.replaced(**look or {})
    record = opened.record | {"config": config.to_json(study)}
    plan = replace(opened.plan, study=study)  # what analysis looks at changes no run
    return analyze_prepared(replace(opened, study=study, record=record, plan=plan), progress)


def analyze_prepared(prepared: Prepared, progress: Callable[..., Any] = Quiet) -> dict[str, Any]:
    """Analyse a study that is opened or trained; see `analyze`."""
    with records.locked(prepared.workdir):
        return _analyze(prepared.workdir, prepared.record, prepared.study, prepared.dataset, prepared.plan, progress)


def _analyze(workdir, record, study, dataset, plan, progress_of):
    arms, seeds = arms_of(study), list(study.seed_range())
    for run in plan.runs:
        if lacking := missing(workdir, run):
            steps = ", ".join(map(str, lacking))
            raise BadInput(
                f"{workdir}: expected finished runs, {run.name} is not (its trajectory lacks step {steps}); run the study's"
                " command again"
            )
    chosen = extract_weights.chosen_layers(plan, dataset)
    extract_function.probe(dataset, study.kernel_examples)
    # Made beside the old one, which is replaced only by a whole new one.
    folder = Path(workdir) / ".analysis"
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("pairs", "eigen"):
        (folder / kind).mkdir(parents=True)
    baselines = {arm.name: arm.baseline for arm in arms if arm.baseline}
    references = eigen.references(arms)
    passes = sum(not arm.null_of for arm in arms)
    passes += sum(arm.model == onehot.model for onehot, _ in chosen for arm in arms)
    if study.kernel_examples:
        passes += extract_function.passes(plan)
    with progress_of(passes * len(seeds)) as progress:

        def advance(label):
            progress.advance(1, "analysing", label)

        pairs = extract_logits.logit_pairs(workdir, plan, dataset, advance)
        fitted = []
        estimates = summary.estimates(findings.kept(pairs, folder / "pairs", fitted), baselines)
        growths = list(extract_weights.growths(workdir, plan, dataset, chosen, advance))
        followed, predicted = findings.follow_functions(workdir, plan, dataset, advance)
    findings.keep_growths(growths, folder / "eigen")
    findings.keep_functions(followed, predicted, folder / "function")
    by_direction = eigen.estimates(growths, references, study.pairs)
    by_direction += functions.estimates(followed, predicted, arms)
    losses = {
        (arm.name, seed): findings.comparable_losses(
            records.read_metrics(records.run_folder(workdir, run_name(arm, seed))),
            config.parse_switch(study.switch) if arm.teacher else None,
            record["steps_per_epoch"],
        )
        for arm in arms
        for seed in seeds
    }
    did_not_learn = verdicts.unlearned(losses)
    found = {
        "estimates": [estimate.to_json() for estimate in [*estimates, *by_direction]],
        "verdicts": [
            verdict._asdict()
            for verdict in verdicts.verdicts(estimates, baselines, did_not_learn)
            + verdicts.eigen_verdicts(by_direction, baselines, references, did_not_learn)
            + verdicts.function_verdicts(by_direction, baselines, did_not_learn)
        ],
        "warnings": [*map(str, did_not_learn), *(findings.fully_fitted(fitted) if study.loss == "mse" else [])],
        "study": record,
    }
    records.write_json(folder / "summary.json", found)
    write_report(workdir, folder)
    final = Path(workdir) / "analysis"
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    return found
