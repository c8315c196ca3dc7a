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
from typing import NamedTuple

import numpy as np

from kd_jax.analysis import eigen, linearisation

LAG = 0.05  # a student whose filter lags by less in a group is not expected to show it; decided on after a first look at data


class Path(NamedTuple):
    """What a run computed on the probe.

    Attributes:
        steps: int [checkpoints], from 0 on.
        logits: float [checkpoints, examples, classes].
    """

    steps: np.ndarray
    logits: np.ndarray


class Functions(NamedTuple):
    """All runs of a network and a seed, on the probe.

    Attributes:
        model, seed: which.
        onehot: the arm whose kernel at step 0 is `kernel`.
        kernel: Theta, float [examples * classes, examples * classes].
        drifts: {arm: `linearisation.drift` of its kernel from step 0 to its last}.
        targets: one-hot labels that were trained on, float64 [examples, classes].
        paths: {arm: `Path`} of the teacher and of every arm of the network.
        normalised: whether the network normalises over the batch while it trains.
    """

    model: str
    seed: int
    onehot: str
    kernel: np.ndarray
    drifts: dict
    targets: np.ndarray
    paths: dict
    normalised: bool


class Followed(NamedTuple):
    """A run along the groups of eigenvectors of its network's kernel, as measured.

    Attributes:
        arm, seed, model: which run of which network.
        eigenvalues: of the kernel over its examples, float64 [directions], falling.
        groups: (start, stop) of each group of them, int [groups, 2]; see `linearisation.groups`.
        steps: int [checkpoints].
        progress: from the start to the labels, float64 [checkpoints, groups]; see `linearisation.progress`.
        growth: norm of the change since step 0, float64 [checkpoints, groups]. Mostly the way from one initial function to another,
            so no estimate is made of it.
        drift: of the kernel from step 0 to the last, see `linearisation.drift`; NaN for the arms whose last kernel is not
            computed.
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
        arm, seed, model: which run of which network.
        linearised: of the linearised networks, from where the real ones started.
        filtered: of a student, as if its teacher had started at the student's function: the composed filter.
    """

    arm: str
    seed: int
    model: str
    linearised: np.ndarray
    filtered: np.ndarray


def follow(functions, spectrum, arms):
    """Return the list of `Followed`, one for every arm of the network.

    Args:
        functions: `Functions`.
        spectrum: `linearisation.spectrum` of its kernel.
        arms: list of `Arm`.
    """
    groups = _groups(functions)
    labels = linearisation.along(functions.targets, spectrum.vectors)
    found = []
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
        found.append(Followed(*run, spectrum.values, np.array(groups), path.steps, *measured))
    return found


def predict(functions, spectrum, study, arms, learning_rates):
    """Return the list of `Predicted`, one for every arm of the network; empty where the study's runs have no filter.

    A teacher of another network, or of another initialisation, is predicted with the student's kernel; to
    infinite width that is the same for networks of one architecture.

    Args:
        functions, spectrum, arms: as for `follow`.
        study: the `config.Study`.
        learning_rates: of every step of a run, float [total steps], before the factor of an arm.
    """
    if linearisation.obstacle(study, functions.normalised):
        return []
    settings = {"momentum": study.momentum, "nesterov": study.optimizer == "nesterov"}
    teaches = study.teacher_step or len(learning_rates)
    groups = _groups(functions)

    def along(logits):
        return linearisation.along(logits, spectrum.vectors)

    labels = along(functions.targets)
    (teacher_left,) = linearisation.remaining(spectrum.values, learning_rates, [teaches], **settings)
    taught = linearisation.taught(along(functions.paths["teacher"].logits[0]), labels, teacher_left)
    found = []
    for name, arm in _of_network(arms, functions).items():
        path = functions.paths[name]
        weight = study.weight if arm.teacher else 0.0
        left = linearisation.remaining(spectrum.values, arm.rate * learning_rates, path.steps, **settings)
        start = along(path.logits[0])
        residuals = labels - start
        changes = (
            linearisation.changes(start, (1 - weight) * labels + weight * taught, left),
            linearisation.composed_filter(left, teacher_left, weight) * residuals,
        )
        curves = [linearisation.progress(change, residuals, groups) for change in changes]
        found.append(Predicted(name, functions.seed, functions.model, *curves))
    return found


def _groups(functions):
    return linearisation.groups(len(functions.kernel), functions.targets.shape[1])


def _of_network(arms, functions):
    return {arm.name: arm for arm in arms if arm.model == functions.model}


# ---- of a study


def moving(run):
    """How many of a run's groups move at all: the others' eigenvalues are zero but for rounding."""
    return eigen.alive(np.array([run.eigenvalues[start:stop].mean() for start, stop in run.groups]))


def ratio(reference, other, pair):
    """Return the progress of `other` in a group, relative to that of `reference`, at equal progress in a higher one.

    Matched as by `eigen.ratio`, but a ratio of sums over the levels: at the lowest of them a group that lags has hardly moved,
    and its ratio there is anything.

    Args:
        reference, other: progress, float [checkpoints, groups].
        pair: (the higher group, the lower group).

    Returns:
        The ratio; NaN where the higher group never gets on.
    """
    curves = [progress[:, pair].T for progress in (reference, other)]
    levels = eigen.common_levels(*curves)
    if not len(levels):
        return np.nan
    of_reference, of_other = (eigen.first_reach(curve, levels).sum() for curve in curves)
    return float(of_other / of_reference)


def estimates(followed, predicted, arms):
    """Return the list of `eigen.DirectionEstimate` of a study, over seeds; they need two.

    `function_ratio`: `ratio` to the one-hot run of the same seed, of every group and the next lower one, its `directions`. (At
    equal progress in the top group, as weights are compared, the lowest groups have learnt less than a hundredth, for the
    function of the top group is learnt in a few steps.)
    `function_ratio_filter`: what it is by the filters. A pair counts for verdicts where the filter of a student lags by `LAG` or
    more: a teacher who has learnt all that there is in a group teaches it as labels do. Where no filter exists, all count.
    `linearisation_error`, `filter_error`: root mean square, over checkpoints and moving groups, of measured less predicted
    progress. `kernel_drift`.

    Args:
        followed, predicted: lists of `Followed` and `Predicted`.
        arms: list of `Arm`.
    """
    runs = {(run.arm, run.seed): run for run in followed}
    predictions = {(run.arm, run.seed): run for run in predicted}
    ratios, numbers = {}, {}
    for arm, reference in eigen.references(arms).items():
        for seed in [seed for who, seed in runs if who == arm]:
            both = (reference, seed), (arm, seed)
            for pair in itertools.pairwise(range(moving(runs[arm, seed]))):
                of_runs = ratio(*(runs[run].progress for run in both), pair)
                ratios.setdefault(("function_ratio", arm, pair), []).append(of_runs)
                if both[1] in predictions:
                    by_filter = ratio(*(predictions[run].filtered for run in both), pair)
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
    found = []
    for (name, arm, pair), values in ratios.items():
        ruled = (network[arm], pair) in lagging or not predicted
        found += eigen.over_seeds(name, arm, "", pair, np.array(values), ruled)
    for (name, arm), values in numbers.items():
        found += eigen.over_seeds(name, arm, "", (), np.array(values))
    return found
