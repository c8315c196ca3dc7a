"""Losses against float64 NumPy, finite differences and limits."""

from itertools import pairwise
from typing import get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import config, losses
from kd_jax.config import Distillation, parse_switch
from kd_jax.models import Outputs

BATCH, CLASSES = 12, 5
ON_LOGITS = [name for name, loss in losses.DISTILLATION.items() if not loss.features]
PER_EXAMPLE = [name for name in ON_LOGITS if not losses.DISTILLATION[name].relates]


def some(seed=0, scale=3.0):
    """Logits of a student and of a teacher, and labels; float64."""
    rng = np.random.default_rng(seed)
    student, teacher = scale * rng.normal(size=(2, BATCH, CLASSES))
    return student, teacher, rng.integers(0, CLASSES, BATCH)


def out(logits, **features):
    """What a network returns with these logits."""
    return Outputs(jnp.asarray(logits), features, {})


def kd(student, teacher, temperature):
    """Of logits [batch, classes]."""
    return losses.kd(out(student), out(teacher), {}, Distillation(temperature=temperature))


def taught(weight, temperature=4.0, loss="kd", label_loss=None, **more):
    """The objective of a student; the loss on the labels is cross-entropy, or squared beside `mse`."""
    label_loss = label_loss or ("mse" if loss == "mse" else "cross_entropy")
    return losses.distillation_objective(weight, loss, Distillation(temperature=temperature), label_loss, **more)


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def cross_entropy(p, z):
    return -(p * log_softmax(z)).sum(axis=1)


def gradient(loss, student):
    """Of the sum over the batch: row i is the gradient of example i's loss."""
    return np.asarray(jax.jit(jax.grad(lambda z: loss(z).sum()))(jnp.asarray(student)))


def finite_differences(loss, student, step=1e-5):
    """Central differences of each example's own loss, [batch, classes]."""
    columns = []
    for k in range(student.shape[1]):
        shift = step * np.eye(student.shape[1])[k]
        columns.append((np.asarray(loss(student + shift)) - np.asarray(loss(student - shift))) / (2 * step))
    return np.stack(columns, axis=1)


# ---- one-hot


def test_one_hot_is_the_negative_log_likelihood_of_the_label():
    student, _, labels = some()
    found = losses.one_hot(jnp.asarray(student, jnp.float32), jnp.asarray(labels))
    assert found.shape == (BATCH,)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, -log_softmax(student)[np.arange(BATCH), labels], rtol=1e-5)


def test_the_gradient_of_one_hot_is_the_distance_from_the_label(float64):
    student, _, labels = some()
    expected = np.exp(log_softmax(student)) - np.eye(CLASSES)[labels]
    np.testing.assert_allclose(gradient(lambda z: losses.one_hot(z, labels), student), expected, atol=1e-12)


def test_losses_stay_finite_at_extreme_logits():
    student = jnp.array([[1e4, 0.0], [0.0, 1e4], [-1e30, 1e30]], jnp.float32)
    np.testing.assert_array_equal(losses.one_hot(student[:2], jnp.array([0, 0])), [0, 1e4])
    for temperature in (0.1, 1.0, 20.0):
        loss = kd(student[:2], student[1::-1], temperature)
        np.testing.assert_allclose(loss, 1e4 * temperature, rtol=1e-5)
    assert np.isfinite(gradient(lambda z: kd(z, z[::-1], 4.0), student)).all()


def test_correct_counts_the_largest_logit():
    logits = jnp.array([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0], [0.0, 2.0, 2.5]])
    found = losses.correct(logits, jnp.array([1, 1, 2]))
    assert found.dtype == jnp.int32
    assert found.tolist() == [1, 0, 1]


# ---- distillation

TEMPERATURES = [0.5, 1.0, 4.0, 16.0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_distillation_is_tau_squared_times_the_cross_entropy_at_tau(temperature, float64):
    student, teacher, _ = some()
    targets = np.exp(log_softmax(teacher / temperature))
    expected = temperature**2 * cross_entropy(targets, student / temperature)
    found = kd(jnp.asarray(student), jnp.asarray(teacher), temperature)
    assert found.shape == (BATCH,)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    narrow = kd(jnp.asarray(student, jnp.float32), jnp.asarray(teacher, jnp.float32), temperature)
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_of_distillation_is_that_of_finite_differences(temperature, float64):
    student, teacher, _ = some()

    @jax.jit
    def loss(z):
        return kd(z, jnp.asarray(teacher), temperature)

    found = gradient(loss, student)
    np.testing.assert_allclose(found, finite_differences(loss, student), rtol=1e-5, atol=1e-7)
    difference = np.exp(log_softmax(student / temperature)) - np.exp(log_softmax(teacher / temperature))
    np.testing.assert_allclose(found, temperature * difference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_student_equal_to_its_teacher_is_at_the_minimum_which_is_the_entropy(temperature, float64):
    _, teacher, _ = some()
    targets = np.exp(log_softmax(teacher / temperature))
    entropy = temperature**2 * cross_entropy(targets, teacher / temperature)
    for shift in (0, 7):  # logits are equal up to a constant
        loss = kd(jnp.asarray(teacher + shift), jnp.asarray(teacher), temperature)
        np.testing.assert_allclose(loss, entropy, rtol=1e-12)
        found = gradient(lambda z: kd(z, jnp.asarray(teacher), temperature), teacher + shift)
        np.testing.assert_allclose(found, 0, atol=1e-13)
    for seed in range(20):
        student, _, _ = some(seed, scale=1.0)
        loss = kd(jnp.asarray(teacher + student), jnp.asarray(teacher), temperature)
        assert (np.asarray(loss) > entropy).all()


def test_at_large_tau_the_gradient_tends_to_the_centred_logit_difference_over_the_classes(float64):
    student, teacher, _ = some()
    difference = student - teacher
    limit = (difference - difference.mean(axis=1, keepdims=True)) / CLASSES
    errors = []
    for temperature in (1e2, 1e3, 1e4):
        found = gradient(lambda z, tau=temperature: kd(z, jnp.asarray(teacher), tau), student)
        errors.append(np.abs(found - limit).max())
    assert errors[-1] < 1e-3 * np.abs(limit).max()
    for error, tenfold in pairwise(errors):  # first order in 1 / tau
        np.testing.assert_allclose(error / tenfold, 10, rtol=0.1)


def test_a_sure_teacher_at_tau_one_is_the_one_hot_loss(float64):
    student, _, labels = some()
    teacher = 1000 * np.eye(CLASSES)[labels]
    found = kd(jnp.asarray(student), jnp.asarray(teacher), 1.0)
    np.testing.assert_allclose(found, losses.one_hot(jnp.asarray(student), labels), rtol=1e-12)


# ---- objectives


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_the_weight_mixes_one_hot_and_distillation_linearly(weight, float64):
    student, teacher, labels = some()
    batch = {"y": jnp.asarray(labels), "teacher": out(teacher)}
    found = taught(losses.kd_weight(weight), 4.0)(out(student), batch, 0)
    hard = -log_softmax(student)[np.arange(BATCH), labels]
    soft = 16 * cross_entropy(np.exp(log_softmax(teacher / 4)), student / 4)
    np.testing.assert_allclose(found, (1 - weight) * hard + weight * soft, rtol=1e-12)


def test_at_weight_zero_the_objective_is_that_of_a_network_without_a_teacher():
    student, teacher, labels = some()
    batch = {"y": jnp.asarray(labels), "teacher": out(teacher)}
    plain = losses.label_objective()(out(student), {"y": batch["y"]}, 0)
    np.testing.assert_array_equal(taught(losses.kd_weight(0.0), 4.0)(out(student), batch, 0), plain)
    np.testing.assert_array_equal(plain, losses.one_hot(jnp.asarray(student), batch["y"]))


def test_squared_loss_is_half_the_squared_distance_from_one_hot_label_and_teacher(float64):
    student, teacher, labels = some()
    batch = {"y": jnp.asarray(labels), "teacher": out(teacher)}
    to_label = 0.5 * ((student - np.eye(student.shape[1])[labels]) ** 2).sum(axis=1)
    to_teacher = 0.5 * ((student - teacher) ** 2).sum(axis=1)
    found = losses.label_objective("mse")(out(student), batch, 0)
    np.testing.assert_allclose(found, to_label, rtol=1e-12)
    mixed = taught(losses.kd_weight(0.3), 4.0, "mse")(out(student), batch, 0)
    np.testing.assert_allclose(mixed, 0.7 * to_label + 0.3 * to_teacher, rtol=1e-12)


@pytest.mark.parametrize("label_loss", losses.LABEL_LOSSES)
@pytest.mark.parametrize("loss", ON_LOGITS)
def test_any_loss_on_the_labels_goes_with_any_distillation_loss(loss, label_loss, float64):
    student, teacher, labels = some()
    batch = {"y": jnp.asarray(labels), "teacher": out(teacher)}
    hard = losses.LABEL_LOSSES[label_loss](jnp.asarray(student), labels)
    soft = losses.DISTILLATION[loss](out(student), out(teacher), batch, Distillation())
    found = taught(losses.kd_weight(0.3), 4.0, loss, label_loss)(out(student), batch, 0)
    np.testing.assert_allclose(found, 0.7 * hard + 0.3 * soft, rtol=1e-12)
    assert np.abs(hard - soft).max() > 0.1


@pytest.mark.parametrize("loss", ON_LOGITS)
def test_no_gradient_reaches_the_teacher(loss):
    student, teacher, labels = some()
    objective = taught(losses.kd_weight(1.0), 4.0, loss)

    def total(student, teacher):
        return objective(out(student), {"y": jnp.asarray(labels), "teacher": out(teacher)}, 0).sum()

    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    own, none = jax.grad(total, argnums=(0, 1))(student, teacher)
    assert np.abs(own).max() > 0.1
    assert not np.asarray(none).any()
    shared = jax.grad(lambda z: total(z, 2 * z))(student)  # not even where it is the student itself
    np.testing.assert_allclose(shared, jax.grad(total)(student, 2 * student), rtol=1e-5, atol=1e-6)


def test_the_help_names_every_distillation_loss():
    """It is made of the table that the losses are entered in."""
    notes = get_type_hints(Distillation, include_extras=True)["distillation"].__metadata__
    (text,) = (note.documentation for note in notes if hasattr(note, "documentation"))
    assert all(f"`{name}`, {loss.what}" in text for name, loss in config.LOSSES.items())
    assert list(config.LOSSES) == list(losses.DISTILLATION)


def test_a_loss_may_compare_features(monkeypatch):
    def hint(student, teacher, batch, settings):
        return jnp.square(student.features["penultimate"] - teacher.features["penultimate"]).sum(-1)

    monkeypatch.setitem(losses.DISTILLATION, "hint", losses.Loss(hint, features=True))
    features = np.arange(6.0).reshape(3, 2)
    batch = {"y": jnp.zeros(3, int), "teacher": out(np.zeros((3, 2)), penultimate=jnp.zeros((3, 2)))}
    found = taught(losses.kd_weight(1.0), loss="hint")(out(np.ones((3, 2)), penultimate=features), batch, 0)
    np.testing.assert_allclose(found, [1, 13, 41])


OBJECTIVES = [losses.label_objective(loss) for loss in losses.LABEL_LOSSES]
OBJECTIVES += [taught(losses.kd_weight(0.3), 4.0, loss) for loss in PER_EXAMPLE]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_examples_loss_does_not_depend_on_how_the_batch_is_split(objective):
    student, teacher, labels = some()
    batch = {"y": jnp.asarray(labels), "teacher": out(jnp.asarray(teacher, jnp.float32))}
    student = out(jnp.asarray(student, jnp.float32))
    objective = jax.jit(objective)
    whole = objective(student, batch, 0)
    assert whole.shape == (BATCH,)
    parts = [
        objective(*jax.tree.map(lambda value, part=slice(a, b): value[part], (student, batch)), 0)
        for a, b in pairwise((0, 1, 8, BATCH))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
    longer = jax.tree.map(lambda value: jnp.concatenate([value, value]), (student, batch))
    padded = objective(*longer, 0)
    np.testing.assert_allclose(padded[:BATCH], whole, rtol=1e-6)


# ---- soft labels


def soft_targets(seed=3):
    return np.random.default_rng(seed).dirichlet(np.ones(CLASSES), BATCH)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_are_matched_by_cross_entropy_or_by_squared_distance(smoothing, float64):
    student, _, labels = some()
    targets = soft_targets()
    batch = {"y": jnp.asarray(labels), "targets": jnp.asarray(targets)}
    expected = (1 - smoothing) * targets + smoothing / CLASSES
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    found = losses.label_objective("cross_entropy", smoothing)(out(student), batch, 0)
    np.testing.assert_allclose(found, cross_entropy(expected, student), rtol=1e-12)
    found = losses.label_objective("mse", smoothing)(out(student), batch, 0)
    np.testing.assert_allclose(found, ((student - expected) ** 2).sum(axis=1) / 2, rtol=1e-12)


def test_smoothing_adds_a_share_of_the_mean_over_classes(float64):
    student, _, labels = some()
    batch = {"y": jnp.asarray(labels)}
    found = losses.label_objective(smoothing=0.2)(out(student), batch, 0)
    nll = -log_softmax(student)
    np.testing.assert_allclose(found, 0.8 * nll[np.arange(BATCH), labels] + 0.2 * nll.mean(axis=1), rtol=1e-12)
    # The least that it can be is the entropy of the smoothed label.
    share = np.full(CLASSES, 0.2 / CLASSES)
    share[0] += 0.8
    least = losses.label_objective(smoothing=0.2)(out(jnp.log(share)[None]), {"y": jnp.array([0])}, 0)
    np.testing.assert_allclose(least, -(share * np.log(share)).sum(), rtol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_soft_labels_that_are_one_hot_are_labels(loss, float64):
    student, _, labels = some()
    hard = losses.label_objective(loss)(out(student), {"y": jnp.asarray(labels)}, 0)
    batch = {"y": jnp.asarray(labels), "targets": jnp.eye(CLASSES)[labels]}
    np.testing.assert_allclose(losses.label_objective(loss)(out(student), batch, 0), hard, rtol=1e-12)


def test_a_student_mixes_soft_labels_with_its_teacher_and_smooths_only_the_labels(float64):
    student, teacher, labels = some()
    batch = {
        "y": jnp.asarray(labels),
        "targets": jnp.asarray(soft_targets()),
        "teacher": out(teacher),
    }
    hard = losses.label_objective(smoothing=0.1)(out(student), batch, 0)
    soft = kd(jnp.asarray(student), jnp.asarray(teacher), 4.0)
    objective = taught(losses.kd_weight(0.3), 4.0, smoothing=0.1)
    np.testing.assert_allclose(objective(out(student), batch, 0), 0.7 * hard + 0.3 * soft, rtol=1e-12)


# ---- switching


@pytest.mark.parametrize(
    ("switch", "at"),
    [
        ("", {0: 0.75, 10**6: 0.75}),
        ("onehot:kd@3", {0: 0, 29: 0, 30: 0.75, 31: 0.75, 10**6: 0.75}),
        ("kd:onehot@3", {0: 0.75, 29: 0.75, 30: 0, 31: 0, 10**6: 0}),
        ("onehot:kd@0", {0: 0.75, 1: 0.75}),
        ("kd:onehot@2.5", {24: 0.75, 25: 0}),
        ("onehot:kd@3,ramp=1", {29: 0, 30: 0.75}),
        ("onehot:kd@3,ramp=3", {29: 0, 30: 0.25, 31: 0.5, 32: 0.75, 33: 0.75}),
        ("kd:onehot@3,ramp=3", {29: 0.75, 30: 0.5, 31: 0.25, 32: 0, 33: 0}),
    ],
)
def test_the_weight_of_the_teacher_changes_with_the_first_step_of_the_epoch(switch, at, float64):
    schedule = losses.kd_weight(0.75, parse_switch(switch), steps_per_epoch=10)
    compiled = jax.jit(schedule)
    for step, expected in at.items():
        exact = expected in (0, 0.75)
        assert float(schedule(step)) == pytest.approx(expected, rel=0 if exact else 1e-15, abs=0)
        assert float(compiled(jnp.int32(step))) == pytest.approx(expected, rel=0 if exact else 1e-15, abs=0)


def test_a_ramp_changes_the_weight_by_the_same_amount_each_step():
    schedule = losses.kd_weight(0.9, parse_switch("kd:onehot@2,ramp=1000"), steps_per_epoch=50)
    weights = np.asarray(jax.vmap(schedule)(jnp.arange(1200)))
    assert weights.dtype == np.float32
    assert (weights[:100] == np.float32(0.9)).all()
    assert (weights[1099:] == 0).all()
    np.testing.assert_allclose(np.diff(weights[99:1100]), -0.9e-3, atol=1e-6)


@pytest.mark.parametrize("loss", PER_EXAMPLE)
def test_before_a_switch_gradients_are_those_of_one_loss_and_after_it_of_the_other(loss):
    student, teacher, labels = some()
    batch = {"y": jnp.asarray(labels), "teacher": out(jnp.asarray(teacher, jnp.float32))}
    student = jnp.asarray(student, jnp.float32)

    def slope(objective, step):
        return gradient(lambda z: objective(out(z), batch, step), student)

    schedule = losses.kd_weight(1.0, parse_switch("onehot:kd@4"), steps_per_epoch=5)
    switched = taught(schedule, 4.0, loss, "cross_entropy")
    on_labels = losses.label_objective()
    on_teacher = taught(losses.kd_weight(1.0), 4.0, loss)
    np.testing.assert_array_equal(slope(switched, 19), slope(on_labels, 19))
    np.testing.assert_array_equal(slope(switched, 20), slope(on_teacher, 20))
    assert np.abs(slope(on_labels, 0) - slope(on_teacher, 0)).max() > 0.1
