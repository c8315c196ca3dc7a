"""Figures of a sweep: every variant, gains against the teacher, gains against the epoch of a switch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_jax import config
from kd_jax.analysis import results
from kd_jax.analysis.across import StudentResult
from kd_jax.analysis.intervals import over_seeds
from kd_jax.analysis.results import Interval
from kd_jax.report import colours, labels, settings
from kd_jax.report.sweeps import by_variant, students


def variants(summary: Mapping[str, Any]) -> Figure:
    """Return the figure with every variant on a line: accuracies, gain, and the slopes of both splits beside their controls.

    Args:
        summary: contents of the sweep's `summary.json`.
    """
    known, listed = by_variant(results.read(summary)), list(students(summary))
    several = len({arm["name"] for _, arm in listed}) > 1
    panels = (
        ("test accuracy", "accuracy", "test", "all"),
        ("gain in test accuracy", "accuracy_gain", "test", "all"),
        ("slope, train, lowest 25 %", "exaggeration_slope", "train", "lowest_25"),
        ("slope, test, lowest 25 %", "exaggeration_slope", "test", "lowest_25"),
    )
    figure = Figure(figsize=(15, 1.2 + 0.34 * len(listed)), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True)
    lines = np.arange(len(listed))
    for axes, (title, quantity, split, subset) in zip(grid, panels, strict=True):
        beside = "control" if quantity == "exaggeration_slope" else "baseline"
        for colour, label, whose, shift in (
            (colours.ONEHOT, "labels alone", beside, -0.13),
            (colours.STUDENT, "distilled", "name", 0.13),
        ):
            there = [
                (line + shift, known[key].interval)
                for line, (name, arm) in zip(lines, listed, strict=True)
                if (key := (name, quantity, arm[whose], split, subset)) in known
            ]
            if there:
                y, of = zip(*there, strict=True)
                _whiskers(axes, [i.estimate for i in of], y, of, colour, label, across=True)
        if "slope" in title or "gain" in title:
            axes.axvline(1 if "slope" in title else 0, color=colours.REFERENCE, linewidth=0.8, linestyle="--")
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", color="#eeeeee")
    grid[0].set_yticks(lines, [f"{name}, {arm['name']}" if several else name for name, arm in listed], fontsize=8)
    grid[0].invert_yaxis()
    _legend(figure, grid[0])
    gains = [
        f"{name} {known[key].interval.estimate:+.3f}"
        for name, arm in listed
        if (key := (name, "accuracy_gain", arm["name"], "test", "all")) in known
    ]
    figure.set_label(
        f"Test accuracy, gain and slopes of {len(listed)} variants with their intervals. Gains: {', '.join(gains)}."
    )
    return figure


def _whiskers(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    intervals: Sequence[Interval],
    colour: str,
    label: str | None,
    across: bool,
) -> None:
    """Draw dots with their intervals: horizontal ones of x (`across`) or vertical ones of y."""
    middle = x if across else y
    ends = np.array([[m - of.low, of.high - m] for m, of in zip(middle, intervals, strict=True)]).T
    error: dict[str, Any] = {"xerr" if across else "yerr": np.maximum(ends, 0)}
    axes.errorbar(x, y, fmt="o", markersize=4, color=colour, label=label, elinewidth=1.2, **error)


def gain(measured: Sequence[StudentResult]) -> Figure:
    """Return the figure of gain against the teacher's accuracy on its training labels, and against its lead on test data.

    Args:
        measured: every student of every variant.
    """
    figure = Figure(figsize=(13, 5), layout="constrained")
    grid = figure.subplots(1, 2, sharey=True)
    base = measured[0].values
    kinds = [tuple(name for name in m.values if m.values[name] != base[name]) for m in measured]
    names = list(dict.fromkeys(kinds))
    named: dict[Axes, list[labels.Label]] = {axes: [] for axes in grid}
    for axes, what in zip(grid, ("teacher_accuracy", "teacher_lead"), strict=True):
        for m, kind in zip(measured, kinds, strict=True):
            if not np.isfinite(getattr(m, what)).all():
                continue
            colour = colours.FIELDS[names.index(kind) % len(colours.FIELDS)]
            of_teacher = getattr(m, what)
            axes.plot(of_teacher, m.gain, ".", color=colour, alpha=0.35, markersize=4)
            label = (" and ".join(kind) or "base") if kinds.index(kind) == measured.index(m) else None
            x, y = of_teacher.mean(), m.gain.mean()
            if len(m.gain) > 1:
                _whiskers(axes, [x], [y], [over_seeds(m.gain)], colour, label, across=False)
            else:
                axes.plot(x, y, "o", color=colour, label=label)
            named[axes].append(labels.Label(_value_of(m, kind), float(x), float(y), colour))
        axes.margins(x=0.12)
        axes.axhline(0, color=colours.REFERENCE, linewidth=0.8, linestyle="--")
    grid[0].set_xlabel("teacher's accuracy on its training labels")
    grid[1].set_xlabel("teacher's test accuracy less that of the one-hot twin")
    grid[0].set_ylabel("gain in test accuracy over the one-hot twin")
    _legend(figure, grid[0])
    labels.place(figure, named)
    listed = [
        f"{m.folder} {m.gain.mean():+.3f} where the teacher fits {m.teacher_accuracy.mean():.1%}" for m in measured
    ]
    figure.set_label(
        f"Gain in test accuracy against the teacher's accuracy on its training labels, and against its lead: {'; '.join(listed)}."
    )
    return figure


def _value_of(m: StudentResult, kind: Sequence[str]) -> str:
    """The values of the fields in which a variant differs from the first, in words; empty for the first."""
    return ", ".join(settings.said(name, m.values[name]) for name in kind)


def switching(measured: Sequence[StudentResult]) -> Figure:
    """Return the figure of gain against the epoch of the switch: a panel per teacher and arm, a line per direction of the switch.

    A band is the gain of distillation throughout.

    Args:
        measured: every student of every variant.
    """
    panels = {}
    for m in measured:
        rest = ", ".join(f"{name} {settings.said(name, value)}" for name, value in m.values.items() if name != "switch")
        panels.setdefault((m.arm, rest), []).append(m)
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, ((arm, rest), group) in zip(grid, panels.items(), strict=True):
        for colour, to_kd, label in (
            (colours.FIELDS[0], True, "labels, then distillation"),
            (colours.FIELDS[1], False, "distillation, then labels"),
        ):
            of = [(config.parse_switch(m.values["switch"]), m) for m in group]
            of = sorted(((s.epoch, m) for s, m in of if s and s.to_kd == to_kd), key=lambda pair: pair[0])
            if of and len(of[0][1].gain) > 1:
                shift = 0.15 if to_kd else -0.15
                x, y = [epoch + shift for epoch, _ in of], [m.gain.mean() for _, m in of]
                _whiskers(axes, x, y, [over_seeds(m.gain) for _, m in of], colour, label, across=False)
                axes.plot(x, y, color=colour, linewidth=0.8)
        plain = next((m for m in group if not m.values["switch"]), None)
        if plain is not None and len(plain.gain) > 1:
            whole = over_seeds(plain.gain)
            axes.axhspan(whole.low, whole.high, color=colours.STUDENT, alpha=0.15)
            axes.axhline(whole.estimate, color=colours.STUDENT, linewidth=1, label="distillation throughout")
        axes.axhline(0, color=colours.REFERENCE, linewidth=0.8, linestyle="--")
        axes.set_title(f"{arm}{f', {rest}' if rest else ''}", fontsize=10)
        axes.set_xlim(0, 1.05 * axes.dataLim.x1)  # room beside the last switch
        axes.set_xlabel("epoch of the switch")
    grid[0].set_ylabel("gain in test accuracy over the one-hot twin")
    _legend(figure, grid[0])
    listed = [f"{m.folder} {m.gain.mean():+.3f}" for m in measured]
    figure.set_label(f"Gain in test accuracy against the epoch at which the loss is switched: {', '.join(listed)}.")
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend of one panel, which is that of all, below the panels, where it covers nothing."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
