"""By what to divide a network's logits so that its probabilities fit better, and whether that helps on other examples.

Source: Guo et al., 2017, On calibration of modern neural networks, section 4.2.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from kd_jax.analysis import calibration, intervals
from kd_jax.analysis.results import Interval

LOWEST, HIGHEST = 0.02, 50.0
FEWEST = 20  # examples of a test split, below which its halves say nothing


def fit(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature T at which softmax(logits / T) gives the labels the highest likelihood.

    The likelihood is concave in 1 / T, so there is one best value at most. Where every label has the largest logit, it rises up to
    T = 0; where labels have no larger logits than the other classes on average, up to infinity: then `LOWEST` or `HIGHEST` is
    returned.

    >>> logits = np.log([[0.8, 0.2]] * 5)  # right in four of five, as sure as that
    >>> round(fit(3 * logits, [0, 0, 0, 0, 1]), 3)
    3.0

    Args:
        logits: float [examples, classes].
        labels: int [examples].
    """
    logits = np.asarray(logits, np.float64)
    of_label = logits[np.arange(len(logits)), np.asarray(labels)]
    if (of_label == logits.max(axis=1)).all():
        return LOWEST
    if of_label.mean() <= logits.mean():  # the derivative at 1 / T = 0
        return HIGHEST

    def mean_nll(log_beta):
        beta = np.exp(log_beta)
        return float(np.mean(logsumexp(beta * logits, axis=1) - beta * of_label))

    bounds = -np.log(HIGHEST), -np.log(LOWEST)
    # Quasiconvex in log(1 / T) as well, for that only relabels the axis.
    found = minimize_scalar(mean_nll, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-found.x))


@dataclass(frozen=True)
class Advice:
    """What a temperature does, fitted on one half of a split and judged on the other.

    Attributes:
        temperature: by what to divide the logits.
        fitted_on, judged_on: the numbers of examples of the halves.
        nll, nll_after: mean negative log-likelihood of the other half [nats], as it is and with the temperature.
        change: `nll_after` less `nll`, with its interval over examples.
        ece, ece_after: expected calibration error of the other half.
    """

    temperature: float
    fitted_on: int
    judged_on: int
    nll: float
    nll_after: float
    change: Interval
    ece: float
    ece_after: float

    @property
    def helps(self) -> bool:
        """Whether the whole interval of the change is below zero, and the fit has a best value."""
        return self.change.high < 0 and LOWEST < self.temperature < HIGHEST

    def to_json(self) -> dict[str, Any]:
        """Return the advice as JSON values."""
        return {**asdict(self), "helps": self.helps}


def advise(logits: np.ndarray, labels: np.ndarray) -> Advice | None:
    """Return the `Advice` for a network, or None where there are fewer than `FEWEST` examples.

    The halves are drawn at random with a fixed seed, so that the same examples come out each time.

    Args:
        logits: float [examples, classes], on examples that were not trained on.
        labels: their labels, int [examples].
    """
    if len(labels) < FEWEST:
        return None
    order = np.random.default_rng(0).permutation(len(labels))
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    found = fit(logits[first], labels[first])
    logits, labels = np.asarray(logits[second], np.float64), labels[second]
    before, after = calibration.nll(logits, labels), calibration.nll(logits / found, labels)
    hits = calibration.correct(logits, labels)
    ece, ece_after = (calibration.ece(calibration.top_confidence(z), hits) for z in (logits, logits / found))
    change = intervals.of_mean(after - before)
    return Advice(found, len(first), len(second), before.mean(), after.mean(), change, ece, ece_after)
