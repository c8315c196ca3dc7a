"""What networks compute along training, along the eigenvectors of their tangent kernel, beside what theory predicts.

Files: `function/ARM-seedK.npz`, what was measured of a run, with its prediction where there is one. Asked for by `kernel_examples`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kd_jax.analysis import eigen, functions, linearisation, verdicts
from kd_jax.analysis.claims import Claim
from kd_jax.analysis.results import Estimate, Unlearned
from kd_jax.data import Dataset
from kd_jax.extract import functions as extract
from kd_jax.plan import Plan
from kd_jax.report import tables
from kd_jax.report.tables import Table
from kd_jax.studies.analyses.base import Advance, Analysed, Analysis, Trained, read_runs, students
from kd_jax.train.optimizer import learning_rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Functions, along groups of eigenvectors of the tangent kernel; ratios at equal progress in the first of two groups."
DETAILS = """The function is that on the probe, the kernel that of step 0, and group 0 the top. Ratio: progress toward the labels
    in a group at equal progress in the group above it, relative to the one-hot run of the same seed, as measured and by the
    filters, a(t) and for a student a(s) a(T); verdicts look at groups where a student's filter lags by 5 % or more. Errors are root
    mean squares of measured less predicted progress: by the linearised networks, and by the filter. Drift: relative change of the
    kernel over training. Where one step covers most of a group, the ratio of a run with smaller steps is not 1, and the filters
    show by how much."""
HEADINGS = {
    "function_ratio": "ratio to onehot, groups",
    "function_ratio_filter": "the same by the filters, groups",
    "kernel_drift": "kernel's drift",
    "linearisation_error": "error of the linearisation",
    "filter_error": "error of the filter",
}


def _check(plan: Plan, dataset: Dataset) -> None:
    extract.probe(dataset, plan.study.look.kernel_examples)


def _passes(trained: Trained) -> int:
    return extract.passes(trained.plan) * len(trained.seeds) if trained.study.look.kernel_examples else 0


def _measure(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    study, dataset, arms = trained.study, trained.dataset, trained.plan.arms
    examples = study.look.kernel_examples
    if not examples:
        return []
    # With a kernel all arms are trained alike, for as many steps.
    rates = learning_rates(study.training, trained.plan.length("teacher").total_steps)
    followed, predicted = [], []
    for found in extract.functions(trained.workdir, trained.plan, dataset, advance):
        spectrum = linearisation.spectrum(found.kernel, dataset.classes)
        followed += functions.follow(found, spectrum, arms)
        predicted += functions.predict(found, spectrum, arms, study.training, study.distillation, rates)
    _keep(followed, predicted, folder / "function")
    return functions.estimates(followed, predicted, arms)


def _keep(followed: list[functions.Followed], predicted: list[functions.Predicted], folder: Path) -> None:
    predictions = {(run.arm, run.seed): run._asdict() for run in predicted}
    for run in followed:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{run.arm}-seed{run.seed}.npz"
        np.savez(folder / name, **{**predictions.get((run.arm, run.seed), {}), **run._asdict()})


def _conclude(trained: Trained, estimates: Sequence[Estimate], unlearned: Sequence[Unlearned]) -> list[Claim]:
    baselines, references = trained.plan.baselines, eigen.references(trained.plan.arms)
    on_bias = verdicts.function_bias_claims(estimates, baselines, references, unlearned)
    return on_bias + verdicts.function_claims(estimates, baselines, unlearned)


def _tables(analysed: Analysed) -> list[Table]:
    made = tables.arm_per_column(analysed.estimates, "function", _cell)
    return [] if made is None else [Table(*made, NOTE, " ".join(DETAILS.split()), "Functions", sortable=False)]


def _cell(estimate: Estimate) -> tuple[str, str] | None:
    heading = HEADINGS.get(estimate.name)
    if heading is None:
        return None
    pair = " and ".join(map(str, estimate.directions))
    return f"{heading} {pair}".rstrip(), tables.shown(estimate.interval)


def _figures(analysed: Analysed) -> dict[str, "Figure"]:
    from kd_jax.report import function_figures

    followed = read_runs(analysed.folder / "function", functions.Followed)
    predicted = read_runs(analysed.folder / "function", functions.Predicted)
    drawn = {}
    for arm in students(analysed.arms) if followed else []:
        measured, expected = ([run for run in of if run.model == arm.model] for of in (followed, predicted))
        drawn[f"function_progress-{arm.model.replace(':', '.')}"] = function_figures.progress(
            measured, expected, arm.baseline or "", arm.name
        )
    return drawn


ANALYSIS = Analysis(
    name="functions",
    needs_curves=True,
    check=_check,
    passes=_passes,
    measure=_measure,
    conclude=_conclude,
    tables=_tables,
    figures=_figures,
    captions={
        "function_progress": """What a network computes on the probe, along groups of eigenvectors of its tangent kernel at step 0.
            Left, their eigenvalues. Middle, the progress from the start to the labels within each group: points, with the range of
            the seeds, are measured; lines are the filters, a(t) and for the student the composed a(s) a(T), beside it a(s) alone,
            dotted. Right, the same progress against what the linearised networks predict from step 0, a point per seed, checkpoint
            and group.""",
    },
)
