"""Interactive charts of how runs learned: loss, accuracy, learning rate and speed along training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd_jax.report import charts, colours
from kd_jax.report.charts import Chart

QUANTITIES = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "accuracy on training labels, training views",
    "test_loss": "test NLL [nats]",
    "train_loss": "training loss, each arm's own",
    "learning_rate": "learning rate",
    "kd_weight": "weight of the teacher",
    "examples_per_second": "examples per second",
    "tokens_per_second": "tokens per second",
    "seconds": "seconds per epoch",
}
MOST_EPOCHS = 400  # epochs that are drawn of a run; of longer ones every second, third ... and the last
CAPTION = """The mean over the seeds that have an epoch, and their range as a band. Training losses of arms with other
    objectives are not comparable. Speed is as the program wrote it down, with whatever else the machine was doing."""
ALT = """Lines along the epochs of training, one for each arm, for a quantity chosen above."""


def chart(metrics: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], arms: Iterable[str]) -> Chart | None:
    """Return the chart of what `metrics.jsonl` holds, with a choice of the quantity; None where no run has metrics.

    Args:
        metrics: {arm: lines of `metrics.jsonl` of each seed}.
        arms: the names of all arms of the study, for their colours.
    """
    palette = colours.arms([*arms, *metrics])
    columns: dict[str, Any] = {}
    there = {}
    for quantity, label in QUANTITIES.items():
        drawn = [_curve(columns, quantity, arm, by_seed) for arm, by_seed in metrics.items()]
        if any(drawn):
            there[quantity] = label
            columns[f"label|{quantity}"] = label
    if not there:
        return None
    data = []
    for arm in metrics:
        several = len(metrics[arm]) > 1
        key = f"|{{quantity}}|{arm}"
        if several:
            data.append(
                {
                    "type": "scatter",
                    "x": {"column": f"around{key}"},
                    "y": {"column": f"band{key}"},
                    "fill": "toself",
                    "mode": "none",
                    "fillcolor": charts.band_colour(palette[arm]),
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "legendgroup": arm,
                }
            )
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": arm,
                "legendgroup": arm,
                "x": {"column": f"epoch{key}"},
                "y": {"column": f"mean{key}"},
                "customdata": {"column": f"range{key}"},
                "line": {"color": charts.line_colour(palette[arm]), "width": 2, "dash": colours.dash(arm)},
                "hovertemplate": f"{arm}, epoch %{{x}}: %{{y}}"
                + (" (%{customdata[0]} to %{customdata[1]})" if several else "")
                + "<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": {"column": "label|{quantity}"}}},
    }
    controls = [charts.control("quantity", "Quantity", there)]
    figure = {"data": data, "layout": layout, "columns": columns, "controls": controls}
    return Chart("How the runs learned", figure, " ".join(CAPTION.split()), " ".join(ALT.split()))


def _curve(columns: dict[str, Any], quantity: str, arm: str, by_seed: Sequence[Sequence[Mapping[str, Any]]]) -> bool:
    by_epoch: dict[int, list[float]] = {}
    for lines in by_seed:
        for line in lines:
            if line.get(quantity) is not None:
                by_epoch.setdefault(line["epoch"], []).append(line[quantity])
    if not by_epoch:
        return False
    epochs = sorted(by_epoch)
    epochs = sorted({*epochs[:: -(-len(epochs) // MOST_EPOCHS)], epochs[-1]})
    values = [by_epoch[epoch] for epoch in epochs]
    low, high = charts.numbers(list(map(min, values))), charts.numbers(list(map(max, values)))
    key = f"|{quantity}|{arm}"
    columns[f"epoch{key}"] = epochs
    columns[f"mean{key}"] = charts.numbers([np.mean(each) for each in values])
    columns[f"range{key}"] = [list(pair) for pair in zip(low, high, strict=True)]
    if len(by_seed) > 1:
        columns[f"around{key}"] = epochs + epochs[::-1]
        columns[f"band{key}"] = high + low[::-1]
    return True
