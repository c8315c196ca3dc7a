"""The interactive charts of an audit: those of a study, of what the first student and its control say beside the first teacher."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kd_jax.analysis import gallery
from kd_jax.analysis.examples import Beside
from kd_jax.analysis.results import Estimate
from kd_jax.analysis.summary import Compared
from kd_jax.report import charts_confidence, charts_intervals, charts_reliability
from kd_jax.report.charts import Chart
from kd_jax.report.charts_confidence import Examples
from kd_jax.report.thumbnails import Views

SIDE = 32  # of a thumbnail, in pixels
THUMBNAILS, TEXTS = 600, 1500  # examples of which something is shown, at most
Show = Callable[[int], tuple[str, str]]


def charts(
    given: Mapping[str, Any],
    models: Mapping[str, Beside],
    estimates: Sequence[Estimate],
    labels: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    show: Show | None = None,
) -> dict[str, Chart]:
    """Return {name: chart} of an audit.

    Args:
        given: what was audited, `audit.given` of its `summary.json`.
        models: {`student` or `control`: what it and the teacher say of each example}.
        estimates: those of the audit.
        labels: int [examples]; None without.
        names: of the classes; None without.
        show: `show(row)` gives what is shown of an example; None to show nothing.
    """
    split, arms = given["split"], ["teacher", *models]
    runs = [gallery.of_run(Compared(arm, 0, split, beside, None, None)) for arm, beside in models.items()]
    runs = [run for run in runs if run is not None]
    count = len(next(iter(models.values())).pair.x)
    shown = None if show is None else views(show, charts_confidence.drawn(count, len(runs)))
    examples = {split: Examples(np.arange(count), labels, labels, shown, given["unit"].removesuffix("s"))}
    several = " Of several seeds it is the first." if len(given["student"]) > 1 else ""
    scatter = charts_confidence.chart(runs, examples, arms, names or ())
    made = {
        "confidence": scatter and scatter._replace(caption=scatter.caption + several),
        "reliability": charts_reliability.chart(charts_reliability.answers(runs, examples), arms),
        "intervals": charts_intervals.chart(estimates, arms),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def views(show: Show, rows: np.ndarray) -> Views:
    """Return what is shown of some examples, as many as a page has room for.

    Args:
        show: gives ("image", PNG in base64) or ("text", text) of a row.
        rows: the rows that are drawn, rising; of many a part is shown, evenly spread.
    """
    most = THUMBNAILS if show(int(rows[0]))[0] == "image" else TEXTS
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
    found = [show(int(row)) for row in rows]
    if found[0][0] == "image":
        return Views(rows, np.array([_small(content) for _, content in found]))
    return Views(rows, np.array([content for _, content in found], np.str_))


def _small(png: str) -> np.ndarray:
    """A PNG in base64 as uint8 [SIDE, SIDE, 3], in the middle of a black square."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(square)
