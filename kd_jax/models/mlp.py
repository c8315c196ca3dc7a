"""Fully connected networks."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import he_fan_in


class MLP(nn.Module):
    """Dense layers with ReLU between them; the paper's MNIST network is `widths=(1000, 1000)`.

    Attributes:
        widths: units of each hidden layer.
        classes: number of outputs.
    """

    widths: tuple[int, ...]
    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None  # no normalisation, so nothing to average; here because every model takes it

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1)
        settings = {"kernel_init": he_fan_in, "dtype": self.dtype, "param_dtype": self.param_dtype}
        for width in self.widths:
            x = nn.relu(nn.Dense(width, **settings)(x))
        return nn.Dense(self.classes, **settings)(x).astype(self.param_dtype)
