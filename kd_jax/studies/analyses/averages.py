"""How accurate the moving averages of weights are that runs keep beside their last weights (`ema`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_jax.analysis import summary
from kd_jax.analysis.results import Estimate
from kd_jax.extract import logits as extract
from kd_jax.report import tables
from kd_jax.report.tables import Table
from kd_jax.studies.analyses.base import Advance, Analysed, Analysis, Trained

NOTE = "Accuracy of the moving average of the weights, beside that of the last weights in the table above."


def _passes(trained: Trained) -> int:
    return len(extract.averaged_runs(trained.plan))


def _measure(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    def answers() -> Iterator[tuple[Any, ...]]:
        for arm, seed, name, logits, split in extract.average_logits(
            trained.workdir, trained.plan, trained.dataset, advance
        ):
            yield arm.name, seed, name, logits, split.y, split.true_y

    return summary.average_estimates(answers())


def _tables(analysed: Analysed) -> list[Table]:
    made = tables.arm_per_column(analysed.estimates, "averaged weights", _cell)
    return [] if made is None else [Table(*made, NOTE, title="Averaged weights", sortable=False)]


def _cell(estimate: Estimate) -> tuple[str, str] | None:
    if estimate.name != "accuracy_average" or estimate.subset != "all":
        return None
    return f"{estimate.split} accuracy", tables.shown(estimate.interval)


ANALYSIS = Analysis(name="averages", passes=_passes, measure=_measure, tables=_tables)
