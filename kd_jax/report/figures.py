"""Figures for people and for papers.

Functions whose names end in `_panel` draw on the axes that they are given, or on pyplot's current ones, and return them. The others
return a whole matplotlib `Figure` made of panels, which `save` writes as PNG and PDF.
"""

import base64
import contextlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kd_jax.analysis import exaggeration
from kd_jax.analysis.results import Estimate, Interval, index
from kd_jax.plan import Arm
from kd_jax.report import colours, labels, tables
from kd_jax.report.page import KINDS, Picture

DPI = 130  # of PNGs
MOST_CHARACTERS = 150  # of the name of a file
RASTERIZED = 1500  # points beyond which they are an image in SVG and PDF too
MANY = 4000  # points beyond which a density is easier to read than dots
WIDEST = 1.6  # of a panel, in ranges of all points but the outermost thousandths, before points further out are drawn at its edge
MARGIN = 0.05  # of a panel around its points, as a share of their range
SUBSET_LABELS = {"all": "all points", "lowest_25": "lowest 25 %", "highest_25": "highest 25 %"}


def file_name(name: str) -> str:
    """Return the name of a figure as that of its files: a model or a layer in it may be called anything.

    >>> file_name("eigen_curves-mlp_16-../../x")
    'eigen_curves-mlp_16-.._.._x'
    """
    return re.sub(r"[^\w.,=+-]", "_", name)[:MOST_CHARACTERS].lstrip(".") or "_"


def save(figure: Figure, path: Path) -> Picture:
    """Write a figure as `path`.png, .svg and .pdf, and return it for the page.

    What one would see in it, in words, is the figure's label (`Figure.set_label`); it is in the PNG and the SVG too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    _lay_out(figure)
    buffer = io.BytesIO()
    said = str(figure.get_label())
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Description": said})
    path.with_name(f"{path.name}.png").write_bytes(buffer.getvalue())
    # A hash salt of its own and no date: the same figure is the same file.
    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Description": said})
    figure.savefig(path.with_name(f"{path.name}.pdf"), metadata={"CreationDate": None})
    return Picture(base64.b64encode(buffer.getvalue()).decode(), said, figure.get_figwidth(), KINDS)


def _lay_out(figure: Figure) -> None:
    """Lay a figure out for good: where there is an engine for that, even one that does nothing, each file is drawn twice."""
    before, engine = figure.dpi, figure.get_layout_engine()
    figure.dpi = DPI
    if engine is not None:
        with contextlib.suppress(ValueError):  # as matplotlib does, where there is no room
            engine.execute(figure)
    figure.dpi = before
    figure.set_layout_engine(None)


def confidence(
    logits: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    arms: Sequence[Arm],
    seed: int,
    estimates: Sequence[Estimate] = (),
) -> Figure:
    """Return the figure of the student's confidence against the teacher's, in the teacher's top class.

    There is a column per arm and a row per split; the panels of a row share their scale. Points and lines are those of one seed;
    of several seeds the mean slope stands beside the line's own.

    Args:
        logits: {split: {arm: (logits of the teacher, logits of the run), each float [examples, classes]}}.
        arms: the arms to draw, without the teacher.
        seed: the seed of the runs.
        estimates: those of the study, for the mean slopes.
    """
    controls = {arm.control for arm in arms}
    figure = Figure(figsize=(4.2 * len(arms) + 0.4, 4.3 * len(logits)), layout="constrained")
    grid = figure.subplots(len(logits), len(arms), squeeze=False)
    table = index(estimates, "name", "arm", "split", "subset")
    said, seeds = [], 1
    for row, (split, of_split) in enumerate(logits.items()):
        points = [exaggeration.confidence_pair(*of_split[arm.name]) for arm in arms]
        limits = point_limits(np.concatenate(points, axis=None))
        for column, arm in enumerate(arms):
            axes = grid[row][column]
            means = {}
            for subset in colours.SUBSETS:
                estimate = table.get(("exaggeration_slope", arm.name, split, subset))
                if estimate is not None and estimate.interval.resampled == "seeds":
                    means[subset], seeds = estimate.interval, estimate.interval.count
            confidence_points(*points[column], limits, axes, means)
            slopes = exaggeration.lines(*points[column])
            listed = ", ".join(f"{SUBSET_LABELS[subset]} {line.slope:.2f}" for subset, line in slopes.items())
            said.append(f"{arm.name} on {split} examples: slopes {listed}")
            kind = "distilled" if arm.teacher else "control" if arm.name in controls else "never met the teacher"
            axes.set_title(f"{arm.name} ({arm.model}), {split}\n{kind}", fontsize=10)
            if row == len(logits) - 1:
                axes.set_xlabel("teacher: log p/(1-p) of its top class [nats]")
            if column == 0:
                axes.set_ylabel("same class, other model [nats]")
    which = f"seed {seed}" if seeds == 1 else f"seed {seed}, one of {seeds}"
    figure.suptitle(f"Confidence of {which}. A slope above 1 exaggerates the teacher", fontsize=12)
    figure.set_label(
        f"Scatter plots of a network's confidence in the teacher's top class against the teacher's, a point per example, of"
        f" {which}, with fitted lines. {'; '.join(said)}."
    )
    return figure


def point_limits(values: np.ndarray) -> tuple[float, float]:
    """Return the range of a panel that shows all values, or where few are far away, all but those.

    Args:
        values: float [values], finite.
    """
    ends, (low, high) = (values.min(), values.max()), np.quantile(values, (0.001, 0.999))
    is_all = ends[1] - ends[0] <= WIDEST * (high - low) or high == low
    if is_all:
        low, high = ends
    margin = (MARGIN if is_all else (WIDEST - 1) / 2) * (high - low) or 1.0
    return float(low - margin), float(high + margin)


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
    x: np.ndarray,
    y: np.ndarray,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
    means: Mapping[str, Interval] | None = None,
) -> Axes:
    """Draw the same as `confidence_panel` from the confidences of teacher and student, float [examples] each, in nats.

    Points outside of the limits are drawn as crosses at the edge, and counted. `means` has the mean slopes of all seeds by subset.
    """
    axes = axes_or_current(ax)
    low, high = limits or point_limits(np.concatenate((x, y)))
    outside = (np.minimum(x, y) < low) | (np.maximum(x, y) > high)
    if len(x) > MANY:
        axes.hexbin(x, y, gridsize=60, bins="log", cmap="Greys", extent=(low, high, low, high), linewidths=0, mincnt=1)
    else:
        inside = x[~outside], y[~outside]
        axes.scatter(*inside, s=5, color=colours.POINT, alpha=0.5, linewidths=0, rasterized=len(x) > RASTERIZED)
    if outside.any():
        near = 0.015 * (high - low)
        edge = (np.clip(each[outside], low + near, high - near) for each in (x, y))
        label = f"beyond the frame: {outside.sum()}"
        axes.plot(*edge, "x", color="#444444", markersize=5, linestyle="", label=label)
    axes.plot((low, high), (low, high), color=colours.REFERENCE, linewidth=1, linestyle="--", label="student = teacher")
    masks, lines = exaggeration.masks(x), exaggeration.lines(x, y)
    for subset, line in lines.items():
        ends = np.array([max(x[masks[subset]].min(), low), min(x[masks[subset]].max(), high)])
        label = f"{SUBSET_LABELS[subset]}: slope {line.slope:.2f}"
        if means and subset in means:
            label += f" (mean of {means[subset].count}: {means[subset].estimate:.2f})"
        axes.plot(ends, line.intercept + line.slope * ends, color=colours.SUBSETS[subset], linewidth=2, label=label)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.legend(fontsize=8, loc="upper left", framealpha=0.85)
    return axes


def slopes(estimates: Sequence[Estimate], arms: Sequence[Arm]) -> Figure:
    """Return the figure of the exaggeration slopes; arguments as for `slopes_panel`."""
    groups = _slope_groups(estimates, arms)
    figure = Figure(figsize=(7.5, 1.2 + 0.62 * len(groups)), layout="constrained")
    slopes_panel(estimates, arms, figure.subplots())
    table = index(estimates, "name", "arm", "split", "subset")
    listed = [
        f"{arm} on {split} examples: " + ", ".join(
            f"{SUBSET_LABELS[subset]} {tables.shown(table[key].interval, 2)}"
            for subset in colours.SUBSETS
            if (key := ("exaggeration_slope", arm, split, subset)) in table
        )
        for arm, split in groups
    ]  # fmt: skip
    figure.set_label(f"Exaggeration slopes with their intervals. {'; '.join(listed)}.")
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
    offsets = dict(zip(colours.SUBSETS, (-0.2, 0.0, 0.2), strict=True))
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
                fmt=colours.MARKERS[subset],
                ms=5,
                capsize=3,
                color=colours.SUBSETS[subset],
                label=label,
            )
    axes.axvline(1, color=colours.REFERENCE, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(groups)), [f"{arm}, {split}" for arm, split in groups])
    axes.invert_yaxis()
    axes.set_xlabel("slope of the student's confidence on the teacher's (above 1: exaggerated)")
    axes.grid(axis="x", alpha=0.3)
    if axes.get_legend_handles_labels()[1]:  # not where no run learnt, so that there is no slope
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure = axes.get_figure()
    assert figure is not None
    axes.set_title(labels.wrapped(tables.what_intervals_are(estimates), figure), fontsize=10)
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
    figure.set_label("Curves along training: " + ", ".join(CURVES.values()) + f". {_last_epoch(metrics)}")
    return figure


def _last_epoch(metrics: Metrics) -> str:
    """What the last epoch has, in a sentence."""
    last = {arm: [lines[-1] for lines in by_seed if lines] for arm, by_seed in metrics.items()}
    listed = [f"{arm} {np.mean([line['test_accuracy'] for line in lines]):.3f}" for arm, lines in last.items() if lines]
    return f"Mean test accuracy in the last epoch: {', '.join(listed)}." if listed else "No run has metrics."


def learning_panel(metrics: Metrics, key: str = "test_accuracy", ax: Axes | None = None) -> Axes:
    """Draw a quantity of `metrics.jsonl` along training: the mean over seeds, and their range as a band.

    Each epoch is drawn over the seeds that have it; a run without metrics has none.

    Args:
        metrics: {arm: lines of `metrics.jsonl` of each seed}.
        key: the quantity, such as those of `CURVES`.
        ax: where to draw; pyplot's current axes by default.
    """
    axes = axes_or_current(ax)
    of_arm = colours.arms(metrics)
    for arm, by_seed in metrics.items():
        by_epoch: dict[int, list[float]] = {}
        for lines in by_seed:
            for line in lines:
                by_epoch.setdefault(line["epoch"], []).append(line[key])
        if not by_epoch:
            continue
        epochs = sorted(by_epoch)
        values = [by_epoch[epoch] for epoch in epochs]
        colour = of_arm[arm]
        axes.plot(epochs, list(map(np.mean, values)), color=colour, linewidth=1.5, label=arm)
        if len(by_seed) > 1:
            low, high = list(map(min, values)), list(map(max, values))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(CURVES.get(key, key), fontsize=10)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    return axes
