"""Losses on labels, per example, and what is counted beside them."""

import jax
import jax.numpy as jnp
import optax


def one_hot(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the cross-entropy with integer labels [batch], in nats.

    >>> one_hot(jnp.zeros((1, 4)), jnp.array([2])).item() == jnp.log(4).item()
    True
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return half the squared distance of the logits from the one-hot label, summed over classes: `1/2 |z - onehot|^2`."""
    return squared_error_to(logits, jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype))


def squared_error_to(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return half the squared distance of the logits from soft labels [batch, classes], summed over classes."""
    return 0.5 * jnp.square(logits - targets).sum(-1)


LABEL_LOSSES = {"cross_entropy": one_hot, "mse": squared_error}
SOFT_LOSSES = {"cross_entropy": optax.softmax_cross_entropy, "mse": squared_error_to}


def smoothed(targets: jax.Array, smoothing: float) -> jax.Array:
    """Return soft labels [batch, classes] of which the share `smoothing` is spread evenly (Szegedy et al. 2016, section 7).

    >>> smoothed(jnp.array([[1.0, 0.0]]), 0.5).tolist()
    [[0.75, 0.25]]
    """
    return (1 - smoothing) * targets + smoothing / targets.shape[-1]


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 where the largest logit is the label's, else 0, as int32 [batch].

    >>> correct(jnp.array([[0.0, 2.0], [1.0, 0.5]]), jnp.array([1, 1])).tolist()
    [1, 0]
    """
    return (logits.argmax(-1) == labels).astype(jnp.int32)
