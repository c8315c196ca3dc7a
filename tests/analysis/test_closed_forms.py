"""The closed forms against the paper's theorem, real gradient descent, and direct solves."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from kd_jax.analysis import closed_forms as theory
from kd_jax.analysis import eigen

# T, s, S(1), matched t, then S and A at l = 0.5, 0.1, 0.01; to six digits.
REFERENCE = [
    (1, 1, 0.399576, 0.510120, (0.154818, 0.225130), (0.009056, 0.049733), (0.000099, 0.005088)),
    (2, 5, 0.858839, 1.957852, (0.580233, 0.624286), (0.071324, 0.177811), (0.000966, 0.019388)),
    (5, 5, 0.986570, 4.310227, (0.842568, 0.884110), (0.154818, 0.350156), (0.002379, 0.042187)),
    (10, 10, 0.999909, 9.306876, (0.986570, 0.990471), (0.399576, 0.605717), (0.009056, 0.088869)),
]
LOWER = np.array([0.5, 0.1, 0.01])

scales = st.floats(-4, 2).map(lambda exponent: 10.0**exponent)
times = st.floats(-3, 4).map(lambda exponent: 10.0**exponent)
ratios = st.floats(1.001, 1e3)


# ---- linear regression: the formulas


@pytest.mark.parametrize(("teacher", "student", "top", "matched", "half", "tenth", "hundredth"), REFERENCE)
def test_the_reference_values_come_out_to_their_printed_digits(teacher, student, top, matched, half, tenth, hundredth):
    time = theory.matched_time(np.array([1.0, *LOWER]), (teacher, student))
    found = np.stack([theory.student_progress(LOWER, teacher, student), theory.progress(LOWER, time)], axis=1)
    assert theory.student_progress(1.0, teacher, student).round(6) == top
    assert round(time, 6) == matched
    np.testing.assert_array_equal(found.round(6), [half, tenth, hundredth])


def test_at_the_matched_time_both_are_equally_far_along_the_top_direction():
    eigenvalues = np.array([0.3, 4.0, 1.0])  # the top one need not come first
    time = theory.matched_time(eigenvalues, (0.5, 0.8))
    np.testing.assert_allclose(theory.progress(4.0, time), theory.student_progress(4.0, 0.5, 0.8), rtol=1e-14)


def test_one_round_takes_exactly_its_own_time_along_every_direction():
    np.testing.assert_allclose(theory.effective_time(np.geomspace(1e-12, 1e3, 40), (3.7,)), 3.7, rtol=1e-14)


def test_two_rounds_are_teacher_and_student():
    eigenvalues = np.geomspace(1e-3, 1e2, 20)
    rounds = theory.rounds_progress(eigenvalues, (2.0, 5.0))
    np.testing.assert_array_equal(rounds[0], theory.progress(eigenvalues, 2.0))
    np.testing.assert_array_equal(rounds[1], theory.student_progress(eigenvalues, 2.0, 5.0))


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_what_is_done_and_what_remains_make_a_whole(length):
    eigenvalues, rounds = np.geomspace(1e-3, 10, 30), np.linspace(0.5, 4, length)
    done = theory.rounds_progress(eigenvalues, rounds)[-1]
    np.testing.assert_allclose(done + theory.remaining(eigenvalues, rounds), 1, rtol=1e-14)


def test_what_remains_keeps_its_accuracy_where_progress_rounds_to_one():
    # (1 - e^-50)^2 is 1 in float64, yet 2 e^-50 - e^-100 remains.
    np.testing.assert_allclose(theory.remaining(1.0, (50.0, 50.0)), 2 * np.exp(-50) - np.exp(-100), rtol=1e-13)
    np.testing.assert_allclose(theory.log_remaining(1.0, (2000.0, 2000.0)), np.log(2) - 2000, rtol=1e-15)


def test_effective_time_keeps_its_accuracy_where_progress_rounds_to_nothing():
    # For small l: a_l(T) a_l(s) = l^2 T s (1 - l (T + s) / 2) and tau = l T s.
    np.testing.assert_allclose(theory.effective_time(1e-12, (2.0, 5.0)), 1e-11, rtol=1e-11)
    np.testing.assert_allclose(theory.progress(1e-20, 3.0), 3e-20, rtol=1e-15)


def delay(eigenvalues, teacher_time, student_time):
    """min(T, s) - tau(l), the training time that a student loses by learning from a teacher stopped at T.

    From log(1 + exp(-l |T - s|) a_l(min(T, s))) / l, the same without cancellation: by theory it falls strictly with l, and to 0 as
    T goes to infinity, and it can be resolved even where tau has long rounded to s.
    """
    eigenvalues = np.asarray(eigenvalues, np.float64)
    shorter = np.minimum(teacher_time, student_time)
    lead = np.abs(np.subtract(teacher_time, student_time))
    return np.log1p(np.exp(-eigenvalues * lead) * theory.progress(eigenvalues, shorter)) / eigenvalues


@settings(max_examples=500, deadline=None)
@given(scales, times, times)
def test_the_delay_is_what_is_missing_to_the_shorter_of_both_times(eigenvalue, teacher, student):
    lost = min(teacher, student) - theory.effective_time(eigenvalue, (teacher, student))
    np.testing.assert_allclose(delay(eigenvalue, teacher, student), lost, rtol=0, atol=1e-11 * min(teacher, student))


# ---- linear regression: the theorem


@settings(max_examples=3000, deadline=None)
@given(scales, ratios, times, times)
def test_equal_along_the_top_direction_the_student_is_behind_along_every_lower_one(lower, ratio, teacher, student):
    both = np.array([lower * ratio, lower])
    assume(both[0] * abs(teacher - student) < 600)  # beyond, the delay itself is below the smallest float
    high, low = theory.effective_time(both, (teacher, student))
    high_delay, low_delay = delay(both, teacher, student)
    # Strict in whichever of the two forms resolves it, and contradicted by neither.
    assert high > low or high_delay < low_delay
    assert high >= low * (1 - 1e-13)
    assert high_delay <= low_delay * (1 + 1e-13)
    # The same in residuals: more remains for the student than for a model on labels at the matched time.
    matched = theory.matched_time(both, (teacher, student))
    gap = theory.log_remaining(lower, (teacher, student)) - theory.log_remaining(lower, (matched,))
    assert gap >= -1e-13 * lower * matched


@settings(max_examples=1000, deadline=None)
@given(st.lists(times, min_size=3, max_size=7), scales, ratios)
def test_the_theorem_holds_after_every_further_round(rounds, lower, ratio):
    both = np.array([lower * ratio, lower])
    for count in range(2, len(rounds) + 1):
        high, low = theory.effective_time(both, rounds[:count])
        assert high >= low * (1 - 1e-13)


@settings(max_examples=1000, deadline=None)
@given(st.lists(times, min_size=3, max_size=7), scales, ratios)
def test_every_further_round_leaves_a_lower_direction_further_behind(rounds, lower, ratio):
    both = np.array([lower * ratio, lower])
    times_of_round = np.array([theory.effective_time(both, rounds[:count]) for count in range(1, len(rounds) + 1)])
    behind = theory.rounds_progress(lower, rounds) / theory.progress(lower, times_of_round[:, 0])
    assert (np.diff(behind) <= 1e-12).all()


def test_effective_time_rises_strictly_with_the_eigenvalue():
    eigenvalues = np.geomspace(1e-9, 10, 400)
    for pair in [(1, 1), (2, 5), (5, 2), (10, 10)]:
        found = theory.effective_time(eigenvalues, pair)
        assert (np.diff(found) > 0).all()
        assert (found > 0).all()
        assert (found < min(pair)).all()


def test_residuals_show_no_false_violation_near_saturation():
    false_alarms = 0
    for lower, teacher, student in itertools.product(np.linspace(0.6, 0.95, 8), range(10, 45, 3), range(10, 45, 3)):
        both, pair = np.array([1.0, lower]), (teacher, student)
        time = theory.matched_time(both, pair)
        false_alarms += theory.student_progress(lower, *pair) >= theory.progress(lower, time)
        assert theory.log_remaining(lower, pair) > theory.log_remaining(lower, (time,)) - 1e-13 * time
        assert delay(lower, *pair) > delay(1.0, *pair)
    assert false_alarms > 50  # comparing progress itself would have gone wrong here


@settings(max_examples=500, deadline=None)
@given(st.floats(0.1, 1.0), st.floats(1.01, 100), st.floats(0.1, 10))
def test_with_a_fully_fitted_teacher_the_effect_vanishes(lower, ratio, student):
    both = np.array([lower * ratio, lower])
    gaps = []
    for teacher in student + np.array([0.0, 3, 10, 30, 100, 300]) / lower:
        matched = theory.matched_time(both, (teacher, student))
        gaps.append(theory.progress(lower, matched) - theory.student_progress(lower, teacher, student))
    assert (np.diff(delay(lower, student + np.array([0.0, 3, 10, 30, 100, 300]) / lower, student)) < 0).all()
    assert gaps[0] > 0
    assert abs(gaps[-1]) < 1e-14


def test_teacher_and_student_time_can_be_exchanged():
    eigenvalues = np.geomspace(1e-3, 1e2, 20)
    one, other = theory.effective_time(eigenvalues, (2, 5)), theory.effective_time(eigenvalues, (5, 2))
    np.testing.assert_allclose(one, other, rtol=1e-14)


# ---- gradient descent


@pytest.mark.parametrize("value", [0.0, -0.1, 1.0, 2.5, np.nan])
def test_a_learning_rate_outside_its_range_is_named(value):
    with pytest.raises(ValueError, match=f"{value:g}, expected between 0 and 1"):
        theory.descent_rates([1.0, 0.5], value)


def test_one_eigenvalue_out_of_range_is_enough_to_refuse():
    with pytest.raises(ValueError, match=r"is 1\.5, expected"):
        theory.descent_rates([0.5, 3.0, 1.0], 0.5)


def test_small_steps_approach_gradient_flow():
    eigenvalues = np.array([1.0, 0.3])
    coarse = theory.descent_rates(eigenvalues, 1e-3) / 1e-3 - eigenvalues
    fine = theory.descent_rates(eigenvalues, 1e-4) / 1e-4 - eigenvalues
    np.testing.assert_allclose(coarse, eigenvalues**2 * 1e-3 / 2, rtol=1e-2)
    np.testing.assert_allclose(coarse / fine, 10, rtol=1e-2)


def descend(x, y, learning_rate, steps):
    """Gradient descent from zero on 1/2 |X b - y|^2, by automatic differentiation."""
    gradient = jax.grad(lambda weights: 0.5 * jnp.sum((x @ weights - y) ** 2))
    return jax.lax.fori_loop(0, steps, lambda _, w: w - learning_rate * gradient(w), jnp.zeros(x.shape[1]))


@pytest.mark.parametrize("rounds", [1, 2, 5], ids=["teacher", "student", "five rounds"])
def test_gradient_descent_progresses_along_each_direction_as_the_formula_says(rounds):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(9, 4)), rng.normal(size=9)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    learning_rate, steps = 0.9 / s[0] ** 2, [30, 12, 47, 5, 20][:rounds]
    with jax.enable_x64(True):
        inputs, targets = jnp.asarray(x), jnp.asarray(y)
        for count in steps:
            weights = descend(inputs, targets, learning_rate, count)
            targets = inputs @ weights
        weights = np.asarray(weights)
    assert weights.dtype == np.float64
    expected = theory.rounds_progress(theory.descent_rates(s**2, learning_rate), steps)[-1]
    assert (expected < 0.999).any()  # not all saturated, or any formula would do
    np.testing.assert_allclose(vt @ weights / (u.T @ y / s), expected, rtol=0, atol=1e-12)


def test_in_gradient_descent_too_the_student_is_behind_at_equal_top_progress():
    rates = theory.descent_rates(np.array([1.0, 0.5, 0.1]), 0.7)
    steps = theory.matched_time(rates, (6, 9))
    assert (theory.student_progress(rates[1:], 6, 9) < theory.progress(rates[1:], steps) - 1e-3).all()


@pytest.mark.parametrize(("teacher", "student", "onehot"), [(2.0, 5.0, 5.0), (0.3, 0.3, 4.0), (5.0, 1.0, 0.5)])
def test_the_matched_ratio_is_what_is_measured_of_curves_that_follow_the_closed_form(teacher, student, onehot):
    eigenvalues, dense = np.array([1.0, 0.5, 0.1, 0.01]), np.linspace(0, 1, 20_001)[:, None]
    of_onehot = theory.progress(eigenvalues, dense * onehot)
    of_student = theory.student_progress(eigenvalues, teacher, dense * student)
    found = theory.matched_ratio(eigenvalues, 1.0, teacher, student, onehot)
    measured = [eigen.ratio(of_onehot[:, [0, k]].T, of_student[:, [0, k]].T) for k in range(4)]
    np.testing.assert_allclose(found, measured, atol=1e-5)
    assert (np.diff(found) < 0).all()
    assert found[0] == pytest.approx(1, abs=1e-12)


def test_the_matched_ratio_of_a_teacher_that_has_learnt_everything_is_one():
    found = theory.matched_ratio(np.array([0.5, 0.1]), 1.0, 1000.0, 5.0, 5.0)
    np.testing.assert_allclose(found, 1, atol=1e-12)


# ---- Hilbert space


def problem(seed, size=12, spread=2.0):
    """(kernel matrix, eigenvalues, eigenvectors, labels) at random; kappa up to 10^(2 spread)."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.sort(10.0 ** rng.uniform(-spread, spread, size))
    vectors = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return (vectors * eigenvalues) @ vectors.T, eigenvalues, vectors, rng.normal(size=size)


@pytest.mark.parametrize("seed", range(20))
def test_the_constraint_is_active_in_every_round(seed):
    _, eigenvalues, vectors, y = problem(seed)
    found = theory.hilbert_rounds(eigenvalues, vectors.T @ y, 0.03, rounds=100)
    errors = np.mean(np.diff(found.targets, axis=0) ** 2, axis=1)
    assert len(errors) >= 1
    np.testing.assert_allclose(errors, 0.03, rtol=1e-10)
    assert np.unique(found.multipliers).size == len(found.multipliers)  # and c changes every round


def test_every_round_solves_the_kernel_ridge_problem_found_without_eigenvectors():
    kernel, eigenvalues, vectors, y = problem(1)
    tolerance = 0.05
    found = theory.hilbert_rounds(eigenvalues, vectors.T @ y, tolerance, rounds=4)
    assert len(found.multipliers) == 4

    def predict(c, labels):
        return kernel @ np.linalg.solve(kernel + c * np.eye(len(labels)), labels)

    labels = y
    for multiplier, expected in zip(found.multipliers, found.targets[1:], strict=True):
        c = np.exp(brentq(lambda u, z: np.mean((predict(np.exp(u), z) - z) ** 2) - tolerance, -30, 30, args=(labels,)))
        np.testing.assert_allclose(c, multiplier, rtol=1e-8)
        labels = predict(multiplier, labels)
        np.testing.assert_allclose(vectors.T @ labels, expected, rtol=0, atol=1e-9)


def test_no_function_within_the_tolerance_is_smaller():
    kernel, eigenvalues, vectors, y = problem(2)
    tolerance, rng = 0.1, np.random.default_rng(0)
    found = theory.hilbert_rounds(eigenvalues, vectors.T @ y, tolerance, rounds=1)
    solution = vectors @ (found.targets[1] / eigenvalues)  # coefficients of the kernel functions
    norm = solution @ kernel @ solution
    for scale in np.geomspace(1e-3, 1, 30):
        for _ in range(100):
            other = solution + scale * np.linalg.solve(kernel, rng.normal(size=len(y)))
            if np.mean((kernel @ other - y) ** 2) <= tolerance:
                assert other @ kernel @ other > norm


def test_equal_eigenvalues_shrink_the_labels_by_the_radius_each_round():
    found = theory.hilbert_rounds(np.full(4, 2.0), [3.5, 0, 0, 0], 0.25, rounds=10)  # sqrt(N eps) = 1
    np.testing.assert_allclose(np.linalg.norm(found.targets, axis=1), [3.5, 2.5, 1.5, 0.5], rtol=1e-12)
    assert found.collapsed
    assert theory.guaranteed_rounds(np.full(4, 2.0), [3.5, 0, 0, 0], 0.25) == pytest.approx(2.5)


def test_rounds_shrink_low_directions_more_and_more():
    _, eigenvalues, vectors, y = problem(3)
    found = theory.hilbert_rounds(eigenvalues, vectors.T @ y, 0.02, rounds=5)
    kept = found.targets / found.targets[0]
    assert (np.diff(kept, axis=1)[1:] > 0).all()  # the eigenvalues rise
    assert (np.diff(kept[:, 0] / kept[:, -1]) < 0).all()


def test_labels_within_the_tolerance_collapse_at_once():
    for labels in ([0.1, 0.1], [0.1, 0.05], [0.0, 0.0]):  # the first is at the tolerance, give or take rounding
        found = theory.hilbert_rounds([1.0, 2.0], labels, 0.01, rounds=5)
        assert found.collapsed
        assert found.multipliers.size == 0
        assert theory.guaranteed_rounds([1.0, 2.0], labels, 0.01) == pytest.approx(0, abs=1e-12)


def test_rounds_end_when_they_are_spent():
    _, eigenvalues, vectors, y = problem(4)
    found = theory.hilbert_rounds(eigenvalues, vectors.T @ y, 1e-4, rounds=3)
    assert not found.collapsed
    assert found.targets.shape == (4, 12)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.floats(-3, 0))
def test_collapse_never_comes_before_the_guaranteed_rounds(seed, spread, exponent):
    _, eigenvalues, vectors, y = problem(seed, spread=spread)
    tolerance = 10.0**exponent * np.mean(y**2)
    bound = theory.guaranteed_rounds(eigenvalues, vectors.T @ y, tolerance)
    found = theory.hilbert_rounds(eigenvalues, vectors.T @ y, tolerance, rounds=1000)
    assert found.collapsed
    assert len(found.multipliers) >= bound - 1e-9
    # The triangle inequality's bound, which does not know kappa.
    assert len(found.multipliers) >= np.linalg.norm(y) / np.sqrt(len(y) * tolerance) - 1 - 1e-9


def test_the_guarantee_is_the_published_one():
    # |y| = 5, sqrt(N eps) = 1, kappa = 4
    assert theory.guaranteed_rounds([0.5, 2.0], [3.0, 4.0], 0.5) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("eigenvalues", "tolerance", "named"), [([0.0, 1.0], 0.1, "eigenvalue"), ([1.0, 1.0], 0, "tolerance")]
)
def test_a_singular_kernel_or_no_tolerance_is_refused(eigenvalues, tolerance, named):
    with pytest.raises(ValueError, match=f"{named} is 0, expected above 0"):
        theory.hilbert_rounds(eigenvalues, [1.0, 1.0], tolerance, rounds=1)
