"""Fidelity against the sum written out, its direction, and its being per example."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from kd_jax.analysis import fidelity


def pair(examples=40, classes=6, scale=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(2, examples, classes))


def test_kl_of_a_model_to_itself_is_zero():
    teacher, _ = pair(scale=30.0)
    np.testing.assert_array_equal(fidelity.kl(teacher, teacher), 0)


def test_kl_does_not_see_a_shift_of_the_logits():
    teacher, student = pair()
    shift = np.arange(40.0)[:, None]
    np.testing.assert_allclose(fidelity.kl(teacher, teacher + shift), 0, atol=1e-12)
    np.testing.assert_allclose(fidelity.kl(teacher + shift, student), fidelity.kl(teacher, student), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 3.0, 300.0])
@pytest.mark.parametrize("distance", [1e-6, 1.0, 100.0])
def test_kl_is_never_negative(scale, distance):
    teacher, other = pair(examples=500, scale=scale)
    found = fidelity.kl(teacher, teacher + distance * other)
    assert found.min() > -1e-13  # rounding of a sum of terms of order 1
    assert np.isfinite(found).all()


def test_kl_is_the_teachers_expectation_of_the_log_ratio():
    teacher, student = pair()
    p, q = softmax(teacher, axis=1), softmax(student, axis=1)
    expected = [sum(p[i, k] * np.log(p[i, k] / q[i, k]) for k in range(6)) for i in range(40)]
    found = fidelity.kl(teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(found, entropy(p, q, axis=1), rtol=1e-10)


def test_kl_charges_a_student_that_excludes_what_its_teacher_holds_possible_and_not_the_reverse():
    unsure, sure = np.array([[0.0, 0.0]]), np.array([[50.0, 0.0]])
    # Half of the teacher's mass is on a class to which the student gives exp(-50): 25 - log 2. The reverse costs log 2.
    np.testing.assert_allclose(fidelity.kl(unsure, sure), 25 - np.log(2), rtol=1e-12)
    np.testing.assert_allclose(fidelity.kl(sure, unsure), np.log(2), rtol=1e-12)


def test_kl_stays_finite_where_probabilities_underflow():
    teacher = np.array([[1000.0, 0.0, 0.0]], np.float32)
    student = np.array([[0.0, 1000.0, 0.0]], np.float32)
    np.testing.assert_array_equal(fidelity.kl(teacher, student), 1000)


def test_kl_is_per_example_so_uneven_batches_add_up():
    teacher, student = pair(examples=41)
    whole = fidelity.kl(teacher, student)
    assert whole.shape == (41,)
    cuts = [0, 1, 17, 41]
    parts = [fidelity.kl(teacher[a:b], student[a:b]) for a, b in pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-13)
    batch_means = np.mean([part.mean() for part in parts])
    assert abs(batch_means - whole.mean()) > 1e-3  # what the mean over examples is not


def test_kl_sums_over_classes_and_does_not_average_them():
    # Copies of a class split its mass and leave the divergence as it is; a mean over classes would shrink it.
    teacher, student = pair(classes=5)
    found = fidelity.kl(np.tile(teacher, 20), np.tile(student, 20))
    np.testing.assert_allclose(found, fidelity.kl(teacher, student), rtol=1e-9)


def test_kl_of_float32_logits_is_computed_in_float64():
    teacher, student = pair(scale=20.0).astype(np.float32)
    found = fidelity.kl(teacher, student)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, fidelity.kl(teacher.astype(np.float64), student.astype(np.float64)))


def test_agreement_is_naming_the_same_class():
    teacher = np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    student = np.array([[9.0, -1.0, 8.0], [2.0, 1.0, 0.0], [0.0, 0.1, 0.0]])
    found = fidelity.agreement(teacher, student)
    assert found.dtype == bool
    assert found.tolist() == [True, False, True]
