"""Intervals against their formulas, and against the only thing they promise: how often they hold the true value."""

from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import examples, intervals, summary


def covers_as_claimed(hits, level=0.95):
    """Whether the share of true could come from intervals of that level; false alarms are one in a thousand."""
    return stats.binomtest(int(np.sum(hits)), len(hits), level).pvalue > 1e-3


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "count"), [(0, 7), (7, 7), (1, 1), (3, 10), (499, 500), (7455, 10000)])
def test_the_interval_of_a_proportion_is_wilsons_formula(successes, count, level):
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    found = intervals.of_proportion(np.arange(count) < successes, level)
    assert found.estimate == share
    np.testing.assert_allclose((found.low, found.high), (centre - half, centre + half), rtol=1e-9, atol=1e-12)
    assert (found.level, found.resampled, found.count) == (level, "examples", count)


@pytest.mark.parametrize("every", [True, False])
def test_a_proportion_of_none_or_all_keeps_an_uncertainty(every):
    found = intervals.of_proportion(np.full(50, every))
    assert 0 <= found.low < found.high <= 1
    assert found.high - found.low > 0.05


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("interval", "resampled"), [(intervals.over_seeds, "seeds"), (intervals.of_mean, "examples")])
def test_the_interval_of_a_mean_is_students(interval, resampled, level):
    values = 3 + 2 * np.array([-1.3, -0.4, -0.2, 0.2, 0.4, 1.3])  # not skewed
    found = interval(values, level)
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose((found.estimate, found.low, found.high), (values.mean(), low, high), rtol=1e-12)
    assert (found.level, found.resampled, found.count) == (level, resampled, 6)


def test_over_seeds_no_skewness_is_corrected():
    values = np.array([1.0, 1.1, 1.2, 9.0])
    found = intervals.over_seeds(values)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose((found.low, found.high), (low, high), rtol=1e-12)


def test_an_interval_of_skewed_values_is_halls_transformation():
    """The ends are where the cubic g(u) = u + k u^2 / 3 + k^2 u^3 / 27 + k / 6 of the standardised mean is a quantile of t."""
    values = np.random.default_rng(0).lognormal(0, 1, size=60)
    found = intervals.of_mean(values)
    k = stats.skew(values) / np.sqrt(60)
    for end, quantile in ((found.low, 0.975), (found.high, 0.025)):
        u = (values.mean() - end) / stats.sem(values)
        assert u + k * u**2 / 3 + k**2 * u**3 / 27 + k / 6 == pytest.approx(stats.t.ppf(quantile, 59))
    assert found.high - found.estimate > 1.2 * (found.estimate - found.low)
    mirrored = intervals.of_mean(-values)
    np.testing.assert_allclose((mirrored.low, mirrored.high), (-found.high, -found.low))


def test_the_interval_of_a_skewed_mean_covers_it_as_often_as_it_claims_where_t_does_not():
    draws = np.random.default_rng(0).exponential(1, size=(3000, 50))
    found = [intervals.of_mean(values) for values in draws]
    covered = np.mean([each.low <= 1 <= each.high for each in found])
    half = stats.t.ppf(0.975, 49) * stats.sem(draws, axis=1)
    by_t = np.mean(np.abs(draws.mean(axis=1) - 1) <= half)
    assert 0.935 < covered < 0.965
    assert covered > by_t


def test_two_seeds_give_the_interval_of_one_degree_of_freedom():
    found = intervals.over_seeds([1.0, 3.0])
    half = np.tan(np.pi / 2 * 0.95)  # t of one degree of freedom is Cauchy; the standard error of 1 and 3 is 1
    np.testing.assert_allclose((found.low, found.high), (2 - half, 2 + half), rtol=1e-9)


@pytest.mark.parametrize("interval", [intervals.over_seeds, intervals.of_mean])
def test_one_value_has_no_interval(interval):
    with pytest.raises(ValueError, match="at least 2, got 1"):
        interval([0.5])


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_interval_of_an_error_is_normal(level):
    found = intervals.of_error(2.0, 0.5, 100, level)
    half = 0.5 * NormalDist().inv_cdf((1 + level) / 2)
    np.testing.assert_allclose((found.estimate, found.low, found.high), (2, 2 - half, 2 + half), rtol=1e-9)
    assert (found.level, found.resampled, found.count) == (level, "examples", 100)


def test_the_bootstrap_error_of_a_mean_is_the_closed_form():
    rng = np.random.default_rng(0)
    values = np.stack([rng.exponential(2, 300), rng.normal(5, 30, 300)], axis=1)
    resamples = 2000
    found = intervals.bootstrap_errors(lambda repeats: repeats @ values / 300, 300, rng, resamples)
    exact = values.std(axis=0) / np.sqrt(300)  # the variance of a resampled mean is the plug-in one, without n - 1
    assert found.shape == (2,)
    np.testing.assert_allclose(found, exact, rtol=4 / np.sqrt(2 * (resamples - 1)))


def test_every_bootstrap_draw_is_a_sample_of_full_size_with_repeats():
    draws = []

    def statistic(repeats):
        draws.append(repeats.copy())
        return np.zeros(1)

    intervals.bootstrap_errors(statistic, 100, np.random.default_rng(0), resamples=300)
    draws = np.array(draws)
    assert draws.shape == (300, 100)
    assert (draws.sum(axis=1) == 100).all()
    assert stats.chisquare(draws.sum(axis=0)).pvalue > 1e-3
    distinct = np.mean(np.count_nonzero(draws, axis=1))
    assert abs(distinct - 100 * (1 - 0.99**100)) < 1  # a share 1 - (1 - 1/n)^n of the examples is in a draw


def test_a_draw_that_leaves_the_statistic_undefined_leaves_the_error_undefined():
    found = intervals.bootstrap_errors(
        lambda repeats: np.array([np.nan if repeats[0] else 1.0, repeats @ np.arange(20)]), 20, np.random.default_rng(0)
    )
    assert np.isnan(found[0])
    assert found[1] > 0


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_interval_over_seeds_covers_the_true_mean_as_often_as_it_claims(seeds):
    values = np.random.default_rng(seeds).normal(1.3, 0.2, size=(2000, seeds))
    assert covers_as_claimed([found.low <= 1.3 <= found.high for found in map(intervals.over_seeds, values)])


RELATIONS = {  # student's mean confidence and its spread, at the teacher's confidence x
    "linear": (lambda x: 1.3 * x - 0.5, lambda x: np.full_like(x, 0.5)),
    "curved_and_heteroscedastic": (lambda x: 0.5 * x**2 - 1, lambda x: 0.2 + 0.5 * x),
}


@pytest.mark.long
@pytest.mark.parametrize("relation", RELATIONS)
def test_the_interval_of_the_lowest_quarters_slope_covers_the_population_slope_as_often_as_it_claims(
    relation, monkeypatch
):
    mean, spread = RELATIONS[relation]
    # The population slope by quadrature: evenly spaced quantiles of the lowest quarter. Noise of mean 0 leaves it be.
    x = stats.gamma(3).ppf((np.arange(100_000) + 0.5) / 100_000 / 4)
    population = stats.linregress(x, mean(x)).slope
    # 100 draws know a standard error to 7 %, which changes no coverage that 300 repetitions could see.
    monkeypatch.setattr(intervals, "bootstrap_errors", partial(intervals.bootstrap_errors, resamples=100))
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(300):
        teacher = rng.gamma(3, size=300)
        student = mean(teacher) + spread(teacher) * rng.normal(size=300)
        logits = [np.stack([margin, np.zeros(300)], axis=1) for margin in (teacher, student)]
        found = summary.measure_pair(examples.beside(*logits).pair)["exaggeration_slope", "lowest_25"].interval()
        assert (found.resampled, found.count) == ("examples", 75)
        hits.append(found.low <= population <= found.high)
    assert covers_as_claimed(hits)
