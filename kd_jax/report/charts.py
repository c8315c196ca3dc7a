"""Interactive charts of the page: what the plotting library in the page is given, as data."""

from typing import Any, NamedTuple


class Chart(NamedTuple):
    """An interactive chart.

    Attributes:
        title: what it shows, as a heading.
        figure: the figure as JSON values, `data` and `layout` of plotly.js.
        caption: how to read it, in sentences.
        alt: what one would see, for those who cannot see it.
    """

    title: str
    figure: dict[str, Any]
    caption: str = ""
    alt: str = ""
