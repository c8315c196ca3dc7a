"""Cosine decay, accumulated gradients and the average of the weights, in whole runs, against plain NumPy in float64."""

import jax
import numpy as np
import pytest

from kd_jax.config import BadInput, Study, Training
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.data.order import order
from kd_jax.models import Outputs, Variables
from kd_jax.plan import make_plan
from kd_jax.train import devices, engine, optimizer, state
from kd_jax.train.loop import Sink, train_run
from kd_jax.train.step import make_step

STUDY = Study.from_flags(
    dataset="made",
    teacher="linear",
    student=("linear",),
    epochs=3,
    batch_size=4,
    learning_rate=0.05,
    optimizer="sgd",
    warmup=0.2,
    decay="cosine",
    accumulate=2,
    ema=0.7,
    weight_decay=0.1,
    precision="float64",
)
STEPS, EXAMPLES, CLASSES = 15, 20, 3  # of a run; steps are an odd number, so the last gradient is not used


def made(study=STUDY):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (EXAMPLES, 4, 4, 1)).astype(np.uint8), rng.integers(0, CLASSES, EXAMPLES)
    return assemble(Source("made", x, y, x, y, CLASSES, "test"), study.data)


def built(study=STUDY, count=1):
    networks, dataset = study.networks, made(study)
    compiled = engine.build(networks.precision, study.training, dataset, networks.student[0], jax.devices()[:count])
    return compiled, make_plan(study, EXAMPLES).run("onehot", 0)


def cosine(step, peak=0.05, total=STEPS, warmup=3):
    share = (step - warmup) / (total - warmup)
    return peak * step / warmup if step < warmup else peak * (1 + np.cos(np.pi * share)) / 2


def descended(study, rate):
    """SGD with momentum on a linear model written out: [(weights, average) after every step], the bias as the last row."""
    dataset, training = made(study), study.training
    x = ((dataset.train.x - dataset.mean) / dataset.std).reshape(EXAMPLES, -1)
    x, labels = np.append(x, np.ones((EXAMPLES, 1)), axis=1), np.eye(CLASSES)[dataset.train.y]
    rows = np.concatenate([order(0, 1, at, EXAMPLES, 4) for at in range(3)])
    weights = np.zeros((x.shape[1], CLASSES))
    average, velocity, waiting, found = weights, 0.0, [], []
    for step, batch in enumerate(rows):
        p = np.exp(x[batch] @ weights)
        waiting.append(x[batch].T @ (p / p.sum(axis=1, keepdims=True) - labels[batch]) / len(batch))
        if len(waiting) == training.accumulate:
            gradient = np.mean(waiting, axis=0) + training.weight_decay * weights
            velocity = training.momentum * velocity + gradient
            weights = weights - rate(step) * velocity
            average = training.ema * average + (1 - training.ema) * weights
            waiting = []
        found.append((weights, average))
    return found


class Trajectory(Sink):
    """Keeps the networks at every step that is kept, all metrics, and whole states where it is asked to."""

    def __init__(self, saves=False):
        self.kept, self.lines, self.saved, self._saves = {}, [], {}, saves

    def keep(self, step, variables):
        self.kept[step] = variables

    def epoch(self, line):
        self.lines.append(line)

    def wants_save(self):
        return self._saves

    def save(self, step, state, totals):
        self.saved[step] = state, totals


def flat(variables):
    layer = variables.params["Dense_0"]
    return np.append(layer["kernel"], layer["bias"][None], axis=0)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 1}, {"accumulate": 5, "ema": 0.3}])
def test_a_run_is_sgd_on_mean_gradients_with_a_cosine_and_an_average_of_its_weights(float64, changes):
    study = STUDY.replaced(**changes)
    compiled, run = built(study)
    seen = Trajectory()
    train_run(compiled, run, sinks=[seen])
    np.testing.assert_allclose(
        [compiled.learning_rate(step) for step in range(STEPS)], list(map(cosine, range(STEPS))), rtol=1e-6
    )
    schedule = optimizer.learning_rate_schedule(study.training, STEPS)
    # Of a count of steps, as an optimiser has it, optax's schedules make float32 whatever the precision.
    expected = descended(study, lambda step: float(schedule(np.int32(step))))
    for step in run.length.checkpoint_steps[1:]:
        weights, average = expected[step - 1]
        np.testing.assert_allclose(flat(seen.kept[step]), weights, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(flat(seen.kept[step].average), average, rtol=1e-10, atol=1e-14)
    assert not np.allclose(expected[-1][0], expected[-1][1], rtol=1e-2)  # the average is another network
    assert [line["learning_rate"] for line in seen.lines] == [compiled.learning_rate(step) for step in (4, 9, 14)]


def test_the_accuracy_of_the_average_is_its_own_and_measured_on_the_test_set(float64):
    compiled, run = built(STUDY.replaced(learning_rate=1.0))
    seen = Trajectory()
    train_run(compiled, run, sinks=[seen])
    dataset = made()
    x = ((dataset.test.x - dataset.mean) / dataset.std).reshape(EXAMPLES, -1)
    for variables, suffix in ((seen.kept[STEPS], ""), (seen.kept[STEPS].average, "_average")):
        weights = flat(variables)
        z = x @ weights[:-1] + weights[-1]
        assert seen.lines[-1][f"test_accuracy{suffix}"] == np.mean(z.argmax(axis=1) == dataset.test.y)
        nll = np.log(np.exp(z).sum(axis=1)) - z[np.arange(EXAMPLES), dataset.test.y]
        assert seen.lines[-1][f"test_loss{suffix}"] == pytest.approx(nll.mean(), rel=1e-10)


def test_an_average_changes_no_bit_of_the_training_and_without_one_nothing_of_it_is_kept():
    plain = Trajectory()
    study = STUDY.replaced(precision="float32")
    compiled, run = built(study.replaced(ema=0.0))
    train_run(compiled, run, sinks=[plain])
    averaged = Trajectory()
    compiled, run = built(study)
    train_run(compiled, run, sinks=[averaged])
    assert flat(averaged.kept[STEPS]).tobytes() == flat(plain.kept[STEPS]).tobytes()
    assert isinstance(plain.kept[STEPS], Variables)
    assert not any("average" in key for key in plain.lines[-1])
    # States that were saved before there were averages have the same leaves.
    begin = state.TrainState(np.zeros(()), {}, {}, {})
    assert len(jax.tree.leaves(begin)) == 1


def test_all_three_go_on_from_any_save_to_the_same_bits(monkeypatch):
    monkeypatch.setattr(devices, "SEGMENT_STEPS", 1)
    compiled, run = built(STUDY.replaced(precision="float32", optimizer="adamw", gradient_clip=1.0))
    whole = Trajectory(saves=True)
    expected = train_run(compiled, run, sinks=[whole])
    for step in (3, 6, 14):
        found = train_run(compiled, run, restore=lambda like, step=step: whole.saved[step])
        for a, b in zip(jax.tree.leaves(found.state), jax.tree.leaves(expected.state), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_four_devices_equal_one(float64):
    ends = []
    for count in (1, 4):
        compiled, run = built(count=count)
        ends.append(jax.device_get(train_run(compiled, run).state))
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_running_statistics_are_averaged_as_weights_are_and_move_with_every_batch(float64):
    def apply(variables, x, train):
        moved = jax.tree.map(lambda old: 0.9 * old + 0.1 * x.mean(axis=0), variables.model_state)
        return Outputs((x - variables.model_state["mean"]) @ variables.params["kernel"], {}, moved)

    training = Training(optimizer="sgd", momentum=0.0, learning_rate=0.1, accumulate=2, ema=0.6, epochs=1)
    descent = optimizer.make_optimizer(training, 4)

    def loss(outputs, batch, step):
        return outputs.logits.sum(axis=-1)

    step = jax.jit(make_step(apply, loss, descent, ema=training.ema, accumulate=training.accumulate))
    rng = np.random.default_rng(0)
    average = Variables({"kernel": rng.normal(size=(5, CLASSES))}, {"mean": np.zeros(5)})
    moment = state.TrainState(np.int32(0), *average, descent.init(average.params), average)
    for number in range(4):
        before = moment
        moment, _ = step(moment, {"x": rng.normal(1.0, 2.0, (2, 5)), "y": np.array([0, 1])})
        moved = [
            any(np.any(a != b) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True))
            for new, old in ((moment.params, before.params), (moment.model_state, before.model_state))
        ]
        assert moved == [number % 2 == 1, True]
        if number % 2:
            average = jax.tree.map(lambda old, new: 0.6 * old + 0.4 * new, average, moment.variables)
        for a, b in zip(jax.tree.leaves(moment.average), jax.tree.leaves(average), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_steps_that_only_accumulate_have_no_rate_in_the_time_of_gradient_flow():
    training = Training(optimizer="sgd", momentum=0.5, learning_rate=0.25, accumulate=3)
    np.testing.assert_allclose(optimizer.learning_rates(training, 7), [0, 0, 0.25, 0, 0, 0.25, 0])
    assert optimizer.descent_times(training, 7, [0, 2, 3, 7]) == [0, 0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accumulate": 0}, r"--accumulate=0: expected a whole number of batches of at least 1"),
        ({"accumulate": 6}, r"--accumulate=6: expected at most 5, the steps of an epoch; lower it or the --batch_size"),
        ({"accumulate": 2, "kernel_examples": 4}, r"--accumulate=2: expected 1 beside --kernel_examples"),
        ({"ema": 1.0}, r"--ema=1\.0: expected a number from 0 to below 1"),
        ({"decay_at": (0.5,)}, r"--decay_at=0\.5: expected none beside --decay=cosine"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(BadInput, match=said):
        make_plan(STUDY.replaced(**changes), EXAMPLES)
