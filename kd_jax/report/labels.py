"""Labels of points in a figure that lie over neither each other nor the points; long titles in lines."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.transforms import Bbox

SIZE = 7  # of the letters [points]
RINGS = (7, 14, 22, 32, 44, 58, 74, 92)  # distances from its point at which a place for a label is looked for [points]
SPOKES = 12  # directions in which it is looked for
LETTERS = 11  # of a title that are as wide as an inch
LEADER = 10  # distance beyond which a line leads from the label to its point [points]


class Label(NamedTuple):
    """A label of a point.

    Attributes:
        text: what it says; empty for a point that others must not lie on.
        x, y: the point, in the units of the axes.
        colour: of the letters.
    """

    text: str
    x: float
    y: float
    colour: str


def place(figure: Figure, labels: Mapping[Axes, Sequence[Label]]) -> None:
    """Write labels beside their points, each at the nearest place that is free, inside of the frame where there is one.

    The layout of the figure must not change afterwards.

    Args:
        figure: the figure, otherwise finished.
        labels: the labels of each of its axes.
    """
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, of_axes in labels.items():
        taken = [_around(axes, label) for label in of_axes]
        legend = axes.get_legend()
        if legend is not None:
            taken.append(legend.get_window_extent())
        for label in of_axes:
            if label.text:
                taken.append(_place(axes, label, taken))


def _around(axes: Axes, label: Label) -> Bbox:
    x, y = axes.transData.transform((label.x, label.y))
    return Bbox.from_bounds(x - 4, y - 4, 8, 8)


def _offsets() -> Iterator[tuple[float, float]]:
    yield 5, 4
    for ring in RINGS:
        for angle in 2 * np.pi * np.arange(SPOKES) / SPOKES:
            yield ring * np.cos(angle), ring * np.sin(angle)


def _place(axes: Axes, label: Label, taken: Sequence[Bbox]) -> Bbox:
    """Write a label at the place that overlaps least with what is taken, and return the place."""
    text = axes.annotate(
        label.text, (label.x, label.y), xytext=(5, 4), textcoords="offset points", fontsize=SIZE, color=label.colour
    )
    frame, best = axes.get_window_extent(), (np.inf, (5.0, 4.0), Bbox.null())
    for across, up in _offsets():
        text.set(position=(across, up), ha="left" if across > 1 else "right" if across < -1 else "center")
        box = text.get_window_extent()
        cost = sum(_area(box, other) for other in taken) + 4 * (box.width * box.height - _area(box, frame))
        if cost < best[0]:
            best = cost, (across, up), box
        if cost < 1:
            break
    (across, up), box = best[1:]
    text.set(position=(across, up), ha="left" if across > 1 else "right" if across < -1 else "center")
    if np.hypot(across, up) > LEADER:
        line = {"arrowstyle": "-", "color": label.colour, "lw": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", (label.x, label.y), xytext=(across, up), textcoords="offset points", arrowprops=line)
    return box


def _area(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height


def wrapped(text: str, figure: Figure | SubFigure) -> str:
    """Return a title in lines that are no wider than the figure, for letters of 10 points.

    >>> wrapped("Mean and 95% interval over 3 seeds. The teacher is one for all.", Figure(figsize=(4, 3)))
    'Mean and 95% interval over 3 seeds. The\\nteacher is one for all.'
    """
    return textwrap.fill(text, int(LETTERS * figure.bbox.width / figure.dpi))
