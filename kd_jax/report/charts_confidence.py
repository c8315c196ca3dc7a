"""The interactive chart of confidence: student against teacher, example by example."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kd_jax.analysis import exaggeration, gallery
from kd_jax.analysis.gallery import OfRun
from kd_jax.report import charts, colours, thumbnails
from kd_jax.report.charts import Chart
from kd_jax.report.thumbnails import Views

POINTS = 20_000  # of a scatter, at most
PAGE_POINTS = 150_000  # of all scatters of a page: they take some 20 bytes each
FEWEST = 500  # of a scatter, however many there are
CONFIDENCE = """Each point is an example: how sure the teacher is of its top class, and how sure the other model is of that same
    class, as log p/(1-p). On the dashed line they agree. A fitted line steeper than it exaggerates the teacher's confidence.
    The slopes above are of this seed; their means and intervals are in the table. Point at an example, or tap on it, to see it."""
SUBSETS = {"all": ("all points", "solid"), "lowest_25": ("lowest 25 %", "dot"), "highest_25": ("highest 25 %", "dash")}


class Examples(NamedTuple):
    """The examples of a split.

    Attributes:
        ids: positions in the published split, or rows of a file, int [examples].
        labels, published: labels as trained on, and as published, int [examples]; None without labels.
        views: what is shown of some of them; None where nothing is.
        unit: what one is called.
    """

    ids: np.ndarray
    labels: np.ndarray | None = None
    published: np.ndarray | None = None
    views: Views | None = None
    unit: str = "example"


def drawn(count: int, panels: int) -> np.ndarray:
    """Return the rows of `count` examples that each of a page's scatters shows, rising, int [rows]: all, or of many a part.

    Args:
        count: the number of examples.
        panels: the number of scatters on the page.
    """
    return gallery.drawn(count, min(POINTS, max(PAGE_POINTS // max(panels, 1), FEWEST)))


def chart(
    runs: Sequence[OfRun], examples: Mapping[str, Examples], arms: Sequence[str], names: Sequence[str] = ()
) -> Chart | None:
    """Return the scatter of confidences, with a choice of split, arm and seed; None where there is nothing to draw.

    Beyond `POINTS` examples of a split, or `PAGE_POINTS` in all scatters, a part is drawn, which `gallery.drawn` chooses, and the
    caption says so. Lines are fitted to all examples.

    Args:
        runs: all runs beside their teachers.
        examples: {split: its examples}.
        arms: the names of all arms of the study, for their colours.
        names: of the classes; empty without.
    """
    runs = [run for run in runs if (np.isfinite(run.x) & np.isfinite(run.y)).sum() > 1]
    if not runs:
        return None
    palette, columns, sheets, cut = colours.arms(arms), {}, {}, []
    splits = [split for split in examples if any(run.split == split for run in runs)]
    for split in splits:
        of_split = [run for run in runs if run.split == split]
        count = len(examples[split].ids)
        rows = drawn(count, len(runs))
        if len(rows) < count:
            cut.append(f"{len(rows):,} of the {count:,} {split} examples")
        sheets |= _of_examples(columns, split, examples[split], rows)
        wrong = _wrong(examples[split], rows)
        finite = np.concatenate([each[np.isfinite(each)] for run in of_split for each in (run.x, run.y)])
        low, high = float(finite.min()), float(finite.max())
        edge = 0.03 * (high - low)
        columns[f"range|{split}"] = charts.numbers([low - edge, high + edge])
        for run in of_split:
            _of_run(columns, run, rows, wrong)
    seeds = sorted({run.seed for run in runs})
    for arm, against in {run.arm: run.against for run in runs}.items():
        columns[f"colour|{arm}"] = charts.line_colour(palette[arm])
        columns[f"against|{arm}"] = against
        columns[f"x title|{arm}"] = f"{against}: log p/(1-p) of its top class [nats]"
        columns[f"y title|{arm}"] = f"{arm}: log p/(1-p) of that class [nats]"
    listed = [
        arm for arm in sorted(palette, key=lambda arm: not arm.startswith("student")) if f"colour|{arm}" in columns
    ]
    controls = [
        charts.control("split", "Split", {split: split for split in splits}),
        charts.control("arm", "Arm", {arm: arm for arm in listed}),
        charts.control("seed", "Seed", {str(seed): f"seed {seed}" for seed in seeds}),
    ]
    figure = {
        "data": _traces(),
        "layout": {
            "height": 600,
            "xaxis": {
                "title": {"text": {"column": "x title|{arm}"}},
                "range": {"column": "range|{split}"},
                "constrain": "domain",
            },
            "yaxis": {
                "title": {"text": {"column": "y title|{arm}"}},
                "range": {"column": "range|{split}"},
                "scaleanchor": "x",
                "constrain": "domain",
            },
        },
        "columns": columns,
        "controls": controls,
        "views": sheets,
        "names": list(names),
    }
    caption = " ".join(CONFIDENCE.split())
    if cut:
        caption += f" Drawn are {' and '.join(cut)}, chosen at random and the same everywhere; lines are fitted to all examples."
    alt = (
        f"Scatter of how sure a model is of the teacher's top class against how sure the teacher is, for {', '.join(splits)}"
        f" examples and {', '.join(listed)}, with lines through all points and through the quarters of which the teacher is least"
        " and most sure."
    )
    return Chart("Confidence, example by example", figure, caption, alt)


def _of_examples(columns: dict[str, Any], split: str, examples: Examples, rows: np.ndarray) -> dict[str, Any]:
    """Enter what is said of the examples whatever the run, and return the views of the split, if there are any."""
    columns[f"id|{split}"] = examples.ids[rows].tolist()
    columns[f"unit|{split}"] = examples.unit
    nothing = [None] * len(rows)
    columns[f"label|{split}"] = nothing if examples.labels is None else examples.labels[rows].tolist()
    columns[f"published|{split}"] = nothing
    if examples.published is not None:
        published = np.where(_wrong(examples, rows), examples.published[rows], -1).tolist()
        columns[f"published|{split}"] = [value if value >= 0 else None for value in published]
    columns[f"view|{split}"] = nothing
    if examples.views is None:
        return {}
    shown = examples.views.chosen(examples.ids[rows])
    if not len(shown.ids):
        return {}
    columns[f"view|{split}"] = [at if at >= 0 else None for at in shown.position(examples.ids[rows]).tolist()]
    return {split: thumbnails.sheet(shown)}


def _wrong(examples: Examples, rows: np.ndarray) -> np.ndarray:
    """Which of the rows have a label that is not the published one, bool [rows]."""
    if examples.labels is None or examples.published is None:
        return np.zeros(len(rows), bool)
    return examples.labels[rows] != examples.published[rows]


def _of_run(columns: dict[str, Any], run: OfRun, rows: np.ndarray, wrong: np.ndarray) -> None:
    of_teacher, of_run = f"{run.split}|{run.against}|{run.seed}", f"{run.split}|{run.arm}|{run.seed}"
    # Arms that are compared with the same teacher share what it says.
    for name, values in (("x", charts.numbers(run.x[rows])), ("teacher", run.teacher[rows].tolist())):
        columns[f"{name} of|{of_teacher}"] = values
        columns[f"{name}|{of_run}"] = {"column": f"{name} of|{of_teacher}"}
    columns[f"y|{of_run}"] = charts.numbers(run.y[rows])
    columns[f"student|{of_run}"] = run.student[rows].tolist()
    if wrong.any():
        columns[f"wrong x|{of_run}"] = charts.numbers(run.x[rows[wrong]])
        columns[f"wrong y|{of_run}"] = charts.numbers(run.y[rows[wrong]])
    # Where both name one class its probability is that of y.
    other = np.where(run.student[rows] == run.teacher[rows], np.nan, run.student_p[rows])
    columns[f"p|{of_run}"] = [None if value != value else round(value, 3) for value in other.astype(float).tolist()]
    finite = np.isfinite(run.x) & np.isfinite(run.y)
    x, y = run.x[finite].astype(np.float64), run.y[finite].astype(np.float64)
    masks = exaggeration.masks(x)
    for subset, line in exaggeration.lines(x, y).items():
        if not np.isfinite(line.slope):
            continue
        ends = np.array([x[masks[subset]].min(), x[masks[subset]].max()])
        columns[f"ends|{subset}|{of_run}"] = charts.numbers(ends, 6)
        columns[f"line|{subset}|{of_run}"] = charts.numbers(line.intercept + line.slope * ends, 6)
        columns[f"slope|{subset}|{of_run}"] = f"{SUBSETS[subset][0]}: slope {line.slope:.2f}"


def _traces() -> list[dict[str, Any]]:
    tip = {
        "values": {
            "id": {"column": "id|{split}"},
            "label": {"column": "label|{split}"},
            "published": {"column": "published|{split}"},
            "teacher": {"column": "teacher|{split}|{arm}|{seed}"},
            "against": {"column": "against|{arm}"},
            "x": {"column": "x|{split}|{arm}|{seed}"},
            "student": {"column": "student|{split}|{arm}|{seed}"},
            "y": {"column": "y|{split}|{arm}|{seed}"},
            "p": {"column": "p|{split}|{arm}|{seed}"},
        },
        "lines": [
            "label {label:class}",
            "published label {published:class}",
            "{against}: {teacher:class}, p {x:p}",
            "{arm}: {student:class}, p {p}",
            "{arm}, same class: p {y:p}",
            "confidence [nats]: {against} {x}, {arm} {y}",
            "{split}, number {id}",
        ],
        "views": "{split}",
        "view": {"column": "view|{split}"},
    }
    points = {
        "type": "scatter",
        "mode": "markers",
        "name": "examples",
        "x": {"column": "x|{split}|{arm}|{seed}"},
        "y": {"column": "y|{split}|{arm}|{seed}"},
        "marker": {
            "color": {"column": "colour|{arm}"},
            "size": 5,
            "opacity": 0.45,
        },
        "hoverinfo": "none",
        "showlegend": False,
        "meta": {"tip": tip},
    }
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "as sure as the teacher",
        "x": {"column": "range|{split}"},
        "y": {"column": "range|{split}"},
        "line": {"color": colours.REFERENCE, "width": 1.5, "dash": "longdash"},
        "hoverinfo": "skip",
    }
    lines = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": {"column": f"slope|{subset}|{{split}}|{{arm}}|{{seed}}"},
            "x": {"column": f"ends|{subset}|{{split}}|{{arm}}|{{seed}}"},
            "y": {"column": f"line|{subset}|{{split}}|{{arm}}|{{seed}}"},
            "line": {"color": colours.SUBSETS[subset], "width": 3, "dash": dash},
            "hoverinfo": "skip",
        }
        for subset, (_, dash) in SUBSETS.items()
    ]
    wrong = {
        "type": "scatter",
        "mode": "markers",
        "name": "wrong label",
        "x": {"column": "wrong x|{split}|{arm}|{seed}"},
        "y": {"column": "wrong y|{split}|{arm}|{seed}"},
        "marker": {"symbol": "x-thin-open", "size": 6, "color": "@text", "line": {"width": 1}},
        "hoverinfo": "skip",
    }
    return [points, wrong, diagonal, *lines]
