"""When each training example is learnt, forgotten, and taken past its teacher's confidence.

Files: `trajectory/ARM-seedK.npz`, what a run says of `Look.trajectory_examples` random training examples at each of its
checkpoints, the fields of `kd_jax.analysis.trajectories.Trajectory`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kd_jax.analysis import trajectories
from kd_jax.analysis.results import Estimate
from kd_jax.extract import trajectories as extract
from kd_jax.report import tables
from kd_jax.report.tables import Table
from kd_jax.studies.analyses.base import Advance, Analysed, Analysis, Trained, read_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "When examples are learnt, and taken past their teacher"
NOTE = "Steps are medians over examples; a dash where half of them, in some seed, never get there. Seen at checkpoints only."
DETAILS = """Learnt: from that step on predicted as labelled, to the end. Crossed: the first checkpoint at which the run is at
    least as sure of the teacher's top class as the teacher was where it taught. Surer, less sure: odds that are twice the
    teacher's at some checkpoint, or half of them or less to the end. Forgotten: right at one checkpoint and wrong at the next;
    forgetting between checkpoints is not seen."""
ROWS = {  # name: (label, digits)
    "step_learnt": ("median step learnt", 0),
    "step_crossed": ("median step crossed", 0),
    "share_learnt": ("share learnt", 3),
    "share_crossed": ("share crossed", 3),
    "share_surer": ("share surer", 3),
    "share_less_sure": ("share less sure", 3),
    "forgetting_events": ("times forgotten, mean", 2),
}


def _passes(trained: Trained) -> int:
    return len(extract.followed(trained.plan)) if trained.study.look.trajectory_examples else 0


def _measure(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    if not trained.study.look.trajectory_examples:
        return []
    found = []
    for run in extract.trajectories(trained.workdir, trained.plan, trained.dataset, advance):
        (folder / "trajectory").mkdir(parents=True, exist_ok=True)
        np.savez(folder / "trajectory" / f"{run.arm}-seed{run.seed}.npz", **run._asdict())
        found.append(run)
    return trajectories.estimates(found, trained.single)


def _tables(analysed: Analysed) -> list[Table]:
    of = [each for each in analysed.estimates if each.name in ROWS]
    split = any(each.subset == "noisy" for each in of)
    shown = ("clean", "noisy") if split else ("all",)
    of = sorted((each for each in of if each.subset in shown), key=lambda each: list(ROWS).index(each.name))

    def cell(estimate: Estimate) -> tuple[str, str]:
        label, digits = ROWS[estimate.name]
        return f"{label}, {estimate.subset}" if split else label, tables.shown(estimate.interval, digits)

    made = tables.arm_per_column(of, "training examples", cell)
    if made is None:
        return []
    return [Table(*made, f"{NOTE}{_of_medians(of)}", " ".join(DETAILS.split()), TITLE, sortable=False)]


def _of_medians(estimates: Sequence[Estimate]) -> str:
    """A sentence on the intervals of medians over seeds, which of few seeds hold less often than others; empty without such."""
    over = next((e.interval for e in estimates if e.name.startswith("step_") and e.interval.resampled == "seeds"), None)
    if over is None:
        return ""
    between = f"between two of the {over.count} seeds' values"
    return f" Intervals of medians lie {between} and hold the median in {over.level:.0%} of cases."


def _figures(analysed: Analysed) -> dict[str, "Figure"]:
    from kd_jax.report import trajectory_figures

    order = {arm.name: place for place, arm in enumerate(analysed.shown)}
    runs = read_runs(analysed.folder / "trajectory", trajectories.Trajectory)
    runs = sorted((run for run in runs if run.arm in order), key=lambda run: (order[run.arm], run.seed))
    return {"example_trajectories": trajectory_figures.figure(runs)} if runs else {}


ANALYSIS = Analysis(
    name="trajectories",
    needs_curves=True,
    passes=_passes,
    measure=_measure,
    tables=_tables,
    figures=_figures,
    captions={
        "example_trajectories": """Random training examples along training. Left, the share that is predicted as labelled: with
            wrong labels, dashed, this is memorising them. Right, the share of which the network has been at least as sure as
            the teacher was where it taught, of the teacher's top class, at this checkpoint or before. Means over seeds, with
            their range.""",
    },
)
