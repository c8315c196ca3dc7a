"""From claims, with the numbers that bear on them, to verdicts: paired t tests over seeds, corrected for how many claims there are.

A claim is `supported` where all its parts are shown, so its p-value is the largest of theirs (an intersection-union test: Berger,
1982, Multiparameter hypothesis testing and acceptance sampling), and no correction for the number of parts is due. It is
`contradicted` where the opposite is shown. Over all claims of a study the chance that one is decided wrongly is kept to `LEVEL` by
Holm's correction (Holm, 1979, A simple sequentially rejective multiple test procedure). Intervals are not corrected.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy

from kd_jax.analysis.power import Effect, seeds_needed, standard_error
from kd_jax.analysis.results import INCONCLUSIVE, REASONS, Unlearned, Verdict

LEVEL = 0.05  # the chance that any verdict of a study is wrong for want of seeds


@dataclass(frozen=True)
class Part:
    """One comparison on which a claim rests.

    Attributes:
        what: the comparison, in words.
        values: float [seeds]: a number for each seed whose mean is above 0 where this part of the claim is true, and not where it
            is false. Differences are of runs of the same seed.
        shared: whether it is a comparison with one model, the same for all seeds.
    """

    what: str
    values: np.ndarray
    shared: bool = False

    @property
    def spread(self) -> float:
        """The standard deviation from seed to seed; 0 where the values agree but for rounding."""
        if len(self.values) < 2:
            return 0.0
        spread = float(np.std(self.values, ddof=1))
        return spread if spread > 1e-12 * float(np.abs(self.values).max()) else 0.0

    @property
    def effect(self) -> Effect:
        """The size of the effect that was found; infinite where all seeds agree."""
        mean, spread = float(self.values.mean()), self.spread
        return Effect(mean / spread if spread else np.inf * np.sign(mean) if mean else 0.0, self.shared)

    @property
    def p_value(self) -> float:
        """Twice the p-value of a one-sided t test that the mean is not above 0; of two seeds or more."""
        count = len(self.values)
        t = self.effect.size / standard_error(count, self.shared)
        return float(min(1.0, 2 * scipy.special.stdtr(count - 1, -t)))


@dataclass(frozen=True)
class Claim:
    """A claim about trained networks, before it is decided.

    Attributes:
        claim: the claim, as a sentence.
        because: the numbers, in words.
        sentences: {verdict: the answer as a sentence for a newcomer}, for each of the three verdicts.
        name, arm, split: what it is about; see `Verdict`.
        parts: what has to be shown, all of it, for the claim to be supported.
        opposite: what has to be shown for it to be contradicted.
        any_opposite: whether one of these suffices; else all have to be shown.
        open: why nothing can be concluded, whatever the numbers are; empty where something can.
    """

    claim: str
    because: str
    sentences: Mapping[str, str]
    name: str
    arm: str
    parts: tuple[Part, ...]
    opposite: tuple[Part, ...] = ()
    any_opposite: bool = False
    open: str = ""
    split: str = ""

    def for_and_against(self) -> tuple[float, float] | None:
        """Return the p-values of the claim and of its opposite; None where there is no test."""
        if self.open:
            return None
        of = [[part.p_value for part in parts] for parts in (self.parts, self.opposite)]
        supports = max(of[0], default=1.0)
        contradicts = min(1.0, len(of[1]) * min(of[1])) if self.any_opposite and of[1] else max(of[1], default=1.0)
        return supports, contradicts


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for how many there are, by Holm's step-down procedure, in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = float(largest)
    return adjusted


class Decision(NamedTuple):
    """The verdict on a claim, its p-value, and that after Holm's correction; None where there is no test."""

    verdict: str
    p_value: float | None
    adjusted: float | None


def decisions(claims: Sequence[Claim], level: float = LEVEL) -> list[Decision]:
    """Return the decision on each of the claims of a study, which Holm's correction takes together; arguments as for `decide`."""
    tests = [claim.for_and_against() for claim in claims]
    adjusted = iter(holm([min(test) for test in tests if test]))
    found = []
    for test in tests:
        if test is None:
            found.append(Decision(INCONCLUSIVE, None, None))
            continue
        supports, contradicts = test
        p = next(adjusted)
        verdict = INCONCLUSIVE if p > level else "supported" if supports < contradicts else "contradicted"
        found.append(Decision(verdict, min(test), p))
    return found


def decide(drawn: Iterable[Claim | Verdict], level: float = LEVEL) -> list[Verdict]:
    """Return the verdicts on all claims of a study.

    Args:
        drawn: the claims. A `Verdict` among them, which was drawn without a test, stays as it is.
        level: the chance that may remain of any wrong decision.
    """
    drawn = list(drawn)
    found = decisions([each for each in drawn if isinstance(each, Claim)], level)
    number = sum(each.p_value is not None for each in found)
    undecided = number - sum(each.verdict != INCONCLUSIVE for each in found)
    rest = iter(found)
    # Were a claim the first of those that are not decided, this is what its p-value would have to reach.
    next_level = level / max(undecided, 1)
    return [each if isinstance(each, Verdict) else _verdict(each, next(rest), number, next_level) for each in drawn]


def _verdict(claim: Claim, decision: Decision, number: int, next_level: float) -> Verdict:
    verdict, p, adjusted = decision
    about = {"name": claim.name, "arm": claim.arm, "split": claim.split}
    if p is None or adjusted is None:
        return Verdict(claim.claim, verdict, claim.because, claim.sentences[verdict], claim.open, **about)  # pyright: ignore
    # Of a claim that is not supported one wants to know which of its parts is not.
    shown = claim.opposite if verdict == "contradicted" or not claim.parts else claim.parts
    pick = min if verdict == "contradicted" and claim.any_opposite else max
    decisive = pick(shown, key=lambda part: part.p_value)
    together = f"by Holm's correction for {number} verdict{'s' * (number > 1)}"
    because = f"{claim.because}; p {_of(p)}, {together} {_of(adjusted)}"
    further = None
    if verdict == INCONCLUSIVE and claim.parts:
        seeds = min(len(part.values) for part in claim.parts)
        needed = seeds_needed([part.effect for part in claim.parts], next_level)
        further = max(needed - seeds, 1) if needed else None
        because += f"; an effect of this size would take {further} more seeds (power 80 %)" if further else ""
    sentence = claim.sentences[verdict]
    return Verdict(claim.claim, verdict, because, sentence, decisive.what, p, adjusted, further, **about)  # pyright: ignore


def _of(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"


def withheld(drawn, arms: Iterable[str], unlearned: Iterable[Unlearned]):
    """Return a claim or a verdict, or where runs that it rests on did not learn, an inconclusive one that says so.

    >>> runs = [Unlearned("teacher", 0, "at_chance")]
    >>> withheld(Verdict("a claim", "supported", "slope 1.2"), ("teacher", "student"), runs).because
    'teacher did not learn (it is at chance); slope 1.2'

    Args:
        drawn: the `Claim`, or the `Verdict` that the numbers would say.
        arms: the arms that it rests on.
        unlearned: the runs that did not learn.
    """
    arms, reasons = set(arms), {}
    for run in unlearned:
        if run.arm in arms:
            reasons.setdefault(run.arm, run.reason)
    if not reasons:
        return drawn
    blame = " and ".join(f"{arm} did not learn ({REASONS[reason][0]})" for arm, reason in sorted(reasons.items()))
    because = f"{blame}; {drawn.because}"
    if isinstance(drawn, Verdict):
        return Verdict(drawn.claim, INCONCLUSIVE, because, name=drawn.name, arm=drawn.arm, split=drawn.split)
    sentence = f"{QUESTIONS.get(drawn.name, drawn.claim)} cannot be told: {blame}."
    return replace(drawn, because=because, open=blame, sentences={**drawn.sentences, INCONCLUSIVE: sentence})


# What is asked of a quantity, as the subject of a sentence.
QUESTIONS = {
    "accuracy_gain": "Whether distillation helps",
    "exaggeration_slope": "Whether the student exaggerates its teacher's low confidence",
    "eigen_ratio": "Whether the student's weights exaggerate the bias toward the top eigendirections",
    "eigen_ratio_moved": "Whether the movement of the student's weights exaggerates the bias toward the top eigendirections",
    "function_ratio": "Whether the student's function exaggerates the bias toward the top eigendirections",
    "linearisation_error": "Whether linearised networks describe the student",
    "filter_error": "Whether the filters of theory describe the student",
    "gain_recovered": "Whether a student whose loss is switched keeps the gain of distillation",
}
