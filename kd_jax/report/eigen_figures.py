"""Figures of weights along the eigendirections of their inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_jax.analysis import eigen
from kd_jax.analysis.eigen import Growth
from kd_jax.report import colours
from kd_jax.report.figures import axes_or_current

OF = {"components": "weights", "moved": "movement"}
LEVELS = 60  # points of a curve's mean and band
RANKS = 100  # directions that are drawn, at most


def _styles(growths: Iterable[Growth], references: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return {arm: (colour, line style)}: one-hot and students solid, nulls and the teacher dotted."""
    there = dict.fromkeys(growth.arm for growth in growths)
    # All arms of the study, so that an arm has its colour whichever others are drawn beside it.
    of_arm = colours.arms([*references, *references.values(), *there])
    onehots = set(references.values())
    return {arm: (of_arm[arm], "-" if arm in onehots or arm.startswith("student") else ":") for arm in there}


def quantities(growths: Iterable[Growth]) -> dict[str, str]:
    """Return {field of a growth: its name} of what there is to show: the movement of weights that start at zero is the weights."""
    same = all(np.array_equal(growth.components, growth.moved) for growth in growths)
    return {"components": OF["components"]} if same else OF


def curves(growths: Sequence[Growth], references: Mapping[str, str], pairs: Sequence[tuple[int, int]] = ()) -> Figure:
    """Return the figure of (c_k1, c_k2) along training: a column per pair, weights above and their movement below.

    Of every arm the mean over seeds is drawn, and of one-hot and students also the range of the seeds, as a band. Weights that
    start at zero have one row, for their movement is the weights.

    Args:
        growths: the growth of every run, in one layer.
        references: {arm: the one-hot arm with which it is compared}.
        pairs: pairs chosen by hand, beside the ruled ones.
    """
    living = min(eigen.alive(growth.values) for growth in growths)
    pairs = list(dict.fromkeys([*eigen.ruled_pairs(living), *pairs]))
    shown = quantities(growths)
    figure = Figure(figsize=(4.4 * len(pairs) + 0.4, 3.9 * len(shown) + 0.4), layout="constrained")
    grid = figure.subplots(len(shown), len(pairs), squeeze=False)
    for row, of in zip(grid, shown, strict=True):
        for axes, pair in zip(row, pairs, strict=True):
            growth_panel(growths, references, pair, of, axes)
    grid[-1][0].legend(fontsize=8)
    figure.suptitle(
        f"{growths[0].model}, {growths[0].layer}: growth along the eigendirections of its inputs", fontsize=11
    )
    listed = [
        f"{arm} {np.mean([growth.components[-1, 0] for growth in growths if growth.arm == arm]):.2f}"
        for arm in _styles(growths, references)
    ]
    figure.set_label(
        f"Curves of {' and '.join(shown.values())} of {growths[0].layer} of {growths[0].model} along lower eigendirections against"
        f" direction 0, for the pairs {', '.join(f'{a} and {b}' for a, b in pairs)}. Weights along direction 0 at the end:"
        f" {', '.join(listed)}."
    )
    return figure


def growth_panel(
    growths: Sequence[Growth],
    references: Mapping[str, str],
    pair: tuple[int, int],
    of: str = "components",
    ax: Axes | None = None,
) -> Axes:
    """Draw (c_k1, c_k2) along training for one pair of eigendirections.

    Args:
        growths, references: as `curves`.
        pair: the two directions, 0 the top.
        of: `components`, of the weights, or `moved`, of their movement since step 0.
        ax: where to draw; pyplot's current axes by default.
    """
    axes = axes_or_current(ax)
    for arm, (colour, style) in _styles(growths, references).items():
        runs = [getattr(growth, of)[:, pair].T for growth in growths if growth.arm == arm]
        _curve(axes, runs, arm, colour, style)
    axes.set_xlabel(f"{OF[of]} along direction {pair[0]}")
    axes.set_ylabel(f"{OF[of]} along direction {pair[1]}")
    axes.grid(alpha=0.3)
    return axes


def _curve(axes: Axes, runs: Sequence[np.ndarray], arm: str, colour: str, style: str) -> None:
    """Draw mean and range of c_2 at the levels of c_1 that all runs reach, with an arrow in the direction of time."""
    low, high = max(first[0] for first, _ in runs), min(first.max() for first, _ in runs)
    if not high > low:
        return
    levels = np.linspace(low, high, LEVELS + 1)[1:]
    reached = np.array([eigen.first_reach(run, levels) for run in runs])
    mean = reached.mean(axis=0)
    axes.plot(levels, mean, color=colour, linestyle=style, linewidth=1.5, label=arm)
    if style == "-":
        axes.fill_between(levels, reached.min(axis=0), reached.max(axis=0), color=colour, alpha=0.18, linewidth=0)
        middle = LEVELS // 2
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 0, "mutation_scale": 16}
        axes.annotate(
            "", xy=(levels[middle + 1], mean[middle + 1]), xytext=(levels[middle], mean[middle]), arrowprops=arrow
        )


def ratios_by_rank(
    growths: Sequence[Growth],
    references: Mapping[str, str],
    theory: Callable[[np.ndarray, float], np.ndarray] | None = None,
) -> Figure:
    """Return the figure of the spectrum and of the ratio to one-hot of every direction, matched on the top one.

    Args:
        growths, references: as `curves`.
        theory: `theory(eigenvalues, top eigenvalue)` returns the ratios where a closed form exists; drawn beside the movement.
    """
    shown = quantities(growths)
    figure = Figure(figsize=(4.7 * (1 + len(shown)), 4.2), layout="constrained")
    spectrum, *panels = figure.subplots(1, 1 + len(shown))
    values = growths[0].values
    living = min(eigen.alive(growth.values) for growth in growths)
    spectrum.semilogy(np.arange(living), values[:living], ".", color=colours.TEXT, markersize=4)
    title = f"{growths[0].model}, {growths[0].layer}: spectrum"
    spectrum.set(xlabel="eigendirection, 0 the top", ylabel="variance of the inputs", title=title)
    spectrum.grid(alpha=0.3)
    if living < len(values):
        said = f"the other {len(values) - living} of {len(values)} directions:\nno variance beyond rounding"
        spectrum.text(0.03, 0.03, said, transform=spectrum.transAxes, fontsize=8, color="#555555")
    ranks = np.unique(np.linspace(1, living - 1, RANKS).round().astype(int))
    means = {}
    for axes, (of, name) in zip(panels, shown.items(), strict=True):
        means = _ratio_panel(axes, growths, references, of, ranks)
        axes.set(ylabel=f"{name} relative to one-hot", title=f"at equal {name} along direction 0")
    if theory is not None:
        panels[-1].plot(
            ranks, theory(values[ranks], values[0]), color="black", linewidth=1.2, linestyle="--", label="closed form"
        )
    if panels[-1].get_legend_handles_labels()[0]:
        panels[-1].legend(fontsize=8)
    listed = ", ".join(f"{arm} {mean:.2f}" for arm, mean in means.items())
    figure.set_label(
        f"Left, the variance of the inputs of {growths[0].layer} of {growths[0].model} along {living} directions, falling. Then the"
        f" ratio to one-hot along every lower direction; its mean over directions, {list(shown.values())[-1]}: {listed}."
    )
    return figure


def _ratio_panel(
    axes: Axes, growths: Sequence[Growth], references: Mapping[str, str], of: str, ranks: np.ndarray
) -> dict[str, float]:
    """Draw the ratios of every arm by rank, and return the mean of each."""
    styles, means = _styles(growths, references), {}
    table = {}
    for rank in ranks:
        for arm, found in eigen.ratios(growths, references, (0, int(rank)), of).items():
            table.setdefault(arm, []).append(found)
    for arm, found in table.items():
        found = np.array(found)
        if np.isfinite(found).any():
            means[arm] = float(np.nanmean(found))
        colour, style = styles[arm]
        axes.plot(ranks, found.mean(axis=1), color=colour, linestyle=style, linewidth=1.5, label=arm)
        if arm.startswith("student"):
            axes.fill_between(ranks, found.min(axis=1), found.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    axes.axhline(1, color=colours.REFERENCE, linestyle="--", linewidth=1)
    axes.set_xlabel("eigendirection, 0 the top")
    axes.grid(alpha=0.3)
    return means
