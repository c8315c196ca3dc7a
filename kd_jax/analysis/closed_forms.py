"""What theory says of distillation where it can be solved: linear regression, and self-distillation in a Hilbert space.

Linear regression (section 4 of the paper): inputs X [n, p], targets y, loss 1/2 |X b - y|^2, gradient flow from b = 0. Along
the right singular vector of singular value sqrt(l) the weights go from 0 to their least-squares value; *progress* is the share of
that way, and *remaining* is 1 - progress. A direction is named by its eigenvalue l of X'X. Times are in units of 1 / eigenvalue.
Gradient descent with a fixed learning rate obeys the same formulas exactly: pass `descent_rates` for the eigenvalues and
count time in steps.

`times`, float [rounds], is the training time of each round: the teacher's on the labels, the student's on the teacher's
predictions, then that of the student's student, and so on. `(t,)` is a model on labels alone, `(T, s)` the paper's student.

The Hilbert-space part is Mobahi, Farajtabar and Bartlett, "Self-distillation amplifies regularization in Hilbert space", 2020.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

# ---- linear regression


def descent_rates(eigenvalues: ArrayLike, learning_rate: float) -> np.ndarray:
    """Return -log(1 - eta l): with it for l, and steps for time, every formula here is that of gradient descent.

    Args:
        eigenvalues: l of X'X, float [...].
        learning_rate: eta, in units of 1 / eigenvalue.

    Returns:
        float64, the shape of `eigenvalues`, per step.

    Raises:
        ValueError: unless 0 < eta l < 1 everywhere; beyond 1 gradient descent overshoots and has no such rate.
    """
    shrink = learning_rate * np.asarray(eigenvalues, np.float64)
    outside = ~((shrink > 0) & (shrink < 1))  # so that NaN is outside
    if outside.any():
        value = shrink[outside].flat[0]
        raise ValueError(f"learning rate times eigenvalue is {value:g}, expected between 0 and 1, both excluded")
    return -np.log1p(-shrink)


def progress(eigenvalues: ArrayLike, time: float | np.ndarray) -> np.ndarray:
    """Return a_l(t) = 1 - exp(-l t), the progress of a model trained on labels.

    >>> progress([1.0, 0.1], 2.0).round(3).tolist()
    [0.865, 0.181]

    Args:
        eigenvalues: l >= 0, float [...].
        time: t >= 0, broadcast against the eigenvalues.

    Returns:
        float64 from 0 to 1.
    """
    return -np.expm1(-np.asarray(eigenvalues, np.float64) * time)


def student_progress(
    eigenvalues: ArrayLike, teacher_time: float | np.ndarray, student_time: float | np.ndarray
) -> np.ndarray:
    """Return a_l(s) a_l(T), the progress of a student trained for s on the predictions of a teacher trained for T.

    >>> student_progress([1.0, 0.1], 2.0, 5.0).round(3).tolist()
    [0.859, 0.071]

    Args:
        eigenvalues: l >= 0, float [...].
        teacher_time, student_time: T and s >= 0, broadcast against the eigenvalues.

    Returns:
        float64 from 0 to 1.
    """
    return progress(eigenvalues, teacher_time) * progress(eigenvalues, student_time)


def rounds_progress(eigenvalues: ArrayLike, times: Sequence[float | np.ndarray] | np.ndarray) -> np.ndarray:
    """Return the progress after every round of self-distillation: each round filters what the one before predicts.

    Args:
        eigenvalues: l >= 0, float [...].
        times: float [rounds].

    Returns:
        float64 [rounds, ...]: row 0 is the teacher, row 1 its student.
    """
    return np.cumprod([progress(eigenvalues, time) for time in times], axis=0)


def log_remaining(eigenvalues: ArrayLike, times: Sequence[float | np.ndarray] | np.ndarray) -> np.ndarray:
    """Return log(1 - progress) after the last round, to full relative accuracy also where progress rounds to 0 or to 1.

    Near 1 the difference of two progresses is rounding, and comparing them shows violations of the theorem that are not there.
    Here the parts that remain are added up instead, and all of them are positive: q <- q + (1 - q) exp(-l t).

    Args:
        eigenvalues: l >= 0, float [...].
        times: float [rounds].

    Returns:
        float64, the shape of `eigenvalues`, 0 or below.
    """
    eigenvalues = np.asarray(eigenvalues, np.float64)
    done, log_left = np.ones_like(eigenvalues), np.full_like(eigenvalues, -np.inf)
    with np.errstate(divide="ignore"):
        for time in times:
            log_left = np.logaddexp(log_left, np.log(done) - eigenvalues * time)
            done = done * progress(eigenvalues, time)
        return np.where(done < 0.5, np.log1p(-done), log_left)


def remaining(eigenvalues: ArrayLike, times: Sequence[float | np.ndarray] | np.ndarray) -> np.ndarray:
    """Return q = 1 - progress after the last round, without cancellation; arguments as for `log_remaining`."""
    return np.exp(log_remaining(eigenvalues, times))


def effective_time(eigenvalues: ArrayLike, times: Sequence[float | np.ndarray] | np.ndarray) -> np.ndarray:
    """Return tau(l) = -log(1 - progress) / l: how long a model on labels takes to get as far along this direction.

    A model on labels has the same tau everywhere. That tau rises strictly with l as soon as there are two rounds is the paper's
    theorem: a student behaves like a model trained for a shorter time, and the shorter, the lower the direction.

    Args:
        eigenvalues: l > 0, float [...].
        times: float [rounds].

    Returns:
        float64, the shape of `eigenvalues`, from 0 to the shortest of `times`.
    """
    return -log_remaining(eigenvalues, times) / eigenvalues


def matched_time(eigenvalues: ArrayLike, times: Sequence[float | np.ndarray] | np.ndarray) -> float:
    """Return the time at which a model on labels is as far along the top direction as the last round's student.

    Args:
        eigenvalues: l > 0, float [directions]; the largest is the top one.
        times: float [rounds].
    """
    return float(effective_time(np.max(eigenvalues), times))


def matched_ratio(
    eigenvalues: ArrayLike,
    top: float,
    teacher_time: float,
    student_time: float,
    onehot_time: float,
    levels: int = 200,
) -> np.ndarray:
    """Return what `eigen.ratio` measures of linear models that start at zero: the mean of student's over one-hot progress.

    Both are taken at equal progress along the top direction, at evenly spaced levels of it up to the smaller of the two ends.

    Args:
        eigenvalues: l > 0, float [...].
        top: eigenvalue of the direction along which progress is equal.
        teacher_time, student_time, onehot_time: how long each is trained.
        levels: number of levels.

    Returns:
        float64, the shape of `eigenvalues`; below 1 for eigenvalues below the top one.
    """
    limit = progress(top, teacher_time)
    end = min(limit * progress(top, student_time), progress(top, onehot_time))
    reached = np.linspace(0, end, levels + 1)[1:]
    of_student = -np.log1p(-np.minimum(reached / limit, 1 - 1e-16)) / top
    of_onehot = -np.log1p(-np.minimum(reached, 1 - 1e-16)) / top
    along = np.asarray(eigenvalues, np.float64)[..., None]
    return np.mean(student_progress(along, teacher_time, of_student) / progress(along, of_onehot), axis=-1)


# ---- Hilbert space


class HilbertRounds(NamedTuple):
    """Rounds of self-distillation in a Hilbert space.

    Attributes:
        targets: z_t, what round t + 1 learns: row 0 is the labels, each further row the predictions of a round. In the
            eigenbasis of the kernel, float64 [rounds + 1, examples].
        multipliers: c_t of each round, float64 [rounds], in units of the kernel's eigenvalues.
        collapsed: whether the rounds ended because predicting zero already meets the tolerance.
    """

    targets: np.ndarray
    multipliers: np.ndarray
    collapsed: bool


def hilbert_rounds(eigenvalues: ArrayLike, targets: ArrayLike, tolerance: float, rounds: int) -> HilbertRounds:
    """Return the `HilbertRounds`: each finds the smallest function whose mean squared error on the last one's is `tolerance`.

    z_t = D (c_t + D)^-1 z_{t-1}. The constraint is active in every round, and c_t is what makes it so:
    sum_k (c / (c + d_k))^2 z_k^2 = N eps. Hence c_t changes every round, and rounds are not powers of one filter.

    Args:
        eigenvalues: d of the kernel matrix, all positive, float [examples].
        targets: labels in the eigenbasis of that matrix (V'y), float [examples].
        tolerance: eps, mean squared error > 0, in squared units of the labels.
        rounds: largest number of rounds; fewer when z collapses, |z| <= sqrt(N eps), where predicting zero is good enough.

    Raises:
        ValueError: for eigenvalues or a tolerance that are not positive.
    """
    eigenvalues, target, radius = _checked(eigenvalues, targets, tolerance)
    radius_or_equal = radius * (1 + 1e-12)  # at equality c is infinite, so rounding must not decide
    kept, multipliers = [target], []
    while len(multipliers) < rounds and np.linalg.norm(target) > radius_or_equal:
        multiplier = _multiplier(eigenvalues, target, radius)
        target = eigenvalues / (multiplier + eigenvalues) * target
        kept.append(target)
        multipliers.append(multiplier)
    return HilbertRounds(np.array(kept), np.array(multipliers), bool(np.linalg.norm(target) <= radius_or_equal))


def guaranteed_rounds(eigenvalues: ArrayLike, targets: ArrayLike, tolerance: float) -> float:
    """Return (|y| / sqrt(N eps) - 1) / kappa, kappa = d_max / d_min: at least that many rounds come before collapse.

    Mobahi et al. 2020. It is far from tight: an active constraint moves z by exactly sqrt(N eps), so by the
    triangle inequality the bound holds without kappa too.

    Args:
        eigenvalues, targets, tolerance: as for `hilbert_rounds`.
    """
    eigenvalues, target, radius = _checked(eigenvalues, targets, tolerance)
    condition = eigenvalues.max() / eigenvalues.min()
    return float(max(np.linalg.norm(target) / radius - 1, 0) / condition)


def _checked(eigenvalues: ArrayLike, targets: ArrayLike, tolerance: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenvalues and targets as float64, and sqrt(N eps)."""
    eigenvalues, targets = np.asarray(eigenvalues, np.float64), np.asarray(targets, np.float64)
    if not (eigenvalues > 0).all():
        raise ValueError(f"smallest kernel eigenvalue is {eigenvalues.min():g}, expected above 0")
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance:g}, expected above 0")
    return eigenvalues, targets, np.sqrt(len(targets) * tolerance)


def _multiplier(eigenvalues: np.ndarray, target: np.ndarray, radius: float) -> float:
    """The c at which the error |c / (c + d) z| is `radius`; it rises with c from 0 to |z| > radius."""

    def excess(log_c):
        return np.linalg.norm(target / (1 + eigenvalues * np.exp(-log_c))) / radius - 1

    # With all eigenvalues equal to d, c would be d / (|z| / radius - 1): the smallest and the largest enclose it.
    scale = -np.log(np.linalg.norm(target) / radius - 1)
    low, high = np.log(eigenvalues.min()) + scale - 1, np.log(eigenvalues.max()) + scale + 1  # 1: room for rounding
    return np.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))  # pyright: ignore
