"""A teacher's answers looked up in a table are the teacher's answers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import BadInput, Data, Distillation, Study, Training
from kd_jax.data.arrays import Source, Split
from kd_jax.data.augment import VIEWS, numbered_view, random_views, view_numbers
from kd_jax.data.images import assemble
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.train import devices, engine, loop, table
from kd_jax.train.teachers import rows_of_views


@pytest.mark.parametrize("kind", list(VIEWS))
def test_the_view_of_a_number_is_what_the_random_view_of_that_number_shows(kind):
    key, ids = jax.random.key(3), np.arange(40)
    x = jax.random.normal(jax.random.key(0), (40, 12, 10, 3))
    seen = random_views(key, 7, ids, x, kind)
    numbers = np.asarray(view_numbers(key, 7, ids, kind))
    assert 0 <= numbers.min() <= numbers.max() < VIEWS[kind]
    for i, number in enumerate(numbers):
        np.testing.assert_array_equal(numbered_view(x[i : i + 1], number, kind)[0], seen[i])


def test_an_image_without_symmetries_has_as_many_views_as_are_counted():
    x = jnp.arange(1.0, 9 * 9 + 1).reshape(1, 9, 9, 1)
    for kind, count in VIEWS.items():
        assert len({np.asarray(numbered_view(x, n, kind)).tobytes() for n in range(count)}) == count


def images(examples=30):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (examples, 8, 8, 3), np.uint8), np.arange(examples, dtype=np.int32) % 3
    return assemble(Source("noise", x, y, x[:6], y[:6], 3, "test", np.array([], np.str_)), Data())


TRAINING = Training(epochs=2, batch_size=10, augment="crop_flip", learning_rate=0.05)


def trained(dataset, training, in_table, precision="float64"):
    """The weights of a student after all of its steps, with the teacher's network in the loop or in a table."""
    here = devices.select("cpu")[:1]
    teacher = models.build("cnn_4", 3, precision).init(jax.random.key(5), dataset.example(np.float64))
    of = engine.Teacher("cnn_4", Distillation(), "kd", in_table=in_table)
    built = engine.build(precision, training, dataset, "mlp_8", here, of)
    asked = teacher if built.answers is None else built.answers(teacher, lambda number, count: None)
    key = jax.random.key(1)
    steps = training.epochs * (len(dataset.train.y) // training.batch_size)
    feed, constants = built.feed(dataset.rows_of(0, 0, training.batch_size), key), built.constants(key, asked)
    for pause in loop.segments(built.start(key), built.zero(), built, constants, feed, steps, []):
        weights = jax.device_get(pause.state.params)
    return asked, weights


@pytest.mark.parametrize("row", [pytest.param(3, marks=pytest.mark.long), 8])
def test_a_student_of_a_table_is_the_student_of_the_network(float64, monkeypatch, row):
    monkeypatch.setattr(table, "BLOCK", 7)  # the last block is not full
    monkeypatch.setattr(table, "width", lambda classes, platform: row)
    dataset = images()
    answers, of_table = trained(dataset, TRAINING, in_table=True)
    _, of_network = trained(dataset, TRAINING, in_table=False)
    assert answers.values.shape == (30 * 162, row)
    assert not answers.values[:, 3:].any()
    for ours, theirs in zip(jax.tree.leaves(of_table), jax.tree.leaves(of_network), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.long
def test_a_table_of_texts_has_the_logits_of_each_text_whatever_is_beside_it(float64):
    rng = np.random.default_rng(0)
    x = rng.integers(4, 50, (9, 8)).astype(np.uint16)
    for row, length in enumerate(rng.integers(2, 9, 9)):
        x[row, length:] = models.PADDING
    y = np.arange(9, dtype=np.int32) % 2
    split = Split(x, y, y, np.arange(9), 9)
    dataset = TokenisedTexts(
        name="words",
        train=split,
        test=split,
        classes=2,
        test_split="test",
        fingerprint="",
        evaluation_size=4,
        vocabulary=50,
        buckets=(4, 8),
        tokenizer_json="",
        token_facts={"positions": 8},
    )
    network = models.build("roberta_1x16", 2, "float64", vocabulary=50, positions=8)
    variables = network.init(jax.random.key(0), x)
    answers = table.make_answers(network.apply, dataset, "none", np.float64)(variables, lambda number, count: None)
    for row in range(9):
        alone = network.apply(variables, x[row : row + 1]).logits[0]
        np.testing.assert_allclose(answers.values[row], alone, rtol=1e-11, atol=1e-12)


def test_the_rows_of_a_table_are_example_by_example():
    rows = rows_of_views(162, lambda key, step, ids: np.array([3, 161]))(None, 0, np.array([0, 2]))
    np.testing.assert_array_equal(rows, [3, 2 * 162 + 161])


def test_a_row_of_a_table_is_filled_up_on_a_tpu_where_classes_are_many():
    asked = [(10, "tpu"), (100, "tpu"), (128, "tpu"), (200, "tpu"), (100, "gpu"), (100, "cpu")]
    assert [table.width(*each) for each in asked] == [10, 128, 128, 256, 100, 100]


def test_what_cannot_be_a_table_is_said():
    dataset = images()
    assert table.obstacle(dataset, TRAINING, "kd") == ""
    assert "fitnets" in table.obstacle(dataset, TRAINING, "fitnets")
    assert "mixed" in table.obstacle(dataset, Training(mixup=0.2), "kd")
    study = Study.from_flags(teacher_table="on", mixup=0.2, epochs=3, teacher="mlp_8", student=("mlp_8",))
    with pytest.raises(BadInput, match="--teacher_table=on: expected images that are not mixed"):
        engine.check(study, dataset)


def test_it_pays_when_students_ask_more_often_than_there_are_views_and_fits_in_a_quarter():
    dataset = images()
    assert not table.pays(dataset, Training(epochs=81, augment="crop_flip"), 2)
    assert table.pays(dataset, Training(epochs=82, augment="crop_flip"), 2)
    assert table.pays(dataset, Training(epochs=2), 1)
    assert not table.pays(dataset, Training(epochs=82, augment="crop_flip"), 2, devices=2)
    assert table.size(dataset, TRAINING, 4, "gpu") == 30 * 162 * 3 * 4
    assert table.size(replace(dataset, classes=100), TRAINING, 4, "tpu") == 30 * 162 * 128 * 4

    class Chip:
        def memory_stats(self):
            return {"bytes_limit": 1000}

    assert table.fits(250, Chip())
    assert not table.fits(251, Chip())
