"""A new kind of data is one class."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data import Dataset, Split, check
from kd_jax.extract.logits import make_logits
from kd_jax.plan import make_plan
from kd_jax.train import engine
from kd_jax.train.loop import train_run


class Table(Dataset):
    """Rows of floats."""

    def clean_view(self, dtype: Any):
        """Return `view(x)`, which leaves rows as they are."""
        return lambda x: jnp.asarray(x, dtype)


def test_rows_of_floats_are_trained_on_and_looked_at_with_one_class_of_their_own():
    rng = np.random.default_rng(0)
    means = np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2]])

    def split(count):
        y = rng.integers(0, 3, count).astype(np.int32)
        return Split((means[y] + rng.normal(size=(count, 3))).astype(np.float32), y, y, np.arange(count))

    table = Table(name="table", train=split(90), test=split(40), classes=3, test_split="test", fingerprint="")
    study = Study.from_flags(dataset="table", student=("linear",), epochs=5, batch_size=10, learning_rate=0.1)
    check(table, study)
    built = engine.build("float32", study.training, table, "linear", jax.devices()[:2])
    outcome = train_run(built, make_plan(study, 90).run("onehot", 0))
    assert outcome.line["test_accuracy"] > 0.6
    variables = jax.device_get(outcome.state.variables)
    logits = make_logits("linear", table, "float32")(variables, table.test.x)
    layer = variables.params["Dense_0"]
    np.testing.assert_allclose(logits, table.test.x @ layer["kernel"] + layer["bias"], atol=1e-5)
    assert (logits.argmax(1) == table.test.y).mean() == outcome.line["test_accuracy"]
    assert models.build("linear", 3).layers(table.example()) == ["Dense_0"]
    assert table.facts(0, 10)["train_examples"] == 90


def test_what_lies_on_the_devices_is_a_row_an_example_and_a_batch_has_the_shape_of_the_examples():
    x = np.random.default_rng(0).integers(0, 256, (7, 4, 3, 2)).astype(np.uint8)
    split = Split(x, np.arange(7), np.arange(7), np.arange(7))
    table = Table(name="table", train=split, test=split, classes=7, test_split="test", fingerprint="")
    resident = table.resident(split)
    assert [leaf.shape for leaf in resident] == [(7, 128), (7,)]  # 24 bytes, filled up
    rows = np.array([[5, 0, 5], [6, 1, 2]])
    ids, images, labels = jax.jit(table.batch)(resident, rows)
    np.testing.assert_array_equal(images, x[rows])
    np.testing.assert_array_equal(ids, labels)
