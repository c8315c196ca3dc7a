"""From stored uint8 images to what a network sees, on the device, inside jit."""

import jax
import jax.numpy as jnp


def standardise(x, mean, std, dtype):
    """Return `(x - mean) / std` per channel.

    Args:
        x: uint8 [..., channels].
        mean, std: float [channels], in units of the stored uint8.
        dtype: of the result.
    """
    return (x.astype(dtype) - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def random_views(key, step, ids, x, kind):
    """Return a random view of each image; which one depends on (key, step, example) alone.

    So it does not matter how a batch is split over devices or how often the program was restarted.

    Args:
        key: of the run.
        step: int scalar.
        ids: int [batch], the examples' ids.
        x: float [batch, height, width, channels], standardised: crops are padded with 0, the mean.
        kind: `none`; `crop`: padded by 4 and cropped back; `crop_flip`: that, and mirrored left to right half the time;
            `resized_crop_flip`: nothing more, for it was drawn on the host, where the image was decoded.
    """
    if kind in ("none", "resized_crop_flip"):
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
