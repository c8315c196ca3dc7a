"""Studies whose truth is known, as numbers per seed: what verdict rules are tested on.

In each, the student is one more model without a teacher (no effect) or that with an effect of a given size. Means and standard
deviations are those of the five seeds of the digits study (label noise 0.2, MLPs of 256 and 256 units, 100 epochs), in which
slopes of one network on several teachers were taken apart into a share of the teacher's and one of the run's.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from kd_jax.analysis import across, verdicts
from kd_jax.analysis.across import StudentResult
from kd_jax.analysis.claims import LEVEL, Claim, decisions
from kd_jax.analysis.intervals import over_seeds
from kd_jax.analysis.power import POWER
from kd_jax.analysis.results import Estimate

BASELINES = {"student": "onehot"}
PAIRS = ((0, 7), (0, 15), (0, 30))
# Standard deviations from seed to seed of the logarithms of eigendirection ratios, at the pairs; the student's are the larger ones
# of what was measured of it and of the one-hot run of another order.
WEIGHTS = {
    "student": (0.034, 0.040, 0.014),
    "onehot_order": (0.016, 0.010, 0.008),
    "onehot_init": (0.098, 0.055, 0.082),
    "teacher": (0.100, 0.101, 0.063),
}
MOVED = {
    "student": (0.114, 0.108, 0.103),
    "onehot_order": (0.077, 0.060, 0.103),
    "onehot_init": (0.162, 0.199, 0.287),
    "teacher": (0.130, 0.203, 0.340),
}
BETWEEN_PAIRS, BETWEEN_ARMS = 0.5, 0.2  # correlations of the same


class Slopes(NamedTuple):
    """How slopes of the lowest quarter vary: their mean, and the standard deviations of a teacher's and of a run's share."""

    mean: float
    of_teacher: float
    of_run: float


TRAIN, TEST = Slopes(1.005, 0.023, 0.064), Slopes(1.342, 0.278, 0.179)


def exaggeration(
    rng: np.random.Generator, seeds: int, effect: float, slopes: Slopes = TRAIN, is_one_control: bool = False
) -> list[Claim]:
    """Return the claim of a study whose student has the slope of a model without a teacher, and `effect` more."""
    shared = slopes.mean + slopes.of_teacher * rng.normal(size=seeds)
    student = shared + slopes.of_run * rng.normal(size=seeds) + effect
    control = shared + slopes.of_run * rng.normal(size=1 if is_one_control else seeds)
    estimates = [
        _estimate("exaggeration_slope", *of, subset="lowest_25") for of in (("student", student), ("onehot", control))
    ]
    return verdicts.exaggeration_claims(estimates, BASELINES, is_one_control=is_one_control)


def gain(
    rng: np.random.Generator,
    seeds: int,
    effect: float,
    spread: float = 0.0067,
    examples: int = 500,
    is_one_control: bool = False,
) -> list[Claim]:
    """Return the claim on a gain; accuracies are whole counts over the number of test examples."""
    student = 0.874 + effect + spread * rng.normal(size=seeds)
    onehot = 0.874 + spread * rng.normal(size=1 if is_one_control else seeds)
    difference = (np.rint(student * examples) - np.rint(onehot * examples)) / examples
    gains = _estimate("accuracy_gain", "student", difference, subset="all")
    return verdicts.exaggeration_claims([gains], BASELINES, is_one_control=is_one_control)


def bias(
    rng: np.random.Generator,
    seeds: int,
    effect: float,
    spreads: Mapping[str, tuple[float, ...]] = WEIGHTS,
    name: str = "eigen_ratio",
) -> list[Claim]:
    """Return the claim on the bias to the top eigendirections; the effect lowers the logarithms of all the student's ratios."""
    estimates = []
    of_seed = rng.normal(size=(1, 1, seeds)), rng.normal(size=(1, len(PAIRS), seeds))
    of_arm = rng.normal(size=(len(spreads), 1, seeds)), rng.normal(size=(len(spreads), len(PAIRS), seeds))

    def mixed(of_all, of_each):
        return np.sqrt(BETWEEN_PAIRS) * of_all + np.sqrt(1 - BETWEEN_PAIRS) * of_each

    draws = np.sqrt(BETWEEN_ARMS) * mixed(*of_seed) + np.sqrt(1 - BETWEEN_ARMS) * mixed(*of_arm)
    for (arm, spread), of in zip(spreads.items(), draws, strict=True):
        for pair, sd, values in zip(PAIRS, spread, of, strict=True):
            ratios = np.exp(sd * values - effect * (arm == "student"))
            estimates.append(_estimate(name, arm, ratios, layer="Dense_0", directions=pair))
    references = dict.fromkeys(spreads, "onehot")
    of = verdicts.function_bias_claims if name == "function_ratio" else verdicts.eigen_claims
    return of(estimates, BASELINES, references)


def theory(rng: np.random.Generator, seeds: int, effect: float, spread: float = 0.3) -> list[Claim]:
    """Return the claim that the filters describe a study, at its border: errors of `verdicts.FOLLOWS` less the effect in the mean.

    Errors cannot be negative, so they have a gamma distribution; `spread` is relative.
    """
    mean = verdicts.FOLLOWS - effect
    estimates = [
        _estimate("filter_error", arm, rng.gamma(spread**-2, mean * spread**2, size=seeds))
        for arm in ("student", "onehot")
    ]
    return verdicts.function_claims(estimates, BASELINES)


def switching(
    rng: np.random.Generator, seeds: int, effect: float, whole: float = 0.05, half: float = 0.5, spread: float = 0.0067
) -> list[Claim]:
    """Return the claim that a switched student keeps half of the gain: its gain is `half` of the whole plus the effect."""
    runs = spread * rng.normal(size=(3, seeds))
    gains = whole + runs[1] - runs[0], half * whole + effect + runs[2] - runs[0]
    results = [
        _result(folder, of, switch=switch) for folder, of, switch in zip("ab", gains, ("", "onehot:kd@5"), strict=True)
    ]
    return across.switching(results)[1]


def helping(
    rng: np.random.Generator,
    seeds: int,
    effect: float,
    what: str = "teacher_lead",
    leads: tuple[float, ...] = (-0.015, 0.0, 0.015, 0.03),
    spread: float = 0.0067,
) -> list[Claim]:
    """Return the claim on what the gain depends on, from variants whose students and their twins are drawn anew.

    The gain rises by `effect` for each unit of the lead, and falls by as much for each unit of the teacher's training accuracy.
    """
    sign = 1 if what == "teacher_lead" else -1
    results = []
    for number, lead in enumerate(leads):
        onehot, student, teacher = spread * rng.normal(size=(3, seeds))
        gains = student - onehot + sign * effect * lead
        fit = 0.95 + lead + 0.2 * spread * rng.normal(size=seeds)
        results.append(_result(str(number), gains, fit=fit, lead=lead + teacher - onehot, epochs=number))
    return [claim for claim in across.helping(results)[1] if claim.name == across.EXPECTED[what][0]]


def rate(
    simulate: Callable[..., list[Claim]],
    seeds: int,
    effect: float,
    draws: int,
    verdict: str = "supported",
    level: float = LEVEL,
) -> float:
    """Return the share of simulated studies in which a claim gets a verdict.

    Args:
        simulate: `simulate(rng, seeds, effect)` returns the claims of a study; the first is looked at.
        seeds, effect: for it.
        draws: number of studies; those of one seed count are the same for every effect.
        verdict: the verdict that is counted. Draws without a claim are left out, as of teachers that are too much alike.
        level: the level at which claims are decided: smaller where a study has several.
    """
    rng = np.random.default_rng(seeds)
    drawn = (simulate(rng, seeds, effect) for _ in range(draws))
    return float(np.mean([decisions(claims, level)[0].verdict == verdict for claims in drawn if claims]))


def effect_found(
    simulate: Callable[..., list[Claim]],
    seeds: int,
    draws: int,
    most: float,
    level: float = LEVEL,
    share: float = POWER,
) -> float:
    """Return the least effect that is found in a share of simulated studies, by halving the range nine times.

    Args:
        simulate, seeds, draws, level: as for `rate`.
        most: an effect that is large enough.
        share: the share of studies.

    Returns:
        The effect; infinite where `most` is not found that often.
    """
    if rate(simulate, seeds, most, draws, level=level) < share:
        return np.inf
    low, high = 0.0, most
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (low, middle) if rate(simulate, seeds, middle, draws, level=level) >= share else (middle, high)
    return high


def _estimate(name, arm, values, subset="", **about):
    split = {"split": "test", "subset": subset} if subset else {}
    return Estimate(name, arm, over_seeds(values), tuple(map(float, values)), **split, **about)


def _result(folder, gains, fit=None, lead=None, **values):
    none = np.zeros(len(gains))
    return StudentResult(
        folder, "student", values, none if fit is None else fit, none if lead is None else lead, gains, True
    )
