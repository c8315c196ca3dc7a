"""A step on what the data hands out: views, the teacher's outputs, totals; and evaluation. Inside jit."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.losses import correct, one_hot
from kd_jax.train.step import whole
from kd_jax.train.teachers import Constants as TeacherConstants
from kd_jax.train.teachers import Teach

DROPOUT = (
    2**32 - 2
)  # stands in for a step, whose number never gets there: these draws are independent of views and mixes
LOSS = 2**32 - 3  # the same, for losses that draw


class Constants(NamedTuple):
    """What stays the same during a run, on every device.

    Attributes:
        resident: the training examples that lie there, `Dataset.resident`.
        key: the run's typed key.
        teacher: what the teacher reads, such as its frozen variables; see `teachers`. None for a run on one-hot labels.
    """

    resident: Any
    key: jax.Array
    teacher: TeacherConstants | None


def make_train_on(
    step: Callable,
    batch_of: Callable,
    view: Callable,
    teach: Teach | None = None,
    mix: Callable | None = None,
    draws: float | bool = False,
    loss_draws: bool = False,
    teacher_rows: Callable = lambda key, step, ids: ids,
) -> Callable:
    """Return `train_on(state, totals, constants, item) -> (state, totals)`, one step on what the data hands out for it.

    Args:
        step: a step that `make_step` returned.
        batch_of: `batch_of(resident, item) -> (ids, x, y)`, `Dataset.batch`.
        view: `view(key, step, ids, x)`, `Dataset.random_view`; the student and its teacher see the same views.
        teach: a function of `teachers`, for runs that have a teacher; the `Outputs` that it returns are `batch["teacher"]`.
        mix: a function that `mixing.make_mix` returned, which mixes the views and labels that both see; None to leave them.
        draws: whether the network draws random numbers, as for dropout; without, no keys are made.
        teacher_rows: `teacher_rows(key, step, ids)`, what the teacher is given for the rows of the batch: the rows themselves, or
            those of a table of all views.
        loss_draws: whether the loss does; the batch then has `ids`, and `draws`, a typed key per example.
    """

    def train_on(state, totals, constants, item):
        ids, x, y = batch_of(constants.resident, item)
        batch = {"x": view(constants.key, state.step, ids, x), "y": y}
        if mix is not None:
            batch |= mix(constants, state.step, ids, batch["x"], y)
        if draws:
            batch["keys"] = dropout_keys(constants.key, state.step, ids)
        if loss_draws:
            batch |= {"ids": ids, "draws": example_keys(constants.key, LOSS, state.step, ids)}
        if teach is not None:
            batch["teacher"] = teach(constants.teacher, teacher_rows(constants.key, state.step, ids), batch["x"])
        state, more = step(state, batch)
        return state, jax.tree.map(lambda total, new: (total + new).astype(total.dtype), totals, more)

    return train_on


def dropout_keys(key: jax.Array, step: Any, ids: Any) -> jax.Array:
    """Return a typed key per example [batch], which depends on (key, step, example) alone."""
    return example_keys(key, DROPOUT, step, ids)


def example_keys(key: jax.Array, stream: int, step: Any, ids: Any) -> jax.Array:
    """Return a typed key per example [batch], which depends on (key, stream, step, example) alone."""
    key = jax.random.fold_in(jax.random.fold_in(key, stream), step)
    return jax.vmap(partial(jax.random.fold_in, key))(ids)


def zero_totals(dtype: Any) -> dict[str, np.ndarray]:
    """Return the totals of no examples; the loss is summed in `dtype`."""
    return {"loss": np.zeros((), dtype), "correct": np.zeros((), np.int32), "count": np.zeros((), np.int32)}


def make_evaluate_on(
    apply: Callable,
    batch_of: Callable,
    clean_view: Callable,
    label_loss: Callable = one_hot,
    on_shortest: Callable = whole,
) -> Callable:
    """Return `evaluate_on(variables, resident, item, weights) -> totals` on clean views.

    The weights [batch] are 1, or 0 for examples that only fill a batch up.

    Args:
        apply: the `apply` of a `Model`.
        batch_of: as for `make_train_on`.
        on_shortest: `on_shortest(run, x)` calls `run` with the part of the examples that the network needs; see `data.Dataset`.
        clean_view: `clean_view(x)`, `Dataset.clean_view`.
        label_loss: one of `losses.LABEL_LOSSES`.
    """

    def evaluate_on(variables, resident, item, weights):
        _, x, labels = batch_of(resident, item)
        logits = on_shortest(lambda x: apply(variables, clean_view(x), train=False).logits, x)
        return {
            "loss": (weights * label_loss(logits, labels)).sum(),
            "correct": (weights.astype(jnp.int32) * correct(logits, labels)).sum(),
            "count": weights.astype(jnp.int32).sum(),
        }

    return evaluate_on
