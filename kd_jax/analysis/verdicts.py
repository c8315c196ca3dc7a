"""What the estimates of a study say about the paper's claims, by fixed rules."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from kd_jax.analysis import intervals
from kd_jax.analysis.results import REASONS, Estimate, Interval, Unlearned, Verdict, index
from kd_jax.plan import TEACHER

# Root mean square error, in progress, below which theory describes a run.
FOLLOWS = 0.05


def withheld(verdict: Verdict, arms: Iterable[str], unlearned: Iterable[Unlearned]) -> Verdict:
    """Return the verdict, or where runs that it rests on did not learn, an inconclusive one that says so.

    >>> runs = [Unlearned("teacher", 0, "at_chance")]
    >>> withheld(Verdict("a claim", "supported", "slope 1.2"), ("teacher", "student"), runs).because
    'teacher did not learn (it is at chance); slope 1.2'

    Args:
        verdict: what the numbers would say.
        arms: the arms that it rests on.
        unlearned: the runs that did not learn.
    """
    arms, reasons = set(arms), {}
    for run in unlearned:
        if run.arm in arms:
            reasons.setdefault(run.arm, run.reason)
    if not reasons:
        return verdict
    blame = " and ".join(f"{arm} did not learn ({REASONS[reason][0]})" for arm, reason in sorted(reasons.items()))
    about = {name: getattr(verdict, name) for name in ("name", "arm", "split")}
    return Verdict(verdict.claim, "inconclusive", f"{blame}; {verdict.because}", **about)


def exaggeration_verdicts(
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    controls: Mapping[str, str | None] | None = None,
    unlearned: Sequence[Unlearned] = (),
    against: str = "the same network on one-hot labels",
    teachers: Mapping[str, str] | None = None,
    no_control: str = "",
) -> list[Verdict]:
    """Return the verdicts on every student's exaggeration of its teacher's low confidence, and on its gain in accuracy.

    Args:
        estimates: the estimates of the study.
        baselines: {arm of a student: its one-hot arm}, over which its gain is.
        controls: {arm of a student: the arm that stands for another teacher of another seed, or None where there is none, so that
            nothing can be concluded}; None where it is the one-hot arm of each.
        unlearned: the runs that did not learn; nothing is concluded from their arms.
        against: what the other arm is called.
        teachers: {arm of a student: its teacher's}, where that is not `teacher`.
        no_control: why a student has no control, in words.
    """
    table = index(estimates, "name", "arm", "split", "subset")
    drawn = []
    for student, onehot in baselines.items():
        control = (controls or {}).get(student, onehot)
        teacher = (teachers or {}).get(student, TEACHER)
        about = [
            verdict._replace(name="exaggeration_slope", arm=student, split=split)
            for split in ("test", "train")
            for verdict in _exaggeration(table, student, control, split, no_control)
        ]
        drawn += [withheld(verdict, {teacher, control or "", student}, unlearned) for verdict in about]
        gains = [
            verdict._replace(name="accuracy_gain", arm=student, split="test")
            for verdict in _gain(table, student, against, teacher)
        ]
        drawn += [withheld(verdict, (teacher, onehot, student), unlearned) for verdict in gains]
    return drawn


def eigen_verdicts(
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    unlearned: Sequence[Unlearned] = (),
) -> list[Verdict]:
    """Return the verdicts on whether distillation exaggerates the bias to the top: one for every student and layer with ratios.

    Supported when at every pair that counts the student's interval lies below 1 and below every null's estimate; contradicted when
    at every pair it lies above 1.

    Args:
        estimates: the estimates of the study.
        baselines: {arm of a student: its one-hot arm}.
        references: {arm: the one-hot arm with which it was compared}; of these, those of a student's network that are no student
            are its nulls.
        unlearned: the runs that did not learn; nothing is concluded from their arms, and as nulls they are left out.
    """
    ratios = {"weights": "eigen_ratio", "movement of the weights": "eigen_ratio_moved"}
    return _bias_verdicts(ratios, estimates, baselines, references, unlearned)


def function_bias_verdicts(
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    unlearned: Sequence[Unlearned] = (),
) -> list[Verdict]:
    """Return the same verdicts as `eigen_verdicts`, of the functions that networks compute; arguments as there."""
    ratios = {"groups of its tangent kernel's eigenvectors, function": "function_ratio"}
    return _bias_verdicts(ratios, estimates, baselines, references, unlearned)


def function_verdicts(
    estimates: Iterable[Estimate], baselines: Mapping[str, str], unlearned: Sequence[Unlearned] = ()
) -> list[Verdict]:
    """Return two verdicts on every student whose function has a prediction: whether linearisation and filter describe it.

    Supported when the intervals of the errors of the student and of its one-hot arm lie below `FOLLOWS`; contradicted when one of
    them lies above.

    Args:
        estimates, baselines, unlearned: as for `eigen_verdicts`.
    """
    drawn = []
    table = index(estimates, "name", "arm")
    for student, onehot in baselines.items():
        theories = {
            "linearisation_error": f"the networks linearised at step 0 describe {student} and {onehot}",
            "filter_error": f"the composed filter a(s) a(T) describes {student}, and a(t) {onehot}",
        }
        for name, theory in theories.items():
            of_onehot, of_student = table.get((name, onehot)), table.get((name, student))
            if of_onehot is None or of_student is None:
                continue
            errors = of_onehot.interval, of_student.interval
            verdict = "supported" if all(error.high < FOLLOWS for error in errors) else "inconclusive"
            if any(error.low > FOLLOWS for error in errors):
                verdict = "contradicted"
            because = f"error of {student} {_shown(errors[1])}, of {onehot} {_shown(errors[0])}"
            drifts = [(arm, table.get(("kernel_drift", arm))) for arm in (student, onehot)]
            because += "".join(
                f"; the kernel of {arm} moves by {100 * drift.interval.estimate:.1f} %"
                for arm, drift in drifts
                if drift
            )
            claim = f"{theory} (function, error of progress below {FOLLOWS:g})"
            drawn.append(withheld(Verdict(claim, verdict, because), ("teacher", onehot, student), unlearned))
    return drawn


def _bias_verdicts(
    ratios: Mapping[str, str],
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    unlearned: Sequence[Unlearned],
) -> list[Verdict]:
    """Verdicts on the bias of {what was measured: name of its ratios}; the other arguments are those of `eigen_verdicts`."""
    drawn = []
    failed = {run.arm for run in unlearned}
    estimates = list(estimates)
    for what, name in ratios.items():
        of_name = [e for e in estimates if e.name == name and not e.no_verdict]
        for arm, layer in dict.fromkeys((e.arm, e.layer) for e in of_name if e.arm in baselines):
            same = [other for other, onehot in references.items() if onehot == baselines[arm]]
            nulls = [other for other in same if other not in baselines and other not in failed]
            of_layer = {(e.arm, e.directions): e.interval for e in of_name if e.layer == layer}
            where = f"{layer}, {what}" if layer else what
            claim = (
                f"{arm} exaggerates the bias toward the top eigendirections ({where}: ratio below 1 and every null's)"
            )
            verdict = Verdict(claim, *_lag(of_layer, arm, nulls))
            drawn.append(withheld(verdict, ("teacher", baselines[arm], arm), unlearned))
    return drawn


def _lag(
    intervals_of: Mapping[tuple[str, tuple[int, ...]], Interval], arm: str, nulls: Collection[str]
) -> tuple[str, str]:
    """Return (verdict, because) on whether the arm lags at every pair, and more than every null, from {(arm, pair): interval}."""
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


def _exaggeration(
    table: Mapping[tuple, Estimate], student: str, onehot: str | None, split: str, no_control: str
) -> list[Verdict]:
    slope = table.get(("exaggeration_slope", student, split, "lowest_25"))
    control = table.get(("exaggeration_slope", onehot, split, "lowest_25"))
    claim = f"{student} exaggerates the teacher's low confidence ({split}, lowest 25 %: slope above 1, and above the control's)"
    if slope is not None and onehot is None:
        because = f"slope {_shown(slope.interval)}; no control is exchangeable with the teacher: {no_control}"
        return [Verdict(claim, "inconclusive", because)]
    if slope is None or control is None:
        return []
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


def _gain(table: Mapping[tuple, Estimate], student: str, against: str, teacher: str) -> list[Verdict]:
    gain = table.get(("accuracy_gain", student, "test", "all"))
    if gain is None:
        return []
    interval = gain.interval
    verdict = "supported" if interval.low > 0 else "contradicted" if interval.high < 0 else "inconclusive"
    because = f"accuracy gain over {against} {_shown(interval)}"
    if len(gain.values) > 1 and interval.low == interval.high:
        verdict, because = (
            "inconclusive",
            f"{because}; the same in all seeds, by chance: shares of a test set are whole counts",
        )
    if len(gain.values) < 2:
        # Two trainings can differ surely, and still by chance: the claim is about distillation, not about these two networks.
        verdict, because = "inconclusive", f"{because}; one seed, how others would differ is not known"
    fit = table.get(("accuracy", teacher, "train", "all"))
    if fit is not None:
        because += f"; the teacher fits {100 * fit.interval.estimate:.1f} % of its training labels"
    return [Verdict(f"{student} has the better test accuracy for being distilled", verdict, because)]


def _shown(interval: Interval) -> str:
    return (
        f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}] over {interval.count} {interval.resampled}"
    )
