"""Runs of a linear model in function space: what is predicted from step 0 is what was measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from kd_jax.analysis import functions, linearisation
from kd_jax.analysis.functions import Functions, Path
from kd_jax.config import Arm

EXAMPLES, CLASSES, TOTAL = 10, 2, 60
ARMS = (
    Arm("teacher", "linear", init=0, order=0),
    Arm("onehot", "linear"),
    Arm("student", "linear", teacher="teacher", baseline="onehot"),
    Arm("onehot_mlp", "mlp"),
    Arm("onehot_slower", "linear", null_of="onehot", rate=0.25),
)


def trained(study, same_start=False):
    """(`Functions` of a linear model trained by gradient descent, learning rates)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 6)) * 0.7 ** np.arange(6)
    targets = np.eye(CLASSES)[rng.integers(CLASSES, size=EXAMPLES)]
    starts = rng.normal(size=(2, 6, CLASSES))
    rates = np.full(TOTAL, 0.5 / np.linalg.eigvalsh(x @ x.T / EXAMPLES)[-1])
    steps = np.array([0, 1, 3, 12, 20, TOTAL])

    def run(weights, target, factor=1.0):
        logits = [x @ weights]
        for rate in factor * rates:
            weights = weights - rate * x.T @ (x @ weights - target) / EXAMPLES
            logits.append(x @ weights)
        return np.array(logits)

    teacher = run(starts[int(same_start)], targets)
    taught = (1 - study.weight) * targets + study.weight * teacher[study.teacher_step or TOTAL]
    paths = {
        "teacher": teacher,
        "onehot": run(starts[1], targets),
        "student": run(starts[1], taught),
        "onehot_slower": run(starts[1], targets, 0.25),
    }
    paths = {arm: Path(steps, logits[steps]) for arm, logits in paths.items()}
    kernel = np.kron(x @ x.T, np.eye(CLASSES))
    return Functions("linear", 7, "onehot", kernel, {}, targets, paths, False), rates


def study(**change):
    settings = {"loss": "mse", "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "augment": "none"}
    return SimpleNamespace(**settings | {"weight": 1.0, "teacher_step": 12} | change)


@pytest.mark.parametrize("change", [{}, {"weight": 0.3}, {"teacher_step": 0}])
def test_a_linear_model_is_where_its_linearisation_says(change):
    found, rates = trained(study(**change))
    spectrum = linearisation.spectrum(found.kernel, CLASSES)
    followed = {run.arm: run for run in functions.follow(found, spectrum)}
    predicted = {run.arm: run for run in functions.predict(found, spectrum, study(**change), ARMS, rates)}
    assert list(followed) == list(found.paths)
    assert set(predicted) == set(found.paths)
    for arm, run in followed.items():
        assert (run.seed, run.model) == (7, "linear")
        assert run.progress.shape == run.growth.shape == (6, len(run.values))
        np.testing.assert_allclose(predicted[arm].linearised, run.progress, atol=1e-10)
        np.testing.assert_allclose(predicted[arm].taught, run.progress, atol=1e-10)
        if arm != "student":
            np.testing.assert_allclose(predicted[arm].composed, run.progress, atol=1e-10)
    assert (np.diff(followed["onehot"].values) <= 0).all()
    # The slower run gets less far along every group in which anything moves.
    moving = followed["onehot"].values > 1e-9
    assert (followed["onehot_slower"].progress < followed["onehot"].progress)[1:, moving].all()


def test_the_composed_filter_needs_a_teacher_that_started_where_the_student_did():
    for same_start in (True, False):
        found, rates = trained(study(), same_start)
        spectrum = linearisation.spectrum(found.kernel, CLASSES)
        (measured,) = (run for run in functions.follow(found, spectrum) if run.arm == "student")
        (predicted,) = (run for run in functions.predict(found, spectrum, study(), ARMS, rates) if run.arm == "student")
        gap = np.abs(predicted.composed - measured.progress).max()
        assert gap < 1e-10 if same_start else gap > 0.01


def test_no_filter_is_predicted_where_none_is_defined():
    found, rates = trained(study())
    spectrum = linearisation.spectrum(found.kernel, CLASSES)
    assert functions.predict(found, spectrum, study(optimizer="adam"), ARMS, rates) == []
    assert functions.predict(found._replace(normalised=True), spectrum, study(), ARMS, rates) == []
