"""The logit-logit plot: the transform in closed form, the quarters by their definition, the lines by known slopes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax

from kd_jax.analysis import exaggeration


def from_probabilities(logits, classes):
    """log(p / (1 - p)), accurate where p is neither near 0 nor near 1."""
    p = softmax(np.asarray(logits, np.float64), axis=1)[np.arange(len(logits)), classes]
    return np.log(p / (1 - p))


def two_classes(margins):
    """Logits whose confidence in class 0 is `margins`."""
    return np.stack([margins, np.zeros_like(margins)], axis=1)


def quantile(values, share):
    """Linear interpolation between the sorted values, at position share (n - 1)."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


# ---- phi


def test_of_two_classes_the_confidence_is_the_difference_of_the_logits():
    logits = np.random.default_rng(0).normal(size=(100, 2)) * 30
    difference = logits[:, 0] - logits[:, 1]
    np.testing.assert_array_equal(exaggeration.confidence(logits, np.zeros(100, int)), difference)
    np.testing.assert_array_equal(exaggeration.confidence(logits, np.ones(100, int)), -difference)


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_the_confidence_is_log_p_over_one_minus_p(classes):
    rng = np.random.default_rng(classes)
    logits, chosen = 2 * rng.normal(size=(200, classes)), rng.integers(0, classes, 200)
    found = exaggeration.confidence(logits, chosen)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, from_probabilities(logits, chosen), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("margin", [20.0, 80.0, 700.0, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_confidence_does_not_saturate_at_a_large_margin(margin, dtype):
    logits = np.array([[0, margin, 0, 0], [0, -margin, 0, 0]], dtype)
    found = exaggeration.confidence(logits, np.array([1, 1]))
    np.testing.assert_allclose(found, [margin - np.log(3), -margin - np.log(3)], rtol=1e-14)


@pytest.mark.parametrize("shift", [-1e4, 1.0, 1e6])
def test_the_confidence_does_not_change_when_all_logits_are_shifted(shift):
    rng = np.random.default_rng(0)
    logits, chosen = rng.normal(size=(50, 7)), rng.integers(0, 7, 50)
    moved = exaggeration.confidence(logits + shift, chosen)
    np.testing.assert_allclose(moved, exaggeration.confidence(logits, chosen), rtol=0, atol=1e-8)


def test_the_largest_float32_logits_give_their_finite_difference():
    largest = np.finfo(np.float32).max
    logits = np.array([[largest, -largest, -largest], [largest, -largest, -largest], [largest] * 3], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = exaggeration.confidence(logits, np.array([0, 1, 2]))
    np.testing.assert_allclose(found, [2 * float(largest), -2 * float(largest), -np.log(2)], rtol=1e-15, atol=1e22)
    assert np.isfinite(found).all()


def test_the_block_size_does_not_show_and_the_logits_stay_as_they_were(monkeypatch):
    rng = np.random.default_rng(0)
    logits, chosen = rng.normal(size=(101, 5)), rng.integers(0, 5, 101)
    before = logits.copy()
    whole = exaggeration.confidence(logits, chosen)
    for block in (1, 5, 35, 500):
        monkeypatch.setattr(exaggeration, "BLOCK", block)
        np.testing.assert_array_equal(exaggeration.confidence(logits, chosen), whole)
    np.testing.assert_array_equal(logits, before)


def test_both_confidences_are_in_the_class_the_teacher_names():
    teacher = np.array([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    student = np.array([[5.0, 1.0, 0.0], [0.0, 0.0, 7.0]])  # names another class each time
    x, y = exaggeration.confidence_pair(teacher, student)
    np.testing.assert_allclose(x, from_probabilities(teacher, [1, 0]), rtol=1e-12)
    np.testing.assert_allclose(y, from_probabilities(student, [1, 0]), rtol=1e-12)


# ---- quarters


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40))
def test_the_quarters_are_cut_at_the_interpolated_quantiles_with_ties_on_both_sides(values):
    x = np.array(values, np.float64)
    found = exaggeration.masks(x)
    assert tuple(found) == exaggeration.SUBSETS
    low, high = quantile(values, 0.25), quantile(values, 0.75)
    assert found["all"].tolist() == [True] * len(values)
    assert found["lowest_25"].tolist() == [value <= low for value in values]
    assert found["highest_25"].tolist() == [value >= high for value in values]


def test_points_tied_with_the_quantile_all_belong_to_the_quarter():
    found = exaggeration.masks(np.array([5.0, 1, 1, 1, 1, 9, 9, 9]))
    assert found["lowest_25"].tolist() == [False, True, True, True, True, False, False, False]
    assert found["highest_25"].tolist() == [False, False, False, False, False, True, True, True]


def test_the_quantile_between_two_points_is_interpolated():
    # Five intervals of six points: 0.25 x 5 = 1.25, so the cut is 1 + 0.25 (10 - 1) = 3.25, and 2 points lie below.
    found = exaggeration.masks(np.array([0.0, 1, 10, 11, 12, 100]))
    assert found["lowest_25"].tolist() == [True, True, False, False, False, False]
    assert found["highest_25"].tolist() == [False, False, False, False, True, True]


def test_a_quarter_without_ties_is_a_quarter():
    x = np.random.default_rng(0).normal(size=1001)
    found = exaggeration.masks(x)
    assert found["lowest_25"].sum() == found["highest_25"].sum() == 251  # position 250 is itself a point
    assert x[found["lowest_25"]].max() < x[~found["lowest_25"]].min()
    assert x[found["highest_25"]].min() > x[~found["highest_25"]].max()


# ---- lines


@pytest.mark.parametrize(("intercept", "slope"), [(0.0, 1.0), (-2.0, 1.7), (3.0, 0.2), (0.5, -1.0)])
def test_a_planted_line_is_recovered_on_every_subset(intercept, slope):
    margins = np.random.default_rng(0).gamma(3, size=400)
    x, y = exaggeration.confidence_pair(two_classes(margins), two_classes(intercept + slope * margins))
    found = exaggeration.lines(x, y)
    ordered = np.sort(margins)
    parts = {"all": ordered, "lowest_25": ordered[:100], "highest_25": ordered[-100:]}
    for subset, part in parts.items():
        expected = (slope, intercept, intercept + (slope - 1) * part.mean())
        np.testing.assert_allclose(found[subset], expected, rtol=1e-9, atol=1e-9)


def test_each_subset_has_its_own_line():
    margins = np.linspace(1, 9, 401)
    bent = np.where(margins < 5, 5 + 2 * (margins - 5), 5 + 0.5 * (margins - 5))
    found = exaggeration.lines(*exaggeration.confidence_pair(two_classes(margins), two_classes(bent)))
    np.testing.assert_allclose([found["lowest_25"].slope, found["highest_25"].slope], [2, 0.5], rtol=1e-9)
    assert 0.5 < found["all"].slope < 2


def test_a_line_is_the_least_squares_line_of_student_on_teacher():
    rng = np.random.default_rng(0)
    x = rng.normal(50, 2, size=300)
    y = x**2 / 50 + rng.normal(size=300)
    found, expected = exaggeration.line(x, y), stats.linregress(x, y)
    np.testing.assert_allclose(found, (expected.slope, expected.intercept, np.mean(y - x)), rtol=1e-10)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 87.6])
@pytest.mark.parametrize("count", [2, 3, 7, 100])
def test_a_line_on_a_teacher_of_one_confidence_is_undefined(value, count):
    # The mean of three times 0.1 is not 0.1 in float64, so the spread is not exactly 0.
    found = exaggeration.line(np.full(count, value), np.arange(float(count)))
    assert np.isnan(found.slope)
    assert np.isnan(found.intercept)


@pytest.mark.parametrize("count", [0, 1])
def test_a_line_through_less_than_two_points_is_undefined(count):
    assert np.isnan(exaggeration.line(np.ones(count), np.ones(count))).all()


def test_between_two_noisy_copies_of_equal_spread_the_slope_falls_below_one_in_either_direction():
    rng = np.random.default_rng(0)
    signal = rng.normal(20, 1, size=40_000)
    copies = [two_classes(signal + rng.normal(size=signal.size)) for _ in range(2)]
    for teacher, student in (copies, copies[::-1]):
        found = exaggeration.lines(*exaggeration.confidence_pair(teacher, student))
        # Half the variance is signal, so the regression slope is 1/2; its error in a quarter is about 0.02.
        assert abs(found["all"].slope - 0.5) < 0.03
        assert abs(found["lowest_25"].slope - 0.5) < 0.1
        assert found["lowest_25"].mean_deviation > 0 > found["highest_25"].mean_deviation


@pytest.mark.parametrize("count", [2, 3, 5, 8, 101, 1000])
@pytest.mark.parametrize("kind", ["distinct", "few values", "far from zero", "one value"])
def test_the_lines_of_a_sample_with_repeats_are_those_of_the_repeated_examples(count, kind):
    rng = np.random.default_rng(count)
    x = {
        "distinct": rng.gamma(2, size=count),
        "few values": rng.integers(0, 4, size=count) / 3,
        "far from zero": 1e6 + rng.normal(size=count),
        "one value": np.full(count, 1 / 3),
    }[kind]
    y = 1.5 * x + rng.normal(size=count)
    of = exaggeration.make_lines(x, y)
    for _ in range(30):
        repeats = np.bincount(rng.integers(0, count, size=count), minlength=count)
        expected = exaggeration.lines(np.repeat(x, repeats), np.repeat(y, repeats))
        found = of(repeats)
        for row, subset in enumerate(exaggeration.SUBSETS):
            # An intercept is a difference of numbers of the size of x times the slope.
            np.testing.assert_allclose(found[row], expected[subset], rtol=1e-9, atol=1e-9 * (1 + np.abs(x).max()))
