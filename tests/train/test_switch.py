"""Loss switching in whole runs: what comes before, what comes after, and what is carried across."""

from functools import cache

import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.data.order import order
from kd_jax.plan import make_plan
from kd_jax.train import engine
from kd_jax.train.loop import train_run

STUDY = Study.from_flags(
    dataset="made",
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=2,
    batch_size=4,
    learning_rate=0.1,
    optimizer="sgd",
    temperature=2.0,
)
STEPS_PER_EPOCH, CLASSES, SHAPE = 5, 3, (4, 4, 1)


def made(study):
    rng = np.random.default_rng(0)
    examples = STEPS_PER_EPOCH * study.training.batch_size
    x, y = rng.integers(0, 256, (examples, *SHAPE)).astype(np.uint8), rng.integers(0, CLASSES, examples)
    return assemble(Source("made", x, y, x, y, CLASSES, "test"), study.data)


@cache  # each of these runs is compared with several
def run(study, distilled=True):
    """Return (the last state, the teacher's variables) of a whole run on one device."""
    dataset, networks = made(study), study.networks
    taught = engine.Teacher.of(study) if distilled else None
    built = engine.build(networks.precision, study.training, dataset, networks.student[0], jax.devices()[:1], taught)
    shape = np.zeros((1, *SHAPE))
    teacher = models.build(networks.teacher, CLASSES, networks.precision).init(jax.random.key(1), shape)
    teacher = jax.tree.map(
        lambda leaf: leaf + np.linspace(-1, 1, leaf.size).reshape(leaf.shape), teacher
    )  # `linear` is 0
    run = make_plan(study, len(dataset.train.y)).run("student" if distilled else "onehot", 0)
    outcome = train_run(built, run, teacher if distilled else None)
    return jax.device_get(outcome.state), jax.device_get(teacher)


def rows_of(study):
    batch_size = study.training.batch_size
    return lambda at: order(0, 1, at, STEPS_PER_EPOCH * batch_size, batch_size)


def same_bits(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


@pytest.mark.parametrize("switch", ["onehot:kd@2", "kd:onehot@0"])
def test_a_student_that_never_sees_its_teacher_is_its_one_hot_twin_to_the_bit(switch):
    switched, _ = run(STUDY.replaced(switch=switch))
    twin, _ = run(STUDY, distilled=False)
    assert same_bits(switched, twin)


def test_a_student_taught_from_the_first_step_to_the_last_is_the_one_without_a_switch():
    plain, _ = run(STUDY)
    switched, _ = run(STUDY.replaced(switch="kd:onehot@2"))
    for found, expected in zip(jax.tree.leaves(switched), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)  # the compiler may add up in another order
    twin, _ = run(STUDY, distilled=False)
    assert np.abs(twin.params["Dense_0"]["kernel"] - plain.params["Dense_0"]["kernel"]).max() > 1e-2


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def descend(study, teacher, weights, forget_at=None):
    """SGD with momentum on a linear model, written out: (kernel, bias) after a whole run.

    Args:
        weights: of the distillation loss at each step.
        forget_at: step before which the momentum is set to zero, which the program must not do.
    """
    dataset, tau = made(study), study.distillation.temperature
    x = ((dataset.train.x - dataset.mean) / dataset.std).reshape(len(dataset.train.x), -1)
    x = np.append(x, np.ones((len(x), 1)), axis=1)
    labels = np.eye(CLASSES)[dataset.train.y]
    taught = softmax(x @ np.append(teacher["kernel"], teacher["bias"][None], axis=0) / tau)
    rows = np.concatenate([rows_of(study)(at) for at in range(study.training.epochs)])
    beta, velocity = np.zeros((x.shape[1], CLASSES)), 0.0
    for step, (batch, w) in enumerate(zip(rows, weights, strict=True)):
        z = x[batch] @ beta
        # tau^2 in the loss, 1 / tau from inside each of its softmaxes' gradients: tau is left.
        slope = (1 - w) * (softmax(z) - labels[batch]) + w * tau * (softmax(z / tau) - taught[batch])
        velocity = study.training.momentum * (0 if step == forget_at else velocity) + x[batch].T @ slope / len(batch)
        beta = beta - study.training.learning_rate * velocity
    return beta[:-1], beta[-1]


@pytest.mark.parametrize(
    ("switch", "weights"),
    [
        ("onehot:kd@1", [0] * 5 + [0.8] * 5),
        ("kd:onehot@0.6", [0.8] * 3 + [0] * 7),
        ("kd:onehot@1,ramp=4", [0.8] * 5 + [0.6, 0.4, 0.2, 0, 0]),
    ],
)
def test_a_switched_run_is_sgd_on_the_switched_loss_with_its_momentum_carried_over(float64, switch, weights):
    study = STUDY.replaced(
        teacher="linear", student=("linear",), switch=switch, weight=0.8, learning_rate=0.01, precision="float64"
    )
    state, teacher = run(study)
    layer = teacher.params["Dense_0"]
    kernel, bias = descend(study, layer, weights)
    np.testing.assert_allclose(state.params["Dense_0"]["kernel"], kernel, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(state.params["Dense_0"]["bias"], bias, rtol=1e-10, atol=1e-13)
    forgotten, _ = descend(study, layer, weights, forget_at=weights.index(next(w for w in weights if w != weights[0])))
    assert np.abs(forgotten - kernel).max() > 1e-2 * np.abs(kernel).max()
