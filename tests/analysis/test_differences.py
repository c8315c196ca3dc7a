"""Differences between studies: paired ones against NumPy, Welch's against SciPy, and none without an interval."""

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import differences
from kd_jax.analysis.differences import difference, welch


def seeds(values, first=0):
    return dict(enumerate(values, first))


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (10, 4)])
def test_welchs_interval_is_scipys(sizes):
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(0.7, 0.02, sizes[0]), rng.normal(0.6, 0.2, sizes[1])
    for level in (0.8, 0.95):
        found, expected = welch(a, b, level), stats.ttest_ind(a, b, equal_var=False).confidence_interval(level)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
        assert (found.estimate, found.count) == (pytest.approx(a.mean() - b.mean()), sum(sizes))


def test_welchs_interval_holds_a_known_difference_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = welch(rng.normal(1.0, 0.1, 3), rng.normal(0.8, 0.4, 5))
        held += found.low <= 0.2 <= found.high
    assert 0.93 < held / 2000 < 0.975


def test_the_same_seeds_on_the_same_data_are_paired():
    rng = np.random.default_rng(1)
    common, effect = rng.normal(0, 1, 5), rng.normal(0.1, 0.01, 5)
    found = difference(seeds(common + effect), seeds(common), same_data=True)
    half = stats.t.ppf(0.975, 4) * effect.std(ddof=1) / np.sqrt(5)
    assert found.method == differences.PAIRED
    assert found.values == pytest.approx(effect)
    assert (found.interval.low, found.interval.high) == pytest.approx((effect.mean() - half, effect.mean() + half))
    # The order in which seeds are listed says nothing.
    shuffled = dict(reversed(seeds(common).items()))
    assert difference(seeds(common + effect), shuffled, True).interval == found.interval


def test_other_seeds_on_the_same_data_are_independent_samples():
    a, b = [0.1, 0.2, 0.4], [0.2, 0.25, 0.27]
    for second in (seeds(b, first=3), seeds([*b, 0.3])):
        found = difference(seeds(a), second, same_data=True)
        assert found.method == differences.WELCH
        assert found.interval == welch(a, list(second.values()))
        assert found.values == ()


@pytest.mark.parametrize(
    ("first", "second", "same_data", "why"),
    [
        ([0.1, 0.2], [0.1, 0.3], False, "other data"),
        ([0.1], [0.2], True, "one seed"),
        ([0.1, 0.2], [0.2], True, "one seed"),
        ([0.5, 0.7], [0.5, 0.7], True, "equal in every seed"),
        ([0.5, 0.5], [0.25, 0.25], True, "the same in all seeds, by chance"),
        ([0.5, 0.5], [0.25, 0.25, 0.25], True, "the same in all seeds, by chance"),
    ],
)
def test_what_has_no_interval_is_not_given(first, second, same_data, why):
    assert difference(seeds(first), seeds(second), same_data) == (None, why, ())
