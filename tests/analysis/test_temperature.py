"""Temperatures against labels whose probabilities are known."""

import numpy as np
import pytest
from scipy.special import softmax

from kd_jax.analysis import temperature


def drawn(examples, factor, seed=0):
    """(logits, labels): labels are drawn from the softmax of logits / factor, so that factor is the temperature."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (examples, 5))
    labels = (softmax(true, axis=1).cumsum(1) > rng.random((examples, 1))).argmax(1)
    return factor * true, labels


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(factor):
    assert temperature.fit(*drawn(40_000, factor)) == pytest.approx(factor, rel=0.03)


def test_the_fit_is_where_the_derivative_of_the_likelihood_vanishes():
    """d/dbeta of the mean NLL: the mean logit under the model equals the mean logit of the labels."""
    logits, labels = drawn(300, 2.0)
    beta = 1 / temperature.fit(logits, labels)
    expected = (softmax(beta * logits, axis=1) * logits).sum(1).mean()
    assert expected == pytest.approx(logits[np.arange(300), labels].mean(), abs=1e-4)


def test_labels_that_always_have_the_largest_logit_have_no_best_temperature():
    logits = np.eye(3)[[0, 1, 2] * 20]
    assert temperature.fit(logits, [0, 1, 2] * 20) == temperature.LOWEST
    assert temperature.fit(logits, [1, 2, 0] * 20) == temperature.HIGHEST
    assert not temperature.advise(logits, np.array([0, 1, 2] * 20)).helps


def test_advice_is_judged_on_examples_that_were_not_fitted():
    logits, labels = drawn(2000, 3.0)
    found = temperature.advise(logits, labels)
    assert found.helps
    assert (found.fitted_on, found.judged_on) == (1000, 1000)
    assert found.ece_after < found.ece
    assert found.change.estimate == pytest.approx(found.nll_after - found.nll)
    assert not temperature.advise(*drawn(2000, 1.0)).helps
    assert temperature.advise(logits[:19], labels[:19]) is None
