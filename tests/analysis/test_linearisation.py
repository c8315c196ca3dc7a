"""Function space: filters against gradient descent that was really run, matrix exponentials and the linear theory."""

import numpy as np
import pytest
from scipy.linalg import expm

from kd_jax.analysis import closed_forms as theory
from kd_jax.analysis import eigen, linearisation
from kd_jax.config import Study

EXAMPLES, FEATURES, CLASSES = 12, 9, 3


class Linear:
    """z = x W + b on random inputs, trained by full-batch gradient descent on the mean of 1/2 |z - target|^2, in float64."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(EXAMPLES, FEATURES)) * 0.7 ** np.arange(FEATURES)
        self.x = np.concatenate([self.x, np.ones((EXAMPLES, 1))], axis=1)
        self.y = np.eye(CLASSES)[rng.integers(CLASSES, size=EXAMPLES)]
        self.kernel = np.kron(self.x @ self.x.T, np.eye(CLASSES))
        self.starts = rng.normal(size=(2, FEATURES + 1, CLASSES))

    def run(self, start, target, learning_rates, momentum=0.0, nesterov=False):
        """Logits at every step, [steps + 1, examples, classes]."""
        weights, velocity = start, np.zeros_like(start)
        logits = [self.x @ weights]
        for rate in learning_rates:
            slope = self.x.T @ (self.x @ weights - target) / EXAMPLES
            velocity = slope + momentum * velocity
            weights = weights - rate * (slope + momentum * velocity if nesterov else velocity)
            logits.append(self.x @ weights)
        return np.array(logits)


OPTIMIZERS = [(0.0, False), (0.9, False), (0.9, True)]


@pytest.mark.parametrize(("momentum", "nesterov"), OPTIMIZERS)
@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_a_linear_teacher_and_its_student_move_as_predicted_from_step_0(momentum, nesterov, weight):
    """From different, nonzero initialisations, the teacher stopped early, with a learning rate that is not constant."""
    model = Linear(0)
    found = linearisation.spectrum(model.kernel, CLASSES)
    rates = np.where(np.arange(60) < 40, 0.3, 0.1) / found.values[0]
    settings = {"momentum": momentum, "nesterov": nesterov}
    teacher = model.run(model.starts[0], model.y, rates, **settings)
    onehot = model.run(model.starts[1], model.y, rates, **settings)
    student = model.run(model.starts[1], (1 - weight) * model.y + weight * teacher[25], rates, **settings)

    steps = [0, 1, 2, 7, 40, 60]
    left = linearisation.remaining(found.values, rates, steps, **settings)
    (teacher_left,) = linearisation.remaining(found.values, rates, [25], **settings)
    along = lambda logits: linearisation.along(logits, found.vectors)  # noqa: E731
    start, labels = along(onehot[0]), along(model.y)
    expected = linearisation.changes(start, labels, left)
    np.testing.assert_allclose(along(onehot[steps]) - start, expected, atol=1e-12)
    from_teacher = linearisation.taught(along(teacher[0]), labels, teacher_left)
    np.testing.assert_allclose(from_teacher, along(teacher[25]), atol=1e-12)
    expected = linearisation.changes(start, (1 - weight) * labels + weight * from_teacher, left)
    np.testing.assert_allclose(along(student[steps]) - start, expected, atol=1e-12)


def test_from_one_initialisation_the_student_is_the_composed_filter():
    model = Linear(1)
    found = linearisation.spectrum(model.kernel, CLASSES)
    rates = np.full(50, 0.8 / found.values[0])
    teacher = model.run(model.starts[0], model.y, rates)
    student = model.run(model.starts[0], teacher[20], rates)
    left = linearisation.remaining(found.values, rates, range(51))
    filters = linearisation.composed_filter(left, left[20])
    start = linearisation.along(student[0], found.vectors)
    residuals = linearisation.along(model.y, found.vectors) - start
    np.testing.assert_allclose(linearisation.along(student, found.vectors) - start, filters * residuals, atol=1e-12)
    groups = linearisation.groups(len(found.values), CLASSES)
    measured = linearisation.progress(linearisation.along(student, found.vectors) - start, residuals, groups)
    np.testing.assert_allclose(measured, linearisation.progress(filters * residuals, residuals, groups), atol=1e-12)


def test_for_plain_descent_the_filters_are_those_of_the_linear_theory():
    values = 0.8 ** np.arange(30)
    rates = theory.descent_rates(values, 0.5)
    steps = [0, 3, 10, 200]
    left = linearisation.remaining(values, np.full(200, 0.5), steps)
    times = np.array(steps)[:, None]
    np.testing.assert_allclose(1 - left, theory.progress(rates, times), atol=1e-14)
    np.testing.assert_allclose(
        linearisation.composed_filter(left, left[2]), theory.student_progress(rates, 10, times), atol=1e-14
    )


def test_small_steps_are_the_matrix_exponential_of_the_kernel():
    model = Linear(2)
    found = linearisation.spectrum(model.kernel, CLASSES)
    time, count = 3.0 / found.values[0], 20_000
    (left,) = linearisation.remaining(found.values, np.full(count, time / count), [count])
    start, labels = (model.x @ model.starts[0]).reshape(-1), model.y.reshape(-1)
    expected = start + (np.eye(len(start)) - expm(-model.kernel / EXAMPLES * time)) @ (labels - start)
    moved = linearisation.changes(found.vectors.T @ start, found.vectors.T @ labels, left)
    np.testing.assert_allclose(start + found.vectors @ moved, expected, atol=1e-4)


@pytest.mark.parametrize("nesterov", [False, True])
def test_late_in_training_momentum_is_a_larger_learning_rate(nesterov):
    values, late = np.array([0.01, 0.001]), 1000
    left = linearisation.remaining(values, np.full(late + 1, 0.05), [late, late + 1], 0.9, nesterov)
    # eta l m / (1 - m)^2, the next order, is 4.5 % at the first.
    np.testing.assert_allclose(np.log(left[1] / left[0]), -0.5 * values, rtol=0.06)


def test_a_step_beyond_the_bound_overshoots_and_beyond_twice_that_grows():
    left = linearisation.remaining([0.5, 1.5, 2.5], np.ones(3), range(4))
    np.testing.assert_allclose(left[:, 0], [1, 0.5, 0.25, 0.125])
    assert (np.sign(left[:, 1]) == [1, -1, 1, -1]).all()
    assert abs(left[3, 1]) < 1 < abs(left[3, 2])


def test_groups_double_from_one_of_every_class_and_cover_every_eigenvector_once():
    assert linearisation.groups(2560, 10) == [
        (0, 10), (10, 30), (30, 70), (70, 150), (150, 310), (310, 630), (630, 1270), (1270, 2560)
    ]  # fmt: skip
    assert linearisation.groups(7, 1) == [(0, 1), (1, 3), (3, 7)]
    assert linearisation.groups(9, 1) == [(0, 1), (1, 3), (3, 9)]
    assert linearisation.groups(5, 10) == [(0, 5)]
    for count in range(1, 200):
        found = linearisation.groups(count, 3)
        assert [k for start, stop in found for k in range(start, stop)] == list(range(count))


def test_progress_is_0_at_the_start_1_at_the_labels_and_the_share_of_the_way_between():
    rng = np.random.default_rng(0)
    residuals, groups = rng.normal(size=14), [(0, 2), (2, 6), (6, 14)]
    shares = np.repeat([0.9, 0.5, 0.1], [2, 4, 8])
    found = linearisation.progress(np.array([0 * residuals, shares * residuals, residuals]), residuals, groups)
    np.testing.assert_allclose(found, [[0, 0, 0], [0.9, 0.5, 0.1], [1, 1, 1]], atol=1e-15)
    sideways = np.array([residuals[1], -residuals[0], *np.zeros(12)])
    assert linearisation.progress(sideways, residuals, groups)[0] == pytest.approx(0)
    assert linearisation.growth(sideways, groups)[0] == pytest.approx(np.hypot(*residuals[:2]))


def test_in_function_space_too_a_student_lags_along_lower_groups_at_equal_growth_along_the_top():
    model = Linear(3)
    found = linearisation.spectrum(model.kernel, CLASSES)
    rates = np.full(4000, 0.9 / found.values[0])
    groups = linearisation.groups(len(found.values), CLASSES)
    zero = np.zeros_like(model.starts[0])
    teacher = model.run(zero, model.y, rates)
    grown = {}
    for name, target in (("onehot", model.y), ("student", teacher[3]), ("again", model.y)):
        moved = linearisation.along(model.run(zero, target, rates), found.vectors)
        grown[name] = linearisation.growth(moved, groups).T
    for below in range(1, len(groups)):
        curves = {name: (of[0], of[below]) for name, of in grown.items()}
        assert eigen.ratio(curves["onehot"], curves["student"]) < 0.95
        assert eigen.ratio(curves["onehot"], curves["again"]) == pytest.approx(1)


def test_drift_is_the_relative_distance_of_two_kernels():
    start = np.diag([3.0, 4.0])
    assert linearisation.drift(start, start) == 0
    assert linearisation.drift(start, 1.1 * start) == pytest.approx(0.1)
    assert linearisation.drift(start.astype(np.float32), np.array([[3, 0.3], [0.4, 4]])) == pytest.approx(0.1)


def test_eigenvalues_below_zero_by_rounding_are_zero_and_nothing_moves_there():
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 6)))[0].astype(np.float32)
    found = linearisation.spectrum(vectors @ vectors.T, 2)
    assert found.values.min() >= 0
    np.testing.assert_allclose(found.values[:6], 1 / 20, rtol=1e-5)
    left = linearisation.remaining(found.values, np.full(9, 10.0), [9])
    np.testing.assert_allclose(left[0, 6:], 1, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"optimizer": "nesterov"}, ""),
        ({"loss": "cross_entropy"}, "cross_entropy"),
        ({"distillation": "mse"}, ""),
        ({"distillation": "kd"}, "distillation loss is kd"),
        ({"distillation": "dkd"}, "distillation loss is dkd"),
        ({"optimizer": "adam"}, "adam"),
        ({"weight_decay": 1e-4}, "weight decay"),
        ({"augment": "crop"}, "augmented"),
        ({"mixup": 0.2}, "mixed"),
        ({"cutmix": 1.0}, "mixed"),
        ({"label_smoothing": 0.1}, "smoothed"),
        ({"switch": "onehot:kd@2"}, "switched"),
    ],
)
def test_a_filter_is_drawn_only_where_the_equation_holds(change, reason):
    study = Study.from_flags(**{"loss": "mse", "optimizer": "sgd"} | change)
    found = linearisation.obstacle(study.training, study.distillation)
    assert reason in found
    assert bool(found) == bool(reason)
    assert linearisation.obstacle(study.training, study.distillation, normalised=True)
