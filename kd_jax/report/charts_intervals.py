"""An interactive overview of estimates with their intervals, and of the seeds that they are made of."""

from collections.abc import Iterable, Sequence
from typing import Any

from kd_jax.analysis.results import Estimate
from kd_jax.report import charts, colours, tables
from kd_jax.report.charts import Chart

# name of an estimate: (what it is, where there is no effect; None where nothing marks that)
QUANTITIES: dict[str, tuple[str, float | None]] = {
    "exaggeration_slope": ("slope of confidence on the teacher's", 1),
    "accuracy_gain": ("accuracy less that of the arm without a teacher", 0),
    "accuracy_over_teacher": ("accuracy less the teacher's", 0),
    "mean_deviation": ("mean confidence less the teacher's [nats]", 0),
    "agreement": ("share of examples for which it names the teacher's class", None),
    "accuracy": ("accuracy", None),
    "ece": ("expected calibration error", 0),
    "eigen_ratio": ("weights along a lower eigendirection, relative to one-hot", 1),
    "eigen_ratio_moved": ("movement along a lower eigendirection, relative to one-hot", 1),
}
SUBSETS = {"lowest_25": "lowest 25 %", "highest_25": "highest 25 %", "clean": "right labels", "noisy": "wrong labels"}
CAPTION = """Estimates with their intervals; small strokes are the single seeds. The dashed line is where there is no effect.
    Point at an estimate for its numbers."""


def chart(estimates: Sequence[Estimate], arms: Sequence[str]) -> Chart | None:
    """Return the overview of estimates, with a choice of quantity and split; None where there are none.

    Args:
        estimates: the estimates of a study or of an audit.
        arms: the names of all its arms, for their colours.
    """
    palette = colours.arms([*arms, *(estimate.arm for estimate in estimates)])
    by_name = {name: [each for each in estimates if each.name == name and not each.variant] for name in QUANTITIES}
    there = {name: QUANTITIES[name][0] for name, found in by_name.items() if found}
    if not there:
        return None
    columns: dict[str, Any] = {}
    for name in there:
        columns[f"title|{name}"] = QUANTITIES[name][0]
        wheres = sorted(
            {_where(each) for each in by_name[name]}, key=lambda where: (where != "test", where != "train", where)
        )
        columns[f"where|{name}"] = charts.choices({where: where for where in wheres})
        columns[f"shapes|{name}"] = _no_effect(QUANTITIES[name][1])
        for where in wheres:
            of_where = [each for each in by_name[name] if _where(each) == where]
            rows = list(dict.fromkeys(map(_row, of_where)))
            present = [arm for arm in palette if any(each.arm == arm for each in of_where)]
            columns[f"rows|{name}|{where}"] = rows
            columns[f"height|{name}|{where}"] = 170 + max(18 * len(rows) * (len(present) + 1), 120)
            columns[f"range|{name}|{where}"] = _range(of_where, QUANTITIES[name][1])
            for arm in present:
                _of_arm(columns, f"{name}|{where}|{arm}", [each for each in of_where if each.arm == arm])
    shown = [arm for arm in palette if any(each.arm == arm for name in there for each in by_name[name])]
    figure = {
        "data": [trace for arm in shown for trace in _traces(arm, charts.line_colour(palette[arm]))],
        "layout": {
            "height": {"column": "height|{quantity}|{where}"},
            "xaxis": {
                "title": {"text": {"column": "title|{quantity}"}},
                "range": {"column": "range|{quantity}|{where}"},
                "zeroline": False,
            },
            "yaxis": {
                "type": "category",
                "categoryorder": "array",
                "categoryarray": {"column": "rows|{quantity}|{where}"},
                "autorange": "reversed",
            },
            "scattermode": "group",
            "shapes": {"column": "shapes|{quantity}"},
        },
        "columns": columns,
        "controls": [
            charts.control("quantity", "Quantity", there),
            charts.control("where", "Of", {"column": "where|{quantity}"}),
        ],
    }
    note = tables.what_intervals_are(estimates)
    alt = f"Estimates with intervals for {', '.join(shown)}, one row for each part of the data."
    return Chart("Estimates and their intervals", figure, f"{' '.join(CAPTION.split())} {note}".strip(), alt)


def _where(estimate: Estimate) -> str:
    """The split or the layer that an estimate is about."""
    return estimate.layer or estimate.split


def _row(estimate: Estimate) -> str:
    """The part of it, as the label of a row."""
    if estimate.layer:
        return f"directions {' and '.join(map(str, estimate.directions))}"
    subset = estimate.subset
    for name, label in SUBSETS.items():
        subset = subset.replace(name, label)
    return subset.replace("_", ", ") if subset not in ("", "all") else "all examples"


def _range(estimates: Iterable[Estimate], null: float | None) -> list[float]:
    """The range of values that holds all intervals, all seeds, and the line where there is no effect."""
    values = [value for each in estimates for value in (each.interval.low, each.interval.high, *each.values)]
    values += [] if null is None else [null]
    low, high = min(values), max(values)
    edge = 0.04 * (high - low) or 0.5
    return charts.numbers([low - edge, high + edge])


def _no_effect(value: float | None) -> list[dict[str, Any]]:
    """The line where there is no effect."""
    line = {"color": colours.REFERENCE, "width": 1.5, "dash": "longdash"}
    at = {"x0": value, "x1": value, "y0": 0, "y1": 1}
    return [] if value is None else [{"type": "line", "yref": "paper", "layer": "below", **at, "line": line}]


def _of_arm(columns: dict[str, Any], key: str, estimates: Iterable[Estimate]) -> None:
    estimates = list(estimates)
    intervals = [each.interval for each in estimates]
    columns[f"x|{key}"] = charts.numbers([each.estimate for each in intervals], 6)
    columns[f"y|{key}"] = [_row(each) for each in estimates]
    columns[f"up|{key}"] = charts.numbers([each.high - each.estimate for each in intervals])
    columns[f"down|{key}"] = charts.numbers([each.estimate - each.low for each in intervals])
    columns[f"said|{key}"] = [_said(each) for each in estimates]
    seeds = [(value, _row(each)) for each in estimates if len(each.values) > 1 for value in each.values]
    if seeds:
        columns[f"seed x|{key}"] = charts.numbers([value for value, _ in seeds])
        columns[f"seed y|{key}"] = [row for _, row in seeds]


def _said(estimate: Estimate) -> str:
    """An estimate in words, in plotly's HTML."""
    over = estimate.interval
    lines = [
        f"{estimate.arm}, {_where(estimate)}, {_row(estimate)}",
        f"{over.estimate:.4g} [{over.low:.4g}, {over.high:.4g}], {over.level:.0%} over {over.count} {over.resampled}",
    ]
    if len(estimate.values) > 1:
        lines.append(f"seeds: {', '.join(f'{value:.4g}' for value in estimate.values)}")
    return "<br>".join(lines)


def _traces(arm: str, colour: str) -> list[dict[str, Any]]:
    def column(name: str) -> dict[str, str]:
        return {"column": f"{name}|{{quantity}}|{{where}}|{arm}"}

    seeds = {
        "type": "scatter",
        "mode": "markers",
        "orientation": "h",
        "offsetgroup": arm,
        "legendgroup": arm,
        "showlegend": False,
        "x": column("seed x"),
        "y": column("seed y"),
        "marker": {"color": colour, "size": 9, "opacity": 0.75, "symbol": "line-ns-open"},
        "hoverinfo": "skip",
    }
    estimates = {
        "type": "scatter",
        "mode": "markers",
        "name": arm,
        "orientation": "h",
        "offsetgroup": arm,
        "legendgroup": arm,
        "x": column("x"),
        "y": column("y"),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": column("up"),
            "arrayminus": column("down"),
            "width": 5,
        },
        "marker": {"color": colour, "size": 9},
        "text": column("said"),
        "hovertemplate": "%{text}<extra></extra>",
    }
    return [seeds, estimates]
