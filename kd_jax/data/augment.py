"""From stored uint8 images to what a network sees, on the device, inside jit."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

MARGIN = 4  # pixels of padding on each side, so that a window has 81 places
PLACES = 2 * MARGIN + 1  # of a window along each axis
VIEWS = {"none": 1, "crop": PLACES**2, "crop_flip": 2 * PLACES**2}  # {kind: how many different views an image has}


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
    corner, mirrored = _draws(key, step, ids)
    # TPUs cannot gather: windows at other places for each image become a loop over the images. On CPU that is quick, and trying
    # every place takes fifty times as long.
    x = jax.lax.platform_dependent(_padded(x), corner, tpu=_chosen_windows, default=_gathered_windows)
    return jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x) if kind == "crop_flip" else x


def view_numbers(key: jax.Array, step: Any, ids: Any, kind: str) -> jax.Array:
    """Return which view `random_views` makes of each image, int32 [batch], from 0 to below `VIEWS[kind]`; see `numbered_view`."""
    if kind == "none":
        return jnp.zeros(jnp.shape(ids), jnp.int32)
    corner, mirrored = _draws(key, step, ids)
    place = PLACES * corner[:, 0] + corner[:, 1]
    return 2 * place + mirrored if kind == "crop_flip" else place


def numbered_view(x: jax.Array, number: Any, kind: str) -> jax.Array:
    """Return the same view of all images: that which `random_views` makes of an image of this number of `view_numbers`.

    Args:
        x: float [batch, height, width, channels], standardised.
        number: int scalar.
        kind: as for `random_views`.
    """
    if kind == "none":
        return x
    place, mirrored = (number // 2, number % 2 == 1) if kind == "crop_flip" else (number, False)
    corner = place // PLACES, place % PLACES
    for axis, at in zip((1, 2), corner, strict=True):
        margin = [(MARGIN, MARGIN) if each == axis else (0, 0) for each in range(4)]
        x = jax.lax.dynamic_slice_in_dim(jnp.pad(x, margin), at, x.shape[axis], axis)
    return jnp.where(mirrored, x[:, :, ::-1], x)


def _draws(key, step, ids):
    """Return (corners [batch, 2], whether to mirror [batch]) of the views of a step."""
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda i: _drawn(jax.random.fold_in(key, i)))(ids)


def _drawn(key):
    """Return (corner, int32 [2] from 0 to 8; whether to mirror) of one image."""
    crop_key, flip_key = jax.random.split(key)
    return jax.random.randint(crop_key, (2,), 0, PLACES), jax.random.bernoulli(flip_key)


def _padded(x):
    return jnp.pad(x, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))


def _gathered_windows(padded, corner):
    """Return the windows [batch, height, width, channels] whose corners are at `corner`, int [batch, 2], of padded images."""
    _, height, width, channels = padded.shape
    shape = height - 2 * MARGIN, width - 2 * MARGIN, channels
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), shape))(padded, corner)


def _chosen_windows(padded, corner):
    """The same as `_gathered_windows`, without an index that depends on the data."""
    for axis in (1, 2):
        size, at = padded.shape[axis] - 2 * MARGIN, corner[:, axis - 1, None, None, None]
        shifted = [jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(PLACES)]
        choices = list(enumerate(shifted))[1:]
        padded = reduce(lambda found, choice: jnp.where(at == choice[0], choice[1], found), choices, shifted[0])
    return padded
