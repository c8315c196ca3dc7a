"""From the logits of all runs to the estimates of `summary.json`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from kd_jax.analysis import calibration, exaggeration, fidelity, intervals
from kd_jax.analysis.results import Estimate, Interval
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
    """

    arm: str
    seed: int
    split: str
    teacher: np.ndarray | None
    student: np.ndarray
    y: np.ndarray
    true_y: np.ndarray
    ids: np.ndarray


class Measured(NamedTuple):
    """A number of one seed.

    Attributes:
        value: the number.
        interval: computes its interval over examples, which costs time and is asked for only with a single seed.
    """

    value: float
    interval: Callable[[], Interval]


def measure_model(logits: np.ndarray, y: np.ndarray) -> dict[str, Measured]:
    """Return {name: `Measured`} of one model: `accuracy`, `nll`, `ece`, `brier`.

    Args:
        logits: float [examples, classes].
        y: labels as trained on, int [examples].
    """
    hits = calibration.correct(logits, y)
    confidences = calibration.top_confidence(logits)
    return {
        "accuracy": _proportion(hits),
        "nll": _mean(calibration.nll(logits, y)),
        "ece": _statistic(lambda index: np.array([calibration.ece(confidences[index], hits[index])]), len(y)),
        "brier": _mean(calibration.brier(logits, y)),
    }


def measure_pair(teacher: np.ndarray, student: np.ndarray) -> dict[tuple[str, str], Measured]:
    """Return {(name, subset of `exaggeration.SUBSETS`): `Measured`} of a student beside its teacher.

    Args:
        teacher, student: logits, float [examples, classes].
    """
    measured = {
        ("agreement", "all"): _proportion(fidelity.agreement(teacher, student)),
        ("kl", "all"): _mean(fidelity.kl(teacher, student)),
    }
    x, y = exaggeration.confidence_pair(teacher, student)
    lines = exaggeration.lines(x, y)
    counts = {subset: int(mask.sum()) for subset, mask in exaggeration.masks(x).items()}

    @cache
    def errors():
        """Standard errors [lines, numbers]. One bootstrap serves all, and each draw is cut into quarters anew."""

        def statistic(index):
            return np.array([exaggeration.lines(x[index], y[index])[subset] for subset in lines])

        return intervals.bootstrap_errors(statistic, len(x), np.random.default_rng(0))

    for row, (subset, line) in enumerate(lines.items()):
        for column, name in enumerate(("exaggeration_slope", "exaggeration_intercept", "mean_deviation")):
            measured[name, subset] = Measured(
                line[column],
                lambda row=row, column=column, value=line[column], count=counts[subset]: intervals.of_error(
                    value, errors()[row, column], count
                ),
            )
    return measured


def estimates(pairs: Iterable[Pair], baselines: Mapping[str, str], is_one_teacher: bool = False) -> list[Estimate]:
    """Return the estimates of a study that logits give.

    `accuracy` is on the labels that were trained on; `accuracy_true`, on the points with wrong ones, on the published labels.
    `accuracy_gain` is a student's accuracy less that of its arm without a teacher, `accuracy_over_teacher` less its teacher's.
    What compares with the teacher is left out on splits where its logits are not known.

    Args:
        pairs: every run beside its teacher, on every split; read once, one at a time.
        baselines: {arm of a student: the arm that differs from it by having no teacher}, for `accuracy_gain`.
        is_one_teacher: whether all seeds have the same teacher. Its own estimates are then of one run, with intervals over
            examples.
    """
    measured, hits, first = {}, {}, None
    for pair in pairs:
        first = pair.seed if first is None else first
        for subset, mask in _label_subsets(pair.y, pair.true_y):
            teacher = None if pair.teacher is None else pair.teacher[mask]
            student, y = pair.student[mask], pair.y[mask]
            for arm, logits in ((TEACHER, teacher), (pair.arm, student)):
                if logits is None:
                    continue
                hits[arm, pair.seed, pair.split, subset] = calibration.correct(logits, y)
                if arm == TEACHER and is_one_teacher and pair.seed != first:
                    continue
                for name, value in measure_model(logits, y).items():
                    measured.setdefault((name, arm, pair.split, subset), {})[pair.seed] = value
                if subset == "noisy":
                    key = "accuracy_true", arm, pair.split, subset
                    measured.setdefault(key, {})[pair.seed] = _proportion(
                        calibration.correct(logits, pair.true_y[mask])
                    )
            if teacher is None:
                continue
            for (name, quarter), value in measure_pair(teacher, student).items():
                # "all", "lowest_25", "clean", "clean_lowest_25", ...; quarters are of the subset.
                where = "_".join(part for part in (subset, quarter) if part != "all") or "all"
                measured.setdefault((name, pair.arm, pair.split, where), {})[pair.seed] = value
    for (arm, seed, split, subset), right in hits.items():
        if arm in baselines:
            gain = right.astype(np.float64) - hits[baselines[arm], seed, split, subset]
            measured.setdefault(("accuracy_gain", arm, split, subset), {})[seed] = _mean(gain)
            if (of_teacher := hits.get((TEACHER, seed, split, subset))) is not None:
                over = right.astype(np.float64) - of_teacher
                measured.setdefault(("accuracy_over_teacher", arm, split, subset), {})[seed] = _mean(over)
    listed = [_estimate(key, by_seed) for key, by_seed in measured.items()]
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
            measured.setdefault(key, {})[seed] = _proportion(calibration.correct(logits[mask], y[mask]))
    return [_estimate(key, by_seed) for key, by_seed in measured.items()]


def _defined(interval: Interval) -> bool:
    """Whether estimate and range are numbers: a line may lack either where a teacher's confidence hardly varies."""
    return bool(np.isfinite((interval.estimate, interval.low, interval.high)).all())


def _label_subsets(y: np.ndarray, true_y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (subset, mask): all examples, and where some labels are not as published, those and the others."""
    noisy = y != true_y
    yield "all", np.ones(len(noisy), bool)
    if noisy.any():
        for subset, mask in (("clean", ~noisy), ("noisy", noisy)):
            if mask.sum() > 1:  # a single point has no interval
                yield subset, mask


def _estimate(key, by_seed):
    name, arm, split, subset = key
    values = tuple(float(by_seed[seed].value) for seed in sorted(by_seed))
    interval = intervals.over_seeds(values) if len(values) > 1 else next(iter(by_seed.values())).interval()
    return Estimate(name, arm, interval, values, split=split, subset=subset)


def _proportion(hits):
    return Measured(float(hits.mean()), lambda: intervals.of_proportion(hits))


def _mean(values):
    return Measured(float(values.mean()), lambda: intervals.of_mean(values))


def _statistic(statistic, count):
    value = statistic(np.arange(count))[0]
    rng = np.random.default_rng(0)
    return Measured(
        float(value),
        lambda: intervals.of_error(value, intervals.bootstrap_errors(statistic, count, rng)[0], count),
    )
