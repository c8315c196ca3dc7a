"""Which runs did not learn. Their numbers say nothing about distillation, and no verdict is drawn from their arms.

A run is judged by its training losses and, where its final logits on the training examples are known, by those. In this order, and
by the first that holds:

- `no_metrics`: no epoch was written down.
- `loss_rose`: the mean loss of the last epoch is above that of the first.
- `constant_outputs`: its logits do not vary over the examples beyond rounding.
- `at_chance`: its accuracy on its own training labels is not shown to be better than that of always naming the most frequent
  class. Exact one-sided binomial test at `LEVEL`. Where classes are very unequal, that test may be beyond even a network without an
  error, so one that has more right than that also passes where it tells some class from the others: Fisher's exact test, at
  the same level over all classes. Of a thousand runs that guess, one or two pass.
- `flat`, of a run beside a teacher: its confidence in the teacher's top class has a standard deviation of less than `LEAST_SPREAD`
  of the teacher's. The slope of the one on the other is their correlation times the ratio of these deviations, so it is below
  `LEAST_SPREAD` whatever the run has learnt: that it is below 1 is arithmetic and no evidence against exaggeration. Ordinary runs,
  students and independent models alike, have ratios between 0.3 and 2.
- `behind`, of a student: of the way from chance to the less accurate of its teacher and its one-hot twin it has not come
  `LEAST_WAY`, on the training examples whose labels are as published, by a binomial test at the same level. What both of them have
  fitted can be fitted, by this network, in these steps, from these targets; a student that has not, has been trained badly (as
  with a learning rate too high for a loss with a factor temperature^2), and its slopes and gains tell of that. A student that is
  less accurate because its teacher is, or because its network is small or its training short, is not meant: then one of the other
  two is as inaccurate. Nor is one that does not memorise wrong labels, which can be a merit of distillation.

The arms that repeat another one with a change (nulls) have no logits, and are judged by their losses.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy

from kd_jax.analysis import calibration, exaggeration
from kd_jax.analysis.results import Unlearned
from kd_jax.config import Switch
from kd_jax.plan import TEACHER

LEVEL = 1e-3
ROUNDING = 1000  # units of the last place that logits may differ by and still count as equal
LEAST_SPREAD = 0.1
LEAST_WAY = 2 / 3


class Outputs(NamedTuple):
    """The final logits of a run on the training examples, in a few numbers.

    Attributes:
        right: how many examples are named as they were labelled for training.
        examples: how many there are.
        most_frequent: how many of them have the most frequent label.
        clean_right, clean: the same as `right` and `examples`, of the examples whose label is the published one.
        spread: largest difference between two examples in any logit.
        size: largest absolute logit.
        rounding: relative rounding error of the logits' dtype.
        confidence: standard deviation of the confidence in the teacher's top class [nats]; see `exaggeration.confidence`.
        teacher_confidence: the teacher's; NaN for the teacher itself.
        association: the p-value, for all classes together, of predictions that know so much of the training labels; see
            `_association`.
    """

    right: int
    examples: int
    most_frequent: int
    clean_right: int
    clean: int
    spread: float
    size: float
    rounding: float
    confidence: float
    teacher_confidence: float
    association: float = 1.0

    @property
    def accuracy(self) -> float:
        """Share of the training labels that it names."""
        return self.right / self.examples

    @property
    def chance(self) -> float:
        """Share of the most frequent training label."""
        return self.most_frequent / self.examples

    @property
    def clean_accuracy(self) -> float:
        """Share that it names of the training labels that are as published; NaN where none is."""
        return self.clean_right / self.clean if self.clean else float("nan")


def outputs(
    logits: np.ndarray, labels: np.ndarray, true_labels: np.ndarray, teacher_logits: np.ndarray | None = None
) -> Outputs:
    """Return the `Outputs` of a run.

    >>> found = outputs(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), np.array([0, 1, 0]), np.array([0, 1, 1]))
    >>> found.right, found.clean_right, found.clean
    (2, 2, 2)

    Args:
        logits: the logits of the run, float [examples, classes].
        labels: the labels that were trained on, int [examples].
        true_labels: the labels as published, int [examples].
        teacher_logits: the logits of its teacher, or for a run on labels those of the teacher that it is compared with; None for a
            teacher.
    """
    logits = np.asarray(logits)
    hits, is_clean = calibration.correct(logits, labels), np.equal(labels, true_labels)
    of_teacher, own = exaggeration.confidence_pair(logits if teacher_logits is None else teacher_logits, logits)
    return Outputs(
        right=int(hits.sum()),
        examples=len(labels),
        most_frequent=int(np.bincount(labels).max()),
        clean_right=int(hits[is_clean].sum()),
        clean=int(is_clean.sum()),
        spread=float(np.ptp(logits, axis=0).max()),
        size=float(np.abs(logits).max()),
        rounding=float(np.finfo(logits.dtype).eps),
        confidence=float(own.std()),
        teacher_confidence=float("nan") if teacher_logits is None else float(of_teacher.std()),
        association=_association(logits.argmax(axis=1), labels, logits.shape[1]),
    )


def _association(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The probability that predictions which know nothing of the labels name some class as rightly as these, or more so.

    Of each class the number of right predictions is hypergeometric, given how often it is predicted and how often it is there
    (Fisher's exact test, one-sided). The smallest of their p-values is multiplied by their number (Bonferroni).

    >>> print(f"{_association(np.array([0] * 157 + [1] * 3), np.array([0] * 157 + [1] * 3), 2):.2g}")
    3e-06
    """
    predicted, there = np.bincount(predictions, minlength=classes), np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predictions == labels], minlength=classes)
    at = np.flatnonzero((predicted > 0) & (there > 0))
    if not len(at):
        return 1.0
    p = scipy.stats.hypergeom.sf(right[at] - 1, len(labels), there[at], predicted[at])
    return float(min(p.min() * len(at), 1.0))


def comparable_losses(lines: Sequence[Mapping[str, Any]], switch: Switch | None, steps_per_epoch: int) -> list[float]:
    """Return the training losses of the epochs that have one loss in common.

    Where the loss is switched in mid-training these are the epochs after the switch, or, if there are none, those before it.

    Args:
        lines: the lines of a run's `metrics.jsonl`.
        switch: the change of loss, or None.
        steps_per_epoch: steps of an epoch, for the length of the change is in steps.
    """
    if switch is not None:
        settled = switch.epoch + switch.ramp / steps_per_epoch
        after = [line for line in lines if line["epoch"] - 1 >= settled]
        lines = after or [line for line in lines if line["epoch"] <= switch.epoch] or lines
    return [line["train_loss"] for line in lines]


def unlearned(
    losses: Mapping[tuple[str, int], Sequence[float] | None],
    fits: Mapping[tuple[str, int], Outputs],
    baselines: Mapping[str, str],
    teachers: Mapping[str, str] | None = None,
) -> list[Unlearned]:
    """Return the runs that did not learn, each with the first reason that holds, in the order of `losses`.

    >>> unlearned({("student", 0): [2.0, 1.0], ("student", 1): [2.0, 3.0]}, {}, {})[0].seed
    1

    Args:
        losses: {(arm, seed): mean training loss of each epoch}, of every run; None for one that was not trained here, such as a
            teacher that is taken as it is or a file of logits, which is judged by its outputs alone.
        fits: {(arm, seed): its final `Outputs`}, of the runs that have logits.
        baselines: {arm of a student: its one-hot arm}.
        teachers: {arm of a student: its teacher's}, where that is not `teacher`.
    """
    listed = []
    for (arm, seed), of_run in losses.items():
        fit = fits.get((arm, seed))
        reason, numbers = ("", {}) if of_run is None else _by_loss(of_run)
        if not reason and fit is not None:
            others = [fits.get((other, seed)) for other in ((teachers or {}).get(arm, TEACHER), baselines.get(arm, ""))]
            reason, numbers = _by_outputs(fit, *others)
        if reason:
            listed.append(Unlearned(arm, seed, reason, numbers))
    return listed


def _by_loss(losses: Sequence[float]) -> tuple[str, dict[str, float]]:
    if not losses:
        return "no_metrics", {}
    if not losses[-1] <= losses[0]:
        return "loss_rose", {"first": losses[0], "last": losses[-1]}
    return "", {}


def _by_outputs(fit: Outputs, teacher: Outputs | None, onehot: Outputs | None) -> tuple[str, dict[str, float]]:
    if fit.spread <= ROUNDING * fit.rounding * fit.size:
        return "constant_outputs", {"spread": fit.spread, "size": fit.size}
    tells_apart = fit.right > fit.most_frequent and fit.association <= LEVEL
    if not tells_apart and scipy.stats.binom.sf(fit.right - 1, fit.examples, fit.chance) > LEVEL:
        return "at_chance", {"accuracy": fit.accuracy, "chance": fit.chance, "examples": fit.examples}
    if fit.confidence < LEAST_SPREAD * fit.teacher_confidence:
        return "flat", {"spread": fit.confidence, "teacher_spread": fit.teacher_confidence}
    if teacher is not None and onehot is not None and fit.clean:
        others = {"teacher": teacher.clean_accuracy, "onehot": onehot.clean_accuracy}
        expected = fit.chance + LEAST_WAY * (min(others.values()) - fit.chance)
        if scipy.stats.binom.cdf(fit.clean_right, fit.clean, expected) < LEVEL:
            return "behind", {"accuracy": fit.clean_accuracy, **others}
    return "", {}
