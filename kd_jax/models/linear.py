"""Linear models, on the inputs themselves and on fixed random features of them."""

from functools import cache
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from kd_jax.models.parts import PENULTIMATE, feature

FEATURE_SEED = 0


class RandomFeatures(nn.Module):
    """ReLU of a fixed random projection, then one dense layer, which alone is trained, from zero: a linear model in another space.

    The projection is part of the architecture, not of the variables: it depends on the number of features and of inputs alone.
    So teacher, student and one-hot twin share their features, as the paper's theorem asks; no checkpoint carries it; and its
    features, the inputs of `Dense_0`, have the same eigendirections in every run.

    Attributes:
        features: how many.
        classes: number of outputs.
    """

    features: int
    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None  # as for every model

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        x = nn.relu(x @ jnp.asarray(_projection(x.shape[1], self.features), self.dtype))
        return _head(self)(feature(self, PENULTIMATE, x)).astype(self.param_dtype)


class Linear(nn.Module):
    """One dense layer, trained from zero, which is where the paper's theorem starts; a seed then only decides the order of data.

    Attributes:
        classes: number of outputs.
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
    """The dense layer of a linear model, as a submodule of `model`: its weights start at zero."""
    zeros = nn.initializers.zeros_init()
    return nn.Dense(model.classes, kernel_init=zeros, dtype=model.dtype, param_dtype=model.param_dtype)


@cache
def _projection(inputs, features):
    """Normal weights of variance 2 / inputs, float32 [inputs, features]: a feature's mean square is that of an input."""
    rng = np.random.default_rng(FEATURE_SEED)
    return (rng.normal(size=(inputs, features)) * np.sqrt(2 / inputs)).astype(np.float32)
