"""What the estimates of a study say about the paper's claims, by fixed rules."""

from typing import NamedTuple

import numpy as np

from kd_jax.analysis import intervals

# Root mean square error, in progress, below which theory describes a run.
FOLLOWS = 0.05


class Verdict(NamedTuple):
    """A claim, whether this study supports it, and the numbers that decided.

    Attributes:
        verdict: `supported`, `contradicted` or `inconclusive`.
    """

    claim: str
    verdict: str
    because: str


class Unlearned(NamedTuple):
    """A run whose training loss ended above that of its first epoch: its numbers say nothing about distillation."""

    arm: str
    seed: int
    first: float
    last: float

    def __str__(self):
        return (
            f"{self.arm}-seed{self.seed} did not learn: training loss {self.first:.3g} in the first epoch, {self.last:.3g} in the"
            " last; lower --learning_rate (the distillation loss has a factor temperature^2), or raise --batch_size or --warmup"
        )


def unlearned(losses):
    """Return the list of `Unlearned` runs.

    Args:
        losses: {(arm, seed): mean training loss of each epoch}.
    """
    return [Unlearned(*run, of[0], of[-1]) for run, of in losses.items() if not of[-1] <= of[0]]


def verdicts(estimates, baselines, did_not_learn=()):
    """Return the list of `Verdict` for every student.

    Args:
        estimates: list of `Estimate`.
        baselines: {student arm: its one-hot arm}, which is also its control.
        did_not_learn: the `Unlearned` runs; nothing is concluded from their arms.
    """
    table = {(e.name, e.arm, e.split, e.subset): e for e in estimates}
    failed = {run.arm for run in did_not_learn}
    found = []
    for student, onehot in baselines.items():
        about = [v for split in ("test", "train") for v in _exaggeration(table, student, onehot, split)]
        about += _gain(table, student)
        blame = sorted({"teacher", onehot, student} & failed)
        if blame:
            because = f"{' and '.join(blame)} did not learn; "
            about = [Verdict(v.claim, "inconclusive", because + v.because) for v in about]
        found += about
    return found


def eigen_verdicts(estimates, baselines, references, did_not_learn=()):
    """Return a `Verdict` for every student and layer with ratios, and for its function: whether distillation exaggerates the bias
    to the top.

    Supported when at every ruled pair the student's interval lies below 1 and below every null's estimate; contradicted when
    at every pair it lies above 1.

    Args:
        estimates: list of `eigen.DirectionEstimate`.
        baselines: {student arm: its one-hot arm}.
        references: {arm: the one-hot arm it was compared with}; of a student's, those that are no student are its nulls.
        did_not_learn: the `Unlearned` runs.
    """
    found = []
    failed = {run.arm for run in did_not_learn}
    for what, name in (
        ("weights", "eigen_ratio"),
        ("movement of the weights", "eigen_ratio_moved"),
        ("groups of its tangent kernel's eigenvectors, function", "function_ratio"),
    ):
        of_name = [e for e in estimates if e.name == name and e.ruled]
        for arm, layer in dict.fromkeys((e.arm, e.layer) for e in of_name if e.arm in baselines):
            same = [other for other, onehot in references.items() if onehot == baselines[arm]]
            nulls = [other for other in same if other not in baselines and other not in failed]
            of_layer = {(e.arm, e.directions): e.interval for e in of_name if e.layer == layer}
            verdict, because = _lag(of_layer, arm, nulls)
            blame = sorted({"teacher", baselines[arm], arm} & failed)
            if blame:
                verdict, because = "inconclusive", f"{' and '.join(blame)} did not learn; {because}"
            where = f"{layer}, {what}" if layer else what
            claim = (
                f"{arm} exaggerates the bias toward the top eigendirections ({where}: ratio below 1 and every null's)"
            )
            found.append(Verdict(claim, verdict, because))
    return found


def function_verdicts(estimates, baselines, did_not_learn=()):
    """Return two `Verdict` for every student whose function has a prediction: whether linearisation and filter describe it.

    Supported when the intervals of the errors of the student and of its one-hot arm lie below `FOLLOWS`; contradicted when one of
    them lies above.

    Args:
        estimates: list of `eigen.DirectionEstimate`.
        baselines: {student arm: its one-hot arm}.
        did_not_learn: the `Unlearned` runs.
    """
    table = {(e.name, e.arm): e.interval for e in estimates if not e.directions}
    failed = {run.arm for run in did_not_learn}
    found = []
    for student, onehot in baselines.items():
        theories = {
            "linearisation_error": f"the networks linearised at step 0 describe {student} and {onehot}",
            "filter_error": f"the composed filter a(s) a(T) describes {student}, and a(t) {onehot}",
        }
        for name, theory in theories.items():
            errors = [table.get((name, arm)) for arm in (onehot, student)]
            if None in errors:
                continue
            verdict = "supported" if all(error.high < FOLLOWS for error in errors) else "inconclusive"
            if any(error.low > FOLLOWS for error in errors):
                verdict = "contradicted"
            because = f"error of {student} {_shown(errors[1])}, of {onehot} {_shown(errors[0])}"
            drifts = [(arm, table.get(("kernel_drift", arm))) for arm in (student, onehot)]
            because += "".join(
                f"; the kernel of {arm} moves by {100 * drift.estimate:.1f} %" for arm, drift in drifts if drift
            )
            blame = sorted({"teacher", onehot, student} & failed)
            if blame:
                verdict, because = "inconclusive", f"{' and '.join(blame)} did not learn; {because}"
            claim = f"{theory} (function, error of progress below {FOLLOWS:g})"
            found.append(Verdict(claim, verdict, because))
    return found


def _lag(intervals_of, arm, nulls):
    """(verdict, because) of {(arm, pair): Interval}: does the arm lag at every pair, and more than every null?"""
    pairs = [pair for who, pair in intervals_of if who == arm]

    def least_null(pair):
        return min([1.0, *(intervals_of[null, pair].estimate for null in nulls if (null, pair) in intervals_of)])

    if all(intervals_of[arm, pair].high < least_null(pair) for pair in pairs):
        verdict = "supported"
    else:
        verdict = "contradicted" if all(intervals_of[arm, pair].low > 1 for pair in pairs) else "inconclusive"
    told = [
        f"directions {', '.join(f'{first} and {second}' for first, second in pairs)}; {intervals_of[arm, pairs[0]].count} seeds"
    ]
    for who in [arm, *nulls]:
        known = [intervals_of[who, pair] for pair in pairs if (who, pair) in intervals_of]
        if known:
            told.append(f"{who} " + ", ".join(f"{i.estimate:.2f} [{i.low:.2f}, {i.high:.2f}]" for i in known))
    return verdict, "; ".join(told)


def _exaggeration(table, student, onehot, split):
    slope = table.get(("exaggeration_slope", student, split, "lowest_25"))
    control = table.get(("exaggeration_slope", onehot, split, "lowest_25"))
    if slope is None or control is None:
        return []
    claim = f"{student} exaggerates the teacher's low confidence ({split}, lowest 25 %: slope above 1, and above the control's)"
    because = f"slope {_shown(slope.interval)}; control {onehot} {_shown(control.interval)}"
    if slope.interval.high < 1:
        because += (
            "; a slope below 1 does not show that the student follows the teacher, regression to the mean does that"
        )
        return [Verdict(claim, "contradicted", because)]
    supported = slope.interval.low > 1
    if len(slope.values) > 1:
        excess = intervals.over_seeds(np.subtract(slope.values, control.values))
        because += f"; student minus control, same seed: {_shown(excess)}"
        supported = supported and excess.low > 0
    else:
        supported = supported and slope.interval.low > control.interval.high
    return [Verdict(claim, "supported" if supported else "inconclusive", because)]


def _gain(table, student):
    gain = table.get(("accuracy_gain", student, "test", "all"))
    if gain is None:
        return []
    interval = gain.interval
    verdict = "supported" if interval.low > 0 else "contradicted" if interval.high < 0 else "inconclusive"
    because = f"accuracy gain over the same network on one-hot labels {_shown(interval)}"
    if len(gain.values) > 1 and interval.low == interval.high:
        verdict, because = (
            "inconclusive",
            f"{because}; the same in all seeds, by chance: shares of a test set are whole counts",
        )
    if len(gain.values) < 2:
        # Two trainings can differ surely, and still by chance: the claim is about distillation, not about these two networks.
        verdict, because = "inconclusive", f"{because}; one seed, how others would differ is not known"
    fit = table.get(("accuracy", "teacher", "train", "all"))
    if fit is not None:
        because += f"; the teacher fits {100 * fit.interval.estimate:.1f} % of its training labels"
    return [Verdict(f"{student} has the better test accuracy for being distilled", verdict, because)]


def _shown(interval):
    return (
        f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}] over {interval.count} {interval.resampled}"
    )
