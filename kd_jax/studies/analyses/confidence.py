"""How good the students are, how far they follow their teachers, and whether they exaggerate their confidence: from logits.

Files: `pairs/ARM-seedK-SPLIT.npz`, the logits of a run and of its teacher, where they are known, with labels and example ids.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kd_jax.analysis import calibration, summary, verdicts
from kd_jax.analysis.results import Estimate, Unlearned, Verdict
from kd_jax.analysis.summary import Pair
from kd_jax.errors import BadInput
from kd_jax.extract import logits as extract
from kd_jax.plan import TEACHER
from kd_jax.report import beyond, figures, tables
from kd_jax.report.tables import Table
from kd_jax.studies.analyses.base import Advance, Analysed, Analysis, Trained, read_arrays
from kd_jax.studies.analyses.base import students as students_of

FITTED = 0.01  # squared-loss teachers that leave less than this share of their labels' variance are fully fitted


def pair_file(folder: Path, arm: str, seed: int, split: str) -> Path:
    """Return the file of a run's logits in the folder of an analysis."""
    return folder / "pairs" / f"{arm}-seed{seed}-{split}.npz"


def read_pairs(folder: Path, arms: Iterable[str], seeds: Iterable[int], split: str) -> Iterator[Pair]:
    """Yield the pairs of runs on a split, one at a time, from the files of an analysis; runs without a file are left out."""
    seeds = list(seeds)
    for arm in arms:
        for seed in seeds:
            path = pair_file(folder, arm, seed, split)
            if path.is_file():
                arrays = read_arrays(path)
                if lacking := {"student_logits", "labels", "true_labels", "ids"} - set(arrays):
                    raise BadInput(f"{path}: expected {', '.join(sorted(lacking))}; run kd-jax analyze again")
                rest = (arrays[key] for key in ("student_logits", "labels", "true_labels", "ids"))
                against = str(arrays["against"]) if "against" in arrays else TEACHER
                yield Pair(arm, seed, split, arrays.get("teacher_logits"), *rest, against=against)


def _kept(pairs: Iterable[Pair], folder: Path) -> Iterator[Pair]:
    """Pass pairs through, and write each as a file."""
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        teacher: Any = {} if pair.teacher is None else {"teacher_logits": pair.teacher}
        np.savez(
            pair_file(folder, pair.arm, pair.seed, pair.split),
            **teacher,
            student_logits=pair.student,
            labels=pair.y,
            true_labels=pair.true_y,
            ids=pair.ids,
            against=np.array(pair.against),
        )
        yield pair


def _passes(trained: Trained) -> int:
    return extract.passes(trained.plan) * len(trained.seeds)


def _measure(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    pairs = extract.logit_pairs(trained.workdir, trained.plan, trained.dataset, advance)
    given = trained.plan.given
    is_one = given is not None and given.is_one and len(trained.seeds) > 1
    return summary.estimates(map(summary.compared, _kept(pairs, folder)), trained.plan.baselines, is_one)


def _conclude(trained: Trained, estimates: Sequence[Estimate], unlearned: Sequence[Unlearned]) -> list[Verdict]:
    plan = trained.plan
    about = {"teachers": plan.teachers, "no_control": plan.no_control}
    return verdicts.exaggeration_verdicts(estimates, plan.baselines, plan.controls, unlearned, **about)


def _warn(trained: Trained, folder: Path) -> list[str]:
    """Warn of teachers from which the controls are not independent, and of squared-loss ones that leave nothing to learn."""
    warnings = []
    if shared := trained.plan.starts_with_teacher:
        seeds = ", ".join(map(str, shared))
        warnings.append(
            f"the teacher of seed {seeds} started from the initialisation of the student of that seed, so the one-hot twin is no"
            " independent control; pass another --seed"
        )
    return warnings + _fully_fitted(trained, folder)


def _fully_fitted(trained: Trained, folder: Path) -> list[str]:
    if trained.study.training.loss != "mse":
        return []
    arms = [arm.name for arm in students_of(trained.plan.arms)]
    pairs = read_pairs(folder, arms, trained.seeds, "train")
    left = max(calibration.share_left(pair.teacher, pair.y) for pair in pairs if pair.teacher is not None)
    if left >= FITTED:
        return []
    return [
        f"the teachers fit their labels fully (they leave {left:.1e} of the variance, less than {FITTED:g}): under"
        " squared loss the effect of distillation vanishes then in theory; stop them earlier with --teacher_step or --epochs"
    ]


def _tables(analysed: Analysed) -> list[Table]:
    header, rows = tables.main_table(analysed.estimates, analysed.shown)
    details = (
        "Train accuracy is on the labels that were trained on. Gain is over the same network, initialisation and batches without a"
        " teacher."
    )
    note = tables.what_intervals_are(analysed.estimates)
    main = Table(header, rows, note, details, "Accuracy, fidelity, exaggeration", sortable=False)
    further = beyond.table(analysed.estimates, analysed.shown)
    return [main] if further is None else [main, further]


def _figures(analysed: Analysed) -> dict[str, Figure]:
    arms = tables.beside_teacher(analysed.shown)
    names, seed = [arm.name for arm in arms], analysed.study.seed
    logits = {}
    for split in ("test", "train"):
        pairs = read_pairs(analysed.folder, names, [seed], split)
        of_split = {pair.arm: (pair.teacher, pair.student) for pair in pairs if pair.teacher is not None}
        if of_split:
            logits[split] = of_split
    drawn = {
        "confidence": figures.confidence(logits, arms, seed, analysed.estimates),
        "slopes": figures.slopes(analysed.estimates, arms),
    }
    by_rank = beyond.figure(analysed.estimates, analysed.shown)
    return drawn if by_rank is None else drawn | {"slopes_by_rank": by_rank}


ANALYSIS = Analysis(
    name="confidence",
    passes=_passes,
    measure=_measure,
    conclude=_conclude,
    warn=_warn,
    tables=_tables,
    figures=_figures,
    captions={
        "confidence": """Each point is an example: how sure the teacher is of its top class, and how sure the other model is of that
            same class. On the dashed line they agree. A fitted line steeper than it exaggerates the teacher's confidence.""",
        "slopes": """The slopes of those lines, with intervals. Over all points, regression to the mean pulls the slope between two
            equally good, independent models below 1; within a quarter the relation may bend as well. So compare a student with its
            one-hot control.""",
        "slopes_by_rank": beyond.CAPTION,
    },
)
