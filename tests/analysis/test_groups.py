"""Intervals over groups of examples that depend on each other, such as the tokens of a sequence."""

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import exaggeration, intervals, rescaling
from kd_jax.analysis.examples import OfPair
from kd_jax.analysis.summary import measure_pair


def dependent(rng, groups=30):
    """(group of each example, a normal value of mean 0 that its group shares in)."""
    group = np.repeat(np.arange(groups), rng.integers(5, 40, groups))
    return group, rng.normal(size=groups)[group] + rng.normal(size=len(group))


def test_with_a_group_for_each_example_the_mean_has_students_t_interval():
    values = np.random.default_rng(0).normal(size=25)
    alone, grouped = intervals.of_mean(values), intervals.of_mean(values, groups=np.arange(25))
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert (grouped.resampled, grouped.count) == ("sequences", 25)


def test_intervals_over_groups_cover_as_often_as_they_claim_and_those_over_examples_do_not():
    rng, draws = np.random.default_rng(1), 600
    covered = dict.fromkeys(("mean", "share", "taken for independent"), 0)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    for _ in range(draws):
        group, values = dependent(rng)
        for name, interval, at in (
            ("mean", intervals.of_mean(values, groups=group), 0),
            ("share", intervals.of_proportion(values < 1, groups=group), truth),
            ("taken for independent", intervals.of_mean(values), 0),
        ):
            covered[name] += interval.low <= at <= interval.high
    assert 0.92 < covered["mean"] / draws < 0.975
    assert 0.92 < covered["share"] / draws < 0.975
    assert covered["taken for independent"] / draws < 0.7


def test_a_bootstrap_of_groups_has_the_error_of_the_ratio_of_sums():
    group, values = dependent(np.random.default_rng(2), 60)
    drawn = intervals.bootstrap_errors(
        lambda repeats: np.array([repeats @ values / repeats.sum()]), len(values), np.random.default_rng(0), 1500, group
    )
    assert drawn[0] == pytest.approx(intervals.error_of_mean(values, group), rel=0.08)


def test_where_all_examples_agree_the_share_is_as_uncertain_as_that_of_so_many_groups():
    found = intervals.of_proportion(np.ones(1000, bool), groups=np.repeat(np.arange(10), 100))
    squared = stats.t.ppf(0.975, 9) ** 2
    assert (found.low, found.high) == (pytest.approx(10 / (10 + squared)), 1.0)


def test_copies_of_an_example_in_its_group_add_nothing_to_a_slope_or_a_temperature():
    rng = np.random.default_rng(3)
    x = rng.normal(size=40)
    y = 1.3 * x + 0.2 * rng.normal(size=40)
    copied, groups = np.repeat(np.arange(40), 9), np.repeat(np.arange(40), 9)

    def slope(rows, groups):
        none = np.zeros(len(rows))
        pair = OfPair(x[rows], y[rows], none == 0, none)
        return measure_pair(pair, groups)["exaggeration_slope", "all"].interval()

    once, often = slope(np.arange(40), np.arange(40)), slope(copied, groups)
    assert (often.estimate, often.count) == (pytest.approx(exaggeration.line(x, y).slope), 40)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.15)
    logits, labels = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    once = rescaling.temperature(2 * logits, labels, groups=np.arange(40))
    often = rescaling.temperature(2 * logits[copied], labels[copied], groups=groups)
    assert (often.estimate, often.low, often.high) == pytest.approx((once.estimate, once.low, once.high))


def test_no_group_is_in_both_halves_of_a_calibration(monkeypatch):
    group, halves = np.repeat(np.arange(12), 7), []
    logits, labels = np.random.default_rng(4).normal(size=(84, 3)), np.random.default_rng(5).integers(0, 3, 84)
    fit = rescaling.temperature

    def remembered(z, targets, *args, **kwargs):
        halves.append(z)
        return fit(z, targets, *args, **kwargs)

    monkeypatch.setattr(rescaling, "temperature", remembered)
    rescaling.calibrated(logits, labels, np.random.default_rng(0), group)
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_half = [
        {group[i] for i in range(84) if (shifted[i] == half).all(axis=1).any()} for half in halves if len(half) < 84
    ]
    assert len(of_half) == 2
    assert not of_half[0] & of_half[1]
