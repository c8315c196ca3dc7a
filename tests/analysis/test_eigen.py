"""Covariances, eigendirections and curves against closed forms and plain NumPy."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from kd_jax.analysis import eigen, verdicts
from kd_jax.config import Study
from kd_jax.plan import Arm, arms


def grown_layer(arm, seed, components, moved=None):
    components = np.asarray(components, np.float64)
    count = components.shape[1]
    moved = components - components[0] if moved is None else moved
    return eigen.Growth(
        arm, seed, "net", "L", np.arange(count, 0, -1.0), np.zeros(count), np.arange(len(components)), components, moved
    )


def test_covariance_in_batches_equals_covariance_at_once_even_far_from_zero():
    x = np.random.default_rng(0).normal(size=(1000, 6)) @ np.diag([3, 2, 1, 1, 0.1, 0.01]) + 1e6
    moments = None
    for batch in np.array_split(x, 13):
        moments = eigen.add(moments, batch)
    np.testing.assert_allclose(eigen.covariance(moments), np.cov(x.T, bias=True), atol=1e-8)


@pytest.mark.parametrize("exact", [100, 10])
def test_directions_of_a_known_spectrum_come_back_largest_first_with_small_residuals(exact):
    spectrum = 0.7 ** np.arange(40)
    basis = ortho_group.rvs(40, random_state=1)
    found = eigen.directions(basis @ np.diag(spectrum) @ basis.T, exact_dimensions=exact, count=12)
    count = len(found.values)
    assert count == (40 if exact == 100 else 12)
    np.testing.assert_allclose(found.values, spectrum[:count], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * basis[:, :count], axis=0))[:10], 1, atol=1e-7)
    assert found.residuals.max() < 1e-8


def test_components_are_norms_over_the_units():
    weights = np.random.default_rng(0).normal(size=(5, 7))
    vectors = ortho_group.rvs(5, random_state=0)
    expected = [np.sqrt(sum((vectors[:, k] @ weights[:, unit]) ** 2 for unit in range(7))) for k in range(5)]
    grow = eigen.make_grow(vectors)
    found, moved = grow(weights)
    np.testing.assert_allclose(found, expected)
    assert np.sum(found**2) == pytest.approx(np.sum(weights**2))
    assert not moved.any()
    later = weights + np.outer(vectors[:, 2], np.arange(7))  # moved along one direction alone
    found, moved = grow(later)
    np.testing.assert_allclose(moved, [0, 0, np.linalg.norm(np.arange(7)), 0, 0], atol=1e-14)
    np.testing.assert_allclose(found, np.linalg.norm(vectors.T @ later, axis=1))


@pytest.mark.parametrize("size", [1.0, 1e-4])
@pytest.mark.parametrize("single", [True, False])
def test_components_of_large_float32_weights_and_of_small_movements_have_the_digits_of_the_weights(
    size, single, monkeypatch
):
    """Beside float64 throughout: products in float32 of the weights themselves would lose a small movement in their rounding."""
    monkeypatch.setattr(eigen, "SINGLE", 0 if single else 1 << 60)
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(150, 150)))[0]
    start = rng.normal(size=(150, 90)).astype(np.float32)
    grow = eigen.make_grow(vectors)
    grow(start)
    for _ in range(2):
        now = start + (size * rng.normal(size=start.shape)).astype(np.float32)
        found, moved = grow(now)
        exact = vectors.T @ now.astype(np.float64), vectors.T @ (now.astype(np.float64) - start)
        for numbers, expected in zip((found, moved), exact, strict=True):
            np.testing.assert_allclose(numbers, np.linalg.norm(expected, axis=1), rtol=1e-6 if single else 1e-11)


def test_a_run_at_another_speed_on_the_same_curve_has_ratio_one():
    time = np.linspace(0, 4, 400)
    slow, fast = ((1 - np.exp(-t), 1 - np.exp(-0.1 * t)) for t in (time, 1.7 * time))
    assert eigen.ratio(slow, fast) == pytest.approx(1, abs=1e-4)


def test_the_ratio_of_the_linear_theory_is_its_closed_form():
    """Distilled against one-hot gradient flow from zero, at equal progress along the top direction (PAPER.md, linear theorem)."""
    time, low = np.linspace(0, 30, 20000), 0.1
    a = lambda rate, t: 1 - np.exp(-rate * t)  # noqa: E731
    student = a(1, time) * a(1, 2.0), a(low, time) * a(low, 2.0)
    onehot = a(1, time), a(low, time)
    levels = np.linspace(0, student[0].max(), eigen.GRID + 1)[1:]
    at_student, at_onehot = -np.log(1 - levels / a(1, 2.0)), -np.log(1 - levels)
    expected = np.mean(a(low, at_student) * a(low, 2.0) / a(low, at_onehot))
    assert eigen.ratio(onehot, student) == pytest.approx(expected, rel=0.01)
    assert eigen.ratio(onehot, student) < 0.5


def test_where_a_curve_falls_back_only_new_maxima_count():
    rising = np.array([0.0, 1, 2, 3]), np.array([1.0, 2, 3, 4])
    falling_back = np.array([0.0, 1, 0.2, 0.5, 2, 3]), np.array([1.0, 2, 99, 99, 3, 4])
    # Between the levels 1 and 2 the step that sets a new maximum starts at 0.5 with 99: what is before it is not seen.
    levels = np.linspace(0, 1, 50)
    np.testing.assert_allclose(eigen.first_reach(falling_back, levels[1:]), eigen.first_reach(rising, levels[1:]))


def test_levels_that_a_curve_starts_above_are_outside_and_an_empty_range_has_no_ratio():
    low = np.array([0.0, 1, 2]), np.array([5.0, 5, 5])
    high = np.array([1.0, 1.5, 4]), np.array([10.0, 10, 10])
    assert eigen.ratio(low, high) == pytest.approx(2)
    assert np.isnan(eigen.ratio(low, (np.array([3.0, 4]), np.array([1.0, 1]))))
    assert np.isnan(eigen.ratio(low, (np.array([1.0, 0.5]), np.array([1.0, 1]))))


def test_pairs_are_ruled_not_chosen():
    assert eigen.ruled_pairs(64) == [(0, 8), (0, 16), (0, 32)]
    assert eigen.ruled_pairs(3) == [(0, 1)]
    pairs = eigen.random_pairs(64)
    assert len(set(pairs)) == 50
    assert all(0 <= first < second < 64 for first, second in pairs)
    assert pairs == eigen.random_pairs(64)
    assert len(eigen.random_pairs(5)) == 10


def test_a_planted_lag_is_estimated_and_the_null_is_near_one():
    time = np.linspace(0, 5, 60)[:, None]
    rates = 0.9 ** np.arange(16)

    def components(lag, seed):
        grown = 1 - np.exp(-rates * time)
        grown[:, 1:] *= lag
        return grown * (1 + 0.01 * np.random.default_rng(seed).normal(size=16))

    growths = [
        grown_layer(arm, seed, components(lag, 100 * seed + index))
        for seed in range(5)
        for index, (arm, lag) in enumerate((("onehot", 1.0), ("student", 0.8), ("onehot_order", 1.0)))
    ]
    references = {"student": "onehot", "onehot_order": "onehot"}
    found = {(e.name, e.arm, e.directions): e for e in eigen.estimates(growths, references)}
    for pair in eigen.ruled_pairs(16):
        assert found["eigen_ratio", "student", pair].interval.estimate == pytest.approx(0.8, abs=0.03)
        assert found["eigen_ratio", "onehot_order", pair].interval.estimate == pytest.approx(1, abs=0.03)
        assert found["eigen_ratio", "student", pair].interval.resampled == "seeds"
        assert len(found["eigen_ratio", "student", pair].values) == 5
    assert found["eigen_ratio_moved", "student", (0, 8)].interval.estimate == pytest.approx(0.8, abs=0.03)
    ends = [growth.components[-1, 4] for growth in growths if growth.arm == "student"]
    assert found["eigen_component", "student", (4,)].values == tuple(ends)
    assert found["eigen_component", "student", (4,)].interval.estimate == pytest.approx(np.mean(ends))
    assert {e.directions for e in found.values() if e.name == "eigen_component"} == {(0,), (2,), (4,), (8,)}
    json = found["eigen_ratio", "student", (0, 8)].to_json()
    assert json["directions"] == [0, 8]
    assert "split" not in json
    verdict, *_ = verdicts.decide(verdicts.eigen_claims(list(found.values()), {"student": "onehot"}, references))
    assert verdict.verdict == "supported"
    swapped = eigen.estimates(
        [g._replace(arm={"student": "onehot", "onehot": "student"}.get(g.arm, g.arm)) for g in growths], references
    )
    assert (
        verdicts.decide(verdicts.eigen_claims(swapped, {"student": "onehot"}, references))[0].verdict == "contradicted"
    )


def test_a_student_that_lags_no_more_than_a_null_does_supports_nothing():
    rng = np.random.default_rng(0)
    time = np.linspace(0, 5, 60)[:, None]
    lagging = (1 - np.exp(-(0.9 ** np.arange(16)) * time)) * np.where(np.arange(16) > 0, 0.8, 1.0)
    growths = [grown_layer("onehot", seed, 1 - np.exp(-(0.9 ** np.arange(16)) * time)) for seed in range(4)]
    for arm in ("student", "onehot_slower"):
        growths += [grown_layer(arm, seed, lagging * (1 + 0.01 * rng.normal(size=16))) for seed in range(4)]
    references = {"student": "onehot", "onehot_slower": "onehot"}
    found = eigen.estimates(growths, references)
    assert verdicts.decide(verdicts.eigen_claims(found, {"student": "onehot"}, references))[0].verdict == "inconclusive"


def test_with_one_seed_there_is_no_interval_and_so_no_estimate():
    components = 1 - np.exp(-np.outer(np.linspace(0, 5, 20), [1, 0.5, 0.1, 0.05]))
    growths = [grown_layer("onehot", 0, components), grown_layer("student", 0, components)]
    assert eigen.estimates(growths, {"student": "onehot"}) == []


def test_each_arm_is_compared_with_the_one_hot_arm_of_its_network():
    same = Study.from_flags(teacher="mlp", student=("mlp", "cnn"), nulls=("order", "slower"))
    assert eigen.references(arms(same)) == {
        "teacher": "onehot",
        "student": "onehot",
        "student_cnn": "onehot_cnn",
        "onehot_order": "onehot",
        "onehot_slower": "onehot",
    }
    cross = Study.from_flags(teacher="resnet56", student=("mlp",))
    assert eigen.references(arms(cross)) == {"student": "onehot"}
    assert isinstance(arms(cross)[0], Arm)


def test_directions_along_which_the_inputs_do_not_vary_are_in_no_random_pair():
    """Weights do not move there, so a ratio would be rounding."""
    time = np.linspace(0, 5, 30)[:, None]
    components = np.where(np.arange(8) < 5, 1 - np.exp(-(0.7 ** np.arange(8)) * time), 0.3)
    growths = []
    for seed in range(3):
        for arm, lag in (("onehot", 1.0), ("student", 0.9)):
            lagging = components * np.where((np.arange(8) > 0) & (np.arange(8) < 5), lag, 1.0)
            grown = grown_layer(arm, seed, lagging)
            growths.append(grown._replace(values=np.where(np.arange(8) < 5, grown.values, 1e-12)))
    found = {e.name: e for e in eigen.estimates(growths, {"student": "onehot"}) if not e.directions}
    onehot, student = growths[:2]
    living = [eigen.ratio(onehot.components[:, p].T, student.components[:, p].T) for p in eigen.random_pairs(5)]
    assert found["eigen_fraction_below_1"].interval.estimate == pytest.approx(np.mean(np.array(living) < 1))
    assert np.mean(np.array(living) < 1) >= 0.4  # the four pairs with the top at least
    assert np.isfinite(found["eigen_fraction_below_1_moved"].interval.estimate)


def test_of_few_vectors_lanczos_finds_just_the_directions_that_they_span():
    x = np.random.default_rng(0).normal(size=(6, 50)) * 0.6 ** np.arange(6)[:, None]
    moments = eigen.add(None, x)
    found = eigen.directions(eigen.covariance(moments), moments.count - 1, exact_dimensions=10)
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1][:5]
    np.testing.assert_allclose(found.values, expected, rtol=1e-9)
    assert found.residuals.max() < 1e-10
    assert eigen.alive(found.values) == 5


def test_a_network_has_as_many_directions_as_are_counted_beforehand():
    for dimensions in (7, 20, 21, 500):
        found = eigen.directions(np.diag(np.arange(dimensions, 0.0, -1)), exact_dimensions=20, count=15)
        known = dimensions if dimensions <= 20 else 15
        assert len(found.values) == known
    assert eigen.direction_count(784) == 784
    assert eigen.direction_count(5000) == 400


def test_pairs_chosen_by_hand_are_estimated_and_decide_nothing():
    """The student lags at the ruled pairs, 0 with 2, 4 and 8 of 16, and is ahead at 0 with 11."""
    time = np.linspace(0, 5, 60)[:, None]
    components = 1 - np.exp(-(0.9 ** np.arange(16)) * time)
    lag = np.where(np.arange(16) == 11, 1.5, np.where(np.arange(16) > 0, 0.8, 1.0))
    growths = []
    for seed in range(3):
        tilt = 1 + 0.01 * np.random.default_rng(seed).normal(size=16)
        growths += [grown_layer("onehot", seed, components), grown_layer("student", seed, components * lag * tilt)]
    found = eigen.estimates(growths, {"student": "onehot"}, [(0, 11), (0, 4)])
    of_pairs = {e.directions: e for e in found if e.name == "eigen_ratio"}
    assert list(of_pairs) == [(0, 2), (0, 4), (0, 8), (0, 11)]
    assert of_pairs[0, 11].interval.estimate == pytest.approx(1.5, abs=0.05)
    assert [of_pairs[pair].no_verdict for pair in of_pairs] == [False, False, False, True]
    verdict, *_ = verdicts.decide(verdicts.eigen_claims(found, {"student": "onehot"}, {"student": "onehot"}))
    assert verdict.verdict == "supported"
    assert "0 and 11" not in verdict.because
