"""Functions and kernels of a trained study, against the networks applied by hand."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.analysis import linearisation
from kd_jax.config import BadInput, Study
from kd_jax.extract import functions as extract_function
from kd_jax.models import Variables
from kd_jax.plan import checkpoint_steps, make_plan
from kd_jax.studies import prepare
from kd_jax.studies import train as train_stage
from kd_jax.train import optimizer
from kd_jax.workdir import checkpoints, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=40,
    test_examples=20,
    teacher="mlp_4",
    student=("mlp_6",),
    nulls=("order",),
    epochs=3,
    batch_size=20,
    learning_rate=0.1,
    checkpoints=4,
    seed=1,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(workdir, data set, the study's `Functions` on 12 examples, names given to `advance`)."""
    workdir = tmp_path_factory.mktemp("done")
    train_stage.train("tested", STUDY, workdir, "unused", jax.devices()[:1])
    dataset, told = prepare.open_study(workdir).dataset, []
    plan = make_plan(STUDY.replaced(kernel_examples=12), len(dataset.train.y))
    return workdir, dataset, list(extract_function.functions(workdir, plan, dataset, told.append)), told


def test_every_run_of_a_network_and_its_teacher_are_followed_from_step_0(done):
    _, _, found, told = done
    assert [(f.model, f.seed) for f in found] == [("mlp_6", 1)]
    assert set(found[0].paths) == {"teacher", "onehot", "student", "onehot_order"}
    assert len(told) == extract_function.passes(make_plan(STUDY, 40))
    for of_seed in found:
        for path in of_seed.paths.values():
            assert path.steps.tolist() == checkpoint_steps(6, 4)
            assert path.logits.shape == (len(path.steps), 12, 10)
        np.testing.assert_array_equal(of_seed.targets.sum(axis=1), 1)
    np.testing.assert_array_equal(found[0].paths["onehot"].logits[0], found[0].paths["student"].logits[0])
    assert not np.array_equal(found[0].paths["onehot"].logits[-1], found[0].paths["student"].logits[-1])


def test_logits_labels_and_kernels_are_those_of_the_probe(done):
    workdir, dataset, found, _ = done
    chosen = extract_function.probe(dataset, 12)
    x = ((dataset.train.x[chosen] - dataset.mean) / dataset.std).astype(np.float32)
    model = models.build("mlp_6", 10)

    def jacobian(arm, step):
        variables = Variables(**checkpoints.load_variables(records.run_folder(workdir, f"{arm}-seed1"), step))
        at = jax.jacrev(lambda params: model.apply(variables._replace(params=params), x).logits.reshape(-1))
        leaves = jax.tree.leaves(at(variables.params))
        return model.apply(variables, x).logits, np.concatenate([leaf.reshape(120, -1) for leaf in leaves], axis=1)

    (of_seed,) = found
    start_logits, start = jacobian("onehot", 0)
    np.testing.assert_allclose(of_seed.paths["onehot"].logits[0], start_logits, atol=1e-5)
    np.testing.assert_allclose(of_seed.kernel, start @ start.T, atol=1e-3)
    np.testing.assert_array_equal(of_seed.targets.argmax(axis=1), dataset.train.y[chosen])
    assert set(of_seed.drifts) == {"onehot", "student"}
    for arm in of_seed.drifts:
        end_logits, end = jacobian(arm, 6)
        np.testing.assert_allclose(of_seed.paths[arm].logits[-1], end_logits, atol=1e-5)
        drift = linearisation.drift(start @ start.T, end @ end.T)
        assert of_seed.drifts[arm] == pytest.approx(drift, rel=1e-3)
        assert drift > 0.01


def test_the_probe_is_a_fixed_part_of_the_training_set_up_to_all_of_it(done):
    _, dataset, _, _ = done
    small, all_of_it = extract_function.probe(dataset, 7), extract_function.probe(dataset, 40)
    assert small.tolist() == all_of_it[:7].tolist()
    assert sorted(all_of_it) == list(range(40))
    with pytest.raises(BadInput, match="--kernel_examples=41: expected at most the 40 training examples"):
        extract_function.probe(dataset, 41)
    with pytest.raises(BadInput, match=r"--kernel_examples=40: expected at most 30 with 200 classes.*limited to 6000"):
        extract_function.probe(replace(dataset, classes=200), 40)


@pytest.mark.parametrize("change", [{}, {"warmup": 0.4, "decay_at": (0.5, 0.9)}])
def test_learning_rates_are_those_of_training(change):
    training = replace(STUDY.training, **change)
    schedule = optimizer.learning_rate_schedule(training, 20)
    np.testing.assert_allclose(optimizer.learning_rates(training, 20), [float(schedule(step)) for step in range(20)])
