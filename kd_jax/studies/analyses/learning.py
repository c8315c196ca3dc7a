"""How the runs learned, epoch by epoch, and which of them did not: `kd_jax.analysis.learning` says what counts as that."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_jax.analysis import learning
from kd_jax.analysis.results import Unlearned
from kd_jax.config import Study, loss_names, parse_switch
from kd_jax.plan import TEACHER, GivenTeacher, Plan, of_record, run_name, seeds_of, training_of
from kd_jax.report import charts_learning, tables
from kd_jax.report.charts import Chart
from kd_jax.studies.analyses.base import Analysed, Analysis
from kd_jax.studies.analyses.confidence import read_pairs
from kd_jax.workdir import metrics_file, records

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def unlearned(workdir: Path, folder: Path, study: Study, record: Mapping[str, Any]) -> list[Unlearned]:
    """Return the runs of a study that did not learn, from their metrics and the logits that an analysis has kept.

    Args:
        workdir: the work folder, with the metrics of the runs.
        folder: the folder of the analysis, with the logits.
        study: the study's configuration.
        record: contents of its `study.json`. A teacher that exists already and teaches all seeds is judged once; a file of logits,
            a run whose own loss was switched, and a part of a run, by its logits alone.
    """
    design, given, seeds = of_record(study, record), GivenTeacher.of(record), seeds_of(study, record)
    arms, steps_per_epoch = design.arms, record["steps_per_epoch"]
    views = [view for view in design.views if not view.of_next_seed]
    switch = parse_switch(study.distillation.switch)
    losses: dict[tuple[str, int], list[float] | None] = {}
    if given is not None and given.logits:
        losses[TEACHER, seeds[0]] = None
    for arm in arms:
        trained = training_of(study, arm).epochs > 0
        is_given = given is not None and arm.name == TEACHER
        for seed in seeds[:1] if is_given and given.is_one else seeds:
            if is_given and given.switched:
                losses[arm.name, seed] = None
                continue
            lines = metrics_file.read(records.run_folder(workdir, run_name(arm, seed)))
            of_arm = switch if arm.teacher else None
            if arm.teacher and switch is None and "crd" in loss_names(study.distillation_loss):
                # In the first epoch it contrasts with a memory that holds no embedding yet, which is another loss.
                lines = lines[1:] or lines
            losses[arm.name, seed] = learning.comparable_losses(lines, of_arm, steps_per_epoch) if trained else None
    losses |= {(view.name, seed): None for view in views for seed in seeds}
    compared = tables.beside_teacher((*arms, *views))
    teachers, fits = {arm.name: arm.compared_with for arm in compared}, {}
    for pair in read_pairs(folder, teachers, seeds, "train"):
        of_teacher = teachers[pair.arm], pair.seed
        if pair.teacher is not None and of_teacher not in fits:
            fits[of_teacher] = learning.outputs(pair.teacher, pair.y, pair.true_y)
        fits[pair.arm, pair.seed] = learning.outputs(pair.student, pair.y, pair.true_y, pair.teacher)
    baselines = {arm.name: arm.baseline for arm in arms if arm.baseline}
    return learning.unlearned(losses, fits, baselines, teachers)


def mend_given(arm: str, study: Study, record: Mapping[str, Any]) -> str:
    """Return what to do where a teacher that exists already has not learnt; empty for runs that are trained in this study."""
    given = GivenTeacher.of(record)
    if arm != TEACHER or (given is None and study.teacher_training.epochs):
        return ""
    if given is None:
        return (
            "it is taken as it is (--teacher_with epochs=0): see that its classes are in the order of the data's and that it wants"
            " such inputs, or train it"
        )
    if given.logits:
        return (
            "see that the rows of --teacher_logits are in the order of the training split, or have the right ids, and that their"
            " classes are in the order of the data's"
        )
    return "pass another --teacher_from, or see that its classes are in the order of the data's"


def cut_short(workdir: Path, plan: Plan) -> list[str]:
    """Return a sentence for each run that was trained here whose `metrics.jsonl` ends before its last epoch, or is not there.

    A crash of the machine can lose lines that were not on the disk yet; so can a hand. What is said of epochs is of the others.
    """
    said = []
    for run in plan.runs:
        if run.source is None and run.training.epochs:
            lines = metrics_file.read(records.run_folder(workdir, run.name))
            last = lines[-1].get("step", 0) if lines else 0
            if last != run.length.total_steps:
                total = run.length.total_steps
                said.append(
                    f"{run.name}: its metrics.jsonl ends at step {last} of {total}, so its later epochs are not known"
                )
    return said


def read_metrics(analysed: Analysed) -> dict[str, list[list[dict[str, Any]]]]:
    """Return {arm: lines of `metrics.jsonl` of each seed}, of the arms that are compared by their logits."""
    return {
        arm.name: [
            metrics_file.read(records.run_folder(analysed.workdir, run_name(arm, seed))) for seed in analysed.seeds
        ]
        for arm in tables.compared(analysed.arms)
    }


def _figures(analysed: Analysed) -> dict[str, "Figure"]:
    from kd_jax.report import figures

    return {"learning_curves": figures.learning_curves(read_metrics(analysed))}


def _charts(analysed: Analysed) -> dict[str, Chart]:
    made = charts_learning.chart(read_metrics(analysed), [arm.name for arm in analysed.shown])
    return {} if made is None else {"learning_curves": made}


ANALYSIS = Analysis(
    name="learning",
    figures=_figures,
    charts=_charts,
    captions={"learning_curves": "Mean over the seeds that have the epoch; the band is their range."},
)
