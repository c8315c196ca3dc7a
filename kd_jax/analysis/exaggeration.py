"""How far a student exaggerates its teacher's confidence: the paper's logit-logit plot, section 3, and its slopes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BLOCK = (
    1 << 18
)  # logits turned into float64 at a time; 16 times as many do not fit a processor's cache and take 2.5 times as long
SUBSETS = ("all", "lowest_25", "highest_25")


class Line(NamedTuple):
    """Least-squares line of the student's confidence on the teacher's, over one subset.

    Attributes:
        slope: above 1 exaggerates. Below 1 shows nothing: regression to the mean alone brings that about.
        intercept: the intercept of the line, in nats.
        mean_deviation: mean of student minus teacher, in nats.
    """

    slope: float
    intercept: float
    mean_deviation: float


def confidence(logits: ArrayLike, classes: ArrayLike) -> np.ndarray:
    """Return phi_k(z) = z_k - logsumexp of the other logits = log(p_k / (1 - p_k)), the paper's logit transform.

    >>> confidence([[3.0, 0.0], [0.0, 0.0]], [0, 1]).tolist()
    [3.0, 0.0]

    It is computed in float64 from logits: from float32 probabilities it saturates just where well-fitted training points lie.

    Args:
        logits: float [examples, classes], with two classes or more.
        classes: the class k of each example, int [examples].

    Returns:
        float64 [examples], in nats; infinite where a probability is exactly 1 or 0, as it is where logits are infinite.
    """
    logits, classes = np.asarray(logits), np.asarray(classes)
    result = np.empty(len(logits))
    rows = max(BLOCK // logits.shape[1], 1)
    for start in range(0, len(logits), rows):
        block = logits[start : start + rows].astype(np.float64)
        index = np.arange(len(block)), classes[start : start + rows]
        chosen = block[index]
        block[index] = -np.inf
        largest = block.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            others = largest[:, 0] + np.log(np.exp(block - largest).sum(axis=1))
        others[np.isneginf(largest[:, 0])] = -np.inf  # no other class is possible
        result[start : start + rows] = chosen - others
    return result


def confidence_pair(teacher_logits: ArrayLike, student_logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return (X, Y): the confidence of teacher and of student in the teacher's top class, float64 [examples] each, in nats.

    >>> x, y = confidence_pair([[2.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, -1.0]])
    >>> x.tolist(), y.tolist()
    ([2.0, 1.0], [3.0, -1.0])

    Args:
        teacher_logits, student_logits: float [examples, classes].
    """
    top = np.asarray(teacher_logits).argmax(axis=1)
    return confidence(teacher_logits, top), confidence(student_logits, top)


def masks(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return {subset: whether an example belongs to it, bool [examples]} for each of `SUBSETS`.

    The quarters are X <= its 0.25 quantile and X >= its 0.75 quantile.

    Args:
        x: confidence of the teacher, float [examples].
    """
    low, high = np.quantile(x, (0.25, 0.75))
    return {"all": np.ones(len(x), bool), "lowest_25": x <= low, "highest_25": x >= high}


def line(x: np.ndarray, y: np.ndarray) -> Line:
    """Return the least-squares `Line` of y on x; its numbers are NaN where x does not vary.

    >>> line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
    Line(slope=2.0, intercept=1.0, mean_deviation=2.0)

    Args:
        x, y: confidence of teacher and of student, float [examples].
    """
    if len(x) < 2:
        return Line(np.nan, np.nan, np.nan)
    x_mean, y_mean = x.mean(), y.mean()
    centred = x - x_mean
    # Not by the variance alone: the mean of equal numbers need not equal them, and rounding is no spread. Of tiny ones it is 0.
    spread = centred @ centred
    slope = centred @ (y - y_mean) / spread if x.min() < x.max() and spread > 0 else np.nan
    return Line(float(slope), float(y_mean - slope * x_mean), float(y_mean - x_mean))


def lines(x: np.ndarray, y: np.ndarray) -> dict[str, Line]:
    """Return {subset: the `Line` over it} for each of `SUBSETS`; arguments as for `line`."""
    return {subset: line(x[mask], y[mask]) for subset, mask in masks(x).items()}
