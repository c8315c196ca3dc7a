"""The empirical neural tangent kernel: how a step on one example's logit moves another's (Jacot, Gabriel and Hongler, 2018).

Its entry Theta[(i, c), (j, c')] is the inner product of the gradients of logit c of example i and of logit c' of example j with
respect to all parameters. A small step of gradient descent moves the logits by minus the learning rate times this matrix times
the gradient of the loss with respect to the logits.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kd_jax.models.variables import Variables

GRADIENT_BYTES = 2**27  # about the size of the gradients held at once; the computation takes a few times as much memory
ROWS = 64  # examples whose derivatives are taken at once; memory holds their activations once per gradient


def make_kernel(
    logits: Callable[[Variables, Any], jax.Array], batch: int | None = None
) -> Callable[[Variables, Any], np.ndarray]:
    """Return a function `kernel(variables, x)` that computes the kernel, [examples * classes, examples * classes].

    It takes the `Variables` of a network, of which `params` are differentiated, and `x` [examples, ...] as `logits` takes it. Rows
    and columns are in the order of `logits.reshape(-1)`: by example, and within an example by class.

    A column is two products with the Jacobian, which is never written down: the gradient of a logit, which needs its own example
    alone, and the derivative of all logits in its direction. Memory is that of `batch * classes` gradients, whatever the number of
    examples. Time is that of examples * classes derivatives of all logits, halved by symmetry.

    Args:
        logits: a pure function `logits(variables, x) -> [examples, classes]`. The logits of an example must depend on that example
            alone, so normalisation is with running statistics, not with those of a batch. The kernel has its dtype.
        batch: the number of examples whose gradients are held at once; None for as many as fit `GRADIENT_BYTES`, at least one.
            The kernel does not depend on it but for rounding.
    """

    @jax.jit
    def gradients(variables, x):
        """Return the gradient of every logit: a tree like the parameters, of arrays [examples, classes, ...]."""

        def of_example(x):
            return jax.jacrev(lambda params: logits(variables._replace(params=params), x[None])[0])(variables.params)

        # Without this a GPU would multiply in TF32, with three digits.
        with jax.default_matmul_precision("highest"):
            return jax.vmap(of_example)(x)

    @jax.jit
    def products(variables, directions, x):
        """Return the derivatives of all logits along directions in parameters, [examples, classes, *axes of the directions]."""
        with jax.default_matmul_precision("highest"):
            _, push = jax.linearize(lambda params: logits(variables._replace(params=params), x), variables.params)
            return jax.vmap(jax.vmap(push, out_axes=2), out_axes=2)(directions)

    def kernel(variables, x):
        x = np.asarray(x)
        shape = jax.eval_shape(logits, variables, x)
        examples, classes = shape.shape
        columns = batch or _fitting(variables.params, classes, shape.dtype.itemsize)
        columns, rows = min(columns, examples), min(ROWS, examples)
        theta = np.empty((examples, classes, examples, classes), shape.dtype)
        for start in range(0, examples, columns):
            right = slice(start, min(start + columns, examples))
            found = gradients(variables, _filled(x[right], columns))
            # What lies above was found with an earlier gradient, from the other side.
            for begin in range(start // rows * rows, examples, rows):
                left = slice(begin, min(begin + rows, examples))
                block = np.asarray(products(variables, found, _filled(x[left], rows)))
                block = block[: left.stop - left.start, :, : right.stop - right.start]
                theta[left, :, right] = block
                theta[right, :, left] = block.transpose(2, 3, 0, 1)
        return theta.reshape(examples * classes, examples * classes)

    return kernel


def _fitting(params, classes, itemsize):
    """Return the number of examples whose gradients fit into `GRADIENT_BYTES`, at least one."""
    of_example = classes * itemsize * sum(leaf.size for leaf in jax.tree.leaves(params))
    return max(1, GRADIENT_BYTES // of_example)


def _filled(x, count):
    """Return `x` repeated from its start up to `count` examples: with one shape for all calls, they compile once."""
    return np.resize(x, (count, *x.shape[1:]))
