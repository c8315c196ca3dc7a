"""How good the runs were at their best epoch, beside their last: from the metrics that training wrote down."""

from pathlib import Path

from kd_jax.analysis import epochs
from kd_jax.analysis.results import Estimate
from kd_jax.plan import TEACHER
from kd_jax.studies.analyses.base import Advance, Analysis, Trained
from kd_jax.workdir import metrics_file, records


def _curves(trained: Trained, split: str) -> dict[str, list[epochs.Curve]]:
    """{arm: curve of each seed}, of the arms that are compared by their logits; a teacher up to where it teaches.

    A teacher that teaches all seeds is one run. Arms of which a seed has no metrics are left out.
    """
    found: dict[str, list[epochs.Curve | None]] = {}
    given = trained.plan.given
    for run in trained.plan.runs:
        if run.arm.null_of:
            continue
        if run.arm.name == TEACHER and given is not None and given.is_one and run.seed != trained.seeds[0]:
            continue
        lines = metrics_file.read(records.run_folder(trained.workdir, run.name))
        found.setdefault(run.arm.name, []).append(epochs.curve(lines, split, run.arm.looked_at(run.length)))
    return {arm: [each for each in curves if each] for arm, curves in found.items() if all(curves)}


def _measure(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    tests = {name: split for name, split in trained.dataset.splits.items() if name != "train"}
    found = ((name, len(split.y)) for name, split in tests.items())
    return [each for name, size in found for each in epochs.estimates(_curves(trained, name), name, size)]


def _warn(trained: Trained, folder: Path) -> list[str]:
    return list(filter(None, [epochs.past_best(_curves(trained, "test"))]))


ANALYSIS = Analysis(name="epochs", measure=_measure, warn=_warn)
