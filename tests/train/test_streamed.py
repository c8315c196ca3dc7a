"""Training and evaluation on batches that come from disk, against the same images in memory."""

from dataclasses import fields
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kd_jax import data, models
from kd_jax.config import Study
from kd_jax.data import loader, streamed
from kd_jax.data.images import ImagesInMemory
from kd_jax.data.streamed import StreamedImages
from kd_jax.plan import GivenTeacher, make_plan
from kd_jax.train import engine, teachers
from kd_jax.train.loop import train_run

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


def in_memory(dataset, kind=ImagesInMemory):
    """The same set with its views in memory."""
    values = {each.name: getattr(dataset, each.name) for each in fields(dataset)}
    train, test = (split._replace(x=split.x[:]) for split in (dataset.train, dataset.test))
    return kind(**values | {"train": train, "test": test})


def trained(study, dataset, devices, teacher=None, given=None):
    """Return (state, totals of the last epoch, test loss and accuracy, speeds) after a whole run."""
    taught = engine.Teacher.of(study) if teacher is not None else None
    built = engine.build("float64", study.training, dataset, "linear", devices, taught)
    run = make_plan(study, len(dataset.train.y), given=given).run("onehot" if teacher is None else "student", 0)
    outcome = train_run(built, run, teacher)
    line = outcome.line
    speeds = {name: value for name, value in line.items() if "input" in name or "step_" in name}
    return jax.device_get(outcome.state), outcome.totals, (line["test_loss"], line["test_accuracy"]), speeds


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max() for x, y in pairs)


@pytest.fixture
def dataset(many, float64):
    return data.load(STUDY.data, many.data_dir)


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
    built = engine.build("float64", STUDY.training, dataset, "linear", jax.devices()[:3])
    state = built.start(jax.random.key(0))
    totals = built.evaluate(state.variables, dataset.test, built.replicate(dataset.resident(dataset.test)))
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


def marked(kind):
    """A kind of data whose training views depend on the ids of their examples, as dropout and random views do."""

    class Marked(kind):
        def random_view(self, augment, dtype):
            clean = self.clean_view(dtype)
            return lambda key, step, ids, x: clean(x) + 0.1 * (ids[:, None, None, None] % 7)

    return Marked


@pytest.mark.parametrize("devices", [1, 4])
def test_ids_of_streamed_examples_are_their_rows_in_the_training_set(dataset, devices):
    """Whatever depends on ids is then the same as of images in memory, on any number of devices."""
    values = {each.name: getattr(dataset, each.name) for each in fields(dataset)}
    expected = trained(STUDY, in_memory(dataset, marked(ImagesInMemory)), jax.devices()[:1])[:3]
    found = trained(STUDY, marked(StreamedImages)(**values), jax.devices()[:devices])[:3]
    assert largest_difference(expected, found) < 1e-11
    assert largest_difference(expected[0], trained(STUDY, dataset, jax.devices()[:1])[0]) > 1e-3  # ids do matter


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
    rows_of = dataset.rows_of(0, 1, 16)
    put = SimpleNamespace(own=lambda size: slice(0, size), part=lambda batch: batch)
    with dataset.feed(rows_of, 1, "none", (1, 2), put) as feed:
        for step in range(3):
            rows, _, y = feed.item(step)
            np.testing.assert_array_equal(rows, rows_of(0)[step])
            np.testing.assert_array_equal(y, dataset.train.y[rows])
            feed.stepped()
        # Waited 3 s and 0.5 s, worked 1 s and 2.5 s; two batches of 16 took the decoder 0.25 s each.
        expected = {"input_wait": 0.5, "step_examples_per_second": 32 / 3.5, "input_examples_per_second": 32 / 0.5}
        assert feed.metrics(0, 0.0) == pytest.approx(expected)
        assert feed.metrics(0, 0.0) == {}
    assert next(clock, None) is None


def test_a_table_of_answers_teaches_on_streamed_images_as_on_the_same_ones_in_memory(dataset):
    study = STUDY.replaced(teacher="", teacher_logits="answers.npz")
    answers = np.random.default_rng(0).normal(0, 3, (len(dataset.train.y), dataset.classes))
    given = GivenTeacher({}, "a digest", ("train",))
    ends = [
        trained(study, of, jax.devices()[:1], teachers.Table(answers), given)[0] for of in (dataset, in_memory(dataset))
    ]
    assert largest_difference(*ends) < 1e-12
    other, *_ = trained(study, dataset, jax.devices()[:1], teachers.Table(answers[::-1].copy()), given)
    assert largest_difference(other, ends[0]) > 1e-3
