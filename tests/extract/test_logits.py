"""Logits of a trained study, against the networks applied by hand, and what it costs to have them."""

from dataclasses import fields, replace

import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data.images import ImagesInMemory
from kd_jax.extract import logits as extract
from kd_jax.models import Variables
from kd_jax.studies import prepare
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=70,
    test_examples=31,
    teacher="mlp_4",
    student=("mlp_6",),
    epochs=2,
    batch_size=35,
    checkpoints=3,
    seeds=2,
)


class Decoded(ImagesInMemory):
    """Images that are not on the device: each pass over a split is one more decoding of it."""

    is_resident = False
    passes: list[int] = []  # noqa: RUF012 - of the class, emptied by the test

    def blocks(self, x, size, rows=None, pad=False):
        """Yield the blocks of `Dataset.blocks`, and note the pass."""
        self.passes.append(len(x))
        yield from super().blocks(x, size, rows, pad)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("done")
    train_stage.train("tested", STUDY, workdir, "unused", jax.devices()[:1])
    return prepare.open_study(workdir)


def by_hand(opened, arm, seed, x):
    """Logits of a run after its last step, of all examples at once."""
    run = opened.plan.run(arm, seed)
    folder = records.run_folder(opened.workdir, run.name)
    variables = Variables(**checkpoints.load_variables(folder, run.length.total_steps))
    dataset = opened.dataset
    x = ((x - dataset.mean) / dataset.std).astype(np.float32)
    return np.asarray(models.build(run.arm.model, 10).apply(variables, x).logits)


@pytest.mark.parametrize("kind", ["host", "resident", "streamed"])
def test_pairs_are_what_both_networks_answer_in_blocks_of_any_size(opened, kind, monkeypatch):
    dataset = replace(opened.dataset, evaluation_size=8)  # the last block of either split is not full
    if kind == "resident":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        read = extract.make_blocks(dataset, dataset.test.x)
        assert all(block is again for (_, block), (_, again) in zip(read(), read(), strict=True))  # put there once
    if kind == "streamed":
        dataset = Decoded(**{field.name: getattr(dataset, field.name) for field in fields(dataset)})
        Decoded.passes.clear()
    told = []
    found = list(extract.logit_pairs(opened.workdir, opened.plan, dataset, told.append))
    arms = [arm.name for arm in extract.looked_at(opened.plan)]
    assert [(pair.arm, pair.seed, pair.split) for pair in found] == [
        (arm, seed, split) for seed in (0, 1) for arm in arms for split in ("train", "test")
    ]
    for pair in found:
        x = dataset.splits[pair.split].x
        np.testing.assert_allclose(pair.student, by_hand(opened, pair.arm, pair.seed, x), atol=1e-5)
        np.testing.assert_allclose(pair.teacher, by_hand(opened, "teacher", pair.seed, x), atol=1e-5)
    assert len(told) == 2 * extract.passes(opened.plan)
    if kind == "streamed":  # once per seed and split, for all networks
        assert Decoded.passes == [70, 31] * 2


def test_whoever_asks_for_the_same_network_gets_the_same_program_and_it_is_compiled_once(opened):
    dataset = replace(opened.dataset, evaluation_size=9)
    list(extract.logit_pairs(opened.workdir, opened.plan, dataset))
    program = extract.make_on_batch("mlp_6", dataset, "float32")
    assert program._cache_size() == 1  # of both splits, two runs, two seeds
    assert extract.make_on_batch("mlp_6", dataset, "float32") is program
    others = [
        extract.make_on_batch(*of) for of in (("mlp_4", dataset, "float32"), ("mlp_6", opened.dataset, "float32"))
    ]
    assert program not in others


def test_a_device_is_given_no_more_than_a_few_blocks_whose_answers_are_not_fetched():
    made, least = [], []

    def blocks():
        for number in range(12):
            made.append(number)
            yield np.array([number]), np.full((1, 3), number, np.float32)

    class Late:
        def __init__(self, x):
            self.x = x

        def __array__(self, dtype=None, copy=None):
            least.append(made[-1] - int(self.x[0, 0]))
            return np.asarray(self.x)

    found = extract.answers({"same": (lambda variables, x: Late(np.asarray(x)), {})}, blocks(), (12, 3), np.float32)
    np.testing.assert_array_equal(found["same"], np.repeat(np.arange(12), 3).reshape(12, 3))
    assert max(least) == extract.AHEAD
