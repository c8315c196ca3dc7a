"""The tangent kernel against the Jacobian written out, and a closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import models
from kd_jax.models import Variables, tangent

CLASSES = 3


def network(name):
    """(logits, variables, x [5 examples]) of a small network in float64."""
    x = np.random.default_rng(0).normal(size=(5, 6, 6, 2))
    model = models.build(name, CLASSES, "float64")
    return lambda variables, x: model.apply(variables, x).logits, model.init(jax.random.key(1), x), x


def test_the_kernel_is_the_jacobian_times_its_transpose(float64):
    logits, variables, x = network("cnn_4")
    jacobian = jax.jacrev(lambda params: logits(variables._replace(params=params), x).reshape(-1))(variables.params)
    jacobian = np.concatenate([leaf.reshape(5 * CLASSES, -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
    found = tangent.make_kernel(logits, batch=2)(variables, x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, jacobian @ jacobian.T, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found, found.T, rtol=1e-10, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-10


def test_the_kernel_does_not_depend_on_how_it_is_batched(float64, monkeypatch):
    logits, variables, x = network("mlp_7")
    at_once = tangent.make_kernel(logits)(variables, x)
    for batch, rows in ((2, 2), (4, 3)):
        monkeypatch.setattr(tangent, "ROWS", rows)
        np.testing.assert_allclose(tangent.make_kernel(logits, batch)(variables, x), at_once, rtol=1e-12, atol=1e-12)


def test_the_kernel_of_a_linear_model_is_that_of_its_inputs(float64):
    """z = x W + b: gradients of different classes share no parameter, those of one have x_i.x_j + 1 in common."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 4))
    variables = Variables({"w": rng.normal(size=(4, CLASSES)), "b": np.zeros(CLASSES)}, {})
    found = tangent.make_kernel(lambda v, x: jnp.asarray(x) @ v.params["w"] + v.params["b"], batch=3)(variables, x)
    np.testing.assert_allclose(found, np.kron(x @ x.T + 1, np.eye(CLASSES)), atol=1e-12)


def test_a_small_step_of_gradient_descent_moves_the_function_by_the_kernel(float64):
    logits, variables, x = network("mlp_7x5")
    targets = np.eye(CLASSES)[[0, 1, 2, 0, 1]]
    theta = tangent.make_kernel(logits)(variables, x)

    def loss(params):
        return 0.5 * jnp.mean(jnp.sum((logits(variables._replace(params=params), x) - targets) ** 2, axis=1))

    before, rate = logits(variables, x), 1e-6
    stepped = jax.tree.map(lambda leaf, slope: leaf - rate * slope, variables.params, jax.grad(loss)(variables.params))
    moved = (logits(variables._replace(params=stepped), x) - before).reshape(-1) / rate
    expected = theta @ np.asarray(targets - before).reshape(-1) / len(x)
    np.testing.assert_allclose(moved, expected, atol=1e-4 * np.abs(expected).max())


def test_gradients_held_at_once_are_as_many_as_fit(monkeypatch):
    params = {"w": np.zeros((10, 10)), "b": np.zeros(10)}
    monkeypatch.setattr(tangent, "GRADIENT_BYTES", 4 * 110 * CLASSES * 8)
    assert tangent._fitting(params, CLASSES, 8) == 4
    assert tangent._fitting(params, 100, 8) == 1
