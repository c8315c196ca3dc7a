"""The report of the study of the theorem: reference values, figures, one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_jax.analysis import closed_forms as theory
from kd_jax.report import again, colours, figures, page
from kd_jax.report.page import Picture
from kd_jax.report.tables import Table
from kd_jax.theory.simulate import HilbertSimulation, Simulation
from kd_jax.theory.study import Theory

BELOW = -0.03  # where an axis of shares begins, so that points at 0 are whole
CAPTIONS = {
    "progress": "Lines: closed form. Points: gradient descent. Where both models are equally far along the top direction, the"
    " student is below along every lower one.",
    "effective_time": "Left: how long a model on labels would have to train to be where each round's student is; for the teacher,"
    " itself a model on labels, it is the same everywhere. Right: the later the teacher is stopped, the less is left of the effect."
    " Lines: closed form. Points: gradient descent.",
    "rounds": "The student's progress along a lower direction, as a share of what a model on labels has there when both are"
    " equally far along the top one. Every round of self-distillation lowers it. Lines: closed form. Points: gradient descent.",
    "eigen_ratios": "What is measured of networks as eigen_ratio: the student's progress along each lower direction relative"
    " to the model on labels, at equal progress along the top one, averaged over the range that both cover. Line: closed form."
    " Points: gradient descent.",
    "hilbert": "Telling odd digits from even ones with a Gaussian kernel. Left: what is left of the labels along each"
    " eigendirection, after each round. Right: the size of what the next round learns; at 1 and below predicting zero is good"
    " enough, and the rounds have collapsed. Lines: closed form. Points: direct linear solves.",
}


def write_report(
    folder: Path,
    summary: Mapping[str, Any],
    study: Theory,
    simulations: Sequence[Simulation],
    hilbert: HilbertSimulation,
) -> None:
    """Write `figures/` and `report.html`.

    Args:
        folder: the folder of the analysis.
        summary: contents of `summary.json`.
        study: the configuration.
        simulations: the simulations of gradient descent, on the generated matrices first and on the digits last.
        hilbert: self-distillation in Hilbert space.
    """
    shown = [simulations[0], simulations[-1]]
    drawn = {
        "progress": progress(shown),
        "effective_time": effective_time(shown, study),
        "rounds": shares_by_round(shown),
        "eigen_ratios": ratios_by_rank(shown),
        "hilbert": hilbert_rounds(hilbert),
    }
    for name, said in alts(shown, hilbert).items():
        drawn[name].set_label(said)
    images = {name: figures.save(figure, folder / "figures" / name) for name, figure in drawn.items()}
    (folder / "report.html").write_text(render(summary, images, page.files_in(folder, folder.parent)), encoding="utf-8")


def alts(simulations: Sequence[Simulation], hilbert: HilbertSimulation) -> dict[str, str]:
    """Return {name of a figure: what one would see in it}, with the numbers that matter."""
    shares, ratios = [], []
    for simulation in simulations:
        (student, onehot), _ = simulation.compared(), simulation.expected()
        listed = ", ".join(f"{share:.2f}" for share in student[0] / onehot[0])
        shares.append(f"{_titled(simulation)}: {listed}")
        measured, _ = simulation.ratios()
        ratios.append(f"{_titled(simulation)}: from {measured[0]:.2f} at the top to {measured[-1]:.2f} at the lowest")
    after = f"After the first round, along the lower directions drawn, {'; '.join(shares)}."
    return {
        "progress": "Curves of progress along lower directions against the top one: the student's lie below those of the model"
        f" on labels. {after}",
        "effective_time": "Left, effective time against eigenvalue: level for the teacher, and falling toward low eigenvalues for"
        " its students, more so every round. Right, the student's share rises to 1 the longer the teacher trains.",
        "rounds": f"The student's share of the progress of a model on labels falls with every round. {after}",
        "eigen_ratios": f"The eigen ratio falls with the rank of the direction. {'; '.join(ratios)}.",
        "hilbert": f"Left, what is left of the labels falls with every round, first along low directions. Right, the size of the"
        f" predictions falls below 1 in round {len(hilbert.closed_form.multipliers)}.",
    }


def render(summary: Mapping[str, Any], images: Mapping[str, Picture], files: Mapping[str, str] | None = None) -> str:
    """Return the page.

    Args:
        summary: contents of `summary.json`.
        images: {name of a figure: what `figures.save` returned}.
        files: what lies beside the page, as `page.files_in` returns it.
    """
    study = summary["study"]
    setup, where = study["config"], study["platform"]
    facts = (
        f"Teacher stopped at {setup['teacher_time']:g}, students at {setup['student_time']:g} (units: 1 / top eigenvalue);"
        f" learning rate {setup['learning_rate']:g}, float64 on {where['device']} with jax {study['versions']['jax']}."
    )
    warnings = [summary["theory"]["warning"].removeprefix("warning: ")] if summary["theory"]["warning"] else []
    return page.render(
        study["study"],
        [facts],
        summary["verdicts"],
        warnings,
        [reference_table(summary)],
        images,
        CAPTIONS,
        answer=summary.get("answer", ()),
        again=again.study(study),
        files=files,
    )


def reference_table(summary: Mapping[str, Any]) -> Table:
    """Return the table of progress at equal progress along the top direction, eigenvalue 1.

    Args:
        summary: contents of `summary.json`.
    """
    rows = summary["theory"]["reference"]
    header = ["T", "s", "S(1) = A(1)", "matched t"]
    header += [f"{letter}({low['eigenvalue']:g})" for low in rows[0]["lower"] for letter in "SA"]
    lines = []
    for row in rows:
        lower = [low[who] for low in row["lower"] for who in ("student", "onehot")]
        values = [row["student_top"], row["matched_time"], *lower]
        lines.append([f"{row['teacher_time']:g}", f"{row['student_time']:g}", *(f"{value:.6f}" for value in values)])
    note = "Progress of student S and one-hot model A when equally far along eigenvalue 1 (gradient flow)."
    details = "The eigenvalue is in brackets; the teacher is stopped at T, the student at s, the one-hot model at the matched t."
    return Table(header, lines, note, details, "Reference values")


# ---- figures


def _colours(count: int) -> list[Any]:
    """Return distinct colours of eigendirections that are readable on white, ordered from the top direction down."""
    return [colormaps["viridis"](0.85 * k / max(count - 1, 1)) for k in range(count)]


def _round_colours(count: int) -> list[Any]:
    """Return distinct colours of rounds, which are none of those of directions."""
    return [colormaps["plasma"](0.85 * k / max(count - 1, 1)) for k in range(count)]


def _panels(count: int, size: tuple[float, float] = (11, 4.4)) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, count)
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure, panels


def _titled(simulation: Simulation) -> str:
    what = {"generated": "generated matrix of known spectrum", "digits": "pixels of real digits"}
    return what[simulation.problem.name]


def progress(simulations: Sequence[Simulation]) -> Figure:
    """Return the figure of progress along lower directions against progress along the top one, student and model on labels."""
    figure, panels = _panels(len(simulations), (11, 5))
    for axes, simulation in zip(panels, simulations, strict=True):
        top, *lower = simulation.problem.drawn
        teacher, student = simulation.steps[0][-1], simulation.steps[1][-1]
        # Even in progress along the top direction, not in time, or the curves' ends would be all corners.
        even = np.linspace(0, 1, 200)
        runs = {
            "model on labels": (teacher, 1.0, simulation.progress[0], "--", "none"),
            "student": (student, theory.progress(simulation.rates, teacher), simulation.progress[1], "-", "full"),
        }
        for k, colour in zip(lower, _colours(len(lower)), strict=True):
            for total, before, path, line, fill in runs.values():
                end = theory.progress(simulation.rates[top], total)
                steps = -np.log1p(-np.minimum(even * end, 1 - 1e-15)) / simulation.rates[top]
                curve = before * theory.progress(simulation.rates, steps[:, None])
                axes.plot(curve[:, top], curve[:, k], line, color=colour, linewidth=1.3)
                points = path[:: max(len(path) // 14, 1)]
                face = colour if fill == "full" else "white"
                axes.plot(points[:, top], points[:, k], "o", ms=4.5, color=colour, mfc=face, linestyle="none")
            axes.plot([], [], color=colour, linewidth=3, label=f"eigenvalue {simulation.problem.eigenvalues[k]:.2g}")
        axes.plot([], [], "--o", color="#444444", mfc="white", ms=4.5, label="model on labels")
        axes.plot([], [], "-o", color="#444444", ms=4.5, label="student")
        axes.set(
            xlabel="progress along the top direction", ylabel="progress along a lower direction", xlim=(BELOW, 1.02)
        )
        axes.set_title(_titled(simulation), fontsize=10)
        axes.legend(fontsize=8, loc="upper left")
    return figure


def effective_time(simulations: Sequence[Simulation], study: Theory) -> Figure:
    """Return the figure of effective time against eigenvalue after each round, and of how the effect vanishes in time."""
    figure, (left, right) = _panels(2)
    totals = study.steps()
    lowest = min(simulation.problem.eigenvalues[-1] for simulation in simulations)
    eigenvalues = np.geomspace(max(lowest, 1e-4), 1, 300)
    rates = theory.descent_rates(eigenvalues, study.learning_rate)
    effective = [
        theory.effective_time(rates, totals[: number + 1]) * study.learning_rate for number in range(len(totals))
    ]
    for number, colour in enumerate(_round_colours(len(totals))):
        left.plot(eigenvalues, effective[number], color=colour, linewidth=1.3, label=_round_name(number))
        for simulation, marker in zip(simulations, "Do", strict=True):
            kept = simulation.problem.eigenvalues >= eigenvalues[0]
            end = np.minimum(simulation.progress[number][-1][kept], 1 - 1e-15)
            measured = -np.log1p(-end) / simulation.rates[kept] * study.learning_rate
            shown = end < 1 - 1e-11  # nearer to 1, nothing of the time is resolved
            left.plot(
                simulation.problem.eigenvalues[kept][shown], measured[shown], marker, ms=4, color=colour, mfc="white"
            )
    left.plot([], [], "D", ms=4, color="#444444", mfc="white", label="generated matrix")
    left.plot([], [], "o", ms=4, color="#444444", mfc="white", label="digits")
    # A teacher stopped much later is left outside, or it would flatten its students.
    top = min(study.teacher_time, 2 * effective[1].max())
    left.set(xscale="log", ylim=(BELOW * top, 1.05 * top))
    if top < study.teacher_time:
        left.text(0.02, 0.97, "the teacher's line is above", transform=left.transAxes, va="top", fontsize=8)
    left.set(xlabel="eigenvalue [top eigenvalue]", ylabel="effective time [1 / top eigenvalue]")
    left.legend(fontsize=8)
    left.set_title(f"after each round of self-distillation (teacher stopped at {study.teacher_time:g})", fontsize=10)

    times = np.geomspace(min(study.teacher_time, 2) / 20, max(study.teacher_time * 50, 2000), 300)
    simulation = simulations[0]
    lower = simulation.problem.eigenvalues[1:]
    behind, ahead = (values[0] for values in simulation.compared())
    for k, colour in enumerate(_colours(len(lower))):
        share = [
            theory.student_progress(lower[k], time, study.student_time)
            / theory.progress(lower[k], theory.matched_time(simulation.problem.eigenvalues, (time, study.student_time)))
            for time in times
        ]
        right.plot(times, share, color=colour, linewidth=1.3, label=f"eigenvalue {lower[k]:g}")
        right.plot(study.teacher_time, behind[k] / ahead[k], "D", ms=5, color=colour, mfc="white")
    right.axhline(1, color=colours.REFERENCE, linewidth=1, linestyle="--")
    right.set(xscale="log", xlabel="the teacher's training time [1 / top eigenvalue]", ylim=(BELOW, 1.05))
    right.set_ylabel("student / model on labels, equally far along the top")
    right.set_title(f"the effect vanishes as the teacher fits (student's time {study.student_time:g})", fontsize=10)
    right.legend(fontsize=8, loc="lower right")
    return figure


def _round_name(number: int) -> str:
    return "teacher" if number == 0 else "student" if number == 1 else f"round {number}"


def shares_by_round(simulations: Sequence[Simulation]) -> Figure:
    """Return the figure of the student's progress as a share of the one-hot model's at matched top progress, after each round."""
    figure, panels = _panels(len(simulations))
    for axes, simulation in zip(panels, simulations, strict=True):
        (student, onehot), (student_expected, onehot_expected) = simulation.compared(), simulation.expected()
        rounds = range(len(student) + 1)
        lower = simulation.problem.drawn[1:]
        for column, (k, colour) in enumerate(zip(lower, _colours(len(lower)), strict=True)):
            expected = [1, *(student_expected / onehot_expected)[:, column]]
            axes.plot(
                rounds,
                expected,
                color=colour,
                linewidth=1.3,
                label=f"eigenvalue {simulation.problem.eigenvalues[k]:.2g}",
            )
            axes.plot(rounds, [1, *(student / onehot)[:, column]], "o", ms=5, color=colour, mfc="white")
        axes.set(xlabel="rounds of self-distillation (0: the teacher)", ylim=(BELOW, 1.05), xticks=rounds)
        axes.set_title(_titled(simulation), fontsize=10)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("student / model on labels,\nequally far along the top direction")
    return figure


def ratios_by_rank(simulations: Sequence[Simulation]) -> Figure:
    """Return the figure of the eigen ratio of the first student to the model on labels, against the direction's rank."""
    figure, panels = _panels(len(simulations))
    for axes, simulation in zip(panels, simulations, strict=True):
        measured, expected = simulation.ratios()
        axes.plot(expected, color=colours.STUDENT, linewidth=1.3, label="closed form")
        axes.plot(measured, "o", ms=4.5, color=colours.STUDENT, mfc="white", label="gradient descent")
        axes.axhline(1, color=colours.REFERENCE, linestyle="--", linewidth=1)
        axes.set(xlabel="eigendirection, 0 the top", ylim=(BELOW, 1.05))
        axes.set_title(_titled(simulation), fontsize=10)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("student / model on labels (eigen ratio)")
    return figure


def hilbert_rounds(hilbert: HilbertSimulation) -> Figure:
    """Return the figure of what is left of the labels along each eigendirection after each round, and in all."""
    figure, (left, right) = _panels(2)
    closed_form = hilbert.closed_form
    last = len(closed_form.multipliers)
    dense = np.geomspace(hilbert.eigenvalues[0], hilbert.eigenvalues[-1], 300)
    filters = np.ones_like(dense)
    measured = hilbert.targets / hilbert.targets[0]
    some = np.unique(np.linspace(0, len(hilbert.eigenvalues) - 1, 24).astype(int))
    of_round = _round_colours(last + 1)
    for number, multiplier in enumerate(closed_form.multipliers, start=1):
        filters = filters * dense / (multiplier + dense)
        if number not in {1, 2, 3, 5, 8, 13, last}:
            continue  # a reader tells seven lines apart
        left.plot(dense, filters, color=of_round[number], linewidth=1.3, label=f"after round {number}")
        left.plot(hilbert.eigenvalues[some], measured[number][some], "o", ms=4, color=of_round[number], mfc="white")
    left.set(
        xscale="log",
        xlabel="eigenvalue of the kernel matrix",
        ylabel="share of the labels that is left",
        ylim=(BELOW, 1.05),
    )
    left.legend(fontsize=8, loc="upper left")
    left.set_title("low directions go first, and more so every round", fontsize=10)

    rounds = np.arange(last + 1)
    scale = np.sqrt(hilbert.targets.shape[1] * hilbert.tolerance)
    right.plot(
        rounds,
        np.linalg.norm(closed_form.targets, axis=1) / scale,
        color=colours.TEXT,
        linewidth=1.3,
        label="closed form",
    )
    right.plot(rounds, hilbert.norms(), "o", ms=5, color=colours.TEXT, mfc="white", label="direct solves")
    start = hilbert.norms()[0]
    right.plot(
        [0, min(start, last)],
        [start, max(start - last, 0)],
        ":",
        color=colours.REFERENCE,
        label="triangle inequality: no lower",
    )
    right.axhline(1, color=colours.REFERENCE, linewidth=1, linestyle="--", label="collapse")
    right.set(xlabel="round", ylabel="size of the predictions, |z| / sqrt(N eps)", ylim=(BELOW * start, None))
    right.set_title(f"{last} rounds; guaranteed with the condition number: {hilbert.guaranteed:.2g}", fontsize=10)
    right.legend(fontsize=8)
    return figure
