"""Analyse what training left in a work folder."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_jax import config, data, stopping
from kd_jax.analysis import answers
from kd_jax.analysis import claims as claimed
from kd_jax.config import Study
from kd_jax.data import Dataset
from kd_jax.errors import BadInput, Damaged, Diverged
from kd_jax.files import fresh_folder, named, replace_folder
from kd_jax.report import about
from kd_jax.studies import analyses, networks, teachers
from kd_jax.studies import prune as pruning
from kd_jax.studies.analyses import learning
from kd_jax.studies.prepare import Prepared, analysable, open_study
from kd_jax.studies.progress import Quiet
from kd_jax.studies.report import write_report
from kd_jax.studies.train import OnNan, give_up, missing
from kd_jax.workdir import records


def is_analysed(workdir: Path | str, study: Study, record: Mapping[str, Any] | None = None) -> bool:
    """Return whether a work folder's analysis is of just this study: its seeds, and what it asks to be looked at.

    Args:
        workdir: the work folder.
        study: the configuration.
        record: contents of its `study.json`; None where no seed was given up.
    """
    if not (Path(workdir) / "analysis" / "report.html").is_file():
        return False
    try:
        found = records.read_summary(workdir)["study"]
        given_up = (record or {}).get("skipped", {})
        return config.from_json(found["config"]) == study and found.get("skipped", {}) == given_up
    except (BadInput, KeyError, TypeError):
        return False  # absent or damaged: it is made again


def analyze(
    workdir: Path | str,
    data_dir: Path | str | None = None,
    look: dict[str, Any] | None = None,
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
    progress: Callable[..., Any] = Quiet,
    dataset: str = "",
    with_figures: bool = True,
) -> dict[str, Any]:
    """Recompute every number and figure of a work folder from its checkpoints, and return `summary.json`'s contents.

    Args:
        workdir: the work folder.
        data_dir: where the data lies now; by default where it lay when the study was trained.
        look: {name: value} of fields of `config.Look`, instead of the study's own.
        workers, load, progress: as for `studies.train.train`.
        dataset: as for `studies.prepare.open_study`.
        with_figures: as for `analyze_prepared`.

    Raises:
        BadInput: as `studies.prepare.open_study`; or when a run is not finished, or another program works in the folder.
    """
    opened = open_study(workdir, data_dir, workers, load, dataset)
    study = opened.study.replaced(**look or {})
    record = opened.record | {"config": config.to_json(study)}
    plan = replace(opened.plan, study=study)  # what analysis looks at changes no run
    return analyze_prepared(replace(opened, study=study, record=record, plan=plan), progress, with_figures=with_figures)


def analyze_prepared(
    prepared: Prepared,
    progress: Callable[..., Any] = Quiet,
    cost: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    on_nan: OnNan = "stop",
    with_figures: bool = True,
) -> dict[str, Any]:
    """Ask every question of `analyses.ANALYSES` of a trained study, write `analysis/`, and return the contents of `summary.json`.

    Args:
        prepared: a study that `studies.prepare` has prepared or opened.
        progress: as for `studies.train.train`.
        cost: `cost(summary)` measures what the networks cost to run, as `studies.cost.measure`; without it an earlier measurement
            stays as it is.
        on_nan: where the answers of a run are not finite although its loss and weights are, `stop` raises `Diverged`; `skip_seed`
            gives the seed up, as `studies.train.train_prepared` does.
        with_figures: whether to draw figures; those that there are already are drawn anew in any case.

    Raises:
        BadInput: when a run is not finished, too few seeds did not diverge, a question cannot be asked, a network of one's own is
            not found as it was, or another program works in the folder.
        Diverged: when the answers of a run are not finite, or too few seeds remain.
    """
    while True:
        try:
            return _analyze(analysable(prepared), progress, cost, with_figures)
        except Diverged as error:
            if on_nan == "stop" or error.seed is None:
                raise
            with records.locked(prepared.workdir):
                give_up(prepared, error.seed, str(error).partition(":")[0], str(error))


def _analyze(
    prepared: Prepared,
    progress: Callable[..., Any],
    cost: Callable[[dict[str, Any]], dict[str, Any]] | None,
    with_figures: bool,
) -> dict[str, Any]:
    networks.find_again(prepared.workdir, prepared.record.get("networks", {}))
    with records.locked(prepared.workdir):
        for run in prepared.plan.runs:
            if lacking := missing(prepared.workdir, run, prepared.record):
                steps = ", ".join(map(str, lacking))
                raise BadInput(
                    f"{prepared.workdir}: expected finished runs, {run.name} is not (its trajectory lacks step {steps}); run the"
                    " study's command again"
                )
        _check_teachers(prepared)
        prepared, lost = pruning.available(prepared)
        asked = [analysis for analysis in analyses.ANALYSES if not (lost and analysis.needs_curves)]
        analyses.check(prepared.plan, prepared.dataset, asked)
        # Made beside the old one, which is replaced only by a whole new one.
        folder, final = prepared.workdir / ".analysis", prepared.workdir / "analysis"
        fresh_folder(folder)
        with named(final):
            summary = _summary(prepared, folder, progress, asked)
            records.write_json(folder / "summary.json", summary)
            if cost is not None:
                records.write_json(folder / "cost.json", cost(summary))
            elif (final / "cost.json").is_file():
                shutil.copy2(final / "cost.json", folder / "cost.json")
            write_report(prepared.workdir, folder, with_figures or (final / "figures").is_dir())
        before = final.with_name("analysis-before-pruning")
        if lost and (final / "eigen").is_dir() and not before.exists():
            final.rename(before)  # it has what cannot be computed again
        replace_folder(folder, final)
    return summary


def _check_teachers(prepared: Prepared) -> None:
    """Raise `BadInput` where a teacher is not the one on record, from which its students were distilled."""
    expected = prepared.record["teacher_hash"]
    taught = [(run.teacher_name, run.taught_by, run.teacher_step) for run in prepared.plan.runs if run.taught_by]
    for name, by, step in dict.fromkeys(taught):
        folder = records.run_folder(prepared.workdir, by)
        if name in expected and step in records.kept_steps(folder):
            try:
                teachers.check_digest(name, teachers.load(folder, step), expected)
            except Damaged as error:
                raise BadInput(
                    f"{error}; expected a whole checkpoint; move that step's folder away and run the study's command again, which"
                    " trains it anew"
                ) from None


def _summary(
    prepared: Prepared, folder: Path, progress_of: Callable[..., Any], asked: Sequence[analyses.Analysis]
) -> dict[str, Any]:
    """The contents of `summary.json`; files that the analyses keep are written to their folder."""
    plan, workdir = prepared.plan, prepared.workdir
    trained = analyses.Trained(workdir, plan, prepared.dataset)
    with progress_of(sum(analysis.passes(trained) for analysis in asked)) as progress:

        def advance(label: str) -> None:
            stopping.check()
            progress.advance(1, "analysing", label)

        measured = [analysis.measure(trained, folder, advance) for analysis in asked]
    estimates = [estimate for of_analysis in measured for estimate in of_analysis]
    unlearned = learning.unlearned(workdir, folder, prepared.study, prepared.record)
    claims, warnings = (
        [],
        [run.sentence(learning.mend_given(run.arm, prepared.study, prepared.record)) for run in unlearned],
    )
    warnings += learning.cut_short(workdir, plan)
    warnings += about.skipped(prepared.record)
    warnings += pruning.sentences(prepared.record)
    for analysis in asked:
        claims += analysis.conclude(trained, estimates, unlearned)
        warnings += analysis.warn(trained, folder)
    verdicts = claimed.decide(claims)
    return {
        "answer": answers.of_study(verdicts, prepared.record["study"]),
        "estimates": [estimate.to_json() for estimate in estimates],
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "warnings": warnings,
        "unlearned": [run.to_json() for run in unlearned],
        "study": prepared.record,
    }
