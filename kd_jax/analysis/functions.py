"""The functions that the networks of a study computed along training, measured and as their linearisation predicts them.

Formulas are in `kd_jax.analysis.linearisation`. Whatever the arm, it is followed along the eigenvectors of one kernel per seed and
network: that of the one-hot twin at step 0, from whose initialisation the student starts too.
"""

from typing import NamedTuple

import numpy as np

from kd_jax.analysis import linearisation


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
    """A run along the groups of eigenvectors of its kernel, as measured.

    Attributes:
        arm, seed, model: which run of which network.
        values: mean eigenvalue of each group, float64 [groups], falling.
        steps: int [checkpoints].
        progress: toward the labels, float64 [checkpoints, groups]; see `linearisation.progress`.
        growth: norm of the change since step 0, float64 [checkpoints, groups].
    """

    arm: str
    seed: int
    model: str
    values: np.ndarray
    steps: np.ndarray
    progress: np.ndarray
    growth: np.ndarray


class Predicted(NamedTuple):
    """The progress of a run as predicted, float64 [checkpoints, groups] at the steps of its `Followed`.

    Of a run on labels all three are the same.

    Attributes:
        arm, seed, model: which run of which network.
        composed: of a student, its and its teacher's filter, as if both had started at the student's function. From step 0 alone.
        linearised: as `composed`, with the teacher's own function at step 0. From step 0 alone.
        taught: with what the teacher really taught, so that only the student is linearised.
    """

    arm: str
    seed: int
    model: str
    composed: np.ndarray
    linearised: np.ndarray
    taught: np.ndarray


def follow(functions, spectrum):
    """Return the list of `Followed`, one for every path.

    Args:
        functions: `Functions`.
        spectrum: `linearisation.spectrum` of its kernel.
    """
    groups = _groups(functions)
    values = np.array([spectrum.values[start:stop].mean() for start, stop in groups])
    labels = linearisation.along(functions.targets, spectrum.vectors)
    found = []
    for arm, path in functions.paths.items():
        coordinates = linearisation.along(path.logits, spectrum.vectors)
        moved = coordinates - coordinates[0]
        toward = linearisation.progress(moved, labels - coordinates[0], groups)
        grown = linearisation.growth(moved, groups)
        found.append(Followed(arm, functions.seed, functions.model, values, path.steps, toward, grown))
    return found


def predict(functions, spectrum, study, arms, learning_rates):
    """Return the list of `Predicted`, one for every path; empty where the study's runs have no filter.

    A teacher of another network, or of another initialisation, is predicted with the student's kernel; to
    infinite width that is the same for networks of one architecture.

    Args:
        functions, spectrum: as for `follow`.
        study: the `config.Study`.
        arms: list of `config.Arm`.
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
    teacher = functions.paths["teacher"]
    (teacher_left,) = linearisation.remaining(spectrum.values, learning_rates, [teaches], **settings)
    linear_teacher = linearisation.taught(along(teacher.logits[0]), labels, teacher_left)
    real_teacher = along(teacher.logits[np.searchsorted(teacher.steps, teaches)])
    found = []
    for arm in arms:
        if arm.name not in functions.paths:
            continue
        path = functions.paths[arm.name]
        weight = study.weight if arm.teacher else 0.0
        left = linearisation.remaining(spectrum.values, arm.rate * learning_rates, path.steps, **settings)
        start = along(path.logits[0])
        residuals = labels - start
        changes = [linearisation.composed_filter(left, teacher_left, weight) * residuals]
        for taught in (linear_teacher, real_teacher):
            changes.append(linearisation.changes(start, (1 - weight) * labels + weight * taught, left))
        curves = [linearisation.progress(change, residuals, groups) for change in changes]
        found.append(Predicted(arm.name, functions.seed, functions.model, *curves))
    return found


def _groups(functions):
    return linearisation.groups(len(functions.kernel), functions.targets.shape[1])
