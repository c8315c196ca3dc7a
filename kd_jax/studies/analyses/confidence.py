"""How good the students are, how far they follow their teachers, and whether they exaggerate their confidence: from logits.

Files: `pairs/ARM-seedK-SPLIT.npz`, the logits of a run and of its teacher, where they are known, with labels and example ids;
`views.npz`, what is shown of single examples, see `views`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_jax.analysis import calibration, gallery, summary, verdicts
from kd_jax.analysis.claims import Claim
from kd_jax.analysis.gallery import OfRun
from kd_jax.analysis.results import Estimate, Unlearned
from kd_jax.analysis.summary import Compared, Pair
from kd_jax.errors import BadInput, Diverged
from kd_jax.extract import logits as extract
from kd_jax.plan import TEACHER
from kd_jax.report import (
    beyond,
    charts_confidence,
    charts_galleries,
    charts_intervals,
    charts_reliability,
    tables,
)
from kd_jax.report.charts import Chart
from kd_jax.report.charts_confidence import Examples
from kd_jax.report.tables import Table
from kd_jax.studies.analyses import views
from kd_jax.studies.analyses.base import Advance, Analysed, Analysis, Trained, read_arrays
from kd_jax.studies.analyses.base import students as students_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        for logits in (pair.teacher, pair.student):
            if logits is not None and not np.isfinite(logits).all():
                raise Diverged(
                    f"{pair.arm}-seed{pair.seed}: its answers to the {pair.split} examples, or its teacher's, are no finite"
                    " numbers; lower --learning_rate or raise --warmup",
                    pair.seed,
                )
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
    runs: list[OfRun] = []
    compared = _remembered(map(summary.compared, _kept(pairs, folder)), runs)
    estimates = summary.estimates(compared, trained.plan.baselines, trained.single)
    views.keep(trained.dataset, _noteworthy(trained, runs), folder)
    return estimates


def _remembered(compared: Iterable[Compared], runs: list[OfRun]) -> Iterator[Compared]:
    """Pass on what is compared, and keep of each run what is said of single examples."""
    for each in compared:
        if (run := gallery.of_run(each)) is not None:
            runs.append(run)
        yield each


def _noteworthy(trained: Trained, runs: Sequence[OfRun]) -> dict[str, list[int]]:
    """{split: rows of the examples in the galleries of all students}."""
    rows: dict[str, list[int]] = {}
    for split, of_split in trained.dataset.examined.items():
        for arm in students_of(trained.plan.arms):
            own = [run for run in runs if (run.arm, run.split) == (arm.name, split)]
            if own:
                found = gallery.gallery(own, (), of_split.y, of_split.true_y)
                rows.setdefault(split, []).extend(each.row for kind in found.values() for each in kind)
    return rows


def _conclude(trained: Trained, estimates: Sequence[Estimate], unlearned: Sequence[Unlearned]) -> list[Claim]:
    plan = trained.plan
    about = {"teachers": plan.teachers, "no_control": plan.no_control}
    return verdicts.exaggeration_claims(estimates, plan.baselines, plan.controls, unlearned, **about)


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
        " teacher. Best epochs are each run's own, chosen on the test set, so that their accuracy is too good."
    )
    note = tables.what_intervals_are(analysed.estimates)
    main = Table(header, rows, note, details, "Accuracy, fidelity, exaggeration", sortable=False)
    further = beyond.table(analysed.estimates, analysed.shown)
    return [main] if further is None else [main, further]


def _figures(analysed: Analysed) -> dict[str, "Figure"]:
    from kd_jax.report import figures

    arms = tables.beside_teacher(analysed.shown)
    names, seed = [arm.name for arm in arms], analysed.seeds[0]
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


def _charts(analysed: Analysed) -> dict[str, Chart]:
    arms = [arm.name for arm in analysed.shown]
    compared = [arm.name for arm in tables.beside_teacher(analysed.shown)]
    shown, runs, examples = views.read(analysed.folder), [], {}
    for split in _splits(analysed.folder):
        for pair in read_pairs(analysed.folder, compared, analysed.seeds, split):
            if (run := gallery.of_pair(pair)) is not None:
                runs.append(run)
                examples[split] = Examples(pair.ids, pair.y, pair.true_y, shown.get(split))
    names = analysed.summary["study"]["data"].get("class_names", ())
    controls = {arm.name: arm.control or arm.baseline for arm in analysed.arms if arm.baseline}
    scatter = charts_confidence.chart(runs, examples, arms, names)
    if scatter is not None and (shown_below := charts_galleries.galleries(runs, examples, controls, names)):
        caption = f"{scatter.caption} {' '.join(charts_galleries.NOTE.split())}"
        scatter = scatter._replace(caption=caption, galleries=shown_below)
    made = {
        "confidence": scatter,
        "reliability": charts_reliability.chart(charts_reliability.answers(runs, examples), arms),
        "intervals": charts_intervals.chart(analysed.estimates, arms),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def _splits(folder: Path) -> list[str]:
    """The splits of which an analysis has logits: the test set, the training set, further ones."""
    found = {path.stem.rpartition("-")[2] for path in (folder / "pairs").glob("*-seed*-*.npz")}
    return sorted(found, key=lambda split: (split != "test", split != "train", split))


ANALYSIS = Analysis(
    name="confidence",
    passes=_passes,
    measure=_measure,
    conclude=_conclude,
    warn=_warn,
    tables=_tables,
    figures=_figures,
    charts=_charts,
    captions={
        "confidence": """Each point is an example: how sure the teacher is of its top class, and how sure the other model is of that
            same class. On the dashed line they agree. A fitted line steeper than it exaggerates the teacher's confidence.""",
        "slopes": """The slopes of those lines, with intervals. Over all points, regression to the mean pulls the slope between two
            equally good, independent models below 1; within a quarter the relation may bend as well. So compare a student with its
            control.""",
        "slopes_by_rank": beyond.CAPTION,
    },
)
