"""A batch that is split over devices, seen as one; see `types.Loss.relates`.

Each function does without an axis, for one device. With one, gradients of what it returns flow back to all devices, so the mean
over devices of their gradients is the gradient of the whole batch's mean loss.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def whole(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Return the examples of all devices, in order: [devices * batch, ...] of [batch, ...]."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def own_rows(batch: int, axis_name: str | None) -> jax.Array:
    """Return where the examples of this device are in the whole batch, int [batch]."""
    rows = jnp.arange(batch)
    return rows if axis_name is None else rows + batch * jax.lax.axis_index(axis_name)


def mean(x: jax.Array, axis_name: str | None, axes: Sequence[int] = (0,)) -> jax.Array:
    """Return the mean over the examples of all devices, and over further axes; the axes are kept, with size 1."""
    here = x.mean(tuple(axes), keepdims=True)
    return here if axis_name is None else jax.lax.pmean(here, axis_name)


def size(batch: int, axis_name: str | None) -> int:
    """Return the number of examples of all devices."""
    return batch if axis_name is None else batch * jax.lax.axis_size(axis_name)
