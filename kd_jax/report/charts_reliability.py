"""Interactive reliability diagrams: how often a model is right when it is so sure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kd_jax.analysis import calibration
from kd_jax.analysis.gallery import OfRun
from kd_jax.report import charts, colours
from kd_jax.report.charts import Chart
from kd_jax.report.charts_confidence import Examples

RELIABILITY = """How often a model is right, against how sure it is, in 15 bins of equal width; larger points hold more
    examples. Below the diagonal a model is too sure. The bars say how many examples are in a bin."""


class OfSeed(NamedTuple):
    """How sure a model is, and whether it is right, of each example of a split.

    Attributes:
        arm, seed, split: the run.
        confidence: largest probabilities, float [examples].
        hit: whether the prediction is the label, bool [examples].
    """

    arm: str
    seed: int
    split: str
    confidence: np.ndarray
    hit: np.ndarray


def answers(runs: Sequence[OfRun], examples: Mapping[str, Examples]) -> list[OfSeed]:
    """Return what the reliability diagram needs of runs and of their teachers, each teacher once; nothing where labels lack."""
    listed = {}
    for run in runs:
        labels = examples[run.split].labels
        if labels is None:
            continue
        listed[run.against, run.seed, run.split] = run.teacher_p, run.teacher == labels
        listed[run.arm, run.seed, run.split] = run.student_p, run.student == labels
    return [OfSeed(*key, *found) for key, found in listed.items()]


def chart(models: Sequence[OfSeed], arms: Sequence[str]) -> Chart | None:
    """Return the reliability diagrams, with a choice of split and of one seed or the mean of all; None without models.

    Args:
        models: every run, of teachers too.
        arms: the names of all arms of the study, for their colours.
    """
    if not models:
        return None
    names = [arm for arm in dict.fromkeys([*arms]) if any(model.arm == arm for model in models)]
    palette, columns = colours.arms(arms), {}
    splits = sorted(dict.fromkeys(model.split for model in models), key=lambda split: split != "test")
    seeds = sorted({model.seed for model in models})
    for split in splits:
        for arm in names:
            of_arm = [model for model in models if (model.arm, model.split) == (arm, split)]
            if of_arm:
                found = {str(model.seed): calibration.reliability(model.confidence, model.hit) for model in of_arm}
                for seed, each in found.items():
                    _bins(columns, f"{split}|{arm}|{seed}", each)
                _mean_bins(columns, f"{split}|{arm}|mean", list(found.values()))
    several = {"mean": f"mean of {len(seeds)} seeds"} if len(seeds) > 1 else {}
    data = [_diagonal()]
    for arm in names:
        data += _of_arm(arm, charts.line_colour(palette[arm]))
    figure = {
        "data": data,
        "layout": {
            "height": 620,
            "xaxis": {"title": {"text": "confidence"}, "range": [0, 1.01], "anchor": "y2"},
            "yaxis": {"title": {"text": "share that is right"}, "range": [0, 1.03], "domain": [0.3, 1]},
            "yaxis2": {"title": {"text": "examples"}, "domain": [0, 0.22], "type": "log", "dtick": 1},
            "bargap": 0.15,
        },
        "columns": columns,
        "controls": [
            charts.control("split", "Split", {split: split for split in splits}),
            charts.control("seed", "Seed", several | {str(seed): f"seed {seed}" for seed in seeds}),
        ],
    }
    caption = " ".join(RELIABILITY.split())
    if several:
        caption += " Upright lines reach from the lowest seed to the highest; seeds without the bin are left out."
    alt = f"Reliability diagrams of {', '.join(names)}: accuracy against confidence, and the examples in each bin."
    return Chart("Is it right as often as it is sure?", figure, caption, alt)


def _bins(columns: dict[str, Any], key: str, found: calibration.Reliability) -> None:
    columns[f"x|{key}"] = charts.numbers(found.confidence)
    columns[f"y|{key}"] = charts.numbers(found.accuracy)
    _counts(columns, key, found.count, np.ceil(found.confidence * calibration.ECE_BINS) - 1)
    columns[f"up|{key}"] = columns[f"down|{key}"] = [0] * len(found.count)


def _counts(columns: dict[str, Any], key: str, counts: Any, bins: Any) -> None:
    """Enter how many examples are in each bin, the middle of the bin, and the size of its point."""
    counts = np.asarray(counts, np.float64)
    columns[f"n|{key}"] = charts.numbers(counts)
    columns[f"middle|{key}"] = charts.numbers((np.asarray(bins) + 0.5) / calibration.ECE_BINS)
    columns[f"size|{key}"] = charts.numbers(4 + 20 * np.sqrt(counts / counts.sum()), 3)


def _mean_bins(columns: dict[str, Any], key: str, seeds: Sequence[calibration.Reliability]) -> None:
    table: dict[int, list[tuple[float, float, int]]] = {}
    for found in seeds:
        for confidence_, accuracy, count in zip(*found, strict=True):
            at = int(np.ceil(confidence_ * calibration.ECE_BINS)) - 1
            table.setdefault(at, []).append((confidence_, accuracy, count))
    values = [np.array(table[at]) for at in sorted(table)]
    mean = np.array([each.mean(axis=0) for each in values])
    # Of seeds that lack the bin the count is 0.
    counts = [each[:, 2].sum() / len(seeds) for each in values]
    columns[f"x|{key}"], columns[f"y|{key}"] = charts.numbers(mean[:, 0]), charts.numbers(mean[:, 1])
    _counts(columns, key, counts, sorted(table))
    columns[f"up|{key}"] = charts.numbers([each[:, 1].max() - each[:, 1].mean() for each in values])
    columns[f"down|{key}"] = charts.numbers([each[:, 1].mean() - each[:, 1].min() for each in values])


def _diagonal() -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "as often right as sure",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": colours.REFERENCE, "width": 1.5, "dash": "longdash"},
        "hoverinfo": "skip",
    }


def _of_arm(arm: str, colour: str) -> list[dict[str, Any]]:
    def column(name: str) -> dict[str, str]:
        return {"column": f"{name}|{{split}}|{arm}|{{seed}}"}

    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": arm,
        "legendgroup": arm,
        "x": column("x"),
        "y": column("y"),
        "customdata": column("n"),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": column("up"),
            "arrayminus": column("down"),
            "width": 0,
            "thickness": 1,
        },
        "line": {"color": colour, "width": 1.5, "dash": colours.dash(arm)},
        "marker": {"size": column("size"), "opacity": 0.85, "line": {"width": 0}},
        "hovertemplate": f"{arm}: sure %{{x:.3f}}, right %{{y:.3f}}, %{{customdata}} examples<extra></extra>",
    }
    counts = {
        "type": "bar",
        "name": arm,
        "legendgroup": arm,
        "showlegend": False,
        "x": column("middle"),
        "y": column("n"),
        "yaxis": "y2",
        "marker": {"color": colour},
        "hovertemplate": f"{arm}: %{{y}} examples<extra></extra>",
    }
    return [curve, counts]
