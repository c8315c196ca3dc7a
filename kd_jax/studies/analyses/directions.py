"""How fast weights grow along the eigendirections of a layer's inputs: does distillation exaggerate the bias to the top ones?

Files: `eigen/ARM-seedK-LAYER.npz`, eigenvalues, and components of the weights and of their movement at every checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_jax.analysis import closed_forms, eigen, verdicts
from kd_jax.analysis.claims import Claim
from kd_jax.analysis.results import Estimate, Unlearned
from kd_jax.config import Study
from kd_jax.data import Dataset
from kd_jax.extract import weights as extract
from kd_jax.plan import Plan
from kd_jax.report import charts_directions, tables
from kd_jax.report.charts import Chart
from kd_jax.report.tables import Table
from kd_jax.studies.analyses.base import Advance, Analysed, Analysis, Trained, read_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Weights along lower eigendirections of the inputs at equal progress along a top one, relative to one-hot."
DETAILS = """The one-hot run has the same initialisation. The other arms are nulls: they differ from it by something that is no
    teacher."""


def _check(plan: Plan, dataset: Dataset) -> None:
    extract.check_varying(plan, dataset, extract.chosen_layers(plan, dataset))


def _passes(trained: Trained) -> int:
    chosen = extract.chosen_layers(trained.plan, trained.dataset)
    followed = sum(len(extract.followed(trained.plan, onehot)) for onehot, _ in chosen)
    return followed * len(trained.seeds)


def _measure(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    chosen = extract.chosen_layers(trained.plan, trained.dataset)
    growths = list(extract.growths(trained.workdir, trained.plan, trained.dataset, chosen, advance))
    (folder / "eigen").mkdir(parents=True, exist_ok=True)
    for growth in growths:
        name = f"{growth.arm}-seed{growth.seed}-{growth.layer.replace('/', '.')}.npz"
        eigenvalues = growth.values  # under the name that scripts outside this repository know
        np.savez(folder / "eigen" / name, eigenvalues=eigenvalues, **growth._asdict())
    references = eigen.references(trained.plan.arms)
    return eigen.estimates(growths, references, trained.study.look.pairs, trained.single)


def _conclude(trained: Trained, estimates: Sequence[Estimate], unlearned: Sequence[Unlearned]) -> list[Claim]:
    references = eigen.references(trained.plan.arms)
    about = {"teachers": trained.plan.teachers, "single": trained.single}
    return verdicts.eigen_claims(estimates, trained.plan.baselines, references, unlearned, **about)


def left_out(plan: Plan, dataset: Dataset) -> list[str]:
    """Return a sentence for each student's network of which no layer can be followed: only networks of one's own lack one."""
    names = dict.fromkeys(arm.model for arm in plan.arms if arm.baseline)
    return [
        f"{name}: no dense layer, and no plain convolution over rows and columns, so its eigendirections are left out"
        for name in names
        if not extract.layer_names(dataset, name)
    ]


def _warn(trained: Trained, folder: Path) -> list[str]:
    layers = eigen.by_layer(read_runs(folder / "eigen", eigen.Growth))
    unvaried = [
        f"{model}: the inputs of {layer} vary along fewer than two directions, so its eigendirections are left out"
        for (model, layer), of_layer in layers.items()
        if not _has_pair(of_layer)
    ]
    return left_out(trained.plan, trained.dataset) + unvaried


def _has_pair(growths: Sequence[eigen.Growth]) -> bool:
    """Whether a layer's inputs vary along two directions, so that there is something to compare."""
    return min(eigen.alive(growth.values) for growth in growths) > 1


def _tables(analysed: Analysed) -> list[Table]:
    made = tables.arm_per_column(_told_apart(analysed.estimates), "ratio to onehot", _cell)
    return [] if made is None else [Table(*made, NOTE, " ".join(DETAILS.split()), "Eigendirections")]


def _told_apart(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Leave out movement where it is that of weights that start at zero: it is the weights."""
    ruled = [estimate for estimate in estimates if estimate.name.startswith(("eigen_ratio", "eigen_fraction"))]
    values = {(e.name, e.arm, e.layer, e.directions): e.values for e in ruled}
    moved = [e for e in ruled if e.name.endswith("_moved")]
    differ = {
        e.layer for e in moved if values.get((e.name.removesuffix("_moved"), e.arm, e.layer, e.directions)) != e.values
    }
    return [e for e in ruled if not e.name.endswith("_moved") or e.layer in differ]


def _cell(estimate: Estimate) -> tuple[str, str] | None:
    if not estimate.name.startswith(("eigen_ratio", "eigen_fraction")):
        return None
    pair = " and ".join(map(str, estimate.directions)) or "random pairs below 1"
    what = ", movement" if estimate.name.endswith("_moved") else ""
    return f"{estimate.layer}, {pair}{what}", tables.shown(estimate.interval, 3 if estimate.directions else 2)


def _figures(analysed: Analysed) -> dict[str, "Figure"]:
    from kd_jax.report import eigen_figures

    references = eigen.references(analysed.arms)
    drawn = {}
    for (model, layer), of_layer in eigen.by_layer(read_runs(analysed.folder / "eigen", eigen.Growth)).items():
        if not _has_pair(of_layer):
            continue
        suffix = f"-{model}-{layer}".replace("/", ".").replace(":", ".")
        theory = linear_theory(analysed.study, analysed.summary["study"], model)
        drawn[f"eigen_curves{suffix}"] = eigen_figures.curves(of_layer, references, analysed.study.look.pairs)
        drawn[f"eigen_ratios{suffix}"] = eigen_figures.ratios_by_rank(of_layer, references, theory)
    return drawn


def _charts(analysed: Analysed) -> dict[str, Chart]:
    growths = read_runs(analysed.folder / "eigen", eigen.Growth)
    arms = [arm.name for arm in analysed.shown]
    made = charts_directions.chart(growths, eigen.references(analysed.arms), arms, analysed.study.look.pairs)
    return {} if made is None else {"directions": made}


def linear_theory(
    study: Study, record: Mapping[str, Any], model: str
) -> Callable[[np.ndarray, float], np.ndarray] | None:
    """Return `ratios(eigenvalues, top eigenvalue)` of the closed form; None where it does not speak of the study.

    It speaks of a squared-loss student that learns from its teacher alone, in a model without hidden layers, by gradient descent,
    as its teacher was trained.

    Args:
        study: the study's configuration.
        record: contents of `study.json`, for the training times.
        model: name of the network that is drawn.
    """
    times, teacher = record.get("descent_times"), record.get("teacher_time")
    linear = study.networks.teacher == model and model.partition("_")[0] in ("linear", "features")
    squared = study.training.loss == study.distillation_loss == "mse"
    if not linear or not squared or study.distillation.weight < 1 or teacher is None or not times:
        return None
    student = times[-1]
    return lambda eigenvalues, top: closed_forms.matched_ratio(eigenvalues, top, teacher, student, student)


ANALYSIS = Analysis(
    name="directions",
    needs_curves=True,
    check=_check,
    passes=_passes,
    measure=_measure,
    conclude=_conclude,
    warn=_warn,
    tables=_tables,
    figures=_figures,
    charts=_charts,
    captions={
        "eigen_curves": """Growth of a layer's weights along a top (across) and a lower (up) eigendirection of its inputs, the mean
            over seeds, in the direction of the arrow; for one-hot and students with the range of the seeds. Where weights do not
            start at zero, their movement since the start is drawn below them. A curve below the one-hot one has grown less along
            the lower direction at equal progress along the top one: the bias of gradient descent, exaggerated. Infinitely small
            steps would take onehot_slower and onehot_faster along the one-hot curve: how far they part from it is what steps of
            another size do without any teacher, and a student has to part from it further than they do.""",
        "eigen_ratios": """Left, the variance of the layer's inputs along each eigendirection, where there is any. Then the same
            comparison for every lower direction, relative to one-hot at equal progress along the top one, of the weights and,
            where they do not start at zero, of their movement since the start: the mean of the seeds, and for students their
            range.""",
    },
)
