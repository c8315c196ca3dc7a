"""Interactive charts of the page: what the plotting library in the page is given, as data.

A chart is a figure of plotly.js with a few more keys, so that one chart can show many things without saying anything twice:

- `columns`: {key: array or value}. Anywhere in `data` and `layout`, `{"column": KEY}` stands for a column.
- `controls`: what the reader chooses, each `{"name", "label", "kind", "options"}`; kind is `select` or `range` (a slider). An
  option is `{"value", "text"}`; `first` is the value at first, where it is not that of the first option. In a key `{NAME}` stands
  for the value of the control of that name: `{"column": "y|{arm}"}`. `options` may be a column too, where they depend on another
  control. A trace one of whose columns does not exist is left out. A column may stand for another one.
- `@text`, `@faint` and `@page` as a colour are those of the page's text, of its grid lines and of its background.
- `meta.tip` of a trace: what is shown of the point under the pointer, `{"values", "lines", "views", "view"}`. `values` are columns;
  `lines` are texts in which `{value}` is replaced, `{value:class}` by the name of a class and `{value:p}` by the probability whose
  log-odds it is; a line with a value that is null is left out. `view` is a column of positions in the set of views named `views`.
- `views`: {name: thumbnails or texts of examples}, see `thumbnails.sheet`.
- `names`: the names of the classes.

`assets/kd_charts.js` draws them, with `resolved` in JavaScript.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.report import colours

ASSETS = Path(__file__).parent / "assets"
LIBRARY, SCRIPT, STYLE = "plotly-basic.min.js", "kd_charts.js", "kd_charts.css"
DIGITS = 4  # significant digits of a number in a chart: more than a screen has pixels


class Gallery(NamedTuple):
    """Single examples beside each other.

    Attributes:
        title: what they have in common.
        examples: (what is shown: ("image", PNG in base64), ("text", text) or None; what is said of it) of each.
    """

    title: str
    examples: Sequence[tuple[tuple[str, str] | None, str]]


class Chart(NamedTuple):
    """An interactive chart.

    Attributes:
        title: what it shows, as a heading.
        figure: the figure as JSON values: `data` and `layout` of plotly.js, and what the module's docstring adds.
        caption: how to read it, in sentences.
        alt: what one would see, for those who cannot see it.
        galleries: examples that belong to it, for the page to show below it; they need neither pointer nor script.
    """

    title: str
    figure: dict[str, Any]
    caption: str = ""
    alt: str = ""
    galleries: Sequence[Gallery] = ()

    def json(self) -> str:
        """Return the figure as JSON that may stand in a `<script type="application/json">` block; see `embedded`."""
        return embedded(self.figure)


def embedded(values: Any) -> str:
    r"""Return JSON that may stand in a script block of HTML: no `<`, `>` or `&` is left in it, and nothing that is not JSON.

    >>> embedded(["</script>", float("nan")])
    '["\\u003c/script\\u003e",null]'
    """
    text = json.dumps(_finite(values), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def numbers(values: Any, digits: int = DIGITS) -> list[Any]:
    """Return floats as a list with a few significant digits, to keep a page small; what is not finite is None.

    >>> numbers([1.23456, 123456.0, float("inf"), 2.0])
    [1.235, 123500, None, 2]
    """
    return [_number(value, digits) for value in np.asarray(values, np.float64).tolist()]


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) else short


def control(name: str, label: str, options: Any, kind: str = "select", first: Any = None) -> dict[str, Any]:
    """Return a control of a chart.

    Args:
        name: the name by which keys of columns refer to it.
        label: what the reader sees.
        options: {value: text}, in their order; or `{"column": KEY}` of a column of `choices`.
        kind: `select`, or `range` for a slider.
        first: the value that is chosen at first, or a column of it; None for that of the first option.
    """
    listed = options if list(options) == ["column"] else choices(options)
    chosen = {} if first is None else {"first": first}
    return {"name": name, "label": label, "kind": kind, "options": listed} | chosen


def choices(options: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the options of a control from {value: text}."""
    return [{"value": value, "text": text} for value, text in options.items()]


def line_colour(colour: str) -> str:
    """Return a colour of `colours` as a chart draws it: the text's for what is as dark as the text."""
    return "@text" if colour == colours.TEXT else colour


def band_colour(colour: str) -> str:
    """Return the colour of the range around a line of a colour."""
    return "@faint" if colour == colours.TEXT else colours.faded(colour, 0.18)


class _Missing(Exception):
    """A column does not exist."""


def resolved(figure: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return `data` and `layout` as plotly.js is given them for a choice of the reader.

    Args:
        figure: the figure of a `Chart`.
        chosen: {name of a control: value}.
    """
    columns = figure.get("columns", {})

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            if list(value) == ["column"]:
                key = re.sub(r"\{(\w+)\}", lambda found: chosen[found[1]], value["column"])
                if key not in columns:
                    raise _Missing(key)
                found = columns[key]
                return of(found) if isinstance(found, Mapping) else found
            return {key: of(each) for key, each in value.items()}
        return [of(each) for each in value] if isinstance(value, list | tuple) else value

    data = []
    for trace in figure["data"]:
        try:
            data.append(of(trace))
        except _Missing:
            continue
    return {"data": data, "layout": of(figure["layout"])}


def asset(name: str) -> str:
    """Return the text of a file of `assets`, which a page with charts holds once."""
    return (ASSETS / name).read_text(encoding="utf-8")
