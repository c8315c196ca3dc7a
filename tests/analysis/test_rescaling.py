"""Temperatures against closed forms, a direct search, and a simulation of their intervals."""

import numpy as np
import pytest
from scipy import optimize
from scipy.special import log_softmax, softmax

from kd_jax.analysis import calibration, rescaling


def drawn(rng, count, classes=5, scale=2.0, true=1.0):
    """Logits, and labels drawn from softmax(logits / true)."""
    z = scale * rng.normal(size=(count, classes))
    p = softmax(z / true, axis=1)
    return z, (p.cumsum(axis=1) > rng.uniform(size=(count, 1))).argmax(axis=1)


def test_the_temperature_minimises_the_mean_cross_entropy():
    z, y = drawn(np.random.default_rng(0), 400)
    direct = optimize.minimize_scalar(
        lambda t: -log_softmax(z / t, axis=1)[np.arange(400), y].mean(), bounds=(0.05, 20), options={"xatol": 1e-9}
    ).x
    assert rescaling.temperature(z, y).estimate == pytest.approx(direct, rel=1e-6)


def test_a_scaled_model_has_its_scale_as_temperature_and_its_interval_scales_too():
    z, y = drawn(np.random.default_rng(1), 300)
    one, three = rescaling.temperature(z, y), rescaling.temperature(3 * z, y)
    assert (three.estimate, three.low, three.high) == pytest.approx(
        (3 * one.estimate, 3 * one.low, 3 * one.high), rel=1e-6
    )


def test_labels_and_their_one_hot_probabilities_give_the_same():
    z, y = drawn(np.random.default_rng(2), 100)
    a, b = rescaling.temperature(z, y), rescaling.temperature(z, np.eye(5)[y])
    assert (a.estimate, a.low, a.high) == pytest.approx((b.estimate, b.low, b.high))


def test_the_interval_covers_the_true_temperature_as_often_as_it_claims():
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(400):
        found = rescaling.temperature(*drawn(rng, 250, true=1.7))
        hits.append(found.low <= 1.7 <= found.high)
    assert 0.92 <= np.mean(hits) <= 0.98  # 0.95 and three standard errors of 400 draws


def test_a_model_that_is_always_right_has_no_best_temperature_and_gets_the_coldest():
    z = np.eye(3) * 4
    assert rescaling.temperature(z, np.arange(3)).estimate == pytest.approx(rescaling.COLDEST)
    assert rescaling.temperature(z, (np.arange(3) + 1) % 3).estimate == pytest.approx(rescaling.HOTTEST)


def test_a_temperature_mends_what_a_factor_spoilt_and_changes_no_prediction():
    rng = np.random.default_rng(4)
    z, y = drawn(rng, 4000)
    found = rescaling.calibrated(3 * z, y, rng)
    assert found.temperature.low <= 3 <= found.temperature.high
    assert found.ece_after.estimate < 0.02 < 0.1 < found.ece_before.estimate
    expected = -log_softmax(3 * z, axis=1)[np.arange(4000), y].mean()
    assert found.nll_before.estimate == pytest.approx(expected)
    assert found.nll_gain.estimate == pytest.approx(found.nll_before.estimate - found.nll_after.estimate)
    assert found.nll_gain.low > 0


def test_nothing_is_gained_where_nothing_is_wrong():
    """The halves judge each other, so a good model does not look better for having been fitted."""
    rng = np.random.default_rng(5)
    gains = [rescaling.calibrated(*drawn(rng, 300), rng).nll_gain.estimate for _ in range(60)]
    assert np.mean(gains) < 0  # the price of not knowing the temperature


def test_one_temperature_removes_all_of_a_scale_and_nothing_of_a_permutation():
    rng = np.random.default_rng(6)
    teacher = 2 * rng.normal(size=(500, 4))
    scaled = rescaling.rescaled(teacher, 2.5 * teacher)
    assert scaled.temperature.estimate == pytest.approx(2.5, rel=1e-6)
    assert scaled.kl_after.estimate == pytest.approx(0, abs=1e-10)
    assert scaled.removed == pytest.approx(1)
    p, q = softmax(teacher, axis=1), softmax(2.5 * teacher, axis=1)
    assert scaled.kl_before.estimate == pytest.approx((p * np.log(p / q)).sum(axis=1).mean())
    assert rescaling.rescaled(teacher, teacher).removed == 0


def test_a_class_of_probability_zero_is_no_obstacle():
    z = np.array([[0.0, -1.0, -np.inf]] * 20)
    found = rescaling.temperature(z, np.arange(20) % 4 // 3)
    assert found.estimate == pytest.approx(1 / np.log(3))


def test_where_a_divergence_is_infinite_no_temperature_brings_the_student_closest():
    rng = np.random.default_rng(8)
    teacher, student = rng.normal(size=(2, 100, 4))
    assert rescaling.comparable(teacher, student)
    assert np.isfinite(rescaling.matched(teacher, student).estimate)
    student[7, teacher[7].argmin()] = -np.inf
    assert not rescaling.comparable(teacher, student)
    assert np.isnan(rescaling.matched(teacher, student).estimate)
    teacher[7, teacher[7].argmin()] = -np.inf  # what both hold impossible costs nothing
    assert rescaling.matched(teacher, student).estimate == pytest.approx(
        rescaling.temperature(student, softmax(teacher, axis=1)).estimate
    )


def test_a_reliability_diagrams_distance_from_the_diagonal_is_the_calibration_error():
    rng = np.random.default_rng(7)
    confidences = rng.uniform(size=500)
    hits = rng.uniform(size=500) < confidences**2
    found = calibration.reliability(confidences, hits)
    distance = (found.count * np.abs(found.accuracy - found.confidence)).sum() / 500
    assert distance == pytest.approx(calibration.ece(confidences, hits))
    assert found.count.sum() == 500
