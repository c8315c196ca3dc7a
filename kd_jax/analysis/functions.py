"""The functions that the networks of a study computed along training, measured and as theory predicts them.

Formulas are in `kd_jax.analysis.linearisation`. Whatever the arm, it is followed along the eigenvectors of one kernel per seed and
network: that of the one-hot twin at step 0, from whose initialisation the student starts too.

Progress is along the way from where a run started to the labels. Two predictions are held against it, both made from step 0
alone. *The linearised networks* start where the real ones started; where they miss, the kernel has moved. *The filter*, a(t)
and for a student the composed a(s) a(T), belongs to a teacher and a student that start at one function: in the paper's
theorem, at zero. Ordinary networks do not, and their initial functions can be larger than the labels are, so that a student
mostly learns what its teacher has kept of its own. The model `balanced` starts at zero; for it the two predictions are one.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from kd_jax.analysis import eigen, linearisation
from kd_jax.analysis.results import Estimate
from kd_jax.config import Distillation, Training
from kd_jax.plan import Arm

# A student whose filter lags by less than this in a group is not expected to show it. Decided on after a first look at data.
LAG = 0.05


class Path(NamedTuple):
    """What a run computed on the probe.

    Attributes:
        steps: steps of the checkpoints, from 0 on, int [checkpoints].
        logits: float [checkpoints, examples, classes].
    """

    steps: np.ndarray
    logits: np.ndarray


class Functions(NamedTuple):
    """What all runs of a network and a seed computed on the probe.

    Attributes:
        model, seed: the network and the seed.
        kernel: Theta of the one-hot run at step 0, float [examples * classes, examples * classes].
        drifts: {arm: `linearisation.drift` of its kernel from step 0 to its last step}.
        targets: one-hot labels that were trained on, float64 [examples, classes].
        paths: {arm: `Path`} of the teacher and of every arm of the network.
        normalised: whether the network normalises over the batch while it trains.
    """

    model: str
    seed: int
    kernel: np.ndarray
    drifts: dict[str, float]
    targets: np.ndarray
    paths: dict[str, Path]
    normalised: bool


class Followed(NamedTuple):
    """A run along the groups of eigenvectors of its network's kernel, as measured.

    Attributes:
        arm, seed: the run.
        model: its network.
        eigenvalues: the eigenvalues of the kernel divided by the number of examples, float64 [directions], falling.
        groups: (start, stop) of each group of them, int [groups, 2]; see `linearisation.groups`.
        steps: steps of the checkpoints, int [checkpoints].
        progress: from the start to the labels, float64 [checkpoints, groups]; see `linearisation.progress`.
        growth: norm of the change since step 0, float64 [checkpoints, groups]. Mostly the way from one initial function to another,
            so no estimate is made of it.
        drift: change of the kernel from step 0 to the last step, see `linearisation.drift`; NaN for the arms whose last kernel is
            not computed.
    """

    arm: str
    seed: int
    model: str
    eigenvalues: np.ndarray
    groups: np.ndarray
    steps: np.ndarray
    progress: np.ndarray
    growth: np.ndarray
    drift: float


class Predicted(NamedTuple):
    """The progress of a run as predicted from step 0 alone, float64 [checkpoints, groups] at the steps of its `Followed`.

    Of a run on labels both are the same.

    Attributes:
        arm, seed: the run.
        model: its network.
        linearised: the progress of the linearised networks, from where the real ones started.
        filtered: the progress by the filters; that of a student, the composed filter, is as if its teacher had started at the
            student's function.
    """

    arm: str
    seed: int
    model: str
    linearised: np.ndarray
    filtered: np.ndarray


def follow(functions: Functions, spectrum: eigen.Directions, arms: Iterable[Arm]) -> list[Followed]:
    """Return what was measured of every arm of a network.

    Args:
        functions: what the runs computed.
        spectrum: eigendirections of their kernel, as `linearisation.spectrum` returns them.
        arms: arms of the study; those of other networks are left out.
    """
    groups = _groups(functions)
    labels = linearisation.along(functions.targets, spectrum.vectors)
    followed = []
    for arm in _of_network(arms, functions):
        path = functions.paths[arm]
        coordinates = linearisation.along(path.logits, spectrum.vectors)
        moved = coordinates - coordinates[0]
        measured = (
            linearisation.progress(moved, labels - coordinates[0], groups),
            linearisation.growth(moved, groups),
            functions.drifts.get(arm, np.nan),
        )
        run = arm, functions.seed, functions.model
        followed.append(Followed(*run, spectrum.values, np.array(groups), path.steps, *measured))
    return followed


def predict(
    functions: Functions,
    spectrum: eigen.Directions,
    arms: Iterable[Arm],
    training: Training,
    distillation: Distillation,
    learning_rates: np.ndarray,
) -> list[Predicted]:
    """Return the prediction for every arm of a network; none where the study's runs have no filter.

    A teacher of another network, or of another initialisation, is predicted with the student's kernel; to
    infinite width that is the same for networks of one architecture.

    Args:
        functions, spectrum, arms: as for `follow`.
        training: how every arm is trained, but for the factor of its learning rate.
        distillation: what students take from the teacher.
        learning_rates: the learning rates of every step of a run, float [total steps], before the factor of an arm.
    """
    if linearisation.obstacle(training, distillation, functions.normalised):
        return []
    momentum, nesterov = training.momentum, training.optimizer == "nesterov"
    teaches = distillation.teacher_step or len(learning_rates)
    groups = _groups(functions)

    def remaining(rates: np.ndarray, steps: Sequence[int] | np.ndarray) -> np.ndarray:
        return linearisation.remaining(spectrum.values, rates, steps, momentum, nesterov)

    def along(logits: np.ndarray) -> np.ndarray:
        return linearisation.along(logits, spectrum.vectors)

    labels = along(functions.targets)
    (teacher_left,) = remaining(learning_rates, [teaches])
    taught = linearisation.taught(along(functions.paths["teacher"].logits[0]), labels, teacher_left)
    predicted = []
    for name, arm in _of_network(arms, functions).items():
        path = functions.paths[name]
        weight = distillation.weight if arm.teacher else 0.0
        left = remaining(arm.rate * learning_rates, path.steps)
        start = along(path.logits[0])
        residuals = labels - start
        changes = (
            linearisation.changes(start, (1 - weight) * labels + weight * taught, left),
            linearisation.composed_filter(left, teacher_left, weight) * residuals,
        )
        curves = [linearisation.progress(change, residuals, groups) for change in changes]
        predicted.append(Predicted(name, functions.seed, functions.model, *curves))
    return predicted


def _groups(functions: Functions) -> list[tuple[int, int]]:
    return linearisation.groups(len(functions.kernel), functions.targets.shape[1])


def _of_network(arms: Iterable[Arm], functions: Functions) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms if arm.model == functions.model}


# ---- of a study


def moving(run: Followed) -> int:
    """Return how many of a run's groups move at all: the others' eigenvalues are zero but for rounding."""
    return eigen.alive(np.array([run.eigenvalues[start:stop].mean() for start, stop in run.groups]))


def ratio(reference: np.ndarray, other: np.ndarray, pair: tuple[int, int]) -> float:
    """Return the progress of `other` in a group, relative to that of `reference`, at equal progress in a higher one.

    Matched as by `eigen.ratio`, but a ratio of sums over the levels: at the lowest of them a group that lags has hardly moved,
    and its ratio there is anything.

    Args:
        reference, other: progress, float [checkpoints, groups].
        pair: (the higher group, the lower group).

    Returns:
        The ratio; NaN where the higher group makes no progress.
    """
    curves = [progress[:, pair].T for progress in (reference, other)]
    levels = eigen.common_levels(*curves)
    if not len(levels):
        return np.nan
    of_reference, of_other = (eigen.first_reach(curve, levels).sum() for curve in curves)
    return float(of_other / of_reference)


def estimates(followed: Sequence[Followed], predicted: Sequence[Predicted], arms: Sequence[Arm]) -> list[Estimate]:
    """Return the estimates of a study about functions, over seeds; they need two seeds.

    `function_ratio`: `ratio` to the one-hot run of the same seed, of every group and the next lower one, its `directions`. (At
    equal progress in the top group, as weights are compared, the lowest groups have learnt less than a hundredth, for the
    function of the top group is learnt in a few steps.)
    `function_ratio_filter`: the same of the predictions of the filters. A pair counts for verdicts where the filter of a student
    lags by `LAG` or more, for a teacher that has learnt all there is in a group teaches it as labels do; where no filter exists,
    all pairs count.
    `linearisation_error`, `filter_error`: root mean square, over checkpoints and moving groups, of measured less predicted
    progress.
    `kernel_drift`: the change of the kernel over training, relative to its size.

    Args:
        followed, predicted: what was measured of every run, and predicted of those that have a prediction.
        arms: all arms of the study.
    """
    runs = {(run.arm, run.seed): run for run in followed}
    predictions = {(run.arm, run.seed): run for run in predicted}
    ratios, numbers = {}, {}
    for arm, reference in eigen.references(arms).items():
        for seed in [seed for who, seed in runs if who == arm]:
            both = (reference, seed), (arm, seed)
            for pair in itertools.pairwise(range(moving(runs[arm, seed]))):
                of_runs = ratio(runs[both[0]].progress, runs[both[1]].progress, pair)
                ratios.setdefault(("function_ratio", arm, pair), []).append(of_runs)
                if both[1] in predictions:
                    by_filter = ratio(predictions[both[0]].filtered, predictions[both[1]].filtered, pair)
                    ratios.setdefault(("function_ratio_filter", arm, pair), []).append(by_filter)
    for (arm, _), run in runs.items():
        numbers.setdefault(("kernel_drift", arm), []).append(run.drift)
    for (arm, seed), prediction in predictions.items():
        run = runs[arm, seed]
        for name, expected in (("linearisation_error", prediction.linearised), ("filter_error", prediction.filtered)):
            error = np.sqrt(np.mean(np.square(run.progress - expected)[:, : moving(run)]))
            numbers.setdefault((name, arm), []).append(error)
    lagging = {
        (arm.model, pair)
        for arm in arms
        for (name, of, pair), values in ratios.items()
        if of == arm.name and arm.teacher and name == "function_ratio_filter" and np.mean(values) <= 1 - LAG
    }
    network = {arm.name: arm.model for arm in arms}
    numbered = []
    for (name, arm, pair), values in ratios.items():
        counts = (network[arm], pair) in lagging or not predicted
        numbered += eigen.over_seeds(name, arm, np.array(values), directions=pair, no_verdict=not counts)
    for (name, arm), values in numbers.items():
        numbered += eigen.over_seeds(name, arm, np.array(values))
    return numbered
