"""Many steps over data that lies on the device as integers: order, views, the teacher's logits, totals."""

from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.data.augment import random_views, standardise
from kd_jax.data.order import order as order
from kd_jax.losses import correct, one_hot
from kd_jax.models import Variables
from kd_jax.train import buckets
from kd_jax.train.step import whole

DROPOUT = 2**32 - 2  # in place of a step, which never gets there: the draws are independent of those of views and mixes


class Feed(NamedTuple):
    """What stays the same during a run, on the device.

    Attributes:
        x: uint8 [examples, height, width, channels], or token ids [examples, length].
        y: int32 [examples].
        key: of the run.
        teacher: the frozen teacher's `Variables`; None for a run on one-hot labels.
    """

    x: jax.Array
    y: jax.Array
    key: jax.Array
    teacher: Variables | None


@contextmanager
def open_feed(split, key, teacher=None, rows_of=None, *, place):
    """A `Feed` of all examples of a `data.Split`, put on the devices by `place`; `rows_of` is not needed."""
    yield place(Feed(split.x, split.y, key, teacher))


def make_train_on(step, view, teacher_apply=None, mix=None, shorten=whole, dropout=0.0):
    """Return `train_on(state, totals, feed, rows) -> (state, totals)`: one step on the examples `rows` [batch].

    Args:
        step: of `make_step`.
        view: `view(key, step, ids, x) -> float views`; the student and its teacher see the same.
        teacher_apply: `apply` of the teacher's `Model`, for runs whose feed has a teacher; what it returns, an `Outputs`, is
            `batch["teacher"]`. It runs with `train=False`, so its statistics stay as they are.
        mix: of `mixing.make_mix`, to mix the views and labels that both see; None to leave them.
        shorten: `shorten(run, x)` calls `run` with what the teacher needs of the views `x`; see `make_step`.
        dropout: share of features that the network drops; with 0 no keys are drawn.
    """

    def train_on(state, totals, feed, rows):
        batch = {"x": view(feed.key, state.step, rows, feed.x[rows]), "y": feed.y[rows]}
        if mix is not None:
            batch |= mix(feed, state.step, rows, batch["x"])
        if dropout:
            batch["keys"] = dropout_keys(feed.key, state.step, rows)
        if teacher_apply is not None:
            batch["teacher"] = shorten(lambda x: teacher_apply(feed.teacher, x, train=False), batch["x"])
        state, more = step(state, batch)
        return state, jax.tree.map(lambda total, new: (total + new).astype(total.dtype), totals, more)

    return train_on


def dropout_keys(key, step, ids):
    """Return a typed key per example [batch], which depends on (key, step, example) alone."""
    key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step)
    return jax.vmap(partial(jax.random.fold_in, key))(ids)


def make_clean_view(dataset, dtype):
    """Return `clean_view(x)`: uint8 images to standardised ones of `dtype`; of texts the token ids as they are, as int32."""
    if dataset.tokens:
        return lambda x: jnp.asarray(x, jnp.int32)
    return partial(standardise, mean=dataset.mean, std=dataset.std, dtype=dtype)


def make_view(dataset, study, dtype):
    """Return `view(key, step, ids, x)`: uint8 images to standardised random views [batch, ...] of `dtype`; texts as they are."""
    clean_view = make_clean_view(dataset, dtype)

    def view(key, step, ids, x):
        return random_views(key, step, ids, clean_view(x), study.augment)

    return view


def zero_totals(dtype):
    """Totals of no examples; the loss is summed in `dtype`."""
    return {"loss": jnp.zeros((), dtype), "correct": jnp.zeros((), jnp.int32), "count": jnp.zeros((), jnp.int32)}


def make_evaluate_on(apply, clean_view, label_loss=one_hot, shorten=whole):
    """Return `evaluate_on(variables, feed, rows, weights) -> totals` on clean views.

    Args:
        apply: of a `Model`.
        clean_view: of `make_clean_view`.
        label_loss: one of `losses.LABEL_LOSSES`.
        shorten: as for `make_train_on`.

    `rows` [batch] are example indices and `weights` [batch] are 1, or 0 for the padding that fills the last batch.
    """

    def evaluate_on(variables, feed, rows, weights):
        logits = shorten(lambda x: apply(variables, clean_view(x), train=False).logits, feed.x[rows])
        labels = feed.y[rows]
        return {
            "loss": (weights * label_loss(logits, labels)).sum(),
            "correct": (weights.astype(jnp.int32) * correct(logits, labels)).sum(),
            "count": weights.astype(jnp.int32).sum(),
        }

    return evaluate_on


def padded_rows(feed, batch_size):
    """`padded_batches` of all examples of a feed."""
    return padded_batches(len(feed.y), batch_size)


def sorted_rows(feed, batch_size):
    """The same in the order of their lengths, for a feed of texts."""
    rows, weights = padded_batches(len(feed.y), batch_size)
    return buckets.sorted_rows(feed.x, rows), weights


def padded_batches(examples, batch_size):
    """Return (rows, weights), both [batches, batch_size]: all examples once, then index 0 with weight 0 to fill up."""
    batches = -(-examples // batch_size)
    rows = np.zeros(batches * batch_size, np.int32)
    rows[:examples] = np.arange(examples)
    weights = (np.arange(len(rows)) < examples).astype(np.float32)
    return rows.reshape(batches, batch_size), weights.reshape(batches, batch_size)
