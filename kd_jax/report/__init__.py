"""Results as tables, figures and one self-contained page. Sees `summary.json`, the pairs and the metrics; rounds here only."""

import csv
import json
from pathlib import Path

import numpy as np

from kd_jax import config
from kd_jax.analysis import closed_forms as theory
from kd_jax.analysis import eigen, functions
from kd_jax.config import BadInput
from kd_jax.plan import arms as arms_of
from kd_jax.plan import run_name
from kd_jax.report import eigen_figures, figures, function_figures, page, tables
from kd_jax.workdir import records


def write_report(workdir, folder=None):
    """Write `table.csv`, `table.md`, `figures/` and `report.html` from the analysis of a work folder.

    Args:
        workdir: the work folder.
        folder: holds the analysis, and is where to write; `analysis` of the work folder by default.

    Raises:
        BadInput: when there is no analysis.
    """
    folder = Path(folder or Path(workdir) / "analysis")
    path = folder / "summary.json"
    if not path.is_file():
        raise BadInput(f"{workdir}: expected analysis/summary.json; run: kd-jax analyze {workdir}")
    found = json.loads(path.read_text())
    study = config.from_json(found["study"]["config"])
    metrics = {
        arm.name: [
            records.read_metrics(records.run_folder(workdir, run_name(arm, seed))) for seed in study.seed_range()
        ]
        for arm in arms_of(study)
        if not arm.null_of
    }
    header, rows = tables.main_table(found)
    with open(folder / "table.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(tables.CSV_COLUMNS)
        writer.writerows(tables.csv_rows(found))
    (folder / "table.md").write_text(tables.markdown(header, rows))
    growths = _read(folder / "eigen", eigen.Growth)
    drawn = {
        "confidence": figures.confidence(folder / "pairs", found, study),
        "slopes": figures.slopes(found),
        "learning_curves": figures.learning_curves(metrics),
    }
    references = eigen.references(arms_of(study))
    for (model, layer), of_layer in eigen.by_layer(growths).items():
        suffix = f"-{model}-{layer.replace('/', '.')}"
        drawn[f"eigen_curves{suffix}"] = eigen_figures.curves(of_layer, references, study.pairs)
        drawn[f"eigen_ratios{suffix}"] = eigen_figures.ratios_by_rank(
            of_layer, references, _linear_theory(found, model)
        )
    followed = _read(folder / "function", functions.Followed)
    predicted = _read(folder / "function", functions.Predicted)
    for arm in [arm for arm in arms_of(study) if arm.baseline and followed]:
        of_network = [[run for run in of if run.model == arm.model] for of in (followed, predicted)]
        drawn[f"function_progress-{arm.model}"] = function_figures.progress(*of_network, arm.baseline, arm.name)
    images = {name: figures.save(figure, folder / "figures" / name) for name, figure in drawn.items()}
    (folder / "report.html").write_text(page.render(found, images))


def _linear_theory(found, model):
    """`ratios(eigenvalues)` of the closed form, for `eigen_figures.ratios_by_rank`; None where it does not speak of the study.

    It does of a squared-loss student that learns from its teacher alone, in a model without hidden layers, by gradient descent, as
    its teacher was trained.
    """
    record = found["study"]
    study, times, teacher = config.from_json(record["config"]), record.get("descent_times"), record.get("teacher_time")
    linear = study.teacher == model and model.partition("_")[0] in ("linear", "features")
    if not linear or study.loss != "mse" or study.weight < 1 or teacher is None:
        return None
    return lambda eigenvalues, top: theory.matched_ratio(eigenvalues, top, teacher, times[-1], times[-1])


def _read(folder, kind):
    """What the files of a folder hold of a named tuple, as a list of it, in the order of networks, layers, arms and seeds."""
    found = []
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            if set(kind._fields) <= set(arrays.files):
                found.append(kind(**{name: _plain(arrays[name]) for name in kind._fields}))
    return sorted(found, key=lambda run: (run.model, getattr(run, "layer", ""), run.arm, run.seed))


def _plain(array):
    return array if array.ndim else array.item()
