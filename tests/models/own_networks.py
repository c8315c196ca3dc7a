"""Networks as users write them, for the tests of networks of one's own."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kd_jax.models import feature


class Dropped(nn.Module):
    """Dropout, no state, a required word for training."""

    num_classes: int
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x, training):
        x = nn.relu(nn.Dense(16)(x.reshape(len(x), -1)))
        x = feature(self, "penultimate", nn.Dropout(self.dropout)(x, deterministic=not training))
        return nn.Dense(self.num_classes)(x)


class Normed(nn.Module):
    """Batch statistics and dropout, told about training by attributes alone."""

    classes: int
    deterministic: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2, padding=((1, 0), (0, 1)))(x)
        x = nn.BatchNorm(use_running_average=self.deterministic, momentum=0.8)(x)
        x = nn.Dropout(0.3, deterministic=self.deterministic)(x)
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


class Still(nn.Module):
    """Nothing to draw, no word for training, no argument for the number of classes; counts its calls in a collection of its own."""

    @nn.compact
    def __call__(self, x):
        seen = self.variable("counts", "seen", lambda: jnp.zeros((), jnp.int32))
        if not self.is_initializing() and self.is_mutable_collection("counts"):
            seen.value += 1
        self.sow("intermediates", "mean", x.mean())
        pair = self.param("pair", lambda key: (jnp.ones(x.shape[-1]), [jnp.zeros(3)]))
        return nn.Dense(3)(x.reshape(len(x), -1)) + pair[1][0] * pair[0].sum()


class Plain(nnx.Module):
    """An NNX network without batch statistics."""

    def __init__(self, in_features, classes, *, rngs, dropout_rate=0.5):
        self.layers = nnx.List([nnx.Linear(in_features, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)])
        self.drop = nnx.Dropout(dropout_rate, rngs=rngs)
        self.out = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.out(feature(self, "penultimate", self.drop(x)))


class Convolved(nnx.Module):
    """An NNX network with batch statistics."""

    def __init__(self, input_shape, num_classes, *, rngs, param_dtype=jnp.float32):
        self.conv = nnx.Conv(input_shape[-1], 4, (3, 3), strides=2, padding="SAME", rngs=rngs, param_dtype=param_dtype)
        self.norm = nnx.BatchNorm(4, momentum=0.8, rngs=rngs, param_dtype=param_dtype)
        self.head = nnx.Linear(4, num_classes, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))).mean(axis=(1, 2)))


def made(classes, width=4):
    """A function that returns a linen module."""
    return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(width), nn.relu, nn.Dense(classes)])


def made_nnx(in_channels, classes, rngs):
    """A function that returns an NNX module; for images of 8x8."""
    return Convolved((8, 8, in_channels), classes, rngs=rngs)


class Reader(nn.Module):
    """A network for texts."""

    classes: int
    vocabulary: int

    @nn.compact
    def __call__(self, x, train=False):
        real = (x != 1)[..., None]
        y = jnp.where(real, nn.Dense(6, name="mixed")(nn.Embed(self.vocabulary, 6, name="tokens")(x)), 0)
        return nn.Dense(self.classes)(y.sum(axis=1) / real.sum(axis=1))


# ---- what cannot be used


class Needy(nn.Module):
    """Needs what no study has."""

    classes: int
    heads: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


class Broken(nn.Module):
    """Raises inside."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x @ jnp.ones((5, 2)))


class Unready(nn.Module):
    """Is made, and then raises."""

    def __post_init__(self):
        raise RuntimeError("no\nway")


class NoBatch(nn.Module):
    """Takes nothing."""

    def __call__(self):
        return jnp.zeros((2, 3))


class Fussy(nn.Module):
    """Needs a mask."""

    classes: int

    @nn.compact
    def __call__(self, x, mask):
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


class Pairs(nn.Module):
    """Returns more than logits."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x.reshape(len(x), -1)), x


class Decided(nn.Module):
    """Returns classes."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return jnp.round(nn.Dense(self.classes)(x.reshape(len(x), -1))).astype(jnp.int32)


class PerPixel(nn.Module):
    """Keeps the axes of images."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x)


class Infinite(nn.Module):
    """Starts at no number."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return jnp.log(-jnp.abs(nn.Dense(self.classes)(x.reshape(len(x), -1))) - 1)


class Likely(nn.Module):
    """Returns probabilities."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.softmax(nn.Dense(self.classes)(x.reshape(len(x), -1)))


class Dicey(nn.Module):
    """Draws its initial values from elsewhere."""

    classes: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param(
            "kernel", lambda key: jnp.asarray(np.random.normal(size=(x[0].size, self.classes)), jnp.float32)
        )
        return x.reshape(len(x), -1) @ kernel


class Fixed(nn.Module):
    """Has nothing to train."""

    classes: int

    def __call__(self, x):
        return x.reshape(len(x), -1)[:, : self.classes]


class Restless(nn.Module):
    """Drops in evaluation too."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(self.classes)(x.reshape(len(x), -1)))


class Grows(nn.Module):
    """Its state changes its form."""

    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        last = self.variable("last", "x", lambda: jnp.zeros(()))
        if train:
            last.value = x.mean(axis=0)
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


def no_rngs(classes):
    """An NNX module whose initial values do not depend on a seed."""
    return Plain(64, classes, rngs=nnx.Rngs(0))


def no_module(classes):
    """No network at all."""
    return {"classes": classes}


VALUES = Plain(64, 3, rngs=nnx.Rngs(0))
NUMBER = 3
