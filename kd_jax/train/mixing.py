"""Examples mixed in pairs, image and label, on the device, inside jit: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Both papers shuffle a batch to pair it. Here each example draws a partner from the whole training set, and a share of its own, by
(key, step, example) alone: so it does not matter how a batch is split over devices or how often the program was restarted.
Every example of every batch is mixed.
"""

from functools import partial

import jax
import jax.numpy as jnp

# In place of a step, which never gets there: the draws are independent of those of the views.
STREAM = 2**32 - 1


def draw(key, step, ids, examples, alpha, dtype):
    """Return (partners, shares, keys), each [batch]: whom an example is mixed with, what is left of it, a key for more.

    Args:
        key: of the run.
        step: int scalar.
        ids: int [batch], the examples' ids.
        examples: size of the training set, at least 2. The partner is any other example.
        alpha: the share is drawn from Beta(alpha, alpha).
        dtype: of the share.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, STREAM), step)

    def of_example(i):
        partner_key, share_key, more = jax.random.split(jax.random.fold_in(key, i), 3)
        other = (i + 1 + jax.random.randint(partner_key, (), 0, examples - 1)) % examples
        return other, jax.random.beta(share_key, alpha, alpha, dtype=dtype), more

    return jax.vmap(of_example)(ids)


def blend(x, other, share, key):
    """mixup: return `share x + (1 - share) other` and the share, of one image; the key is not needed."""
    return share * x + (1 - share) * other, share


def paste(x, other, share, key):
    """CutMix: return an image with a box of another in it, and the share of the pixels that are its own.

    The box has the image's proportions and about `1 - share` of its area. Its centre lies anywhere, so it can be cut off by the
    edge; the share is that of whole pixels after that.

    Args:
        x, other: [height, width, channels].
        share: scalar.
        key: decides where the box lies.
    """
    inside = jnp.ones((), bool)
    for axis, (size, axis_key) in enumerate(zip(x.shape[:2], jax.random.split(key), strict=True)):
        length = jnp.floor(size * jnp.sqrt(1 - share)).astype(jnp.int32)
        start = jax.random.randint(axis_key, (), 0, size) - length // 2
        place = jnp.arange(size)
        inside = inside & jnp.expand_dims((place >= start) & (place < start + length), 1 - axis)
    own = (~inside).sum() / jnp.asarray(inside.size, x.dtype)
    return jnp.where(inside[..., None], other, x), own.astype(x.dtype)


def make_mix(study, view, classes):
    """Return `mix(feed, step, rows, x) -> {"x", "y", "targets"}` of a batch, or None for a study that mixes nothing.

    `x` are the views of the examples `rows`; a partner has the view that it would have at this step. `targets` [batch, classes] are
    the shares of the two labels. `y` is the label with the larger one, against which training accuracy is counted.

    Args:
        study: a `kd_jax.config.Study`.
        view: `view(key, step, ids, x) -> float views`.
        classes: number of classes.
    """
    if not (study.mixup or study.cutmix):
        return None
    combine = blend if study.mixup else paste
    alpha = study.mixup or study.cutmix

    def mix(feed, step, rows, x):
        partners, shares, keys = draw(feed.key, step, rows, len(feed.y), alpha, x.dtype)
        x, shares = jax.vmap(combine)(x, view(feed.key, step, partners, feed.x[partners]), shares, keys)
        own, other = feed.y[rows], feed.y[partners]
        one_hot = partial(jax.nn.one_hot, num_classes=classes, dtype=x.dtype)
        targets = shares[:, None] * one_hot(own) + (1 - shares)[:, None] * one_hot(other)
        return {"x": x, "y": jnp.where(shares >= 0.5, own, other), "targets": targets}

    return mix
