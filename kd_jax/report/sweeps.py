"""Report of a sweep: one table, three figures and one page about all its variants, with links to each one's own report."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_jax.analysis import results
from kd_jax.analysis.across import StudentResult
from kd_jax.analysis.results import Estimate
from kd_jax.config import BadInput
from kd_jax.report import again, page, tables
from kd_jax.report.page import Picture
from kd_jax.report.tables import Table

# (heading, name, whose: "teacher", or the key of the arm's name in the record of the student's arm, split, subset, digits)
COLUMNS = (
    ("teacher, train", "accuracy", "teacher", "train", "all", 3),
    ("teacher, test", "accuracy", "teacher", "test", "all", 3),
    ("onehot, test", "accuracy", "baseline", "test", "all", 3),
    ("student, test", "accuracy", "name", "test", "all", 3),
    ("gain", "accuracy_gain", "name", "test", "all", 3),
    ("less the teacher's", "accuracy_over_teacher", "name", "test", "all", 3),
    ("agreement", "agreement", "name", "test", "all", 3),
    ("slope, train, lowest 25 %", "exaggeration_slope", "name", "train", "lowest_25", 2),
    ("its control, train", "exaggeration_slope", "control", "train", "lowest_25", 2),
    ("slope, test, lowest 25 %", "exaggeration_slope", "name", "test", "lowest_25", 2),
    ("its control, test", "exaggeration_slope", "control", "test", "lowest_25", 2),
)
# What is compared with another variant, or is a slope over one field, says which.
CSV_COLUMNS = ("variant", *tables.CSV_COLUMNS, "against", "field")
CAPTIONS = {
    "variants": """Every variant with its interval: the student, and its twin without a teacher. A slope counts for distillation
        where it is above 1 and above its control's.""",
    "gain": """What the student gains over its twin, against how much of its training labels the teacher fits, and against how much
        better than the twin the teacher is on test data: mean and interval of the seeds, small dots the seeds themselves. Colours
        tell the fields that were changed.""",
    "switching": """Test accuracy over that of the one-hot twin where the loss is switched at that epoch; the band is distillation
        throughout, zero is the labels throughout.""",
}


def write_report(folder: Path, measured: Sequence[StudentResult]) -> None:
    """Write `table.csv`, `table.md`, `figures/` and `report.html` of a sweep.

    Args:
        folder: the folder of the sweep's analysis, with its `summary.json`; the report is written there.
        measured: every student of every variant.

    Raises:
        BadInput: when there is no summary.
    """
    from kd_jax.report import figures, sweep_figures

    path = folder / "summary.json"
    if not path.is_file():
        raise BadInput(f"{folder}: expected the summary.json of a sweep; run its command again")
    summary = json.loads(path.read_text(encoding="utf-8"))
    estimates = results.read(summary)
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(csv_rows(estimates))
    main = table(summary)
    (folder / "table.md").write_text(tables.markdown(main.header, main.rows), encoding="utf-8")
    drawn = {"variants": sweep_figures.variants(summary)}
    if len({m.teacher_accuracy.mean() for m in measured}) > 2:
        drawn["gain"] = sweep_figures.gain(measured)
    if any(m.values.get("switch") for m in measured):
        drawn["switching"] = sweep_figures.switching(measured)
    images = {name: figures.save(figure, folder / "figures" / name) for name, figure in drawn.items()}
    (folder / "report.html").write_text(_page(folder, summary, images), encoding="utf-8")


def csv_rows(estimates: Sequence[Estimate]) -> Iterator[list]:
    """Yield every estimate of a sweep as a row of `CSV_COLUMNS`, unrounded."""
    for estimate, row in zip(estimates, tables.csv_rows(estimates), strict=True):
        yield [estimate.variant, *row, estimate.against, estimate.field]


def students(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (folder of a variant, record of a student's arm as in `study.json`) of a sweep's summary."""
    for name, arms in summary["study"]["arms"].items():
        yield from ((name, {"control": arm["baseline"], **arm}) for arm in arms if arm["baseline"])


def by_variant(estimates: Sequence[Estimate]) -> dict[tuple[Any, ...], Estimate]:
    """Return {(variant, name, arm, split, subset): estimate} of a sweep."""
    return results.index(estimates, "variant", "name", "arm", "split", "subset")


def table(summary: Mapping[str, Any]) -> Table:
    """Return the table of a sweep: the student of a variant per row; what does not apply is a dash.

    Args:
        summary: contents of the sweep's `summary.json`.
    """
    estimates = results.read(summary)
    known, listed = by_variant(estimates), list(students(summary))
    several = len({arm["name"] for _, arm in listed}) > 1
    recovered = {(e.variant, e.arm): e for e in estimates if e.name == "gain_recovered"}
    header = ["variant", *(column[0] for column in COLUMNS), *(["gain recovered"] if recovered else [])]
    rows = []
    for name, arm in listed:
        cells = [f"{name}, {arm['name']}" if several else name]
        for _, quantity, whose, split, subset, digits in COLUMNS:
            who = arm.get(whose, whose)
            estimate = known.get((name, quantity, who, split, subset))
            cells.append("-" if estimate is None else tables.shown(estimate.interval, digits))
        if recovered:
            share = recovered.get((name, arm["name"]))
            cells.append("-" if share is None else tables.shown(share.interval, 2))
        rows.append(cells)
    details = (
        "Gain is over the same network, initialisation and batches without a teacher; a control is the slope, against the same"
        " teacher, of a network like that from another seed."
    )
    return Table(header, rows, tables.what_intervals_are(estimates), details, "Every variant")


def _page(folder: Path, summary: Mapping[str, Any], images: Mapping[str, Picture]) -> str:
    study = summary["study"]
    folders = [variant["folder"] for variant in study["variants"]]
    about = f"A sweep of {len(folders)} variants, named for what differs. The first, {folders[0]}: {page.facts(study['first'])}"
    reports = page.links("Each variant", {folder: f"../{folder}/analysis/report.html" for folder in folders})
    return page.render(
        f"{study['study']}, a sweep",
        [about],
        summary["verdicts"],
        summary["warnings"],
        [table(summary)],
        images,
        CAPTIONS,
        [reports],
        answer=summary.get("answer", ()),
        again=again.study(study["first"]),
        files=page.files_in(folder, folder.parent),
    )
