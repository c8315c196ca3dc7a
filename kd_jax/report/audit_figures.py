"""Figures of an audit: confidence against the teacher's, slopes, reliability."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_jax.analysis import calibration
from kd_jax.analysis.examples import Beside
from kd_jax.analysis.results import Estimate
from kd_jax.plan import Arm
from kd_jax.report import beyond, colours, figures

EDGE = 0.06  # of a reliability diagram beyond 0 and 1, so that the largest point is whole there


def reliability_panel(
    confidences: np.ndarray, hits: np.ndarray, label: str = "", colour: str = colours.TEXT, ax: Axes | None = None
) -> Axes:
    """Draw a model's accuracy against its confidence, and return the axes.

    Args:
        confidences: largest probabilities, float [examples].
        hits: whether the prediction is right, bool [examples].
        label: of the points.
        colour: of the points.
        ax: where to draw; pyplot's current axes by default.
    """
    axes = figures.axes_or_current(ax)
    found = calibration.reliability(confidences, hits)
    sizes = 12 + 400 * found.count / found.count.sum()
    axes.plot((0, 1), (0, 1), color=colours.REFERENCE, linewidth=1, linestyle="--")
    axes.plot(found.confidence, found.accuracy, color=colour, linewidth=1)
    axes.scatter(found.confidence, found.accuracy, s=sizes, color=colour, alpha=0.7, linewidths=0, label=label)
    ends = (-EDGE, 1 + EDGE)
    axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="confidence", ylabel="share that is right")
    return axes


def drawn(
    found: Mapping[str, Any],
    first: Beside,
    controlled: Beside | None,
    estimates: Sequence[Estimate],
    arms: Sequence[Arm],
) -> dict[str, Figure]:
    """Return {name: figure} of an audit; none where too few confidences are finite.

    Args:
        found: what `summary.json` says under `audit`.
        first, controlled: as for `audits.write`.
        estimates: those of `summary.json`.
        arms: the student, and the control where there is one.
    """
    shown = {"student": first} | ({"control": controlled} if controlled else {})
    of_arm, said = colours.arms(("teacher", *shown)), []
    figure = Figure(figsize=(4.6 * len(shown) + 0.4, 5.0), layout="compressed")
    for axes, (arm, beside) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        finite = np.isfinite(beside.pair.x) & np.isfinite(beside.pair.y)
        if finite.sum() < 2:
            return {}
        figures.confidence_points(beside.pair.x[finite], beside.pair.y[finite], ax=axes)
        name = found["given"][arm][0]["name"]
        axes.set(
            title=f"{arm}: {name}{_first(found, arm)}",
            xlabel="teacher: log p/(1-p) of its top class [nats]",
            ylabel="same class [nats]",
        )
    figure.set_label(
        f"Scatter plots of the confidence of {' and '.join(shown)} in the teacher's top class against the teacher's own,"
        f" {len(first.pair.x):,} {found['given']['unit']}, with fitted lines."
    )
    made = {"confidence": figure}
    if any(each.name == "exaggeration_slope" for each in estimates):
        made["slopes"] = figures.slopes(estimates, arms)
    if (by_rank := beyond.figure(estimates, arms)) is not None:
        made["slopes_by_rank"] = by_rank
    of_both = [
        (name, model.confidence, model.hit)
        for name, model in (("teacher", first.teacher), ("student", first.student))
        if model.hit is not None
    ]
    if len(of_both) == 2:
        made["reliability"] = figure = Figure(figsize=(9.4, 4.8), layout="constrained")
        for axes, (name, confidence, hit) in zip(figure.subplots(1, 2), of_both, strict=True):
            ece = calibration.ece(confidence, hit)  # of all examples, as what is drawn
            reliability_panel(confidence, hit, colour=of_arm[name], ax=axes)
            axes.set_title(f"{name}: ECE {ece:.3f}{_first(found, name)}")
            said.append(f"{name}: ECE {ece:.3f}, mean confidence {confidence.mean():.3f}, accuracy {hit.mean():.3f}")
        figure.set_label(f"Reliability diagrams, accuracy against confidence. {'; '.join(said)}.")
    return made


def _first(found: Mapping[str, Any], arm: str) -> str:
    """That a model is the first of several of its kind, for a title; empty where it is alone."""
    count = len(found["given"][arm])
    return f", the first of {count}" if count > 1 else ""
