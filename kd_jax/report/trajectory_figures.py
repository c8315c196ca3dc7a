"""Figures of training examples along training: how many are learnt, and how many have been taken past their teacher."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_jax.analysis import trajectories
from kd_jax.analysis.trajectories import Trajectory
from kd_jax.plan import TEACHER
from kd_jax.report import colours
from kd_jax.report.figures import axes_or_current

TITLES = {
    "right": "share predicted as labelled",
    "crossed": "share that has been as sure as the teacher",
}
LINES = {"all": "-", "clean": "-", "noisy": "--"}


def figure(runs: Sequence[Trajectory]) -> Figure:
    """Return the figure of the shares of examples that are right, and that have crossed their teacher's confidence.

    Args:
        runs: the trajectories of all runs of a study, at least one, its arms in their order.
    """
    drawn = Figure(figsize=(11, 4.2), layout="constrained")
    panels = drawn.subplots(1, len(TITLES), sharey=True)
    for axes, of in zip(panels, TITLES, strict=True):
        shares_panel(runs, of, axes)
    panels[0].legend(fontsize=8)
    drawn.set_label(_said(runs))
    return drawn


def shares_panel(runs: Sequence[Trajectory], of: str = "right", ax: Axes | None = None) -> Axes:
    """Draw a share of the examples along training: the mean over seeds and their range as a band, noisy points dashed.

    Args:
        runs: as for `figure`.
        of: `right` or `crossed`; see `trajectories.Shares`. A teacher has no second one, for it is what others are held against.
        ax: where to draw; pyplot's current axes by default.
    """
    axes = axes_or_current(ax)
    for (arm, subset), (steps, values) in _curves(runs, of).items():
        colour = colours.arms(dict.fromkeys(run.arm for run in runs))[arm]
        label = arm if subset == "all" else f"{arm}, {subset} labels"
        axes.plot(steps, values.mean(axis=0), color=colour, linestyle=LINES[subset], linewidth=1.5, label=label)
        if len(values) > 1:
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("symlog", linthresh=1)
    axes.set(title=TITLES[of], xlabel="step (logarithmic beyond 1)", ylim=(-0.03, 1.03))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    return axes


def _curves(runs, of) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """{(arm, subset): (steps, shares [seeds, steps])}, at the steps that all seeds of an arm have."""
    found: dict[tuple[str, str], list[dict[int, float]]] = {}
    for run in runs:
        if of == "crossed" and run.arm == TEACHER:
            continue
        masks = {"clean": ~run.noisy, "noisy": run.noisy} if run.noisy.any() else {"all": ~run.noisy}
        for subset, mask in masks.items():
            if mask.any():
                shares = getattr(trajectories.shares(run, mask), of)
                at_steps = dict(zip(run.steps.tolist(), shares.tolist(), strict=True))
                found.setdefault((run.arm, subset), []).append(at_steps)
    curves = {}
    for key, of_seeds in found.items():
        steps = sorted(set.intersection(*map(set, of_seeds)))
        curves[key] = np.array(steps), np.array([[seed[step] for step in steps] for seed in of_seeds])
    return curves


def _said(runs) -> str:
    told = []
    for of, title in TITLES.items():
        for (arm, subset), (_, values) in _curves(runs, of).items():
            told.append(f"{title}, {arm}, {subset}: {values.mean(axis=0)[-1]:.2f} at the end")
    return "Lines along the steps of training. " + "; ".join(told) + "."
