"""What several studies say together: of loss switching, and of when distillation helps."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kd_jax.analysis.intervals import LEVEL, over_seeds
from kd_jax.analysis.results import Estimate, Interval, Verdict


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
    t2 = stats.t.ppf((1 + level) / 2, count - 1) ** 2 / count
    (aa, ab), (_, bb) = np.cov(a, b, ddof=1)
    mean_a, mean_b = a.mean(), b.mean()
    # (mean_a - r mean_b)^2 <= t2 var(a - r b) is a quadratic inequality in r; these are its coefficients.
    square, middle, constant = mean_b**2 - t2 * bb, mean_a * mean_b - t2 * ab, mean_a**2 - t2 * aa
    if square <= 0 or not (aa or bb):
        return None
    half = np.sqrt(max(middle**2 - square * constant, 0))
    low, high = (middle - half) / square, (middle + half) / square
    return Interval(float(mean_a / mean_b), float(low), float(high), level, "seeds", count)


def switching(measured: Sequence[StudentResult]) -> tuple[list[Estimate], list[Verdict]]:
    """Return the estimates and verdicts about students whose loss was switched, beside those whose loss was not.

    `gain_recovered`: share of the plain student's gain that the switched one has; absent where that gain may be zero.
    `gain_difference`: its test accuracy less the plain student's.

    Args:
        measured: every student of every variant.
    """
    estimates, verdicts = [], []
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
        verdicts.append(_recovers(switched, plain, share, difference))
    return estimates, verdicts


def _rest(measured: StudentResult, field: str) -> tuple[str, dict[str, Any]]:
    """Arm and values of a student but for one field."""
    return measured.arm, {name: value for name, value in measured.values.items() if name != field}


def _recovers(switched: StudentResult, plain: StudentResult, share: Interval | None, difference: Interval) -> Verdict:
    where = ", ".join(f"{name}={value}" for name, value in switched.values.items() if name != "switch")
    claim = (
        f"{switched.arm} with {switched.values['switch']}{f' ({where})' if where else ''} has at least half of the gain of"
        " distillation throughout"
    )
    told = f"test accuracy less that of distillation throughout {_shown(difference)}"
    if share is None:
        whole = over_seeds(plain.gain)
        why = "may be none" if whole.low < whole.high else "is the same in all seeds, by chance"
        return Verdict(claim, "inconclusive", f"the gain of distillation throughout {why}, {_shown(whole)}; {told}")
    because = f"share of the gain {_shown(share)}; {told}"
    if plain.gain.mean() < 0:
        return Verdict(claim, "inconclusive", f"distillation throughout loses accuracy here; {because}")
    verdict = "supported" if share.low > 0.5 else "contradicted" if share.high < 0.5 else "inconclusive"
    if not (switched.learned and plain.learned):
        verdict, because = "inconclusive", f"a run did not learn; {because}"
    return Verdict(claim, verdict, because)


LEAST_SPREAD = 0.02  # of teachers' accuracies; a slope over less speaks of what was not seen
# attribute of `StudentResult` -> (name of the estimate, whether gains are expected to rise with the attribute, the claim)
EXPECTED = {
    "teacher_accuracy": (
        "gain_per_teacher_accuracy",
        False,
        "gains less the more of its training labels the teacher fits",
    ),
    "teacher_lead": (
        "gain_per_teacher_lead",
        True,
        "gains more the better than its own network the teacher is on test data",
    ),
}


def helping(measured: Sequence[StudentResult]) -> tuple[list[Estimate], list[Verdict]]:
    """Return the estimates and verdicts about when distillation helps: gain against the teacher's accuracies.

    `gain_per_teacher_accuracy` (on its training labels) and `gain_per_teacher_lead` (on test data, over the student's network
    without a teacher): within each seed the least-squares slope over variants. There is one over all variants, and one for each
    field that alone differs between three variants or more, where teachers differ by `LEAST_SPREAD` or more.

    Args:
        measured: every student of every variant; those of runs that did not learn are left out.
    """
    estimates, verdicts = [], []
    for arm in dict.fromkeys(m.arm for m in measured):
        of_arm = [m for m in measured if m.arm == arm and m.learned and not m.values.get("switch")]
        for field, group in _groups(of_arm):
            y = np.array([m.gain for m in group])
            for what, (name, rises, claim) in EXPECTED.items():
                x = np.array([getattr(m, what) for m in group])
                if x.shape[1] < 2 or not np.ptp(x, axis=0).min() >= LEAST_SPREAD:  # NaN is left out too
                    continue
                slopes = [stats.linregress(*of_seed).slope for of_seed in zip(x.T, y.T, strict=True)]  # pyright: ignore
                interval = over_seeds(slopes)
                about: dict[str, Any] = {"field": field, "split": "test", "subset": "all"}
                estimates.append(Estimate(name, arm, interval, tuple(map(float, slopes)), **about))
                if not field:
                    above, below = ("supported", "contradicted") if rises else ("contradicted", "supported")
                    verdict = above if interval.low > 0 else below if interval.high < 0 else "inconclusive"
                    because = f"gain per unit of that accuracy {_shown(interval)}, over {len(group)} variants"
                    verdicts.append(Verdict(f"{arm} {claim}", verdict, because))
    return estimates, verdicts


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
