"""What several studies say together: of loss switching, and of when distillation helps."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from kd_jax.analysis.claims import Claim, Part
from kd_jax.analysis.intervals import LEVEL, over_seeds
from kd_jax.analysis.results import Estimate, Interval
from kd_jax.analysis.verdicts import signed_points


class StudentResult(NamedTuple):
    """A student of one variant of a sweep, with a number per seed.

    Attributes:
        folder: the variant's folder.
        arm: the student's arm.
        values: {field: value} of the fields in which variants differ, as JSON values.
        teacher_accuracy: the accuracy of the teacher on its training labels, float [seeds].
        teacher_lead: test accuracy of the teacher less that of the student's network without a teacher, float [seeds]; NaN where
            the teacher is a file of logits without those of the test set.
        gain: in test accuracy over the same network without a teacher, float [seeds].
        learned: whether teacher, student and its one-hot twin learnt in every seed.
    """

    folder: str
    arm: str
    values: dict[str, Any]
    teacher_accuracy: np.ndarray
    teacher_lead: np.ndarray
    gain: np.ndarray
    learned: bool


def ratio_of_means(numerators: ArrayLike, denominators: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Return the interval of mean(numerators) / mean(denominators) over seeds, by Fieller's theorem; None where it has no ends.

    It has ends when the denominators' mean differs from zero at that level: a share of a gain that may be none can be anything. Nor
    has it ends when nothing varies: shares of a test set are whole counts, on which a few seeds can agree by chance.

    >>> print(ratio_of_means([0.5, 0.6, 0.4], [1.0, 1.1, 0.9]).estimate)
    0.5
    >>> print(ratio_of_means([0.5, 0.6, 0.4], [1.0, -1.1, 0.9]))
    None

    Args:
        numerators, denominators: float [seeds], paired, at least two.
        level: confidence level, between 0 and 1.

    Source: Fieller, 1954, Some problems in interval estimation.
    """
    a, b = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    count = len(a)
    t2 = scipy.stats.t.ppf((1 + level) / 2, count - 1) ** 2 / count
    (aa, ab), (_, bb) = np.cov(a, b, ddof=1)
    mean_a, mean_b = a.mean(), b.mean()
    # (mean_a - r mean_b)^2 <= t2 var(a - r b) is a quadratic inequality in r; these are its coefficients.
    square, middle, constant = mean_b**2 - t2 * bb, mean_a * mean_b - t2 * ab, mean_a**2 - t2 * aa
    if square <= 0 or not (aa or bb):
        return None
    half = np.sqrt(max(middle**2 - square * constant, 0))
    low, high = (middle - half) / square, (middle + half) / square
    return Interval(float(mean_a / mean_b), float(low), float(high), level, "seeds", count)


def switching(measured: Sequence[StudentResult]) -> tuple[list[Estimate], list[Claim]]:
    """Return the estimates and claims about students whose loss was switched, beside those whose loss was not.

    `gain_recovered`: share of the plain student's gain that the switched one has; absent where that gain may be zero.
    `gain_difference`: its test accuracy less the plain student's.

    Args:
        measured: every student of every variant.
    """
    estimates, claims = [], []
    for switched in measured:
        if not switched.values.get("switch"):
            continue
        plain = next(
            (m for m in measured if _rest(m, "switch") == _rest(switched, "switch") and not m.values["switch"]), None
        )
        if plain is None or len(plain.gain) < 2:
            continue
        about: dict[str, Any] = {"variant": switched.folder, "against": plain.folder, "split": "test", "subset": "all"}
        differences = switched.gain - plain.gain
        difference = over_seeds(differences)
        estimates.append(Estimate("gain_difference", switched.arm, difference, tuple(differences.tolist()), **about))
        share = ratio_of_means(switched.gain, plain.gain)
        if share is not None:
            estimates.append(Estimate("gain_recovered", switched.arm, share, (), **about))
        claims.append(_recovers(switched, plain, share, difference))
    return estimates, claims


def _rest(measured: StudentResult, field: str) -> tuple[str, dict[str, Any]]:
    """Arm and values of a student but for one field."""
    return measured.arm, {name: value for name, value in measured.values.items() if name != field}


def _recovers(switched: StudentResult, plain: StudentResult, share: Interval | None, difference: Interval) -> Claim:
    """The claim that a switched student has half of the gain: that there is a gain, and that its own less half of it is above 0.

    The second is what Fieller's interval says of the share.
    """
    where = ", ".join(f"{name}={value}" for name, value in switched.values.items() if name != "switch")
    who = f"{switched.arm} with {switched.values['switch']}{f' ({where})' if where else ''}"
    whole = over_seeds(plain.gain)
    told = f"test accuracy less that of distillation throughout {_shown(difference)}"
    unknown = ""
    if share is None:
        why = "may be none" if whole.low < whole.high else "is the same in all seeds, by chance"
        because = f"the gain of distillation throughout {why}, {_shown(whole)}; {told}"
        unknown = "" if whole.low < whole.high else f"the gain of distillation throughout {why}"
        number = f"that gain {why}, {signed_points(whole)}"
    else:
        because = f"share of the gain {_shown(share)}; {told}"
        number = f"share {share.estimate:.2f} [{share.low:.2f}, {share.high:.2f}], {share.count} seeds"
        if plain.gain.mean() < 0:
            because = f"distillation throughout loses accuracy here; {because}"
            number = f"that loses accuracy here, {signed_points(whole)}"
    if not (switched.learned and plain.learned):
        unknown, because = "a run did not learn", f"a run did not learn; {because}"
        number = "a run did not learn"
    there = Part("the gain of distillation throughout is above 0", plain.gain)
    more = switched.gain - plain.gain / 2
    return Claim(
        f"{who} has at least half of the gain of distillation throughout",
        because,
        {
            "supported": f"{who} keeps at least half of the gain of distillation: {number}.",
            "contradicted": f"{who} keeps less than half of the gain of distillation: {number}.",
            "inconclusive": f"Whether {who} keeps half of the gain of distillation is open: {number}.",
        },
        "gain_recovered",
        switched.arm,
        (there, Part("the switched student's gain is above half of it, same seed", more)),
        (there, Part("the switched student's gain is below half of it, same seed", -more)),
        open=unknown,
        split="test",
    )


LEAST_SPREAD = 0.02  # of teachers' accuracies; a slope over less speaks of what was not seen
# attribute of `StudentResult` -> (name of the estimate, whether gains are expected to rise with the attribute, the claim, unit)
EXPECTED = {
    "teacher_accuracy": (
        "gain_per_teacher_accuracy",
        False,
        "gains less the more of its training labels the teacher fits",
        "of the teacher's accuracy on its training labels",
    ),
    "teacher_lead": (
        "gain_per_teacher_lead",
        True,
        "gains more the better than its own network the teacher is on test data",
        "of the teacher's lead",
    ),
}


def helping(measured: Sequence[StudentResult]) -> tuple[list[Estimate], list[Claim]]:
    """Return the estimates and claims about when distillation helps: gain against the teacher's accuracies.

    `gain_per_teacher_accuracy` (on its training labels) and `gain_per_teacher_lead` (on test data, over the student's network
    without a teacher): within each seed the slope over variants, see `slopes_within`. There is one over all variants, and one for
    each field that alone differs between three variants or more, where teachers differ by `LEAST_SPREAD` or more.

    Args:
        measured: every student of every variant; those of runs that did not learn are left out.
    """
    estimates, claims = [], []
    for arm in dict.fromkeys(m.arm for m in measured):
        of_arm = [m for m in measured if m.arm == arm and m.learned and not m.values.get("switch")]
        for field, group in _groups(of_arm):
            y = np.array([m.gain for m in group])
            for what, (name, rises, claim, of_what) in EXPECTED.items():
                x = np.array([getattr(m, what) for m in group])
                if x.shape[1] < 2 or not np.ptp(x.mean(axis=1)) >= LEAST_SPREAD:  # NaN is left out too
                    continue
                slopes = slopes_within(x, y)
                interval = over_seeds(slopes)
                about: dict[str, Any] = {"field": field, "split": "test", "subset": "all"}
                estimates.append(Estimate(name, arm, interval, tuple(map(float, slopes)), **about))
                if field:
                    continue
                number = (
                    f"{interval.estimate:.2f} points [{interval.low:.2f}, {interval.high:.2f}] for each point {of_what}"
                )
                number += f", {len(group)} variants, {interval.count} seeds"
                up, down = Part("slope above 0", slopes), Part("slope below 0", -slopes)
                claims.append(
                    Claim(
                        f"{arm} {claim}",
                        f"gain per unit of that accuracy {_shown(interval)}, over {len(group)} variants",
                        {
                            "supported": f"{arm} {claim}: {number}.",
                            "contradicted": f"The opposite of what is claimed ({arm} {claim}) was found: {number}.",
                            "inconclusive": f"It was not shown that {arm} {claim}: {number}.",
                        },
                        name,
                        arm,
                        (up if rises else down,),
                        (down if rises else up,),
                        split="test",
                    )
                )
    return estimates, claims


def slopes_within(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the slope of y on x over variants, within each seed, float64 [seeds].

    It is cov(z, y) / cov(z, x) with z the mean of x over all other seeds (an instrumental variable), not the least-squares slope:
    a gain and a teacher's lead are both over the same network without a teacher, whose chance would make a slope of its own.

    >>> x = np.array([[0.8, 0.7], [0.9, 0.9], [1.0, 0.95]])
    >>> slopes_within(x, 3 * x).round(9).tolist()
    [3.0, 3.0]

    Args:
        x, y: float [variants, seeds], at least two seeds.

    Source: Angrist, Imbens and Krueger, 1999, Jackknife instrumental variables estimation.
    """
    z = (x.sum(axis=1, keepdims=True) - x) / (x.shape[1] - 1)
    z = z - z.mean(axis=0)
    return (z * y).sum(axis=0) / (z * x).sum(axis=0)


def _groups(measured: list[StudentResult]) -> Iterator[tuple[str, list[StudentResult]]]:
    """Yield ("", all variants), then (field, variants that differ in that field alone), of three variants or more."""
    if len(measured) > 2:
        yield "", measured
    names = measured[0].values if measured else ()
    for name in names:
        # Where fields were changed one at a time there is one such group. Where all values are combined with all others there
        # are several, and none is taken.
        rests = {}
        for m in measured:
            rests.setdefault(tuple(map(str, _rest(m, name)[1].values())), []).append(m)
        large = [group for group in rests.values() if len(group) > 2]
        if len(large) == 1 and len(large[0]) < len(measured):
            yield name, large[0]


def _shown(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}] over {interval.count} seeds"
