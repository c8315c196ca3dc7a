"""What the networks of a study cost to run, as a table, sentences and a figure, from the contents of `cost.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_jax.analysis.results import Interval
from kd_jax.plan import TEACHER
from kd_jax.report import colours
from kd_jax.report.tables import Table, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "What it costs to run"
CAPTION = """Test accuracy against the time that one example takes, with their intervals. Up and to the left is better: more
    accurate, and faster."""


def read(folder: Path | str) -> dict[str, Any] | None:
    """Return the contents of `cost.json` in the folder of an analysis, or None where there is none, or it is damaged: it can be
    measured again."""
    path = Path(folder) / "cost.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if found is not None:
            table(found)
        return found
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
        return None


def table(cost: Mapping[str, Any]) -> Table:
    """Return the table: a quantity per row, an arm per column."""
    header = ["to run it", *(f"{arm['arm']} ({arm['model']})" for arm in cost["arms"])]
    networks = [cost["networks"][arm["model"]] for arm in cost["arms"]]
    latency, throughput = cost["batches"]["latency"], cost["batches"]["throughput"]
    rows = [
        ["parameters", *(f"{of['parameters']:,}" for of in networks)],
        ["weights [MB]", *(f"{of['bytes'] / 1e6:.3f}" for of in networks)],
        ["operations per example [MFLOP]", *(_flops(of["flops"]) for of in networks)],
        [f"time of batch {latency} [ms]", *(shown(_scaled(of["latency"], 1e3), 3) for of in networks)],
        [f"examples/s in batches of {throughput}", *(shown(_scaled(of["throughput"]), 0) for of in networks)],
        [
            "test accuracy",
            *("-" if arm["accuracy"] is None else shown(_scaled(arm["accuracy"])) for arm in cost["arms"]),
        ],
    ]
    return Table(header, rows, f"{sentences(cost)} {_how(cost)}".strip(), title=TITLE, sortable=False)


def _flops(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:.3f}"


def _scaled(values: Mapping[str, Any], factor: float = 1.0) -> Interval:
    ends = {name: factor * values[name] for name in ("estimate", "low", "high")}
    return Interval(**{**values, **ends})


def _how(cost: Mapping[str, Any]) -> str:
    networks = cost["networks"].values()
    counts = sorted({of[name]["count"] for of in networks for name in ("latency", "throughput")})
    level = min(of[name]["level"] for of in networks for name in ("latency", "throughput"))
    many = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    example = "x".join(map(str, cost["example"]))
    return (
        f"Measured on one {cost['device']['platform']} device ({cost['device']['device']}) in {cost['precision']}, on examples of"
        f" {example} that lie there: medians with {level:.0%} intervals over {many} repetitions."
    )


def sentences(cost: Mapping[str, Any]) -> str:
    """Return how each student compares with its teacher, in sentences."""
    teacher, *students = cost["arms"]
    if teacher["arm"] != TEACHER:  # it is a file of logits
        return ""
    said = []
    for student in students:
        if student["model"] == teacher["model"]:
            said.append(f"The {student['arm']} has its teacher's network, and costs as much.")
            continue
        own, other = cost["networks"][student["model"]], cost["networks"][teacher["model"]]
        parts = [f"{_share(own['parameters'], other['parameters'])} of its teacher's parameters"]
        if own["flops"] and other["flops"]:
            parts.append(f"{_share(own['flops'], other['flops'])} of its operations")
        one = _faster(own["latency"], other["latency"])
        many = _faster(other["throughput"], own["throughput"])
        latency, throughput = cost["batches"]["latency"], cost["batches"]["throughput"]
        said.append(
            f"The {student['arm']} has {' and '.join(parts)}; at batch {latency} it is {one}, at batch {throughput} {many}."
        )
    return " ".join(said)


def _share(own: float, other: float) -> str:
    return f"{100 * own / other:.3g} %"


def _faster(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How a time compares with another one; also the rates of the two, exchanged."""
    if own["low"] <= other["high"] and other["low"] <= own["high"]:
        return "about as fast"
    ratio = other["estimate"] / own["estimate"]
    return f"{ratio:.2f} times as fast"


def figure(cost: Mapping[str, Any]) -> "Figure | None":
    """Return the figure of accuracy against time; None where no accuracy is known."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = drawn.subplots()
    known = [arm for arm in cost["arms"] if arm["accuracy"] is not None]
    of_arm, said = colours.arms(arm["arm"] for arm in cost["arms"]), []
    for arm in known:
        time, accuracy = _scaled(cost["networks"][arm["model"]]["latency"], 1e3), _scaled(arm["accuracy"])
        across = [[time.estimate - time.low], [time.high - time.estimate]]
        up = [[accuracy.estimate - accuracy.low], [accuracy.high - accuracy.estimate]]
        axes.errorbar(
            time.estimate,
            accuracy.estimate,
            xerr=across,
            yerr=up,
            fmt="o",
            capsize=3,
            color=of_arm[arm["arm"]],
            label=f"{arm['arm']} ({arm['model']})",
        )
        said.append(f"{arm['arm']} {accuracy.estimate:.3f} at {time.estimate:.3g} ms")
    axes.set_xlabel(f"time of batch {cost['batches']['latency']} on {cost['device']['device']} [ms]")
    axes.set_ylabel("test accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    drawn.set_label(f"Test accuracy against the time of a batch: {', '.join(said)}.")
    return drawn if known else None
