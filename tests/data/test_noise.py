"""Label noise: exactly as much as asked for, uniform over the wrong classes, and always the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kd_jax.data.noise import symmetric


def labels(examples, classes, seed=0):
    return np.random.default_rng(seed).integers(0, classes, examples).astype(np.int32)


@settings(derandomize=True, database=None, deadline=None)
@given(
    examples=st.integers(1, 300),
    classes=st.integers(2, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_exactly_the_share_asked_for_is_wrong_and_every_label_is_a_class(examples, classes, share, seed):
    true = labels(examples, classes)
    noisy = symmetric(true, share, classes, seed)
    assert (noisy != true).sum() == round(share * examples)
    assert noisy.dtype == np.int32
    assert noisy.min() >= 0
    assert noisy.max() < classes


@pytest.mark.parametrize("classes", [3, 10])
def test_a_wrong_label_is_uniform_over_the_other_classes(classes):
    true = labels(60_000, classes)
    noisy = symmetric(true, 0.5, classes, seed=1)
    wrong = noisy != true
    for label in range(classes):
        counts = np.bincount(noisy[wrong & (true == label)], minlength=classes)
        assert counts[label] == 0
        assert stats.chisquare(np.delete(counts, label)).pvalue > 1e-3 / classes


def test_which_examples_are_wrong_depends_neither_on_their_label_nor_on_their_place():
    true = labels(60_000, 10)
    wrong = symmetric(true, 0.2, 10, seed=0) != true
    for groups in (true, np.arange(60_000) // 6_000):
        table = np.stack([np.bincount(groups[wrong]), np.bincount(groups[~wrong])])
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_the_draw_is_fixed_by_its_seed_and_another_seed_is_another_draw():
    true = labels(1000, 10)
    first = symmetric(true, 0.3, 10, seed=5)
    np.testing.assert_array_equal(symmetric(true, 0.3, 10, seed=5), first)
    chosen = first != true
    again = symmetric(true, 0.3, 10, seed=6) != true
    # Two independent draws of 300 from 1,000 share 90, give or take 8 (hypergeometric).
    assert abs((chosen & again).sum() - 90) < 4 * np.sqrt(300 * 0.3 * 0.7 * 700 / 999)


def test_the_labels_given_stay_as_they_are():
    true = labels(100, 10)
    before = true.copy()
    noisy = symmetric(true, 0, 10, seed=0)
    np.testing.assert_array_equal(noisy, true)
    noisy[:] = -1
    symmetric(true, 1, 10, seed=0)
    np.testing.assert_array_equal(true, before)
