"""Linear models of the inputs themselves, and of fixed random features of them."""

from functools import cache
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from kd_jax.models.parts import PENULTIMATE, feature

FEATURE_SEED = 0


class RandomFeatures(nn.Module):
    """A linear model of the ReLU of a fixed random projection. Its one dense layer is trained, and starts at zero.

    The projection is part of the architecture, not of the variables: it depends on the number of features and of inputs alone.
    So teacher, student and one-hot twin share their features, as the paper's theorem asks; checkpoints do not hold it; and the
    features, which are the inputs of `Dense_0`, have the same eigendirections in every run.

    Attributes:
        features: the number of random features.
        classes: the number of outputs.
    """

    features: int
    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None  # nothing is averaged over devices; every network has this attribute

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        x = nn.relu(x @ jnp.asarray(_projection(x.shape[1], self.features), self.dtype))
        return _head(self)(feature(self, PENULTIMATE, x)).astype(self.param_dtype)


class Linear(nn.Module):
    """One dense layer, which starts at zero as in the paper's theorem, so that a seed decides nothing but the order of the data.

    Attributes:
        classes: the number of outputs.
    """

    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        x = feature(self, PENULTIMATE, x.reshape(x.shape[0], -1))
        return _head(self)(x).astype(self.param_dtype)


def _head(model):
    """Return a dense layer inside `model` whose weights start at zero."""
    zeros = nn.initializers.zeros_init()
    return nn.Dense(model.classes, kernel_init=zeros, dtype=model.dtype, param_dtype=model.param_dtype)


@cache
def _projection(inputs, features):
    """Return normal weights of variance 2 / inputs, float32 [inputs, features]; features then have the mean square of inputs."""
    rng = np.random.default_rng(FEATURE_SEED)
    return (rng.normal(size=(inputs, features)) * np.sqrt(2 / inputs)).astype(np.float32)
