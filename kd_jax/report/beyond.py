"""What lies beyond the teacher's top class, as a table and a figure, of studies and of audits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kd_jax.analysis.results import Estimate, index
from kd_jax.plan import TEACHER, Arm
from kd_jax.report import colours, tables
from kd_jax.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLOPE = "exaggeration_slope_rank"
SHOWN = (1, 2, 3)  # ranks of the table, beside the last
ROWS = (  # (label, name)
    ("entropy [nats]", "entropy"),
    ("entropy less the teacher's [nats]", "entropy_difference"),
    ("KL(teacher || student) [nats]", "kl"),
    ("of it scale: one temperature removes it", "kl_scale"),
    ("of it shape: the rest", "kl_shape"),
    ("that temperature (above 1: surer than the teacher)", "kl_temperature"),
)
NOTE = "Rank r is the teacher's r-th most probable class; slopes are over all points, of log p/(1-p) in that class."
DETAILS = """At rank 1 it is the exaggeration slope. Scale is what dividing the student's logits by one number, the same for all
    examples, takes away from the divergence, and shape what no such number can: a difference in what the two say, and not in how
    sure they are. A control never met this teacher, so it shows what another network of the kind would do."""
CAPTION = """How the student's confidence log p/(1-p) in the teacher's r-th most probable class grows with the teacher's, over all
    points, with intervals: above the line it is exaggerated. A control, which never met the teacher, shows what regression to the
    mean does at each rank."""


def table(estimates: Sequence[Estimate], arms: Iterable[Arm]) -> Table | None:
    """Return the table of slopes by rank, entropies and the parts of the divergence; None where there are no slopes by rank.

    Args:
        estimates: the estimates of a study or an audit.
        arms: its arms.
    """
    ranked = index(estimates, "name", "arm", "split", "subset", "rank")
    ranked = {key: found for key, found in ranked.items() if key[0] == SLOPE and key[3] == "all"}
    if not ranked:
        return None
    plain = index(estimates, "name", "arm", "split", "subset")
    names = [arm.name for arm in tables.compared(arms)]
    names = list(dict.fromkeys([TEACHER, *names])) if any(e.arm == TEACHER for e in estimates) else names
    rows = []
    for split in _splits(estimates):
        last = max(key[4] for key in ranked if key[2] == split)
        cells = [
            (f"slope, rank {rank}", {arm: ranked.get((SLOPE, arm, split, "all", rank)) for arm in names}, 2)
            for rank in sorted({*(rank for rank in SHOWN if rank <= last), last})
        ]
        cells += [(label, {arm: plain.get((name, arm, split, "all")) for arm in names}, 4) for label, name in ROWS]
        for label, by_arm, digits in cells:
            row = [by_arm[arm] for arm in names]
            if any(row):
                shown = ("-" if each is None else tables.shown(each.interval, digits) for each in row)
                rows.append([f"{split}: {label}", *shown])
    return Table(
        ["beyond the top class", *names], rows, NOTE, " ".join(DETAILS.split()), "Beyond the top class", sortable=False
    )


def figure(estimates: Sequence[Estimate], arms: Sequence[Arm]) -> "Figure | None":
    """Return the figure of slopes by rank, a panel for each split; None where there are none.

    Args:
        estimates: the estimates of a study or an audit.
        arms: its arms.
    """
    splits = _splits(estimates)
    if not splits:
        return None
    from matplotlib.figure import Figure

    from kd_jax.report import labels

    drawn = Figure(figsize=(4.8 * len(splits) + 0.4, 4.0), layout="constrained")
    panels = drawn.subplots(1, len(splits), squeeze=False, sharey=True)[0]
    for axes, split in zip(panels, splits, strict=True):
        ranks_panel(estimates, arms, split, axes)
    panels[0].set_ylabel("slope of the student's confidence on the teacher's")
    panels[0].legend(fontsize=8)
    drawn.suptitle(labels.wrapped(tables.what_intervals_are(estimates), drawn), fontsize=10)
    drawn.set_label(_said(estimates, splits))
    return drawn


def ranks_panel(estimates: Sequence[Estimate], arms: Iterable[Arm], split: str, ax: "Axes | None" = None) -> "Axes":
    """Draw the slopes of one split by rank, with their intervals, students beside their controls.

    Args:
        estimates, arms: as for `figure`.
        split: the split.
        ax: where to draw; pyplot's current axes by default.
    """
    from kd_jax.report.figures import axes_or_current

    axes = axes_or_current(ax)
    palette = colours.arms(arm.name for arm in arms)
    drawn = _by_arm(estimates, split)
    for number, (arm, found) in enumerate(drawn.items()):
        ranks = np.array([each.rank for each in found]) + 0.12 * (number - (len(drawn) - 1) / 2)
        ends = np.array([(each.interval.low, each.interval.estimate, each.interval.high) for each in found]).T
        axes.errorbar(
            ranks,
            ends[1],
            yerr=[ends[1] - ends[0], ends[2] - ends[1]],
            fmt="o-",
            ms=4,
            capsize=2,
            linewidth=1,
            color=palette.get(arm, colours.TEXT),
            label=arm,
        )
    axes.axhline(1, color=colours.REFERENCE, linestyle="--", linewidth=1)
    most = max(each.rank for found in drawn.values() for each in found)
    axes.set(title=split, xlabel="rank of the class for the teacher", xticks=range(1, most + 1))
    axes.grid(axis="y", alpha=0.3)
    return axes


def _splits(estimates: Iterable[Estimate]) -> list[str]:
    there = {each.split for each in estimates if each.name == SLOPE}
    return sorted(there, key=lambda split: (split != "test", split != "train", split))


def _by_arm(estimates: Iterable[Estimate], split: str) -> Mapping[str, list[Estimate]]:
    found: dict[str, list[Estimate]] = {}
    for each in estimates:
        if each.name == SLOPE and (each.split, each.subset) == (split, "all"):
            found.setdefault(each.arm, []).append(each)
    return found


def _said(estimates: Sequence[Estimate], splits: Iterable[str]) -> str:
    told = []
    for split in splits:
        for arm, found in _by_arm(estimates, split).items():
            first, last = found[0], found[-1]
            ends = (f"{each.interval.estimate:.2f} at rank {each.rank}" for each in (first, last))
            told.append(f"{arm}, {split}: {' and '.join(ends)}")
    return f"Slopes of confidence by rank of the class, with intervals. {'; '.join(told)}."
