"""An interactive chart of how weights grow along the eigendirections of a layer's inputs, direction by direction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd_jax.analysis import eigen
from kd_jax.analysis.eigen import Growth
from kd_jax.report import charts, colours
from kd_jax.report.charts import Chart

LEVELS = 32  # points of a curve
DIRECTIONS = 64  # of a layer that can be chosen, at most
OF = {"components": "weights", "moved": "movement since the start"}
CAPTION = """Growth of a layer's weights along the top eigendirection of its inputs (across) and a lower one (up), the mean over
    seeds at equal progress along the top one; for one-hot arms and students with the range of the seeds. Move the slider to
    choose the lower direction. A curve below the one-hot one has grown less along the lower direction: the bias of gradient
    descent, exaggerated. The ratios to one-hot, with their intervals, are in the table. Another learning rate alone should move
    along the same curve."""
ALT = """Curves of the weights' components along a lower eigendirection against those along the top one, one curve for each arm."""


def chart(
    growths: Iterable[Growth], references: Mapping[str, str], arms: Sequence[str], pairs: Sequence[Any] = ()
) -> Chart | None:
    """Return the chart of growth, with a choice of layer and of weights or movement, and a slider over directions.

    Args:
        growths: the growth of every run.
        references: {arm: the one-hot arm with which it is compared}.
        arms: the names of all arms of the study, for their colours.
        pairs: pairs of directions chosen by hand; their lower ones are on the slider.

    Returns:
        None where there is no layer with two directions.
    """
    layers = eigen.by_layer(growths)
    columns: dict[str, Any] = {}
    several = len({model for model, _ in layers}) > 1
    listed = {}
    for (model, layer), of_layer in layers.items():
        key = f"{model}|{layer}"
        living = min(eigen.alive(growth.values) for growth in of_layer)
        if living < 2:
            continue
        listed[key] = f"{model}, {layer}" if several else layer
        ruled = [pair[1] for pair in eigen.ruled_pairs(living)]
        steps = directions(living, [*ruled, *(k for pair in pairs for k in pair)])
        values = of_layer[0].values
        columns[f"first|{key}"] = str([*ruled, *steps][0])
        columns[f"directions|{key}"] = charts.choices({str(k): _said(k, values) for k in steps})
        starts_at_zero = all(not growth.components[0].any() for growth in of_layer)
        columns[f"of|{key}"] = charts.choices({"components": OF["components"]} if starts_at_zero else OF)
        for of in ("components",) if starts_at_zero else OF:
            for arm in dict.fromkeys(growth.arm for growth in of_layer):
                runs = [getattr(growth, of) for growth in of_layer if growth.arm == arm]
                _of_arm(columns, f"{key}|{of}|{arm}", runs, steps, _has_range(arm, references, runs))
    if not listed:
        return None
    palette = colours.arms(arms)
    for of, label in OF.items():
        columns[f"x title|{of}"] = f"{label} along direction 0, the top one"
        for steps in {key: columns[f"directions|{key}"] for key in listed}.values():
            for step in steps:
                columns[f"y title|{of}|{step['value']}"] = f"{label} along direction {step['value']}"
    there = [arm for arm in palette if any(growth.arm == arm for of_layer in layers.values() for growth in of_layer)]
    figure = {
        "data": [trace for arm in there for trace in _traces(arm, palette[arm])],
        "layout": {
            "height": 520,
            "xaxis": {"title": {"text": {"column": "x title|{of}"}}},
            "yaxis": {"title": {"text": {"column": "y title|{of}|{direction}"}}},
        },
        "columns": columns,
        "controls": [
            charts.control("layer", "Layer", listed),
            charts.control("of", "Of its", {"column": "of|{layer}"}),
            charts.control(
                "direction", "Direction", {"column": "directions|{layer}"}, "range", {"column": "first|{layer}"}
            ),
        ],
    }
    return Chart("Growth along eigendirections", figure, " ".join(CAPTION.split()), " ".join(ALT.split()))


def directions(living: int, wanted: Iterable[int] = ()) -> list[int]:
    """Return the lower directions that can be chosen: all, or of many those that are wanted and others at about equal ratios.

    >>> directions(6)
    [1, 2, 3, 4, 5]
    >>> chosen = directions(5000, [625])
    >>> chosen[0], 625 in chosen, chosen[-1], len(chosen) <= DIRECTIONS + 1
    (1, True, 4999, True)

    Args:
        living: along how many directions the inputs vary.
        wanted: directions that must be among them.
    """
    if living - 1 <= DIRECTIONS:
        return list(range(1, living))
    spaced = np.geomspace(1, living - 1, DIRECTIONS).round().astype(int).tolist()
    return sorted({*spaced, *(k for k in wanted if 0 < k < living)})


def _said(k: int, values: np.ndarray) -> str:
    return f"{k} (variance {values[k] / values[0]:.2g} of the top one's)"


def _has_range(arm: str, references: Mapping[str, str], runs: Sequence[Any]) -> bool:
    return len(runs) > 1 and (arm in references.values() or arm.startswith("student"))


def _of_arm(
    columns: dict[str, Any], key: str, runs: Sequence[np.ndarray], steps: Sequence[int], has_range: bool
) -> None:
    """Enter mean and range over seeds of c_k at the levels of c_0 that all runs reach, for every direction k."""
    low, high = max(run[0, 0] for run in runs), min(run[:, 0].max() for run in runs)
    if not high > low:
        return
    levels = np.linspace(low, high, LEVELS + 1)[1:]
    columns[f"x|{key}"] = charts.numbers(levels)
    if has_range:
        columns[f"around|{key}"] = columns[f"x|{key}"] + columns[f"x|{key}"][::-1]
    for k in steps:
        reached = np.array([eigen.first_reach((run[:, 0], run[:, k]), levels) for run in runs])
        columns[f"y|{key}|{k}"] = charts.numbers(reached.mean(axis=0), 3)
        if has_range:
            ends = charts.numbers(reached.max(axis=0), 3), charts.numbers(reached.min(axis=0), 3)
            columns[f"band|{key}|{k}"] = ends[0] + ends[1][::-1]


def _traces(arm: str, colour: str) -> list[dict[str, Any]]:
    key = f"{{layer}}|{{of}}|{arm}"
    band = {
        "type": "scatter",
        "mode": "none",
        "fill": "toself",
        "fillcolor": charts.band_colour(colour),
        "legendgroup": arm,
        "showlegend": False,
        "hoverinfo": "skip",
        "x": {"column": f"around|{key}"},
        "y": {"column": f"band|{key}|{{direction}}"},
    }
    curve = {
        "type": "scatter",
        "mode": "lines",
        "name": arm,
        "legendgroup": arm,
        "x": {"column": f"x|{key}"},
        "y": {"column": f"y|{key}|{{direction}}"},
        "line": {"color": charts.line_colour(colour), "width": 2, "dash": colours.dash(arm)},
        "hovertemplate": f"{arm}: %{{y:.3g}} at %{{x:.3g}} along the top one<extra></extra>",
    }
    return [band, curve]
