"""How far a student exaggerates its teacher's confidence: the paper's logit-logit plot, section 3, and its slopes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BLOCK = (
    1 << 18
)  # logits turned into float64 at a time; 16 times as many do not fit a processor's cache and take 2.5 times as long
SUBSETS = ("all", "lowest_25", "highest_25")
QUARTERS = (0.25, 0.75)  # the quantiles at which the lowest quarter ends and the highest begins


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
    low, high = np.quantile(x, QUARTERS)
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


def make_lines(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return `of(repeats) -> float64 [subsets, 3]`: the numbers of `lines` of a sample with repeats, in the order of `SUBSETS` and
    `Line`.

    It is what `lines` returns of `np.repeat(x, repeats)` and `np.repeat(y, repeats)`, but for rounding, in a tenth of the time: the
    examples are sorted once, and a subset of a sample is then a stretch of them, whose sums give its line.

    >>> of = make_lines(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
    >>> of(np.array([2, 0, 1]))[0].tolist()
    [2.0, 1.0, 1.6666666666666667]

    Args:
        x, y: confidence of teacher and of student, float [examples]; `repeats` is int [examples], not all 0.
    """
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    # Sums are of differences from the subset's means over all examples, so that no digits cancel.
    centres = [(x[mask].mean(), y[mask].mean()) for mask in masks(x).values()]
    moments = [_moments(x - of_x, y - of_y) for of_x, of_y in centres]

    def of(repeats):
        repeats = repeats[order]
        upto = repeats.cumsum()
        count = int(upto[-1])

        def ranked(ranks):
            return x[upto.searchsorted(np.asarray(ranks) + 1)]

        # As `np.quantile` interpolates.
        places = np.asarray(QUARTERS) * (count - 1)
        below = places.astype(int)
        share, first, second = places - below, ranked(below), ranked(np.minimum(below + 1, count - 1))
        gap = second - first
        low, high = np.where(share < 0.5, first + gap * share, second - gap * (1 - share))
        end, begin = int(x.searchsorted(low, "right")), int(x.searchsorted(high))
        weights = repeats.astype(np.float64)
        found = np.full((len(SUBSETS), len(Line._fields)), np.nan)
        for row, part in enumerate((slice(0, len(x)), slice(0, end), slice(begin, len(x)))):
            number, sum_x, sum_y, sum_xx, sum_xy = moments[row][:, part] @ weights[part]
            if number < 2:
                continue
            smallest, largest = ranked((count - number, count - 1) if part.start else (0, number - 1))
            mean_x, mean_y = sum_x / number, sum_y / number
            spread = sum_xx - sum_x * mean_x
            slope = (sum_xy - sum_x * mean_y) / spread if smallest < largest and spread > 0 else np.nan
            mean_x, mean_y = mean_x + centres[row][0], mean_y + centres[row][1]
            found[row] = slope, mean_y - slope * mean_x, mean_y - mean_x
        return found

    return of


def _moments(x, y):
    return np.stack([np.ones(len(x)), x, y, x * x, x * y])
