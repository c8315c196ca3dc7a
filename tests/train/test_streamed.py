"""Training and evaluation on batches that come from disk, against the same images in memory."""

from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from kd_jax.train.fit import fit

from kd_jax import data, models
from kd_jax.config import Study
from kd_jax.data import loader
from kd_jax.data.order import order
from kd_jax.train import engine, streamed

STUDY = Study.from_flags(
    dataset="many",
    image_size=8,
    teacher="linear",
    student=("linear",),
    epochs=2,
    batch_size=16,
    learning_rate=0.1,
    precision="float64",
)


def in_memory(dataset):
    """The `Dataset` with its views as arrays."""
    train, test = (split._replace(x=split.x[:]) for split in (dataset.train, dataset.test))
    return dataset._replace(train=train, test=test)


def trained(study, dataset, devices, teacher=None):
    """Return (state, totals of the last epoch, test totals, speed) of a whole run."""
    built = engine.build(study, dataset, "linear", "linear" if teacher is not None else None, devices)
    init_key, view_key = jax.random.split(jax.random.key(0))
    rows_of = partial(order, 0, 1, examples=len(dataset.train.y), batch_size=study.batch_size)
    with built.feed(dataset.train, view_key, teacher, rows_of) as feed, built.feed(dataset.test, view_key) as test_feed:
        start = built.start(init_key), built.zero()
        for pause in fit(*start, built.advance, feed, rows_of, study.epochs, [], built.zero):
            last = pause
        test = built.evaluate(last.state.variables, test_feed)
        return jax.device_get(last.state), jax.device_get(last.totals), test, built.speed(feed)


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max() for x, y in pairs)


@pytest.fixture
def dataset(many, float64):
    return data.load(STUDY, many.data_dir)


@pytest.mark.parametrize(("distilled", "devices"), [(False, 1), (True, 4)])
def test_a_streamed_set_trains_to_the_weights_of_the_same_images_in_memory(dataset, distilled, devices):
    teacher = None
    if distilled:
        teacher = jax.device_get(models.build("linear", 3, "float64").init(jax.random.key(7), np.zeros((1, 8, 8, 3))))
    *expected, unmeasured = trained(STUDY, in_memory(dataset), jax.devices()[:1], teacher)
    *found, speed = trained(STUDY, dataset, jax.devices()[:devices], teacher)
    assert largest_difference(expected, found) < 1e-11
    assert set(speed) == {"input_examples_per_second", "step_examples_per_second", "input_wait"}
    assert unmeasured == {}


def test_evaluation_counts_every_streamed_example_once(dataset):
    built = engine.build(STUDY, dataset, "linear", None, jax.devices()[:3])
    state = built.start(jax.random.key(0))
    with built.feed(dataset.test, jax.random.key(0)) as feed:
        totals = built.evaluate(state.variables, feed)
    x = (dataset.test.x[:] - dataset.mean) / dataset.std
    logits = np.asarray(models.build("linear", 3, "float64").apply(jax.device_get(state.variables), x).logits)
    y = dataset.test.y
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    assert totals["count"] == len(y) == 13
    assert totals["correct"] == (logits.argmax(1) == y).sum()
    np.testing.assert_allclose(totals["loss"], nll.sum(), rtol=1e-12)


def test_random_views_are_the_same_on_any_number_of_devices(dataset):
    study = STUDY.replaced(augment="resized_crop_flip")
    one, four = (trained(study, dataset, jax.devices()[:devices])[:3] for devices in (1, 4))
    assert largest_difference(one, four) < 1e-11


def test_what_is_measured_is_how_long_the_devices_waited_and_worked(dataset, monkeypatch):
    """By a clock of the test: when a batch is asked for, when it is there, when the devices are done with it.

    The first is left out, with what starts and compiles in it.
    """
    clock = iter([0, 100, 200, 203, 204, 204, 204.5, 207])
    monkeypatch.setattr(streamed, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(loader, "ahead", lambda items: items)
    images = np.zeros((16, 8, 8, 3), np.uint8)
    monkeypatch.setattr(
        loader, "stream", lambda images_, plan, start=0: ((images, 0.25) for _ in range(start, len(plan)))
    )
    dataset.train.x.workers = 1
    rows_of = partial(order, 0, 1, examples=len(dataset.train.y), batch_size=16)
    opened = streamed.open_feed(
        dataset.train, jax.random.key(0), None, rows_of, epochs=1, augment="none", devices=jax.devices()[:1]
    )
    with opened as feed:
        for step in range(3):
            feed.batch(step)
            feed.stepped()
        # Waited 3 s and 0.5 s, worked 1 s and 2.5 s; two batches of 16 took the decoder 0.25 s each.
        expected = {"input_wait": 0.5, "step_examples_per_second": 32 / 3.5, "input_examples_per_second": 32 / 0.5}
        assert feed.speed() == pytest.approx(expected)
        assert feed.speed() == {}
    assert next(clock, None) is None
