"""What networks say of each example, as numbers: the one pass over logits that everything about confidence is computed from.

Logits may be anything that is indexed like an array [examples, classes], such as a memory-mapped file. They are read and made
float64 block by block, so that a million examples of a thousand classes need no more memory than their numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import scipy

from kd_jax.analysis.exaggeration import BLOCK, confidence
from kd_jax.errors import BadInput

RANKS = 10  # classes of the teacher's ordering that are looked at


class OfModel(NamedTuple):
    """What one model says of each example.

    Attributes:
        prediction: the class of the largest logit, int32 [examples].
        confidence: the probability of that class, float64 [examples].
        entropy: of its probabilities, in nats, float64 [examples].
        hit: whether the prediction is the label, bool [examples]; None without labels.
        nll: the negative log-likelihood of the label, in nats, float64 [examples]; None without labels.
        brier: the squared distance of the probabilities from the one-hot label, from 0 to 2, float64 [examples]; None without
            labels. Source: Brier, 1950, Verification of forecasts expressed in terms of probability.
    """

    prediction: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    hit: np.ndarray | None = None
    nll: np.ndarray | None = None
    brier: np.ndarray | None = None


class OfPair(NamedTuple):
    """What a student says beside its teacher, of each example.

    Attributes:
        x, y: the confidence log p/(1-p) of teacher and student in the teacher's top class, in nats, float64 [examples]; see
            `exaggeration.confidence_pair`.
        agree: whether both name the same class, bool [examples].
        kl: KL(p_teacher || p_student), in nats, float64 [examples].
        lower_x, lower_y: the confidence of teacher and student in the teacher's second, third, ... class, in nats; computed in
            float64 and kept as float32 [examples, ranks - 1]; None where it was not looked at.
        kl_rescaled: `kl` with the student's logits divided by one temperature, float64 [examples]; None where none is given.
    """

    x: np.ndarray
    y: np.ndarray
    agree: np.ndarray
    kl: np.ndarray
    lower_x: np.ndarray | None = None
    lower_y: np.ndarray | None = None
    kl_rescaled: np.ndarray | None = None


class Beside(NamedTuple):
    """A student beside its teacher: what each says, and what they say together."""

    teacher: OfModel
    student: OfModel
    pair: OfPair


def blocks(count: int, classes: int) -> Iterator[slice]:
    """Yield slices of so many examples that a block in float64 stays small."""
    rows = max(BLOCK // classes, 1)
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def of_model(logits: Any, labels: np.ndarray | None = None) -> OfModel:
    """Return what one model says of each example.

    >>> said = of_model(np.array([[0.0, 0.0]]), np.array([1]))
    >>> said.nll.round(3).tolist(), said.brier.tolist(), said.entropy.round(3).tolist()
    ([0.693], [0.5], [0.693])

    Args:
        logits: float [examples, classes]; log-probabilities are logits.
        labels: int [examples]; None where there are none.

    Raises:
        BadInput: as `beside`.
    """
    arrays = _arrays(len(logits), labels)
    for rows in blocks(*logits.shape):
        _fill(arrays, rows, _block("logits", logits, rows), labels)
    return OfModel(**arrays)


def beside(
    teacher: Any,
    student: Any,
    labels: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    ranks: int = RANKS,
    temperature: float | None = None,
) -> Beside:
    """Return what a teacher and a student say of each example, in one pass over their logits.

    A teacher that is sure, beside a student that spreads its probability evenly over two classes, is log 2 away from it:

    >>> beside(np.array([[1000.0, 0.0]]), np.array([[0.0, 0.0]])).pair.kl.round(3).tolist()
    [0.693]

    Args:
        teacher, student: logits, float [examples, classes]; arrays, or what is indexed like them. Log-probabilities are logits.
        labels: int [examples]; None where there are none.
        advance: called with the number of examples of each block that is done.
        ranks: how many classes of the teacher's ordering are looked at, from its top one on; no more than there are.
        temperature: by which the student's logits are divided for `OfPair.kl_rescaled`; see `rescaling.matched`.

    Raises:
        BadInput: for a logit that is no finite number, naming its row and column. Negative infinity is a probability of 0, and
            passes where another class has one above 0.
    """
    count = len(teacher)
    of_teacher, of_student = _arrays(count, labels), _arrays(count, labels)
    x, y, kl = np.empty(count), np.empty(count), np.empty(count)
    rescaled = None if temperature is None else np.empty(count)
    lower = max(min(ranks, teacher.shape[1]) - 1, 0)
    lower_x, lower_y = np.empty((count, lower), np.float32), np.empty((count, lower), np.float32)
    for rows in blocks(*teacher.shape):
        block_t, block_s = _block("teacher", teacher, rows), _block("student", student, rows)
        logs_t = _fill(of_teacher, rows, block_t, labels)
        logs_s = _fill(of_student, rows, block_s, labels)
        top = of_teacher["prediction"][rows]
        x[rows], y[rows] = confidence(block_t, top), confidence(block_s, top)
        kl[rows] = _kl(logs_t, logs_s)
        if rescaled is not None and temperature is not None:
            rescaled[rows] = _kl(logs_t, scipy.special.log_softmax(block_s / temperature, axis=1))
        if lower:
            classes, of_classes = _next_classes(logs_t, top, lower)
            lower_x[rows] = _log_odds(of_classes)
            lower_y[rows] = _log_odds(np.take_along_axis(logs_s, classes, axis=1))
            _surest(lower_y[rows], block_s, of_student["prediction"][rows], classes)
        advance(rows.stop - rows.start)
    models = OfModel(**of_teacher), OfModel(**of_student)
    agree = models[0].prediction == models[1].prediction
    return Beside(*models, OfPair(x, y, agree, kl, lower_x, lower_y, rescaled))


def _kl(logs_t, logs_s):
    with np.errstate(invalid="ignore"):  # 0 times infinity, where the teacher has a probability of 0
        terms = np.exp(logs_t) * (logs_t - logs_s)
    terms[np.isneginf(logs_t)] = 0
    return terms.sum(axis=1)


def _next_classes(logs, top, count):
    """(classes behind the top one by falling probability, their log-probabilities), each [examples, count].

    Of equals the one with the lower index comes first. Where there are not so many possible classes, the rest are impossible.
    """
    others = logs.copy()
    others[np.arange(len(logs)), top] = -np.inf
    first = logs.shape[1] - count  # of those kept, in rising order
    classes = np.sort(np.argpartition(others, first, axis=1)[:, first:], axis=1)
    order = np.argsort(-np.take_along_axis(others, classes, axis=1), axis=1, kind="stable")
    classes = np.take_along_axis(classes, order, axis=1)
    return classes, np.take_along_axis(others, classes, axis=1)


def _log_odds(logs):
    """log p/(1-p) from log p; to full precision where p is not above 1/2."""
    with np.errstate(divide="ignore"):
        return logs - np.log1p(-np.exp(logs))


def _surest(odds, block, prediction, classes):
    """Enter the log odds of a model's own prediction where it is among the classes: it alone can have p above 1/2."""
    rows, places = np.nonzero(classes == prediction[:, None])
    odds[rows, places] = confidence(block[rows], prediction[rows])


def _arrays(count, labels):
    arrays = {"prediction": np.empty(count, np.int32), "confidence": np.empty(count), "entropy": np.empty(count)}
    if labels is not None:
        arrays |= {"hit": np.empty(count, bool), "nll": np.empty(count), "brier": np.empty(count)}
    return arrays


def _block(name, model, rows):
    block = np.asarray(model[rows], np.float64)
    finite = np.isfinite(block)
    if not finite.all():
        impossible = np.isneginf(block)
        bad = ~(finite | impossible) | impossible.all(axis=1, keepdims=True)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise BadInput(
                f"{name}: row {rows.start + row}, column {column}: expected a finite number, found {block[row, column]}"
            )
    return block


def _fill(arrays, rows, block, labels):
    """Enter what a model says of some rows, and return its log-probabilities of them."""
    log_p, p = scipy.special.log_softmax(block, axis=1), scipy.special.softmax(block, axis=1)
    prediction = block.argmax(axis=1)
    arrays["prediction"][rows] = prediction
    arrays["confidence"][rows] = p.max(axis=1)
    arrays["entropy"][rows] = -(p * np.where(p > 0, log_p, 0)).sum(axis=1)
    if labels is not None:
        at = np.arange(len(block)), labels[rows]
        arrays["hit"][rows] = prediction == labels[rows]
        arrays["nll"][rows] = -log_p[at]
        p[at] -= 1
        arrays["brier"][rows] = np.square(p).sum(axis=1)
    return log_p


Numbers = TypeVar("Numbers", OfModel, OfPair)


def chosen(numbers: Numbers, rows: Any) -> Numbers:
    """Return what is said of some examples alone; `rows` is a mask, an index or a slice."""
    arrays: Any = (None if array is None else array[rows] for array in numbers)
    return type(numbers)(*arrays)
