"""Figures of the functions that networks compute, along the eigenvectors of their tangent kernel."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_jax.analysis import functions
from kd_jax.analysis.functions import Followed, Predicted

Predictions = Mapping[tuple[str, int], Predicted]

SHOWN = 8  # groups that are drawn, from the top; more would lie over each other
RESOLVED = 1e-9  # share of the largest eigenvalue below which rounding decides
NEAR = 0.05  # margin of the axes beyond the smallest and the largest progress


def progress(followed: Sequence[Followed], predicted: Sequence[Predicted], onehot: str, student: str) -> Figure:
    """Return the figure of one-hot run and student: spectrum, progress beside filters, measured against predicted.

    Args:
        followed, predicted: what was measured and predicted of the runs of one network; without predictions none are drawn.
        onehot, student: the arms that are drawn.
    """
    figure = Figure(figsize=(17, 4.4), layout="constrained")
    spectrum, of_onehot, of_student, against = figure.subplots(1, 4)
    runs = {arm: [run for run in followed if run.arm == arm] for arm in (onehot, student)}
    predictions = {(run.arm, run.seed): run for run in predicted}
    first = runs[onehot][0]
    colours = _colours(min(SHOWN, functions.moving(first)))
    _spectrum(spectrum, first, colours)
    limits = []
    for axes, arm, name in ((of_onehot, onehot, "a(t)"), (of_student, student, "a(s) a(T), dotted a(s)")):
        limits += _curves(axes, runs[arm], predictions, colours)
        axes.set(xlabel="step", title=arm + (f": lines {name}" if predictions else ""))
    if predictions:
        _filters(of_student, runs[onehot], predictions, colours, linestyle=":", linewidth=1.1)
    for axes in (of_onehot, of_student):
        axes.set_ylim(min(limits) - NEAR, max(limits) + NEAR)
    of_onehot.set_ylabel("progress from the start to the labels")
    if predictions:
        _against(against, runs, predictions, colours)
    else:
        against.set_axis_off()
    ends = ", ".join(
        f"group {group} {np.mean([run.progress[-1, group] for run in runs[student]]):.2f} (one-hot"
        f" {np.mean([run.progress[-1, group] for run in runs[onehot]]):.2f})"
        for group in range(len(colours))
    )
    figure.set_label(
        f"Progress of {onehot} and {student} of {first.model} toward the labels along groups of eigenvectors of the tangent kernel,"
        f" beside what theory predicts. The student's at the last step: {ends}."
    )
    figure.suptitle(f"{first.model}: the function along the eigenvectors of its tangent kernel at step 0", fontsize=11)
    return figure


def _colours(count: int) -> list[Any]:
    return [matplotlib.colormaps["viridis"](0.92 * i / max(count - 1, 1)) for i in range(count)]


def _spectrum(axes: Axes, run: Followed, colours: Sequence[Any]) -> None:
    """Draw the eigenvalues by rank, those of the groups that are drawn in their colours."""
    living = int(np.sum(run.eigenvalues > run.eigenvalues[0] * RESOLVED))
    values = run.eigenvalues[:living]
    ranks = np.arange(1, living + 1)
    axes.loglog(ranks, values, ".", color="#bbbbbb", markersize=3)
    for group, ((start, stop), colour) in enumerate(zip(run.groups, colours, strict=False)):
        axes.loglog(ranks[start:stop], values[start:stop], ".", color=colour, markersize=5, label=str(group))
    axes.legend(fontsize=8, title="group", loc="lower left")
    axes.set(xlabel="rank", ylabel="eigenvalue of the kernel over examples", title="spectrum, in groups")
    axes.grid(alpha=0.3)
    if living < len(run.eigenvalues):
        said = f"the other {len(run.eigenvalues) - living}: zero beside rounding"
        axes.set_title(f"spectrum, in groups; {said}", fontsize=9)


def _curves(
    axes: Axes, runs: Sequence[Followed], predictions: Predictions, colours: Sequence[Any]
) -> tuple[float, float]:
    """Draw the mean over seeds, their range and the filters, and return the smallest and the largest progress."""
    steps, drawn = runs[0].steps, []
    late = steps > 0  # time is on a logarithmic axis
    measured = np.array([run.progress for run in runs])
    for group, colour in enumerate(colours):
        mean = measured[:, late, group].mean(axis=0)
        low, high = measured[:, late, group].min(axis=0), measured[:, late, group].max(axis=0)
        reach = [mean - low, high - mean]
        axes.errorbar(steps[late], mean, yerr=reach, fmt="o", ms=3, elinewidth=0.6, color=colour)
        drawn += [low.min(), high.max()]
    if predictions:
        _filters(axes, runs, predictions, colours, linewidth=1.6)
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    return min(drawn), max(drawn)


def _filters(
    axes: Axes, runs: Sequence[Followed], predictions: Predictions, colours: Sequence[Any], **style: Any
) -> None:
    """Draw the mean over seeds of the runs' filters."""
    steps = runs[0].steps
    filters = np.mean([predictions[run.arm, run.seed].filtered for run in runs], axis=0)
    for group, colour in enumerate(colours):
        axes.plot(steps[steps > 0], filters[steps > 0, group], color=colour, **style)


def _against(
    axes: Axes, runs: Mapping[str, Sequence[Followed]], predictions: Predictions, colours: Sequence[Any]
) -> None:
    """Draw measured progress against that of the linearised networks, a point per seed, checkpoint and group."""
    ends = []
    for (arm, of_arm), marker in zip(runs.items(), ("o", "x"), strict=True):
        for group, colour in enumerate(colours):
            expected = np.concatenate([predictions[run.arm, run.seed].linearised[:, group] for run in of_arm])
            measured = np.concatenate([run.progress[:, group] for run in of_arm])
            label = arm if group == 0 else None
            axes.plot(expected, measured, marker, color=colour, markersize=3.5, alpha=0.6, linestyle="", label=label)
            ends += [min(expected.min(), measured.min()), max(expected.max(), measured.max())]
    axes.plot((min(ends), max(ends)), (min(ends), max(ends)), color="#222222", linestyle="--", linewidth=1)
    axes.set(xlabel="linearised, from step 0", ylabel="measured", title="progress of both arms")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
