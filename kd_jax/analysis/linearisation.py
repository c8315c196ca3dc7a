"""A network's training in function space, beside what its linearisation at initialisation says: beyond the paper's theorem.

The theorem stops at linear models. A network is one to first order: its logits on n examples, stacked to a vector f of n classes,
move under gradient descent on the mean over examples of 1/2 |f - y|^2 by -eta Theta / n (f - y), where Theta is the tangent
kernel (`kd_jax.models.tangent`). If Theta stays what it was at initialisation, then along each of its eigenvectors u_k, with
eigenvalue l_k of Theta / n, the distance to the target shrinks by the factor q_k(t), (1 - eta l_k)^t for plain descent:

    u_k.(f(t) - f(0)) = (1 - q_k(t)) u_k.(target - f(0))

A model on labels has the target y. A student has its teacher's function f_T(T), and a teacher linearised with the same kernel
has come to y + q(T) (f_T(0) - y). With both started at the same function this is the paper's composed filter, a(s) a(T),
a = 1 - q; from two initialisations it is `changes` toward `taught`. Both are predictions from step 0 alone; the kernel of a
network of finite width moves (`drift`), and as it does they fail.

**The examples are a probe.** The equation is closed, and exact for a linear model, only when the probe is the whole training set
and every batch is the whole set. On a part of it the eigenvalues of Theta / n of the probe are the Nystroem estimate of those
of the training set, the eigenvectors are the probe's, and examples outside it move the function along other directions too.

**Which runs have a filter** is what `obstacle` answers. Momentum is no obstacle: q_k then obeys a recurrence of two terms, which is
run here as the optimiser runs it. An effective learning rate, eta / (1 - m), would hold only late in training. Adam rescales
parameters as it goes and obeys no kernel; cross-entropy is not linear in the logits. Their progress along the eigenvectors, and
that of a student relative to its one-hot twin, can be measured all the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kd_jax.analysis import eigen
from kd_jax.config import Distillation, Training

BIN_GROWTH = 2  # each group of eigenvectors is so many times as large as the one before


def spectrum(kernel: ArrayLike, classes: int) -> eigen.Directions:
    """Return all eigendirections of Theta / n, largest eigenvalue first.

    Args:
        kernel: Theta, float [examples * classes, examples * classes].
        classes: number of logits of an example.

    Returns:
        Directions whose eigenvalues are in units of 1 / (learning rate times steps) and not below 0: Theta has none there, but for
        rounding, which is cut off.
    """
    kernel = np.asarray(kernel, np.float64)
    examples = len(kernel) // classes
    directions = eigen.directions(kernel / examples, exact_dimensions=len(kernel))
    return directions._replace(values=np.maximum(directions.values, 0))


def groups(count: int, classes: int) -> list[tuple[int, int]]:
    """Return the groups of eigenvectors by rank, which were fixed before looking: a list of (start, stop).

    The first has as many as there are classes, each further one `BIN_GROWTH` times as many as the one before; the last takes what
    is left, and if that is less than a full group, joins the one before. The kernel of a wide network is a kernel of examples
    times the identity over classes (Jacot et al. 2018), so every eigenvalue comes about `classes` times, and which of those
    vectors is the first is chance: the top direction of the examples is the top `classes` vectors.

    >>> groups(40, 3)
    [(0, 3), (3, 9), (9, 40)]

    Args:
        count: number of eigenvectors.
        classes: number of logits of an example.
    """
    starts, size = [0], classes
    while starts[-1] + size + BIN_GROWTH * size <= count:
        starts.append(starts[-1] + size)
        size *= BIN_GROWTH
    return list(zip(starts, [*starts[1:], count], strict=True))


# ---- theory


def remaining(
    values: ArrayLike,
    learning_rates: Sequence[float] | np.ndarray,
    steps: Sequence[int] | np.ndarray,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> np.ndarray:
    """Return q_k(t), the part of the distance to the target that gradient descent leaves along each eigenvector.

    With momentum m, as optax has it: v <- l q + m v; q <- q - eta v, or with Nesterov's q <- q - eta (l q + m v). Without
    it this is 1 - `closed_forms.progress` of `closed_forms.descent_rates`, and also right where eta l is 1 or more: q overshoots 0
    there, and from 2 on it grows.

    >>> remaining([1.0, 0.1], [0.5, 0.5], [0, 1, 2]).round(4).tolist()
    [[1.0, 1.0], [0.5, 0.95], [0.25, 0.9025]]

    Args:
        values: eigenvalues l_k >= 0 of Theta / n, float [directions].
        learning_rates: eta of every step, float [total steps], in units of 1 / l.
        steps: numbers of steps at which q is wanted, rising, int [checkpoints].
        momentum: m, from 0 to below 1.
        nesterov: whether it is Nesterov's.

    Returns:
        float64 [checkpoints, directions], 1 at step 0.
    """
    values = np.asarray(values, np.float64)
    left, velocity = np.ones_like(values), np.zeros_like(values)
    parts, done = [], 0
    for step in steps:
        for rate in learning_rates[done:step]:
            slope = values * left
            velocity = slope + momentum * velocity
            left = left - rate * (slope + momentum * velocity if nesterov else velocity)
        done = step
        parts.append(left)
    return np.array(parts)


def composed_filter(left: np.ndarray, teacher_left: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Return (1 - q(s)) (1 - w q(T)), the student's filter on the labels; with w = 1 the paper's a(s) a(T).

    Its target is (1 - w) y + w f_T(T), which is y less w q(T) of the way that its teacher had to go.

    Args:
        left: q of the student, float [checkpoints, directions].
        teacher_left: q of the teacher when it teaches, float [directions].
        weight: w, the weight of the distillation loss.
    """
    return (1 - left) * (1 - weight * teacher_left)


def taught(start: np.ndarray, targets: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return the function that a model on labels has come to when `left` of its way remains: y + q (f(0) - y).

    Args:
        start, targets: f(0) and y along the eigenvectors, float [directions].
        left: q, float [..., directions].
    """
    return targets + left * (start - targets)


def changes(start: np.ndarray, target: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return u_k.(f(t) - f(0)) of the linearised model, (1 - q(t)) u_k.(target - f(0)).

    Args:
        start, target: f(0), and what it is trained toward, along the eigenvectors, float [directions].
        left: q, float [checkpoints, directions].
    """
    return (1 - left) * (target - start)


def obstacle(training: Training, distillation: Distillation, normalised: bool = False) -> str:
    """Return why the runs of a study have no filter, or an empty string where they have one.

    >>> obstacle(Training(loss="mse", optimizer="sgd"), Distillation())
    ''
    >>> obstacle(Training(loss="mse", optimizer="adam"), Distillation())
    'adam rescales parameters as it goes'

    Args:
        training: how students and teacher are trained.
        distillation: what students take from the teacher.
        normalised: whether the network normalises over the batch while it trains, so that one example's output depends on the
            others.
    """
    if training.loss != "mse":
        return f"the loss is {training.loss}, whose gradient is not linear in the logits"
    if distillation.distillation not in ("auto", "mse"):
        return f"the distillation loss is {distillation.distillation}, whose gradient is not linear in the logits"
    if training.optimizer not in ("sgd", "nesterov"):
        return f"{training.optimizer} rescales parameters as it goes"
    if training.gradient_clip or training.dropout:
        return "clipped gradients and dropped features are not those of the function"
    if training.weight_decay:
        return "weight decay pulls parameters, not the function"
    if training.augment != "none" or training.mixup or training.cutmix:
        return "augmented and mixed views are other examples at every step"
    if training.label_smoothing:
        return "smoothed labels are other targets"
    if distillation.switch:
        return "the loss is switched in mid-training"
    if normalised:
        return "the network normalises over the batch"
    return ""


# ---- measured


def along(logits: ArrayLike, vectors: np.ndarray) -> np.ndarray:
    """Return functions along the eigenvectors, u_k.f, float64 [..., directions].

    Args:
        logits: the logits of the probe, float [..., examples, classes].
        vectors: the eigenvectors that `spectrum` returns, float [examples * classes, directions].
    """
    logits = np.asarray(logits, np.float64)
    return logits.reshape(*logits.shape[:-2], -1) @ vectors


def progress(changes: ArrayLike, residuals: np.ndarray, groups: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the progress toward the labels within each group: sum_k Delta_k r_k / sum_k r_k^2, float64 [..., groups].

    0 at the start, 1 at the labels; of a linearised model on labels it is the mean of 1 - q_k, weighted with r_k^2.

    Args:
        changes: Delta_k = u_k.(f(t) - f(0)), float [..., directions]. For the progress of a filter, pass it times `residuals`.
        residuals: r_k = u_k.(y - f(0)), float [directions].
        groups: (start, stop) of each group of eigenvectors.
    """
    starts = [start for start, _ in groups]
    toward = np.add.reduceat(np.asarray(changes) * residuals, starts, axis=-1)
    return toward / np.add.reduceat(np.square(residuals), starts)


def growth(changes: ArrayLike, groups: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return ||Delta|| within each group, float64 [..., groups].

    Args:
        changes, groups: as for `progress`.
    """
    return np.sqrt(np.add.reduceat(np.square(changes), [start for start, _ in groups], axis=-1))


def drift(start: ArrayLike, end: ArrayLike) -> float:
    """Return ||Theta(end) - Theta(start)|| / ||Theta(start)||, in Frobenius norms: how much the kernel changed.

    Args:
        start, end: the kernel at two times, float [examples * classes, examples * classes].
    """
    start = np.asarray(start, np.float64)
    return float(np.linalg.norm(np.asarray(end) - start) / np.linalg.norm(start))
