"""Single examples worth looking at: where a student exaggerates its teacher most, and wrong labels that were learnt by heart.

What is shown of an example is the mean over seeds. The examples are chosen for being extreme, so they illustrate and prove nothing:
any two models have a most different example.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kd_jax.analysis.examples import Beside, beside
from kd_jax.analysis.summary import Compared, Pair
from kd_jax.plan import TEACHER

MOST = 12  # examples of each kind
KINDS = ("less_sure", "surer", "memorised", "resisted")


class OfRun(NamedTuple):
    """What a run and its teacher say of each example of a split, in few bytes.

    Attributes:
        arm, seed, split: of which run, on which examples.
        x, y: confidence of teacher and run in the teacher's top class [nats], float32 [examples]; see `exaggeration`.
        teacher, student: the class that each names, int32 [examples].
        teacher_p, student_p: the probability that each gives the class that it names, float32 [examples].
        teacher_label, student_label: the probability that each gives the label, float32 [examples]; None without labels.
        against: the arm of the teacher.
    """

    arm: str
    seed: int
    split: str
    x: np.ndarray
    y: np.ndarray
    teacher: np.ndarray
    student: np.ndarray
    teacher_p: np.ndarray
    student_p: np.ndarray
    teacher_label: np.ndarray | None
    student_label: np.ndarray | None
    against: str = TEACHER


class Example(NamedTuple):
    """An example, with the means over the seeds of what is said of it.

    Attributes:
        row: its position in the split.
        teacher, student: the class that each names most often.
        x: the teacher's confidence in its top class, in nats.
        deviation: the student's confidence in that class less the teacher's, in nats; `low` and `high` are its range over seeds.
        control: the same deviation of the control; NaN without one.
        teacher_p, student_p: the probability that each gives the class that it names.
        teacher_label, student_label: the probability that each gives the label; NaN without labels.
    """

    row: int
    teacher: int
    student: int
    x: float
    deviation: float
    low: float
    high: float
    control: float
    teacher_p: float
    student_p: float
    teacher_label: float
    student_label: float


def of_run(compared: Compared) -> OfRun | None:
    """Return what is kept of a run beside its teacher; None where the teacher's logits are not known."""
    if not isinstance(compared.beside, Beside):
        return None
    teacher, student, pair = compared.beside

    def small(values):
        return None if values is None else np.asarray(values, np.float32)

    def of_label(nll):
        return None if nll is None else small(np.exp(-nll))

    return OfRun(
        compared.arm,
        compared.seed,
        compared.split,
        np.asarray(pair.x, np.float32),
        np.asarray(pair.y, np.float32),
        teacher.prediction,
        student.prediction,
        np.asarray(teacher.confidence, np.float32),
        np.asarray(student.confidence, np.float32),
        of_label(teacher.nll),
        of_label(student.nll),
        compared.against,
    )


def of_pair(pair: Pair) -> OfRun | None:
    """Return the same from the logits."""
    if pair.teacher is None:
        return None
    said = beside(pair.teacher, pair.student, pair.y)
    return of_run(Compared(pair.arm, pair.seed, pair.split, said, pair.y, pair.true_y, against=pair.against))


def gallery(
    runs: Sequence[OfRun],
    control: Sequence[OfRun] = (),
    labels: np.ndarray | None = None,
    published: np.ndarray | None = None,
    most: int = MOST,
) -> dict[str, list[Example]]:
    """Return {kind: the examples of that kind, the most extreme first}; kinds without examples are left out.

    - `less_sure`: of the quarter of which the teacher is least sure, those where the student is less sure still.
    - `surer`: of the quarter of which the teacher is surest, those where the student is surer still.
    - `memorised`: examples with a wrong label to which teacher and student both give most of their probability.
    - `resisted`: examples with a wrong label to which the teacher gives most of its probability, and the student does not.

    Args:
        runs: the seeds of a student on one split, with the same examples in the same order.
        control: the seeds of the arm without a teacher, or of another control.
        labels, published: labels as trained on, and as published, int [examples]; None without labels.
        most: how many of each kind.
    """
    means = _means(runs, control)
    x, deviation = means["x"], means["deviation"]
    known = np.isfinite(x) & np.isfinite(deviation)
    found: dict[str, np.ndarray] = {}
    if known.any():
        low, high = np.quantile(x[known], (0.25, 0.75))
        found["less_sure"] = _first(known & (x <= low) & (deviation < 0), deviation, most)
        found["surer"] = _first(known & (x >= high) & (deviation > 0), -deviation, most)
    if labels is not None and published is not None and runs[0].teacher_label is not None:
        fitted = (labels != published) & (means["teacher_label"] > 0.5)
        of_student = means["student_label"]
        found["memorised"] = _first(fitted & (of_student > 0.5), -of_student, most)
        found["resisted"] = _first(fitted & (of_student <= 0.5), of_student, most)
    return {kind: [_example(int(row), means, runs) for row in rows] for kind, rows in found.items() if len(rows)}


def _means(runs: Sequence[OfRun], control: Sequence[OfRun]) -> dict[str, np.ndarray]:
    def mean(name: str) -> np.ndarray:
        values = [getattr(run, name) for run in runs]
        none = np.full(len(runs[0].x), np.nan)
        return none if any(each is None for each in values) else np.mean(np.array(values, np.float64), axis=0)

    means = {name: mean(name) for name in ("x", "teacher_p", "student_p", "teacher_label", "student_label")}
    with np.errstate(invalid="ignore"):  # infinite confidences have no difference
        deviations = np.array([run.y.astype(np.float64) - run.x for run in runs])
        of_control = [run.y.astype(np.float64) - run.x for run in control]
    none = np.full(len(runs[0].x), np.nan)
    return means | {
        "deviation": deviations.mean(axis=0),
        "low": deviations.min(axis=0),
        "high": deviations.max(axis=0),
        "control": np.mean(of_control, axis=0) if of_control else none,
    }


def _first(mask: np.ndarray, order: np.ndarray, most: int) -> np.ndarray:
    """The rows of a mask with the smallest values, rising."""
    rows = np.flatnonzero(mask)
    return rows[np.argsort(order[rows], kind="stable")[:most]]


def _example(row: int, means: Mapping[str, np.ndarray], runs: Sequence[OfRun]) -> Example:
    teacher, student = (_most_often([int(getattr(run, name)[row]) for run in runs]) for name in ("teacher", "student"))
    numbers = {name: float(values[row]) for name, values in means.items()}
    return Example(row=row, teacher=teacher, student=student, **numbers)


def _most_often(values: Sequence[int]) -> int:
    """The most frequent value, and the first of those that are equally frequent."""
    return max(values, key=values.count)


def drawn(examples: int, count: int) -> np.ndarray:
    """Return `count` of a number of rows, or all where there are not so many, rising, int [rows].

    They are the first ones of one fixed random order, so that a smaller draw is part of a larger one.

    >>> set(drawn(1000, 10).tolist()) <= set(drawn(1000, 20).tolist())
    True
    """
    return np.sort(np.random.default_rng(0).permutation(examples)[:count])
