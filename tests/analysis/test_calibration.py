"""Calibration scores against explicit loops, scikit-learn and values that can be said without computing."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from kd_jax.analysis import calibration, examples


def some(count=500, classes=7, scale=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(count, classes)), rng.integers(0, classes, count)


def nll(logits, labels):
    return examples.of_model(logits, labels).nll


def brier(logits, labels):
    return examples.of_model(logits, labels).brier


def top_confidence(logits):
    return examples.of_model(logits).confidence


def ece_by_loop(confidences, hits, bins):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        members = [i for i, c in enumerate(confidences) if low < c <= high]
        if members:
            accuracy = sum(bool(hits[i]) for i in members) / len(members)
            confidence = sum(float(confidences[i]) for i in members) / len(members)
            total += len(members) / len(confidences) * abs(accuracy - confidence)
    return total


# ---- expected calibration error


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_ece_is_the_loop_over_its_bins(bins):
    rng = np.random.default_rng(bins)
    confidences = rng.uniform(size=400)
    hits = rng.uniform(size=400) < confidences**2
    np.testing.assert_allclose(calibration.ece(confidences, hits, bins), ece_by_loop(confidences, hits, bins))


def test_ece_has_fifteen_bins_unless_told():
    rng = np.random.default_rng(0)
    confidences, hits = rng.uniform(size=100), rng.uniform(size=100) < 0.5
    np.testing.assert_allclose(calibration.ece(confidences, hits), ece_by_loop(confidences, hits, 15))


@pytest.mark.parametrize("bins", [10, 15])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(bins):
    edges = np.arange(1, bins + 1) / bins
    inside = edges - 0.4 / bins
    for edge, below in zip(edges, inside, strict=True):
        pair = np.array([edge, below])
        np.testing.assert_allclose(
            calibration.ece(pair, np.array([True, False]), bins), abs(1 - edge - below) / 2, atol=1e-12
        )
    hits = np.arange(2 * bins) % 3 == 0
    both = np.concatenate([edges, inside])
    np.testing.assert_allclose(calibration.ece(both, hits, bins), ece_by_loop(both, hits, bins))


def test_a_confidence_of_exactly_one_counts():
    assert calibration.ece(np.ones(4), np.array([True, True, True, False])) == 0.25
    logits = np.array([[1000.0, 0, 0]] * 4)
    confidences = top_confidence(logits)
    assert (confidences == 1).all()
    assert calibration.ece(confidences, calibration.correct(logits, np.array([0, 0, 1, 1]))) == 0.5


def test_confidence_that_equals_accuracy_has_no_calibration_error():
    assert calibration.ece(np.full(8, 0.75), np.arange(8) % 4 > 0) == 0


def test_over_and_underconfidence_in_different_bins_do_not_cancel():
    confidences, hits = np.array([0.2, 0.2, 0.8, 0.8]), np.array([True, True, False, False])
    np.testing.assert_allclose(calibration.ece(confidences, hits), 0.8)


# ---- likelihood, Brier score, accuracy


def test_nll_is_the_log_loss():
    logits, labels = some()
    found = nll(logits, labels)
    assert found.shape == (500,)
    p = softmax(logits, axis=1)
    np.testing.assert_allclose(found, -np.log(p[np.arange(500), labels]), rtol=1e-12)
    np.testing.assert_allclose(found.mean(), metrics.log_loss(labels, p, labels=range(7)), rtol=1e-12)


def test_nll_of_two_classes_is_softplus_of_the_margin():
    margins = np.linspace(-700, 700, 57)
    logits = np.stack([margins, np.zeros_like(margins)], axis=1)
    np.testing.assert_allclose(nll(logits, np.zeros(57, int)), np.logaddexp(0, -margins), rtol=1e-13, atol=1e-15)


def test_nll_of_a_hopeless_prediction_is_its_margin_and_finite():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    np.testing.assert_array_equal(nll(logits, np.array([1, 0])), [1e4, 1e4])


def test_brier_is_the_squared_distance_from_the_one_hot_label():
    logits, labels = some()
    found = brier(logits, labels)
    assert found.shape == (500,)
    p, onehot = softmax(logits, axis=1), np.eye(7)[labels]
    expected = [sum((p[i, k] - onehot[i, k]) ** 2 for k in range(7)) for i in range(500)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mean(), 7 * metrics.mean_squared_error(onehot, p), rtol=1e-12)


def test_brier_of_two_classes_is_twice_the_one_sided_score():
    logits, labels = some(classes=2)
    one_sided = metrics.brier_score_loss(labels, softmax(logits, axis=1)[:, 1])
    np.testing.assert_allclose(brier(logits, labels).mean(), 2 * one_sided, rtol=1e-12)


def test_accuracy_is_that_of_the_largest_logit():
    logits, labels = some()
    hits = calibration.correct(logits, labels)
    assert hits.dtype == bool
    assert hits.mean() == metrics.accuracy_score(labels, logits.argmax(axis=1))


def test_perfect_predictions_score_perfectly():
    labels = np.arange(30) % 5
    logits = 1000.0 * np.eye(5)[labels]
    hits, confidences = calibration.correct(logits, labels), top_confidence(logits)
    assert hits.all()
    assert (nll(logits, labels) == 0).all()
    assert (brier(logits, labels) == 0).all()
    assert calibration.ece(confidences, hits) == 0


def test_surely_wrong_predictions_score_worst():
    labels = np.arange(30) % 5
    logits = 1000.0 * np.eye(5)[(labels + 1) % 5]
    hits, confidences = calibration.correct(logits, labels), top_confidence(logits)
    assert not hits.any()
    assert (brier(logits, labels) == 2).all()
    assert calibration.ece(confidences, hits) == 1


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_equal_logits_are_the_uniform_distribution(classes):
    logits, labels = np.full((3, classes), -7.0), np.array([0, 1, classes - 1])
    np.testing.assert_allclose(nll(logits, labels), np.log(classes), rtol=1e-12)
    np.testing.assert_allclose(brier(logits, labels), 1 - 1 / classes, rtol=1e-12)
    np.testing.assert_allclose(top_confidence(logits), 1 / classes, rtol=1e-12)


def test_scores_are_computed_in_float64_and_leave_the_logits_alone():
    logits, labels = some(scale=20.0)
    narrow = logits.astype(np.float32)
    before = narrow.copy()
    for score in (nll, brier):
        assert score(narrow, labels).dtype == np.float64
        np.testing.assert_array_equal(score(narrow, labels), score(narrow.astype(np.float64), labels))
    assert top_confidence(narrow).dtype == np.float64
    np.testing.assert_array_equal(narrow, before)
    wide = logits.copy()
    brier(wide, labels)
    np.testing.assert_array_equal(wide, logits)


def test_the_share_left_of_the_labels_variance_is_one_minus_r_squared():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    one_hot = np.eye(3)[labels]
    design = np.column_stack([np.ones(60), rng.normal(size=(60, 4)), labels == 1])
    fit = design @ np.linalg.lstsq(design, one_hot, rcond=None)[0]
    explained = ((fit - one_hot.mean(axis=0)) ** 2).sum() / ((one_hot - one_hot.mean(axis=0)) ** 2).sum()
    assert calibration.share_left(fit, labels) == pytest.approx(1 - explained)
    assert calibration.share_left(one_hot, labels) == 0
    assert calibration.share_left(np.broadcast_to(one_hot.mean(axis=0), (60, 3)), labels) == pytest.approx(1)


# ---- the interval of the ECE


def drawn(rng, count, shift):
    """Confidences and hits of a network that is right less often by `shift` than it is sure."""
    confidences = 1 - 0.5 * rng.beta(0.5, 2, count)
    return confidences, rng.uniform(size=count) < confidences - shift * (confidences > 0.6)


@pytest.mark.parametrize(("count", "shift"), [(100, 0.0), (1000, 0.0), (300, 0.1)])
def test_the_interval_of_the_ece_covers_the_true_one_as_often_as_it_claims(count, shift):
    """Also of a calibrated network, whose ECE is 0 and is never seen to be."""
    rng = np.random.default_rng(count)
    true = calibration.ece(*drawn(np.random.default_rng(9), 500_000, shift)) if shift else 0.0
    found = [calibration.ece_interval(*drawn(rng, count, shift)) for _ in range(300)]
    assert 0.91 < np.mean([each.low <= true <= each.high for each in found]) < 0.985
    assert all(each.low <= each.estimate <= each.high for each in found)


def test_its_estimate_is_the_ece_and_its_ends_shrink_with_the_root_of_the_examples():
    confidences, hits = drawn(np.random.default_rng(0), 400, 0.1)
    found = calibration.ece_interval(confidences, hits)
    assert (found.estimate, found.count) == (calibration.ece(confidences, hits), 400)
    many = calibration.ece_interval(np.tile(confidences, 100), np.tile(hits, 100))
    assert many.estimate == pytest.approx(found.estimate)
    assert (many.high - many.low) / (found.high - found.low) == pytest.approx(0.1, abs=0.03)


def test_groups_of_equal_examples_count_as_one():
    confidences, hits = drawn(np.random.default_rng(0), 200, 0.1)
    alone = calibration.ece_interval(confidences, hits)
    grouped = calibration.ece_interval(
        np.repeat(confidences, 5), np.repeat(hits, 5), groups=np.repeat(np.arange(200), 5)
    )
    np.testing.assert_allclose((grouped.low, grouped.high), (alone.low, alone.high), rtol=1e-6)
    assert (grouped.count, grouped.resampled) == (200, "sequences")


def test_an_ece_of_zero_has_an_interval():
    found = calibration.ece_interval(np.full(40, 0.5), np.arange(40) < 20)
    assert found.estimate == found.low == 0
    assert 0.05 < found.high < 0.3
    assert calibration.ece_interval(np.ones(40), np.ones(40, bool)).high == 0
