"""Small convolutional networks."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import he_fan_in
from kd_jax.models.parts import PENULTIMATE, feature


class CNN(nn.Module):
    """3x3 convolutions, each followed by ReLU and 2x2 max pooling, then one dense layer.

    Attributes:
        channels: the number of output channels of each convolution.
        classes: the number of outputs.
    """

    channels: tuple[int, ...]
    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        settings: dict[str, Any] = {"kernel_init": he_fan_in, "dtype": self.dtype, "param_dtype": self.param_dtype}
        for stage, channels in enumerate(self.channels, start=1):
            x = nn.relu(nn.Conv(channels, (3, 3), **settings)(x))
            x = feature(self, f"stage{stage}", nn.max_pool(x, (2, 2), (2, 2), padding="SAME"))
        x = feature(self, PENULTIMATE, x.reshape(x.shape[0], -1))
        return nn.Dense(self.classes, **settings)(x).astype(self.param_dtype)
