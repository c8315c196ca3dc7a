"""Decoupled Knowledge Distillation (Zhao et al. 2022) against its equations, in float64 NumPy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses
from kd_jax.config import BadInput, Distillation, Study
from kd_jax.models import Outputs
from kd_jax.plan import arms, run_key

BATCH, CLASSES = 12, 5
TEMPERATURES = [0.5, 1.0, 4.0, 16.0]


def some(seed=0, scale=3.0, classes=CLASSES):
    """Logits of a student and of a teacher, and labels; float64."""
    rng = np.random.default_rng(seed)
    student, teacher = scale * rng.normal(size=(2, BATCH, classes))
    return student, teacher, rng.integers(0, classes, BATCH)


def dkd(student, teacher, labels, temperature=1.0, alpha=1.0, beta=8.0):
    """`losses.dkd` of logits."""
    settings = Distillation(distillation="dkd", temperature=temperature, dkd_alpha=alpha, dkd_beta=beta)
    student, teacher = (Outputs(jnp.asarray(logits), {}, {}) for logits in (student, teacher))
    return losses.dkd(student, teacher, {"y": jnp.asarray(labels)}, settings)


def softmax(z):
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(axis=-1)


def target_and_others(logits, label):
    """Of one example: b = (p_t, 1 - p_t), and the probabilities of the other classes, renormalised to 1."""
    p = softmax(logits)
    others = np.delete(p, label)
    return np.array([p[label], 1 - p[label]]), others / others.sum()


def equations(student, teacher, labels, temperature):
    """(TCKD, NCKD, p_t of the teacher), each [batch], as the paper defines them, one example at a time."""
    rows = []
    for of_student, of_teacher, label in zip(student, teacher, labels, strict=True):
        b_student, others_student = target_and_others(of_student / temperature, label)
        b_teacher, others_teacher = target_and_others(of_teacher / temperature, label)
        rows.append((kl(b_teacher, b_student), kl(others_teacher, others_student), b_teacher[0]))
    return np.array(rows).T


@pytest.mark.parametrize("classes", [2, 3, CLASSES])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_dkd_is_tau_squared_times_the_weighted_sum_of_both_divergences(temperature, classes, float64):
    student, teacher, labels = some(classes=classes)
    target, others, _ = equations(student, teacher, labels, temperature)
    for alpha, beta in ((1, 8), (0, 1), (1, 0), (0.3, 2)):
        expected = temperature**2 * (alpha * target + beta * others)
        found = dkd(student, teacher, labels, temperature, alpha, beta)
        assert found.shape == (BATCH,)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
        narrow = dkd(np.float32(student), np.float32(teacher), labels, temperature, alpha, beta)
        assert narrow.dtype == jnp.float32
        np.testing.assert_allclose(narrow, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_divergence_of_all_classes_is_that_of_the_target_plus_the_others_at_the_teachers_doubt(
    temperature, float64
):
    """The paper's identity, and so the gradient of `kd`, whose loss differs by the teacher's entropy."""
    student, teacher, labels = some()
    doubt = 1 - softmax(teacher / temperature)[np.arange(BATCH), labels]

    def coupled(z):
        return dkd(z, teacher, labels, temperature, 1, 0) + doubt * dkd(z, teacher, labels, temperature, 0, 1)

    divergence = temperature**2 * kl(softmax(teacher / temperature), softmax(student / temperature))
    np.testing.assert_allclose(coupled(student), divergence, rtol=1e-10)

    def kd(z):
        settings = Distillation(temperature=temperature)
        return losses.kd(Outputs(z, {}, {}), Outputs(jnp.asarray(teacher), {}, {}), {}, settings)

    slopes = [jax.grad(lambda z, loss=loss: loss(z).sum())(jnp.asarray(student)) for loss in (coupled, kd)]
    np.testing.assert_allclose(*slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_is_that_of_finite_differences(temperature, float64):
    student, teacher, labels = some()
    loss = jax.jit(lambda z: dkd(z, teacher, labels, temperature))
    found = jax.grad(lambda z: loss(z).sum())(jnp.asarray(student))
    for k, nudge in enumerate(1e-5 * np.eye(CLASSES)):
        slope = (np.asarray(loss(student + nudge)) - np.asarray(loss(student - nudge))) / 2e-5
        np.testing.assert_allclose(found[:, k], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_student_equal_to_its_teacher_is_at_the_minimum_which_is_zero(temperature, float64):
    _, teacher, labels = some()
    np.testing.assert_array_equal(dkd(teacher, teacher, labels, temperature), 0)
    slope = jax.grad(lambda z: dkd(z, teacher, labels, temperature).sum())(jnp.asarray(teacher))
    np.testing.assert_allclose(slope, 0, atol=1e-13)
    for seed in range(20):
        other, _, _ = some(seed, scale=1.0)
        assert (np.asarray(dkd(teacher + other, teacher, labels, temperature)) > 0).all()


def test_a_constant_added_to_the_logits_changes_nothing(float64):
    student, teacher, labels = some()
    expected = dkd(student, teacher, labels, 4.0)
    np.testing.assert_allclose(dkd(student + 100, teacher - 30, labels, 4.0), expected, rtol=1e-10)


def test_at_large_tau_the_gradient_tends_to_that_of_two_squared_distances(float64):
    """Of the target's log odds, whose p_t is 1 / classes then, and of the other classes' centred logits."""
    student, teacher, labels = some()
    difference, alpha, beta = student - teacher, 1.0, 3.0
    own = np.eye(CLASSES)[labels]
    others = (difference * (1 - own)).sum(axis=1, keepdims=True) / (CLASSES - 1)
    apart = (difference * own).sum(axis=1, keepdims=True) - others
    limit = alpha * (CLASSES - 1) / CLASSES**2 * apart * (own - (1 - own) / (CLASSES - 1))
    limit += beta * (1 - own) * (difference - others) / (CLASSES - 1)
    errors = []
    for temperature in (1e2, 1e3, 1e4):
        slope = jax.grad(lambda z, tau=temperature: dkd(z, teacher, labels, tau, alpha, beta).sum())(student)
        errors.append(np.abs(slope - limit).max())
    assert errors[-1] < 1e-2 * np.abs(limit).max()
    for error, tenfold in pairwise(errors):
        assert error / tenfold == pytest.approx(10, rel=0.15)  # first order in 1 / tau


@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0])
def test_loss_and_gradient_stay_finite_at_extreme_logits(temperature):
    extreme = jnp.array([[1e4, 0.0, -1e4], [0.0, 1e4, 1e4], [-1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], jnp.float32)
    student, teacher = (jnp.repeat(extreme, 4, axis=0), jnp.tile(extreme, (4, 1)))
    for label in range(3):
        labels = jnp.full(16, label)
        assert np.isfinite(dkd(student, teacher, labels, temperature)).all()
        slope = jax.grad(lambda z, labels=labels: dkd(z, teacher, labels, temperature).sum())(student)
        assert np.isfinite(slope).all()


def test_how_a_teacher_ranks_the_other_classes_counts_also_where_it_is_sure_of_the_target():
    """In float32, 1 - p_t is zero here. The loss is then the divergence among the others alone."""
    student = np.float32([[60, 1, 0, -1]])
    teacher = np.float32([[60, 0, 0, 0]])
    expected = kl(np.full(3, 1 / 3), softmax(np.array([1.0, 0.0, -1.0])))
    assert softmax(teacher)[0, 0] == 1
    assert dkd(student, teacher, [0], beta=1.0)[0] == pytest.approx(expected, rel=1e-5)


def test_the_target_of_mixed_examples_is_the_label_with_the_larger_share():
    student, teacher, labels = some()
    outputs, of_teacher = (Outputs(jnp.asarray(logits), {}, {}) for logits in (student, teacher))
    batch = {"y": jnp.asarray(labels), "targets": jnp.full((BATCH, CLASSES), 1 / CLASSES)}
    found = losses.dkd(outputs, of_teacher, batch, Distillation(distillation="dkd", temperature=1.0))
    np.testing.assert_array_equal(found, dkd(student, teacher, labels))


# ---- as a setting


@pytest.mark.parametrize("name", ["dkd_alpha", "dkd_beta"])
@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan])
def test_a_weight_that_is_none_is_refused(name, value):
    with pytest.raises(BadInput, match=f"--{name}={value}: expected a number of at least 0"):
        Distillation(distillation="dkd", **{name: value})


@pytest.mark.parametrize("other", ["auto", "kd", "mse"])
@pytest.mark.parametrize("name", ["dkd_alpha", "dkd_beta"])
def test_a_weight_of_dkd_beside_another_loss_is_refused(name, other):
    with pytest.raises(BadInput, match=rf"--{name}=0\.5: expected --distillation=dkd beside it") as caught:
        Study.from_flags(distillation=other, **{name: 0.5})
    assert "\n" not in str(caught.value)


def test_the_weights_of_dkd_tell_runs_of_students_apart_and_no_others():
    study = Study.from_flags(distillation="dkd")
    other = study.replaced(dkd_beta=2.0)
    same = {arm.name: run_key(study, arm, 0) == run_key(other, arm, 0) for arm in arms(study)}
    assert same == {arm.name: not arm.teacher for arm in arms(study)}
    assert not all(same.values())
