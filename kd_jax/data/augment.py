"""From stored uint8 images to what a network sees, on the device, inside jit."""

from typing import Any

import jax
import jax.numpy as jnp


def standardise(x: Any, mean: Any, std: Any, dtype: Any) -> jax.Array:
    """Return `(x - mean) / std` for each channel.

    Args:
        x: uint8 [..., channels].
        mean, std: float [channels], in units of the stored uint8.
        dtype: the dtype of the result.
    """
    return (x.astype(dtype) - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def random_views(key: jax.Array, step: Any, ids: Any, x: jax.Array, kind: str) -> jax.Array:
    """Return a random view of each image, which depends on (key, step, example) alone.

    So it does not matter how a batch is split over devices or how often the program was restarted.

    Args:
        key: the run's typed key.
        step: int scalar, the steps taken so far.
        ids: int [batch], the rows of the examples in the training set.
        x: float [batch, height, width, channels], standardised: crops are padded with 0, the mean.
        kind: `none`; `crop`: padded by 4 and cropped back; `crop_flip`: that, and mirrored left to right half the time.
    """
    if kind == "none":
        return x
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda i, image: _random_view(jax.random.fold_in(key, i), image, kind == "crop_flip"))(ids, x)


def _random_view(key, image, flip):
    crop_key, flip_key = jax.random.split(key)
    offset = jax.random.randint(crop_key, (2,), 0, 9)
    padded = jnp.pad(image, ((4, 4), (4, 4), (0, 0)))
    image = jax.lax.dynamic_slice(padded, (offset[0], offset[1], 0), image.shape)
    if flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return image
