"""What networks say of each example, as numbers: the one pass over logits that everything about confidence is computed from.

Logits may be anything that is indexed like an array [examples, classes], such as a memory-mapped file. They are read and made
float64 block by block, so that a million examples of a thousand classes need no more memory than their numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.special import log_softmax, softmax

from kd_jax.analysis.exaggeration import BLOCK, confidence
from kd_jax.errors import BadInput


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
    """

    x: np.ndarray
    y: np.ndarray
    agree: np.ndarray
    kl: np.ndarray


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
    teacher: Any, student: Any, labels: np.ndarray | None = None, advance: Callable[[int], None] = lambda rows: None
) -> Beside:
    """Return what a teacher and a student say of each example, in one pass over their logits.

    A teacher that is sure, beside a student that spreads its probability evenly over two classes, is log 2 away from it:

    >>> beside(np.array([[1000.0, 0.0]]), np.array([[0.0, 0.0]])).pair.kl.round(3).tolist()
    [0.693]

    Args:
        teacher, student: logits, float [examples, classes]; arrays, or what is indexed like them. Log-probabilities are logits.
        labels: int [examples]; None where there are none.
        advance: called with the number of examples of each block that is done.

    Raises:
        BadInput: for a logit that is no finite number, naming its row and column. Negative infinity is a probability of 0, and
            passes where another class has one above 0.
    """
    count = len(teacher)
    of_teacher, of_student = _arrays(count, labels), _arrays(count, labels)
    x, y, kl = np.empty(count), np.empty(count), np.empty(count)
    for rows in blocks(*teacher.shape):
        block_t, block_s = _block("teacher", teacher, rows), _block("student", student, rows)
        logs_t = _fill(of_teacher, rows, block_t, labels)
        logs_s = _fill(of_student, rows, block_s, labels)
        top = of_teacher["prediction"][rows]
        x[rows], y[rows] = confidence(block_t, top), confidence(block_s, top)
        with np.errstate(invalid="ignore"):  # 0 times infinity, where the teacher has a probability of 0
            terms = np.exp(logs_t) * (logs_t - logs_s)
        terms[np.isneginf(logs_t)] = 0
        kl[rows] = terms.sum(axis=1)
        advance(rows.stop - rows.start)
    models = OfModel(**of_teacher), OfModel(**of_student)
    return Beside(*models, OfPair(x, y, models[0].prediction == models[1].prediction, kl))


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
    log_p, p = log_softmax(block, axis=1), softmax(block, axis=1)
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
