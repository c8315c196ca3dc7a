"""From stored uint8 images to what a network sees, on the device, inside jit."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.data.dataset import LANES

MARGIN = 4  # pixels of padding on each side, so that a window has 81 places
PLACES = 2 * MARGIN + 1  # of a window along each axis
VIEWS = {"none": 1, "crop": PLACES**2, "crop_flip": 2 * PLACES**2}  # {kind: how many different views an image has}
SUBLANES = 8  # of a TPU's tile of words of 32 bits, which is so many by LANES
BYTES = 3  # of a word that hold a pixel; the fourth says that it is one


def standardise(x: Any, mean: Any, std: Any, dtype: Any) -> jax.Array:
    """Return `(x - mean) / std` for each channel.

    Args:
        x: integers from 0 to 255, [..., channels].
        mean, std: float [channels], in units of the stored uint8.
        dtype: the dtype of the result.
    """
    return (x.astype(dtype) - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def random_views(
    key: jax.Array, step: Any, ids: Any, x: jax.Array, kind: str, clean: Callable[[Any], jax.Array] = lambda x: x
) -> jax.Array:
    """Return a random view of each image, which depends on (key, step, example) alone.

    So it does not matter how a batch is split over devices or how often the program was restarted.

    Args:
        key: the run's typed key.
        step: int scalar, the steps taken so far.
        ids: int [batch], the rows of the examples in the training set.
        x: [batch, height, width, channels], images as `clean` takes them.
        kind: `none`; `crop`: padded by 4 and cropped back; `crop_flip`: that, and mirrored left to right half the time.
        clean: standardises images, pixel by pixel; the views are of what it returns. Crops are padded with 0, the mean.
    """
    if kind == "none":
        return clean(x)
    corner, mirrored = _draws(key, step, ids)
    mirrored = mirrored if kind == "crop_flip" else None

    def viewed(windows, x, corner):
        x = windows(_padded(clean(x)), corner)
        return x if mirrored is None else jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)

    # TPUs cannot gather: windows at other places for each image become a loop over the images. On CPU that is quick, and trying
    # every place takes fifty times as long.
    of_words = partial(_views_of_words, mirrored=mirrored, clean=clean)
    on_tpu = of_words if _fill_tiles(x) else partial(viewed, _chosen_windows)
    return jax.lax.platform_dependent(x, corner, tpu=on_tpu, default=partial(viewed, _gathered_windows))


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
        padded = _chosen(padded, corner[:, axis - 1, None, None, None], axis)
    return padded


def _chosen(padded, at, axis):
    """Return the parts of an array that begin at `at`, from 0 to 8, along an axis, and are as long as it without its margins."""
    size = padded.shape[axis] - 2 * MARGIN
    shifted = [jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(PLACES)]
    choices = list(enumerate(shifted))[1:]
    return reduce(lambda found, choice: jnp.where(at == choice[0], choice[1], found), choices, shifted[0])


def _fill_tiles(x):
    """Whether images are stored bytes, and so many that as words they fill a TPU's tiles."""
    batch, *_, channels = x.shape
    return x.dtype == jnp.uint8 and channels <= BYTES and batch % (SUBLANES * LANES) == 0


def _views_of_words(x, corner, mirrored, clean):
    """The same views of stored bytes, for a TPU: a pixel is a word of 32 bits, and the batch lies in sublanes and lanes.

    A TPU works on tiles of 8 sublanes by 128 lanes. With the batch in the lanes alone and the channels, three, in the sublanes,
    most of a tile is empty; as words every tile is full, there is one where there were three, and a shift moves whole tiles.
    """
    batch, height, width, channels = x.shape
    tiles = batch // LANES, LANES
    # Through floats, which the compiler transposes in half the time; they hold every byte exactly.
    x = x.reshape(*tiles, -1).astype(jnp.bfloat16).transpose(2, 0, 1).astype(jnp.int32)
    x = x.reshape(height, width, channels, *tiles)
    words = reduce(jnp.bitwise_or, [x[:, :, channel] << 8 * channel for channel in range(channels)])
    words |= 1 << 8 * BYTES  # not padding
    for axis in (0, 1):
        margin = [(MARGIN, MARGIN) if each == axis else (0, 0) for each in range(words.ndim)]
        words = _chosen(jnp.pad(words, margin), corner[:, axis].reshape(tiles), axis)
    if mirrored is not None:
        words = jnp.where(mirrored.reshape(tiles), words[:, ::-1], words)
    x = jnp.stack([words >> 8 * channel & 255 for channel in range(channels)], axis=-1)
    x = jnp.where((words >> 8 * BYTES)[..., None] == 1, clean(x), 0)
    return x.transpose(2, 3, 0, 1, 4).reshape(batch, height, width, channels)
