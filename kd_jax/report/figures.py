"""Figures for people and for papers.

Functions whose names end in `_panel` draw on the axes that they are given, or on pyplot's current ones, and return them. The others
return a whole matplotlib `Figure` made of panels, which `save` writes as PNG and PDF.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kd_jax.analysis import exaggeration
from kd_jax.analysis.results import Estimate, index
from kd_jax.plan import Arm
from kd_jax.report import tables

MANY = 4000  # points beyond which a density is easier to read than dots
SUBSET_COLOURS = {
    "all": "#222222",
    "lowest_25": "#D55E00",
    "highest_25": "#0072B2",
}  # of Okabe and Ito, colour-blind safe
SUBSET_LABELS = {"all": "all points", "lowest_25": "lowest 25 %", "highest_25": "highest 25 %"}
ARM_COLOURS = ("#222222", "#0072B2", "#D55E00", "#56B4E9", "#E69F00", "#009E73", "#CC79A7")


def save(figure: Figure, path: Path) -> str:
    """Write a figure as `path`.png and `path`.pdf, and return the PNG in base64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    path.with_name(f"{path.name}.png").write_bytes(buffer.getvalue())
    figure.set_layout_engine("none")  # it is laid out now, and to do so takes as long as to draw
    figure.savefig(path.with_name(f"{path.name}.pdf"))
    return base64.b64encode(buffer.getvalue()).decode()


def confidence(
    logits: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], arms: Sequence[Arm], seed: int
) -> Figure:
    """Return the figure of the student's confidence against the teacher's, in the teacher's top class.

    There is a column per arm and a row per split; the panels of a row share their scale.

    Args:
        logits: {split: {arm: (logits of the teacher, logits of the run), each float [examples, classes]}}.
        arms: the arms to draw, without the teacher.
        seed: the seed of the runs, for the title.
    """
    controls = {arm.control for arm in arms}
    figure = Figure(figsize=(4.2 * len(arms) + 0.4, 4.1 * len(logits)), layout="constrained")
    grid = figure.subplots(len(logits), len(arms), squeeze=False)
    for row, (split, of_split) in enumerate(logits.items()):
        points = [exaggeration.confidence_pair(*of_split[arm.name]) for arm in arms]
        low, high = np.quantile(np.concatenate(points, axis=None), (0.001, 0.999))
        margin = 0.05 * (high - low)
        for column, arm in enumerate(arms):
            axes = grid[row][column]
            confidence_panel(*of_split[arm.name], limits=(low - margin, high + margin), ax=axes)
            kind = "distilled" if arm.teacher else "control" if arm.name in controls else "one-hot labels, another seed"
            axes.set_title(f"{arm.name} ({arm.model}), {split}\n{kind}", fontsize=10)
            if row == len(logits) - 1:
                axes.set_xlabel("teacher: log p/(1-p) of its top class [nats]")
            if column == 0:
                axes.set_ylabel("same class, other model [nats]")
    figure.suptitle(f"Confidence, seed {seed}: a slope above 1 exaggerates the teacher", fontsize=12)
    return figure


def axes_or_current(ax: Axes | None) -> Axes:
    """Return `ax`, or pyplot's current axes for None."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt  # only here: it chooses a window system

    return plt.gca()


def confidence_panel(
    teacher: np.ndarray, student: np.ndarray, limits: tuple[float, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a student's confidence against its teacher's in the teacher's top class, with the lines fitted to it.

    Args:
        teacher, student: logits of the two on the same examples, float [examples, classes].
        limits: the range of both axes [nats]; by default it holds all but the outermost thousandth on either side.
        ax: where to draw; pyplot's current axes by default.
    """
    return confidence_points(*exaggeration.confidence_pair(teacher, student), limits, ax)


def confidence_points(
    x: np.ndarray, y: np.ndarray, limits: tuple[float, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the same as `confidence_panel` from the confidences of teacher and student, float [examples] each, in nats."""
    axes = axes_or_current(ax)
    if limits is None:
        low, high = np.quantile(np.concatenate((x, y)), (0.001, 0.999))
        limits = low - 0.05 * (high - low), high + 0.05 * (high - low)
    low, high = limits
    if len(x) > MANY:
        axes.hexbin(x, y, gridsize=60, bins="log", cmap="Greys", extent=(low, high, low, high), linewidths=0, mincnt=1)
    else:
        axes.scatter(x, y, s=5, color="#888888", alpha=0.5, linewidths=0)
    axes.plot((low, high), (low, high), color="#009E73", linewidth=1, linestyle="--", label="student = teacher")
    masks, lines = exaggeration.masks(x), exaggeration.lines(x, y)
    for subset, line in lines.items():
        ends = np.array([max(x[masks[subset]].min(), low), min(x[masks[subset]].max(), high)])
        label = f"{SUBSET_LABELS[subset]}: slope {line.slope:.2f}"
        axes.plot(ends, line.intercept + line.slope * ends, color=SUBSET_COLOURS[subset], linewidth=2, label=label)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.legend(fontsize=8, loc="upper left", framealpha=0.85)
    return axes


def slopes(estimates: Sequence[Estimate], arms: Sequence[Arm]) -> Figure:
    """Return the figure of the exaggeration slopes; arguments as for `slopes_panel`."""
    groups = _slope_groups(estimates, arms)
    figure = Figure(figsize=(7.5, 1.2 + 0.62 * len(groups)), layout="constrained")
    slopes_panel(estimates, arms, figure.subplots())
    return figure


def _slope_groups(estimates: Iterable[Estimate], arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """[(arm, split)] of the slopes that there are: a teacher that is a file of logits may have none for the test set."""
    there = {(estimate.arm, estimate.split) for estimate in estimates if estimate.name == "exaggeration_slope"}
    return [(arm.name, split) for split in ("test", "train") for arm in arms if (arm.name, split) in there]


def slopes_panel(estimates: Sequence[Estimate], arms: Sequence[Arm], ax: Axes | None = None) -> Axes:
    """Draw the exaggeration slopes with their intervals, students beside their controls.

    Args:
        estimates: the estimates of the study.
        arms: the arms to draw, without the teacher.
        ax: where to draw; pyplot's current axes by default.
    """
    axes = axes_or_current(ax)
    table = index(estimates, "name", "arm", "split", "subset")
    groups = _slope_groups(estimates, arms)
    offsets = dict(zip(SUBSET_COLOURS, (-0.2, 0.0, 0.2), strict=True))
    for position, (arm, split) in enumerate(groups):
        for subset, offset in offsets.items():
            estimate = table.get(("exaggeration_slope", arm, split, subset))
            if estimate is None:
                continue
            value = estimate.interval.estimate
            reach = [[value - estimate.interval.low], [estimate.interval.high - value]]
            label = SUBSET_LABELS[subset] if position == 0 else None
            axes.errorbar(
                value,
                position + offset,
                xerr=reach,
                fmt="o",
                ms=5,
                capsize=3,
                color=SUBSET_COLOURS[subset],
                label=label,
            )
    axes.axvline(1, color="#009E73", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(groups)), [f"{arm}, {split}" for arm, split in groups])
    axes.invert_yaxis()
    axes.set_xlabel("slope of the student's confidence on the teacher's (above 1: exaggerated)")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(tables.what_intervals_are(estimates), fontsize=10)
    return axes


CURVES = {
    "train_accuracy": "accuracy on training labels, training views",
    "test_accuracy": "test accuracy",
    "test_loss": "test NLL [nats]",
}
Metrics = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]


def learning_curves(metrics: Metrics) -> Figure:
    """Return the figure of accuracy and loss along training; `metrics` as for `learning_panel`."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for axes, key in zip(panels, CURVES, strict=True):
        learning_panel(metrics, key, axes)
    if any(map(any, metrics.values())):
        panels[0].legend(fontsize=8)
    return figure


def learning_panel(metrics: Metrics, key: str = "test_accuracy", ax: Axes | None = None) -> Axes:
    """Draw a quantity of `metrics.jsonl` along training: the mean over seeds, and their range as a band.

    Each epoch is drawn over the seeds that have it; a run without metrics has none.

    Args:
        metrics: {arm: lines of `metrics.jsonl` of each seed}.
        key: the quantity, such as those of `CURVES`.
        ax: where to draw; pyplot's current axes by default.
    """
    axes = axes_or_current(ax)
    for number, (arm, by_seed) in enumerate(metrics.items()):
        by_epoch: dict[int, list[float]] = {}
        for lines in by_seed:
            for line in lines:
                by_epoch.setdefault(line["epoch"], []).append(line[key])
        if not by_epoch:
            continue
        epochs = sorted(by_epoch)
        values = [by_epoch[epoch] for epoch in epochs]
        colour = ARM_COLOURS[number % len(ARM_COLOURS)]
        axes.plot(epochs, list(map(np.mean, values)), color=colour, linewidth=1.5, label=arm)
        if len(by_seed) > 1:
            low, high = list(map(min, values)), list(map(max, values))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(CURVES.get(key, key), fontsize=10)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    return axes
