"""A teacher is a function: from a network, or from a table of its answers, and with the same answers it teaches the same."""

from functools import cache

import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data import teacher_logits
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.plan import GivenTeacher, make_plan
from kd_jax.train import engine, teachers
from kd_jax.train.loop import train_run

STUDY = Study.from_flags(
    dataset="made",
    train_examples=24,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=2,
    batch_size=4,
    learning_rate=0.1,
    temperature=3.0,
    precision="float64",
)
CLASSES, SHAPE, PUBLISHED = 5, (4, 4, 1), 30


def made(study=STUDY):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (PUBLISHED, *SHAPE)).astype(np.uint8), rng.integers(0, CLASSES, PUBLISHED)
    return assemble(Source("made", x, y, x, y, CLASSES, "test"), study.data)


def network(study=STUDY):
    """(the teacher's network, its variables)"""
    model = models.build(study.networks.teacher, CLASSES, study.networks.precision)
    return model, jax.device_get(model.init(jax.random.key(1), np.zeros((1, *SHAPE))))


def answers(study=STUDY):
    """The teacher's logits of every published example."""
    dataset, everything = made(study), made(study.replaced(train_examples=0))
    model, variables = network(study)
    x = (everything.train.x - dataset.mean) / dataset.std
    return np.asarray(model.apply(variables, x).logits)


@cache  # one compilation for all that a test compares
def built(study, count):
    taught = engine.Teacher.of(study)
    return engine.build(study.networks.precision, study.training, made(study), "mlp_8", jax.devices()[:count], taught)


def student(study, constants, given=None, count=1):
    """The end of a student's run."""
    run = make_plan(study, len(made(study).train.y), given=given).run("student", 0)
    return jax.device_get(train_run(built(study, count), run, constants).state.params)


def table_of(tmp_path, study=STUDY, **arrays):
    """The `teachers.Table` of a file for the training set."""
    np.savez(tmp_path / "answers.npz", **arrays)
    found = teacher_logits.read(tmp_path / "answers.npz", made(study))["train"]
    return teachers.Table(found.values, found.indices, found.rest)


def close(found, expected, **tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


FROM_FILE, GIVEN = STUDY.replaced(teacher="", teacher_logits="answers.npz"), GivenTeacher({}, "a digest", ("train",))


@pytest.mark.parametrize("loss", ["kd", "mse", "dkd"])
def test_logits_of_a_network_teach_as_the_network_does(float64, tmp_path, loss):
    study = {"distillation": loss} | ({"learning_rate": 0.01} if loss == "mse" else {})
    expected = student(STUDY.replaced(**study), network()[1])
    table = table_of(tmp_path, logits=answers())
    close(student(FROM_FILE.replaced(**study), table, GIVEN), expected)
    other = table._replace(values=table.values[::-1])  # matched with the wrong examples they teach something else
    wrong = student(FROM_FILE.replaced(**study), other, GIVEN)
    assert np.abs(wrong["Dense_0"]["kernel"] - expected["Dense_0"]["kernel"]).max() > 1e-3


def test_log_probabilities_the_top_k_of_all_classes_and_permuted_rows_teach_the_same(float64, tmp_path):
    logits = answers()
    expected = student(FROM_FILE, table_of(tmp_path, logits=logits), GIVEN)
    logs = np.asarray(jax.nn.log_softmax(logits))
    close(student(FROM_FILE, table_of(tmp_path, log_probabilities=logs), GIVEN), expected)
    order = np.random.default_rng(3).permutation(PUBLISHED)
    close(student(FROM_FILE, table_of(tmp_path, logits=logits[order], ids=order), GIVEN), expected)
    indices = np.argsort(-logs, axis=1)
    every = {"indices": indices, "log_probabilities": np.take_along_axis(logs, indices, axis=1)}
    close(student(FROM_FILE, table_of(tmp_path, **every), GIVEN), expected)


def test_on_the_device_the_top_k_are_what_they_are_in_numpy(tmp_path):
    logs = np.asarray(jax.nn.log_softmax(answers(STUDY.replaced(precision="float32"))))
    indices = np.argsort(-logs, axis=1)[:, :2]
    np.savez(
        tmp_path / "answers.npz",
        indices=indices,
        log_probabilities=np.take_along_axis(logs, indices, axis=1).astype(np.float16),
    )
    dataset = made()
    found = teacher_logits.read(tmp_path / "answers.npz", dataset)["train"]
    rows = np.array([7, 0, 7, 23])
    teach = jax.jit(teachers.from_table(CLASSES, np.float32))
    outputs = teach(teachers.Table(found.values, found.indices, found.rest), rows, None)
    expected = found.logits(dataset.train.ids[rows], CLASSES, np.float32)
    np.testing.assert_array_equal(outputs.logits, expected)
    assert (outputs.logits.dtype, outputs.features) == (np.float32, {})


def test_four_devices_look_up_what_one_does(float64, tmp_path):
    table = table_of(tmp_path, logits=answers())
    close(student(FROM_FILE, table, GIVEN, count=4), student(FROM_FILE, table, GIVEN))


def test_a_network_from_elsewhere_sees_images_as_it_was_trained_to(float64):
    """With the mean and the deviation of its own data; with equal ones not a bit changes."""
    dataset, (model, variables) = made(), network()
    own_mean, own_std = dataset.mean + 11.0, dataset.std * 1.7
    adapt = teachers.restandardised(dataset.mean, dataset.std, own_mean, own_std)
    assert adapt is not None
    x = (dataset.train.x - dataset.mean) / dataset.std
    seen = teachers.from_network(model.apply, adapt=adapt)(variables, None, x).logits
    close(seen, model.apply(variables, (dataset.train.x - own_mean) / own_std).logits)
    assert teachers.restandardised(dataset.mean, dataset.std, dataset.mean.tolist(), dataset.std.tolist()) is None
    given = GivenTeacher({}, standardised=(own_mean.tolist(), own_std.tolist()))
    taught = engine.Teacher.of(STUDY, given)
    teach = taught.function(lambda name: models.build(name, CLASSES, "float64"), dataset, np.float64)
    close(teach(variables, None, x).logits, seen)


def test_on_a_tpu_a_teacher_has_its_variables_to_the_bit_and_its_kernels_follow_the_step():
    rng = np.random.default_rng(0)
    variables = models.Variables(
        {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32), "bias": rng.normal(size=4).astype(np.float32)}, {}
    )
    for first in (0, 7, 49_999):
        found = jax.jit(teachers._of_this_step)(variables, np.array([first, 3], np.int32))
        jax.tree.map(np.testing.assert_array_equal, found, variables)

    def lowered(platform):
        teach = teachers.from_network(lambda variables, x, train: variables.params["kernel"].sum() + x.sum())
        traced = jax.jit(teach).trace(variables, np.arange(4), np.ones((4, 2), np.float32))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "multiply" in lowered("tpu")
    assert "multiply" not in lowered("cpu")
