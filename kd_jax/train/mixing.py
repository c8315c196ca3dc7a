"""Examples mixed in pairs, image and label, on the device, inside jit: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Both papers shuffle a batch to pair it. Here each example draws a partner from the whole training set, and a share of its own, by
(key, step, example) alone: so it does not matter how a batch is split over devices or how often the program was restarted.
Every example of every batch is mixed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.config import Training

STREAM = 2**32 - 1  # stands in for a step, whose number never gets there: these draws are independent of those of views


def draw(
    key: jax.Array, step: Any, ids: Any, examples: int, alpha: float, dtype: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (partners, shares, keys), each [batch]: the partner of each example, the share that stays its own, a key for more.

    Args:
        key: the run's typed key.
        step: int scalar, the steps taken so far.
        ids: int [batch], the rows of the examples in the training set.
        examples: the size of the training set, at least 2. The partner is any other example.
        alpha: the share is drawn from Beta(alpha, alpha).
        dtype: the dtype of the share.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, STREAM), step)

    def of_example(i):
        partner_key, share_key, more = jax.random.split(jax.random.fold_in(key, i), 3)
        other = (i + 1 + jax.random.randint(partner_key, (), 0, examples - 1)) % examples
        return other, jax.random.beta(share_key, alpha, alpha, dtype=dtype), more

    return jax.vmap(of_example)(ids)


def blend(x: jax.Array, other: jax.Array, share: jax.Array, key: Any) -> tuple[jax.Array, jax.Array]:
    """Mixup of one image: return `share x + (1 - share) other`, and the share; the key is not used."""
    return share * x + (1 - share) * other, share


def paste(x: jax.Array, other: jax.Array, share: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """CutMix of one image: return it with a box of another in it, and the share of the pixels that are its own.

    The box has the image's proportions and about `1 - share` of its area. Its centre lies anywhere, so it can be cut off by the
    edge; the share that is returned counts the pixels that remain.

    Args:
        x, other: [height, width, channels].
        share: scalar, from 0 to 1.
        key: decides where the box lies.
    """
    inside = jnp.ones((), bool)
    for axis, (size, axis_key) in enumerate(zip(x.shape[:2], jax.random.split(key), strict=True)):
        length = jnp.floor(size * jnp.sqrt(1 - share)).astype(jnp.int32)
        start = jax.random.randint(axis_key, (), 0, size) - length // 2
        pixels = jnp.arange(size)
        inside = inside & jnp.expand_dims((pixels >= start) & (pixels < start + length), 1 - axis)
    own = (~inside).sum() / jnp.asarray(inside.size, x.dtype)
    return jnp.where(inside[..., None], other, x), own.astype(x.dtype)


def make_mix(
    training: Training, batch_of: Callable, view: Callable, classes: int, examples: int
) -> Callable[..., dict[str, jax.Array]] | None:
    """Return `mix(constants, step, ids, x, y) -> {"x", "y", "targets"}` of a batch, or None where nothing is mixed.

    It takes the views of a batch and its labels; a partner has the view that it would have at this step. `targets` [batch, classes]
    hold the shares of the two labels. The new `y` is the label with the larger share, against which training accuracy is counted.

    Args:
        training: how the network is trained.
        batch_of: `batch_of(resident, rows) -> (ids, x, y)`, `Dataset.batch` of data that lies on the device.
        view: `view(key, step, ids, x)`, `Dataset.random_view`.
        classes: the number of classes.
        examples: the size of the training set.
    """
    if not (training.mixup or training.cutmix):
        return None
    combine = blend if training.mixup else paste
    alpha = training.mixup or training.cutmix

    def mix(constants, step, ids, x, y):
        partners, shares, keys = draw(constants.key, step, ids, examples, alpha, x.dtype)
        partners, other_x, other_y = batch_of(constants.resident, partners)
        other_x = view(constants.key, step, partners, other_x)
        x, shares = jax.vmap(combine)(x, other_x, shares, keys)
        one_hot = partial(jax.nn.one_hot, num_classes=classes, dtype=x.dtype)
        targets = shares[:, None] * one_hot(y) + (1 - shares)[:, None] * one_hot(other_y)
        return {"x": x, "y": jnp.where(shares >= 0.5, y, other_y), "targets": targets}

    return mix
