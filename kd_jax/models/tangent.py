"""The empirical neural tangent kernel: how a step on one example's logit moves another's (Jacot, Gabriel and Hongler, 2018).

Theta[(i, c), (j, c')] is the inner product of the gradients of logit c of example i and of logit c' of example j with respect to
all parameters. It is the matrix by which gradient descent moves the function at that moment, whatever the network.
"""

import jax
import numpy as np

GRADIENT_BYTES = 2**27  # of the gradients held at once, about; a few times as much is at work
ROWS = 64  # examples along which gradients are pushed at once: their activations, times those gradients, are in memory


def make_kernel(logits, batch=None):
    """Return `kernel(variables, x) -> NumPy [examples * classes, examples * classes]`, the kernel in evaluation mode.

    Rows and columns are ordered as `logits.reshape(-1)`: examples, and within an example its classes. A column is two products
    with the Jacobian, which is never written down: the gradient of a logit, which needs its own example alone, and the
    derivative of all logits in its direction. Memory is that of `batch * classes` gradients, whatever the number of examples;
    the time, examples * classes pushes through all examples, halved by symmetry.

    Args:
        logits: `logits(variables, x) -> [examples, classes]`, pure, and of an example by itself: normalisation with running, not
            batch statistics. Its dtype is the kernel's.
        batch: examples whose gradients are held at once; by default as many as fit `GRADIENT_BYTES`, at least one. The kernel
            does not depend on it, beyond rounding.

    The kernel's arguments are the `Variables` of a network, of which `params` are differentiated, and `x` [examples, ...]
    as `logits` takes it.
    """

    @jax.jit
    def gradients(variables, x):
        """Of every logit of every example: a tree like the parameters of [examples, classes, ...]."""

        def of_example(x):
            return jax.jacrev(lambda params: logits(variables._replace(params=params), x[None])[0])(variables.params)

        # Without this a GPU would multiply in TF32, with three digits.
        with jax.default_matmul_precision("highest"):
            return jax.vmap(of_example)(x)

    @jax.jit
    def products(variables, directions, x):
        """Derivatives of the logits of `x` along parameter directions, [examples, classes] before the directions' axes."""
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
    """Number of examples whose gradients fit `GRADIENT_BYTES`."""
    of_example = classes * itemsize * sum(leaf.size for leaf in jax.tree.leaves(params))
    return max(1, GRADIENT_BYTES // of_example)


def _filled(x, count):
    """`x` repeated from its start up to `count` examples, so that every call has one shape and compiles once."""
    return np.resize(x, (count, *x.shape[1:]))
