"""Fidelity against the sum written out, its direction, and its being per example."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from kd_jax.analysis import examples
from kd_jax.errors import BadInput


def kl(teacher, student):
    return examples.beside(teacher, student).pair.kl


def pair(count=40, classes=6, scale=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(2, count, classes))


def test_kl_of_a_model_to_itself_is_zero():
    teacher, _ = pair(scale=30.0)
    np.testing.assert_array_equal(kl(teacher, teacher), 0)


def test_kl_does_not_see_a_shift_of_the_logits():
    teacher, student = pair()
    shift = np.arange(40.0)[:, None]
    np.testing.assert_allclose(kl(teacher, teacher + shift), 0, atol=1e-12)
    np.testing.assert_allclose(kl(teacher + shift, student), kl(teacher, student), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 3.0, 300.0])
@pytest.mark.parametrize("distance", [1e-6, 1.0, 100.0])
def test_kl_is_never_negative(scale, distance):
    teacher, other = pair(count=500, scale=scale)
    found = kl(teacher, teacher + distance * other)
    assert found.min() > -1e-13  # rounding of a sum of terms of order 1
    assert np.isfinite(found).all()


def test_kl_is_the_teachers_expectation_of_the_log_ratio():
    teacher, student = pair()
    p, q = softmax(teacher, axis=1), softmax(student, axis=1)
    expected = [sum(p[i, k] * np.log(p[i, k] / q[i, k]) for k in range(6)) for i in range(40)]
    found = kl(teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(found, entropy(p, q, axis=1), rtol=1e-10)


def test_kl_charges_a_student_that_excludes_what_its_teacher_holds_possible_and_not_the_reverse():
    unsure, sure = np.array([[0.0, 0.0]]), np.array([[50.0, 0.0]])
    # Half of the teacher's mass is on a class to which the student gives exp(-50): 25 - log 2. The reverse costs log 2.
    np.testing.assert_allclose(kl(unsure, sure), 25 - np.log(2), rtol=1e-12)
    np.testing.assert_allclose(kl(sure, unsure), np.log(2), rtol=1e-12)


def test_kl_stays_finite_where_probabilities_underflow():
    teacher = np.array([[1000.0, 0.0, 0.0]], np.float32)
    student = np.array([[0.0, 1000.0, 0.0]], np.float32)
    np.testing.assert_array_equal(kl(teacher, student), 1000)


def test_kl_is_per_example_so_uneven_batches_add_up():
    teacher, student = pair(count=41)
    whole = kl(teacher, student)
    assert whole.shape == (41,)
    cuts = [0, 1, 17, 41]
    parts = [kl(teacher[a:b], student[a:b]) for a, b in pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-13)
    batch_means = np.mean([part.mean() for part in parts])
    assert abs(batch_means - whole.mean()) > 1e-3  # what the mean over examples is not


def test_kl_sums_over_classes_and_does_not_average_them():
    # Copies of a class split its mass and leave the divergence as it is; a mean over classes would shrink it.
    teacher, student = pair(classes=5)
    found = kl(np.tile(teacher, 20), np.tile(student, 20))
    np.testing.assert_allclose(found, kl(teacher, student), rtol=1e-9)


def test_kl_of_float32_logits_is_computed_in_float64():
    teacher, student = pair(scale=20.0).astype(np.float32)
    found = kl(teacher, student)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, kl(teacher.astype(np.float64), student.astype(np.float64)))


def test_agreement_is_naming_the_same_class():
    teacher = np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    student = np.array([[9.0, -1.0, 8.0], [2.0, 1.0, 0.0], [0.0, 0.1, 0.0]])
    found = examples.beside(teacher, student).pair.agree
    assert found.dtype == bool
    assert found.tolist() == [True, False, True]


# ---- all that is said of each example, block by block


def test_blocks_change_no_bit_and_a_memory_mapped_file_is_read_as_an_array_is(monkeypatch, tmp_path):
    teacher, student = pair(count=50, classes=4)
    labels = np.arange(50) % 4
    whole = examples.beside(teacher, student, labels)
    monkeypatch.setattr(examples, "BLOCK", 4 * 7)  # 7 rows at a time
    np.save(tmp_path / "student.npy", student)
    seen = []
    found = examples.beside(teacher, np.load(tmp_path / "student.npy", mmap_mode="r"), labels, seen.append)
    assert seen == [7] * 7 + [1]
    for a, b in zip(whole, found, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_entropy_is_that_of_the_probabilities_and_zero_where_one_is_sure():
    teacher, student = pair()
    found = examples.beside(teacher, student)
    np.testing.assert_allclose(found.student.entropy, entropy(softmax(student, axis=1), axis=1), rtol=1e-10)
    assert examples.of_model(np.array([[0.0, -np.inf]])).entropy.tolist() == [0.0]


def test_a_class_that_the_teacher_excludes_costs_nothing_and_one_that_the_student_excludes_everything():
    sure, unsure = np.array([[0.0, -np.inf]]), np.log([[0.5, 0.5]])
    assert kl(sure, unsure) == pytest.approx(np.log(2))
    assert np.isinf(kl(unsure, sure)).all()
    assert np.isposinf(examples.beside(sure, unsure).pair.x).all()


@pytest.mark.parametrize(("value", "said"), [(np.nan, "found nan"), (np.inf, "found inf")])
def test_what_is_no_number_is_named_by_row_and_column(monkeypatch, value, said):
    monkeypatch.setattr(examples, "BLOCK", 6 * 10)
    teacher, student = pair()
    student[23, 4] = value
    with pytest.raises(BadInput, match=rf"student: row 23, column 4: expected a finite number, {said}"):
        examples.beside(teacher, student)


def test_a_row_without_any_possible_class_is_named():
    teacher, student = pair()
    teacher[5] = -np.inf
    with pytest.raises(BadInput, match="teacher: row 5"):
        examples.beside(teacher, student)
