"""From what all runs say of each example to the estimates of `summary.json`."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from kd_jax.analysis import beyond, calibration, exaggeration, intervals, rescaling
from kd_jax.analysis.examples import Beside, OfModel, OfPair, beside, chosen, of_model
from kd_jax.analysis.results import Estimate, Interval, Measured
from kd_jax.plan import TEACHER


class Pair(NamedTuple):
    """Logits of a run and of its teacher on one split, on clean views.

    For a run without a teacher, `teacher` holds the teacher of the same seed: an independently trained model, the control.

    Attributes:
        arm, seed: the run.
        split: name of the split that the examples are from.
        teacher: logits of the teacher, float [examples, classes]; None where they are not known, as of a teacher that is a file of
            logits for another split.
        student: logits of the run, float [examples, classes].
        y: labels as trained on, int [examples].
        true_y: labels as published, int [examples].
        ids: positions in the published split, int [examples].
        against: the arm of the teacher.
    """

    arm: str
    seed: int
    split: str
    teacher: np.ndarray | None
    student: np.ndarray
    y: np.ndarray
    true_y: np.ndarray
    ids: np.ndarray
    against: str = TEACHER


def measure_model(model: OfModel, groups: np.ndarray | None = None) -> dict[str, Measured]:
    """Return {name: `Measured`} of one model with labels: `accuracy`, `nll`, `ece`, `brier`; without labels nothing.

    `groups`, int [examples], says which examples depend on each other; None for independent ones.
    """
    hits, confidences = model.hit, model.confidence
    if hits is None or model.nll is None or model.brier is None:
        return {}
    return {
        "accuracy": _proportion(hits, groups),
        "nll": _mean(model.nll, groups),
        "ece": Measured(
            calibration.ece(confidences, hits), lambda: calibration.ece_interval(confidences, hits, groups=groups)
        ),
        "brier": _mean(model.brier, groups),
    }


def measure_pair(pair: OfPair, groups: np.ndarray | None = None) -> dict[tuple[str, str], Measured]:
    """Return {(name, subset of `exaggeration.SUBSETS`): `Measured`} of a student beside its teacher.

    Lines are fitted to the examples in which both confidences are finite: a probability of exactly 1 has no finite one. `groups`,
    int [examples], says which examples depend on each other; None for independent ones.
    """
    measured = {("agreement", "all"): _proportion(pair.agree, groups)}
    if np.isfinite(pair.kl).all():
        measured["kl", "all"] = _mean(pair.kl, groups)
    finite = np.isfinite(pair.x) & np.isfinite(pair.y)
    x, y = (pair.x, pair.y) if finite.all() else (pair.x[finite], pair.y[finite])
    groups = groups if groups is None else groups[finite]
    if len(x) < 2:
        return measured
    lines = exaggeration.lines(x, y)
    counts = {subset: int(mask.sum()) for subset, mask in exaggeration.masks(x).items()}

    @cache
    def errors():
        """Standard errors [lines, numbers]. One bootstrap serves all, and each draw is cut into quarters anew."""

        of = exaggeration.make_lines(x, y)
        return intervals.bootstrap_errors(of, len(x), np.random.default_rng(0), groups=groups)

    for row, (subset, line) in enumerate(lines.items()):
        for column, name in enumerate(("exaggeration_slope", "exaggeration_intercept", "mean_deviation")):
            measured[name, subset] = Measured(
                line[column],
                lambda row=row, column=column, value=line[column], count=counts[subset]: _of_error(
                    value, errors()[row, column], count, groups
                ),
            )
    return measured


class Compared(NamedTuple):
    """A run beside its teacher on one split, example by example.

    Attributes:
        arm, seed: the run.
        split: name of the split that the examples are from.
        beside: what teacher and run say of each example; where the teacher's logits are not known, what the run says.
        y: labels as trained on, int [examples]; None without labels.
        true_y: labels as published, int [examples]; None without labels.
        groups: which examples depend on each other, such as the sequence of each token, int [examples]; None for independent ones.
        temperature: of the run, at which it is closest to its teacher; None where the teacher's logits are not known.
        against: the arm of the teacher.
    """

    arm: str
    seed: int
    split: str
    beside: Beside | OfModel
    y: np.ndarray | None
    true_y: np.ndarray | None
    groups: np.ndarray | None = None
    temperature: Interval | None = None
    against: str = TEACHER


def compared(pair: Pair) -> Compared:
    """Return what a pair's logits say of each example."""
    about = pair.arm, pair.seed, pair.split
    if pair.teacher is None:
        return Compared(*about, of_model(pair.student, pair.y), pair.y, pair.true_y, against=pair.against)
    best = rescaling.matched(pair.teacher, pair.student)
    said = beside(pair.teacher, pair.student, pair.y, temperature=best.estimate)
    return Compared(*about, said, pair.y, pair.true_y, temperature=best, against=pair.against)


def estimates(pairs: Iterable[Compared], baselines: Mapping[str, str], single: Collection[str] = ()) -> list[Estimate]:
    """Return the estimates of a study that logits give.

    `accuracy` is on the labels that were trained on; `accuracy_true`, on the points with wrong ones, on the published labels.
    `accuracy_gain` is a student's accuracy less that of its arm without a teacher, `accuracy_over_teacher` less its teacher's.
    Without labels there are none of these. What compares with the teacher is left out on splits where its logits are not known.

    Args:
        pairs: every run beside its teacher, on every split; read once, one at a time.
        baselines: {arm of a student: the arm that differs from it by having no teacher}, for `accuracy_gain`.
        single: the arms of which one network stands for all seeds, such as a teacher that exists already. Estimates that are about
            these alone have one value, and an interval over examples; a gain over one of them has its chance in it, as
            `intervals.standard_error` says.
    """
    measured, hits, teachers, shared, seeds = {}, {}, {}, set(), []
    for pair in pairs:
        teachers[pair.arm] = pair.against
        if pair.seed not in seeds:
            seeds.append(pair.seed)
        first = seeds[0]
        for subset, mask in _label_subsets(pair.y, pair.true_y):
            groups = None if pair.groups is None else pair.groups[mask]
            said = pair.beside
            of_teacher, of_student, of_pair = said if isinstance(said, Beside) else (None, said, None)
            for arm, of_all in ((pair.against, of_teacher), (pair.arm, of_student)):
                if of_all is None:
                    continue
                model = chosen(of_all, mask)
                if model.hit is not None:
                    hits[arm, pair.seed, pair.split, subset] = model.hit, groups
                if arm in single and pair.seed != first:
                    continue
                for name, value in (measure_model(model, groups) | {"entropy": _mean(model.entropy, groups)}).items():
                    measured.setdefault((name, arm, pair.split, subset), {})[pair.seed] = value
                if subset == "noisy" and pair.true_y is not None:
                    key = "accuracy_true", arm, pair.split, subset
                    measured.setdefault(key, {})[pair.seed] = _proportion(model.prediction == pair.true_y[mask], groups)
            if of_pair is None or ({pair.arm, pair.against} <= {*single} and pair.seed != first):
                continue
            for (name, quarter), value in measure_pair(chosen(of_pair, mask), groups).items():
                # "all", "lowest_25", "clean", "clean_lowest_25", ...; quarters are of the subset.
                where = "_".join(part for part in (subset, quarter) if part != "all") or "all"
                measured.setdefault((name, pair.arm, pair.split, where), {})[pair.seed] = value
            further = beyond.measure(*(chosen(of, mask) for of in said), groups)
            if subset == "all" and pair.temperature is not None:
                best = pair.temperature
                further["kl_temperature", 0] = Measured(best.estimate, lambda best=best: best)
            for (name, rank), value in further.items():
                measured.setdefault((name, pair.arm, pair.split, subset, rank), {})[pair.seed] = value
    for (arm, seed, split, subset), (right, groups) in hits.items():
        if arm in baselines:
            if (baselines[arm], seed, split, subset) in hits:
                gain = right.astype(np.float64) - hits[baselines[arm], seed, split, subset][0]
                key = "accuracy_gain", arm, split, subset
                measured.setdefault(key, {})[seed] = _mean(gain, groups)
                if baselines[arm] in single:
                    shared.add(key)
            if (of_teacher := hits.get((teachers[arm], seed, split, subset))) is not None:
                over = right.astype(np.float64) - of_teacher[0]
                measured.setdefault(("accuracy_over_teacher", arm, split, subset), {})[seed] = _mean(over, groups)
    listed = [_estimate(key, by_seed, sorted(seeds), key in shared) for key, by_seed in measured.items()]
    return [estimate for estimate in listed if _defined(estimate.interval)]


def average_estimates(
    answers: Iterable[tuple[str, int, str, np.ndarray, np.ndarray, np.ndarray]],
) -> list[Estimate]:
    """Return the estimates `accuracy_average`: the accuracy of the moving average of a run's weights, on the labels trained on.

    Args:
        answers: (arm, seed, name of a split, logits [examples, classes], labels as trained on [examples], labels as published
            [examples]) of every run, on every split.
    """
    measured = {}
    for arm, seed, split, logits, y, true_y in answers:
        for subset, mask in _label_subsets(y, true_y):
            key = "accuracy_average", arm, split, subset
            measured.setdefault(key, {})[seed] = _proportion(logits[mask].argmax(axis=1) == y[mask])
    return [_estimate(key, by_seed) for key, by_seed in measured.items()]


def _defined(interval: Interval) -> bool:
    """Whether estimate and range are numbers: a line may lack either where a teacher's confidence hardly varies."""
    return bool(np.isfinite((interval.estimate, interval.low, interval.high)).all())


def _label_subsets(y: np.ndarray | None, true_y: np.ndarray | None) -> Iterator[tuple[str, Any]]:
    """Yield (subset, mask): all examples, and where some labels are not as published, those and the others."""
    yield "all", slice(None)
    if y is None or true_y is None:
        return
    noisy = y != true_y
    if noisy.any():
        for subset, mask in (("clean", ~noisy), ("noisy", noisy)):
            if mask.sum() > 1:  # a single point has no interval
                yield subset, mask


def _estimate(key, by_seed, seeds=(), shared=False):
    name, arm, split, subset, *ranks = key
    rank = ranks[0] if ranks else 0
    values = tuple(float(by_seed[seed].value) for seed in sorted(by_seed))
    several = len(values) > 1
    interval = intervals.over_seeds(values, shared=shared) if several else next(iter(by_seed.values())).interval()
    # A number that a seed lacks, such as the mean of divergences of which one is infinite.
    kept = tuple(at for at, seed in enumerate(seeds) if seed in by_seed) if several else ()
    kept = () if len(kept) == len(seeds) else kept
    return Estimate(name, arm, interval, values, split=split, subset=subset, rank=rank, kept=kept)


def _proportion(hits, groups=None):
    return Measured(float(hits.mean()), lambda: intervals.of_proportion(hits, groups=groups))


def _mean(values, groups=None):
    return Measured(float(values.mean()), lambda: intervals.of_mean(values, groups=groups))


def _of_error(value, error, count, groups):
    if groups is None:
        return intervals.of_error(value, error, count)
    return intervals.of_error(value, error, len(np.unique(groups)), resampled=intervals.GROUPS)
