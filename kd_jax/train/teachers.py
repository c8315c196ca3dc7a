"""What a student learns from besides labels: a function of a batch, from a frozen network or from a table of answers.

A teacher is `teach(constants, ids, x) -> Outputs`: of the rows of a batch in the training set, and of the views that the student
sees. Its constants are a pytree that lies on every device during a run: the variables of a network, or a `Table`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.models import Outputs, Variables
from kd_jax.train.step import whole

Teach = Callable[[Any, Any, Any], Outputs]


class Table(NamedTuple):
    """A teacher's answers to the training set, a row per example, or for each view of each example, the views of one side by side.

    Attributes:
        values: logits, float [examples, classes] or [examples * views, classes], perhaps with zeros behind them; or
            log-probabilities of some classes of each example [examples, k].
        indices: those classes, int [examples, k]; None where `values` has all.
        rest: the log-probability of each of the other classes, float [examples]; None where `values` has all.
    """

    values: Any
    indices: Any = None
    rest: Any = None


Constants = Variables | Table


def from_network(
    apply: Callable[..., Outputs],
    on_shortest: Callable[[Callable, Any], Any] = whole,
    adapt: Callable[[jax.Array], jax.Array] | None = None,
) -> Teach:
    """Return a teacher that is a frozen network; its constants are the network's `Variables`.

    It runs in evaluation mode on the views that the student sees, so its statistics stay as they are.

    Args:
        apply: the `apply` of a `Model`.
        on_shortest: `on_shortest(run, x)` calls `run` with the part of the views that the network needs; see `data.Dataset`.
        adapt: makes the teacher's input of the student's, as `restandardised` does; None where they are the same.
    """

    def teach(variables, ids, x):
        variables = jax.lax.platform_dependent(
            variables, ids, tpu=_of_this_step, default=lambda variables, ids: variables
        )
        return on_shortest(partial(apply, variables, train=False), x if adapt is None else adapt(x))

    return teach


def _of_this_step(variables, ids):
    """The same variables, of which a TPU's compiler cannot know that they are the same at every step.

    It would take the kernels of convolutions out of the loop over steps, in an order that suits it there, and in which they are
    slower to use; see `models.convolution`.
    """
    zero = 0 * ids.ravel()[0].astype(jnp.float32)  # of floats a compiler cannot say so: 0 times infinity is not 0
    return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype) if leaf.ndim == 4 else leaf, variables)


def from_table(classes: int, dtype: Any) -> Teach:
    """Return a teacher that looks its answers up; its constants are a `Table`. It has no features.

    Args:
        classes: the number of classes.
        dtype: the dtype of the logits.
    """

    def teach(table, ids, x):
        logits = table.values[ids].astype(dtype)
        if table.indices is not None:
            rest = jnp.broadcast_to(table.rest[ids].astype(dtype)[:, None], (len(ids), classes))
            logits = rest.at[jnp.arange(len(ids))[:, None], table.indices[ids]].set(logits)
        elif logits.shape[1] > classes:
            logits = logits[:, :classes]
        return Outputs(logits, {}, {})

    return teach


def rows_of_views(count: int, numbers: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Return `rows(key, step, ids)`: the rows, in a table with all views of every example, of what a step shows of its examples.

    Args:
        count: how many views an example has.
        numbers: `numbers(key, step, ids)`, which of them a step shows; see `data.Dataset.view_numbers`.
    """
    return lambda key, step, ids: ids * count + numbers(key, step, ids)


def restandardised(
    mean: Sequence[float] | np.ndarray,
    std: Sequence[float] | np.ndarray,
    own_mean: Sequence[float] | np.ndarray,
    own_std: Sequence[float] | np.ndarray,
) -> Callable[[jax.Array], jax.Array] | None:
    """Return a function from images standardised for the student to the same images standardised for its teacher.

    A network's first layer belongs to the mean and the deviation that it was trained with. None where both have the same.

    Args:
        mean, std: with which the student's images are standardised, float [channels].
        own_mean, own_std: with which the teacher's were.
    """
    mean, std, own_mean, own_std = (np.asarray(values, np.float64) for values in (mean, std, own_mean, own_std))
    if np.array_equal(mean, own_mean) and np.array_equal(std, own_std):
        return None
    factor, shift = std / own_std, (mean - own_mean) / own_std
    return lambda x: x * jnp.asarray(factor, x.dtype) + jnp.asarray(shift, x.dtype)
