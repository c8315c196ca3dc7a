"""One step, its optimiser and its pauses, against NumPy written out."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses, models
from kd_jax.config import Distillation, Training
from kd_jax.train import epoch, loop, optimizer, state, teachers
from kd_jax.train.step import make_step

TRAINING = Training(learning_rate=0.3, epochs=1, batch_size=4)


@pytest.mark.parametrize(
    ("warmup", "decay_at", "at", "expected"),
    [
        (0.0, (), 0, 0.3),
        (0.1, (), 0, 0.0),
        (0.1, (), 5, 0.15),
        (0.1, (), 10, 0.3),
        (0.1, (0.5, 0.75), 49, 0.3),
        (0.1, (0.5, 0.75), 51, 0.03),
        (0.1, (0.5, 0.75), 76, 0.003),
        (0.0, (0.501, 0.502), 51, 0.003),  # both round to one step; both count
    ],
)
def test_the_learning_rate_rises_and_falls_where_asked(warmup, decay_at, at, expected):
    schedule = optimizer.learning_rate_schedule(replace(TRAINING, warmup=warmup, decay_at=decay_at), 100)
    assert float(schedule(at)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("decay_on", "form"), [("kernels", "nesterov"), ("all", "nesterov"), ("all", "sgd")])
def test_sgd_is_momentum_in_its_two_forms_with_decay_in_the_gradient(float64, decay_on, form):
    descent = optimizer.make_optimizer(replace(TRAINING, weight_decay=0.1, decay_on=decay_on, optimizer=form), 10)
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    opt_state = descent.init(jax.tree.map(jnp.asarray, params))
    expected, velocity = dict(params), dict.fromkeys(params, 0.0)
    found = jax.tree.map(jnp.asarray, params)
    for _ in range(4):
        grads = {name: rng.normal(size=value.shape) for name, value in params.items()}
        updates, opt_state = descent.update(jax.tree.map(jnp.asarray, grads), opt_state, found)
        found = jax.tree.map(lambda p, u: p + u, found, updates)
        for name in params:
            decayed = grads[name] + (0.1 * expected[name] if decay_on == "all" or name == "kernel" else 0)
            velocity[name] = 0.9 * velocity[name] + decayed
            expected[name] = expected[name] - 0.3 * (
                decayed + 0.9 * velocity[name] if form == "nesterov" else velocity[name]
            )
    for name in params:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_adam_is_kingma_and_bas_with_decay_in_the_gradient(float64):
    training = replace(TRAINING, weight_decay=0.1, optimizer="adam", momentum=0.8, learning_rate=0.01)
    descent = optimizer.make_optimizer(training, 10)
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(3, 2))
    found = {"kernel": jnp.asarray(expected)}
    opt_state, first, second = descent.init(found), 0.0, 0.0
    for t in range(1, 5):
        gradient = rng.normal(size=(3, 2))
        updates, opt_state = descent.update({"kernel": jnp.asarray(gradient)}, opt_state, found)
        found = jax.tree.map(lambda p, u: p + u, found, updates)
        decayed = gradient + 0.1 * expected
        first, second = 0.8 * first + 0.2 * decayed, 0.999 * second + 0.001 * decayed**2
        expected = expected - 0.01 * (first / (1 - 0.8**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(found["kernel"], expected, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_time_is_what_gradient_descent_needs_to_be_where_gradient_flow_is(float64, momentum):
    """Along an eigenvalue so small that steps are fine, through warm-up and decay."""
    total, eigenvalue = 4000, 1e-3
    training = replace(TRAINING, warmup=0.1, decay_at=(0.5,), momentum=momentum, optimizer="sgd")
    descent = optimizer.make_optimizer(training, total)

    def step(carry, _):
        left, opt_state = carry
        updates, opt_state = descent.update(eigenvalue * left, opt_state)
        return (left + updates, opt_state), left

    path = np.asarray(jax.lax.scan(step, (jnp.ones(()), descent.init(jnp.ones(()))), length=total)[1])
    steps = [0, 1000, 3000]
    times = optimizer.descent_times(training, total, steps)
    assert times[0] == 0
    np.testing.assert_allclose(np.exp(-eigenvalue * np.array(times)), path[steps], atol=0.01)
    assert optimizer.descent_times(replace(training, optimizer="adam"), total, steps) is None


def test_a_step_follows_the_gradient_that_finite_differences_give(float64):
    training = replace(TRAINING, momentum=0.0, optimizer="sgd")
    model = models.build("mlp_5", 3, "float64")
    rng = np.random.default_rng(1)
    x, y = jnp.asarray(rng.normal(size=(4, 6))), jnp.asarray(rng.integers(0, 3, 4))
    teacher_logits = jnp.asarray(3 * rng.normal(size=(4, 3)))
    batch = {"x": x, "y": y, "teacher": models.Outputs(teacher_logits, {}, {})}
    objective = losses.distillation_objective(losses.kd_weight(0.7), "kd", Distillation(temperature=4.0))
    descent = optimizer.make_optimizer(training, 1)
    before = state.create(model, descent, jax.random.key(0), x)
    after, totals = make_step(model.apply, objective, descent)(before, batch)

    def loss(params):
        logits = model.apply(models.Variables(params, {}), x).logits
        soft = np.asarray(jax.nn.softmax(teacher_logits / 4))
        hard = -np.log(np.asarray(jax.nn.softmax(logits)))[np.arange(4), np.asarray(y)]
        kd = -16 * (soft * np.log(np.asarray(jax.nn.softmax(logits / 4)))).sum(1)
        return (0.3 * hard + 0.7 * kd).mean()

    flat, unravel = jax.flatten_util.ravel_pytree(before.params)
    step = jax.flatten_util.ravel_pytree(after.params)[0] - flat
    for i in rng.choice(len(flat), 12, replace=False):
        nudge = np.zeros(len(flat))
        nudge[i] = 1e-6
        slope = (loss(unravel(flat + nudge)) - loss(unravel(flat - nudge))) / 2e-6
        assert float(step[i]) == pytest.approx(-0.3 * slope, abs=1e-7)
    assert float(totals["loss"]) == pytest.approx(4 * loss(before.params), rel=1e-12)
    assert int(totals["count"]) == 4
    assert int(after.step) == 1


def test_the_teacher_sees_the_students_views_in_evaluation_mode_and_stays_as_it_is():
    seen = []

    def teacher_apply(variables, x, train):
        seen.append((x, train))
        return models.Outputs(variables, {}, {"moved": 1})

    def step(before, batch):
        seen.append(batch)
        return before, {"loss": 1.0, "correct": 1, "count": 2}

    def view(key, step, ids, x):
        return x + 10.0

    def batch_of(resident, rows):
        return rows, *(array[rows] for array in resident)

    constants = epoch.Constants((jnp.arange(5.0), jnp.arange(5)), None, jnp.array([[7.0]]))
    begin = state.TrainState(jnp.zeros((), jnp.int32), None, None, None)
    train_on = epoch.make_train_on(step, batch_of, view, teachers.from_network(teacher_apply))
    train_on(begin, epoch.zero_totals(jnp.float32), constants, np.array([3, 1]))
    (teacher_x, train), batch = seen
    assert train is False
    assert teacher_x is batch["x"]
    np.testing.assert_array_equal(batch["x"], [13, 11])
    np.testing.assert_array_equal(batch["teacher"].logits, [[7.0]])


def test_pauses_fall_on_the_stops_and_on_the_ends_of_epochs_and_steps_are_done_once():
    done = []

    def advance(before, totals, constants, feed, start, stop):
        done.extend(range(start, stop))
        return before, totals

    begin = state.TrainState(np.int32(4), None, None, None)
    built = SimpleNamespace(advance=advance, zero=dict, segment_steps=4)
    feed = SimpleNamespace(steps_per_epoch=10)
    pauses = list(loop.segments(begin, {}, built, None, feed, 30, [0, 3, 5, 9, 10, 17, 30]))
    assert done == list(range(4, 30))
    assert [pause.step for pause in pauses] == [5, 9, 10, 14, 17, 20, 24, 28, 30]
    assert [pause.step for pause in pauses if pause.ends_epoch] == [10, 20, 30]
    assert [pause.epoch for pause in pauses if pause.ends_epoch] == [0, 1, 2]
