"""Figures of weights along the eigendirections of their inputs."""

import numpy as np
from matplotlib.figure import Figure

from kd_jax.analysis import eigen
from kd_jax.report.figures import ARM_COLOURS


def _styles(arms, references):
    """{arm: (colour, line style)}: one-hot blue, students warm and solid, nulls thin and dashed."""
    onehots = set(references.values())
    rest = iter(ARM_COLOURS[3:] * len(arms))
    styles = {}
    for arm in arms:
        if arm in onehots:
            styles[arm] = ("#0072B2", "-")
        elif arm.startswith("student"):
            styles[arm] = ("#D55E00", "-")
        else:
            styles[arm] = ("#222222" if arm == "teacher" else next(rest), ":")
    return styles


def curves(growths, references):
    """Return the figure of (c_k1, c_k2) along training: a panel per ruled pair, a line per run.

    Args:
        growths: list of `eigen.Growth` of one layer.
        references: {arm: the one-hot arm that it is compared with}.
    """
    pairs = eigen.ruled_pairs(len(growths[0].values))
    styles = _styles(list(dict.fromkeys(growth.arm for growth in growths)), references)
    figure = Figure(figsize=(4.6 * len(pairs), 4.4), layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, pair in zip(panels, pairs, strict=True):
        named = set()
        for growth in growths:
            first, second = growth.components[:, pair].T
            colour, style = styles[growth.arm]
            label = None if growth.arm in named else growth.arm
            named.add(growth.arm)
            axes.plot(first, second, color=colour, linestyle=style, linewidth=1.2, alpha=0.8, label=label)
            axes.plot(first[0], second[0], "o", color=colour, markersize=3)
            at = int(np.searchsorted(np.maximum.accumulate(first), (first[0] + first.max()) / 2))
            start, end = (first[max(at - 1, 0)], second[max(at - 1, 0)]), (first[at], second[at])
            if style == "-" and start != end:
                axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 0})
        axes.set_xlabel(f"weights along direction {pair[0]}")
        axes.set_ylabel(f"weights along direction {pair[1]}")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(
        f"{growths[0].model}, {growths[0].layer}: growth along the eigendirections of its inputs", fontsize=11
    )
    return figure


def ratios_by_rank(growths, references):
    """Return the figure of the spectrum and of the ratio to one-hot of every direction, matched on the top one.

    Args:
        growths, references: as `curves`.
    """
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    spectrum, *panels = figure.subplots(1, 3)
    values = growths[0].values
    spectrum.semilogy(np.arange(len(values)), np.maximum(values, values[0] * 1e-12), ".", color="#222222", markersize=4)
    title = f"{growths[0].model}, {growths[0].layer}: spectrum"
    spectrum.set(xlabel="eigendirection, 0 the top", ylabel="variance of the inputs", title=title)
    spectrum.grid(alpha=0.3)
    for axes, of in zip(panels, ("components", "moved"), strict=True):
        _ratio_panel(axes, growths, references, of)
    panels[0].set(ylabel="weights relative to one-hot", title="at equal weights along direction 0")
    panels[1].set(ylabel="movement relative to one-hot", title="at equal movement along direction 0")
    panels[1].legend(fontsize=8)
    return figure


def _ratio_panel(axes, growths, references, of):
    styles = _styles(list(dict.fromkeys(growth.arm for growth in growths)), references)
    count = len(growths[0].values)
    ranks = np.unique(np.linspace(1, count - 1, 100).round().astype(int))
    table = {}
    for rank in ranks:
        for arm, found in eigen.ratios(growths, references, (0, int(rank)), of).items():
            table.setdefault(arm, []).append(found)
    for arm, found in table.items():
        found = np.array(found)
        colour, style = styles[arm]
        axes.plot(ranks, found.mean(axis=1), color=colour, linestyle=style, linewidth=1.5, label=arm)
        if arm.startswith("student"):
            axes.fill_between(ranks, found.min(axis=1), found.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    axes.axhline(1, color="#009E73", linestyle="--", linewidth=1)
    axes.set_xlabel("eigendirection, 0 the top")
    axes.grid(alpha=0.3)
