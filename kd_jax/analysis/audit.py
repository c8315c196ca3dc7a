"""What one looks at first in a student of which only the answers are known: classes, examples, confusions, and advice."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kd_jax.analysis.claims import Claim, Part
from kd_jax.analysis.examples import Beside
from kd_jax.analysis.rescaling import COLDEST, HOTTEST, Calibration, Rescaled
from kd_jax.analysis.results import Estimate, Interval, index

FITS = 0.98  # a teacher that is right on so many of the labels that it was trained on has little to add to them
MOST = 12  # rows of the tables of classes, confusions and examples


class OfClass(NamedTuple):
    """The examples for which the teacher names one class.

    Attributes:
        index: the class.
        count: how many examples there are.
        agreement: the share of them for which the student names it too.
        deviation: the mean of the student's confidence in that class less the teacher's, in nats; NaN where it is not finite.
        teacher_accuracy, student_accuracy: shares of right predictions among them; NaN without labels.
    """

    index: int
    count: int
    agreement: float
    deviation: float
    teacher_accuracy: float
    student_accuracy: float


class Confusion(NamedTuple):
    """How often the student names one class where the teacher names another."""

    teacher: int
    student: int
    count: int


class Example(NamedTuple):
    """One example, its predictions, and how sure the two are.

    Attributes:
        row: its row.
        teacher, student: the classes that they name.
        teacher_confidence, student_confidence: the probabilities of those.
        deviation: the student's confidence in the teacher's class less the teacher's, in nats.
        label: its label; -1 without labels.
    """

    row: int
    teacher: int
    student: int
    teacher_confidence: float
    student_confidence: float
    deviation: float
    label: int


class Advice(NamedTuple):
    """What to do, the number that says so, and where it is known from."""

    advice: str
    because: str
    source: str


def classes(beside: Beside, count: int) -> list[OfClass]:
    """Return the classes that the teacher names, those first on which the student deviates most in the mean.

    Args:
        beside: what both say of each example.
        count: the number of classes.
    """
    teacher, student, pair = beside
    top, deviation = teacher.prediction, pair.y - pair.x
    finite = np.isfinite(deviation)
    number = np.bincount(top, minlength=count)

    def mean(values, where=None):
        weights = np.bincount(top if where is None else top[where], minlength=count)
        sums = np.bincount(top if where is None else top[where], values if where is None else values[where], count)
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / weights

    none = np.full(count, np.nan)
    columns = (
        mean(pair.agree.astype(float)),
        mean(deviation, finite),
        none if teacher.hit is None else mean(teacher.hit.astype(float)),
        none if student.hit is None else mean(student.hit.astype(float)),
    )
    found = [
        OfClass(k, int(number[k]), *(float(column[k]) for column in columns)) for k in map(int, np.flatnonzero(number))
    ]
    return sorted(found, key=lambda each: -abs(np.nan_to_num(each.deviation)))


def confusions(beside: Beside, count: int, most: int = MOST) -> list[Confusion]:
    """Return the pairs of classes that teacher and student most often name in each other's place."""
    teacher, student = beside.teacher.prediction.astype(np.int64), beside.student.prediction
    differ = teacher != student
    pairs, number = np.unique(teacher[differ] * count + student[differ], return_counts=True)
    order = np.argsort(-number, kind="stable")[:most]
    return [Confusion(int(pairs[i] // count), int(pairs[i] % count), int(number[i])) for i in order]


def extremes(beside: Beside, labels: np.ndarray | None = None, most: int = MOST) -> tuple[list[Example], list[Example]]:
    """Return the examples in which the student is far less sure than its teacher, and those in which it is far surer.

    Examples of infinite confidence are left out.

    Args:
        beside: what both say of each example.
        labels: int [examples]; None without.
        most: how many examples of either kind.
    """
    teacher, student, pair = beside
    deviation = pair.y - pair.x
    known = np.flatnonzero(np.isfinite(deviation))
    order = known[np.argsort(deviation[known], kind="stable")]

    def example(row):
        return Example(
            int(row),
            int(teacher.prediction[row]),
            int(student.prediction[row]),
            float(teacher.confidence[row]),
            float(student.confidence[row]),
            float(deviation[row]),
            -1 if labels is None else int(labels[row]),
        )

    below = [example(row) for row in order[:most] if deviation[row] < 0]
    above = [example(row) for row in order[::-1][:most] if deviation[row] > 0]
    return below, above


def claims(estimates: Sequence[Estimate], split: str) -> list[Claim]:
    """Return the claim on exaggeration where there is no control to hold the student against.

    Regression to the mean pulls the slope between two independent models below 1, so a slope above 1 says something; but within a
    quarter the relation may bend, and how far another network trained like the teacher would be from 1 is not known. So it is never
    `supported`.
    """
    slope = index(estimates, "name", "arm", "split", "subset").get(
        ("exaggeration_slope", "student", split, "lowest_25")
    )
    if slope is None:
        return []
    interval, values = slope.interval, np.array(slope.values)
    missing = (
        "no control was given: pass the logits of a network that was trained as the teacher was, from another seed"
    )
    because = f"slope {shown(interval)} over {interval.count} {interval.resampled}; {missing}"
    unknown = missing if len(values) < 2 or values.mean() >= 1 else ""
    if not unknown:
        because += "; a slope below 1 does not show that the student follows it"
    number = f"slope {interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    what = "the teacher's low confidence"
    return [
        Claim(
            "student exaggerates the teacher's low confidence (lowest 25 %: slope above 1, and above a control's)",
            because,
            {
                "supported": "",
                "contradicted": f"The student does not exaggerate {what}: {number}; below 1 it need not follow it either.",
                "inconclusive": f"Whether the student exaggerates {what} cannot be told without a control: {number}.",
            },
            "exaggeration_slope",
            "student",
            (),
            (Part("slope below 1", 1 - values),),
            open=unknown,
            split=split,
        )
    ]


def advice(
    estimates: Sequence[Estimate],
    split: str,
    calibrations: dict[str, Calibration],
    rescaled: Rescaled | None,
) -> list[Advice]:
    """Return what the numbers advise, each with the number and a source; empty where they advise nothing.

    Args:
        estimates: the estimates of the audit.
        split: the split that the examples are from; `train` where the teacher was trained on them.
        calibrations: {`teacher` or `student`: what a temperature does for it}; empty without labels.
        rescaled: how much of the divergence is a matter of scale; None where it is infinite.
    """
    table = index(estimates, "name", "arm", "split", "subset")
    found = []
    fit = table.get(("accuracy", "teacher", split, "all"))
    if split == "train" and fit is not None and fit.interval.low > FITS:
        found.append(
            Advice(
                "Stop the teacher earlier, or train the student on labels first and switch to the teacher late: a teacher that fits"
                " its training labels says little more than they do.",
                f"The teacher is right on {100 * fit.interval.estimate:.1f} % of its training labels.",
                "Nagarajan et al., NeurIPS 2023: the gain depends on whether the teacher interpolates",
            )
        )
    own = calibrations.get("student")
    if own is not None and own.helps:
        sure = "too sure" if own.temperature.estimate > 1 else "not sure enough"
        found.append(
            Advice(
                f"Divide the student's logits by {own.temperature.estimate:.2f} before the softmax. No prediction changes.",
                f"It is {sure}: temperature {shown(own.temperature)}; on examples that it was not fitted to, the NLL falls by"
                f" {shown(own.nll_gain)} nats, and the ECE goes from {own.ece_before.estimate:.3f} to"
                f" {own.ece_after.estimate:.3f}.",
                "Guo et al., ICML 2017, section 4.2",
            )
        )
    scale = None if rescaled is None else rescaled.temperature
    # Where labels ask for the opposite, being as sure as the teacher is no aim.
    opposed = scale is not None and own is not None and (own.temperature.estimate > 1) != (scale.estimate > 1)
    is_best = scale is not None and COLDEST < scale.estimate < HOTTEST and not scale.low <= 1 <= scale.high
    if rescaled is not None and scale is not None and rescaled.removed > 0.5 and is_best and not opposed:
        found.append(
            Advice(
                "Most of what separates the student from its teacher is one factor on its logits: distil at another temperature, or"
                f" divide its logits by {scale.estimate:.2f}.",
                f"That factor removes {100 * rescaled.removed:.0f} % of the mean KL of"
                f" {rescaled.kl_before.estimate:.4g} nats; temperature {shown(scale)}.",
                "Hinton et al., 2015, section 2, on temperature",
            )
        )
    agreement = table.get(("agreement", "student", split, "all"))
    if agreement is not None and agreement.interval.high < 0.95:
        found.append(
            Advice(
                "Do not take the student for a small copy of its teacher: what was found out about the teacher (errors, bias,"
                " robustness) has to be found out again.",
                f"They name the same class for {100 * agreement.interval.estimate:.1f} % of the examples.",
                "Stanton et al., NeurIPS 2021: students agree with their teachers less than is thought",
            )
        )
    if agreement is not None and agreement.interval.resampled != "seeds":
        found.append(
            Advice(
                "Train student and teacher from two or more further seeds and pass all files.",
                f"There is one seed: the intervals say how other {agreement.interval.resampled} would differ, and not how other"
                " trainings would.",
                "Bouthillier et al., MLSys 2021: variance between trainings decides comparisons",
            )
        )
    return found


def shown(interval: Interval) -> str:
    """Return an interval in words, to three digits after the point."""
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
