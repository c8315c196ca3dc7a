"""Residual networks for 32x32 images: the CIFAR networks of He et al. (2015) in pre-activation order (He et al. 2016)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import he_fan_in, he_fan_out


class CifarResNet(nn.Module):
    """ResNet-20, -32, -44, -56, ...: three stages of (depth - 2) / 6 two-convolution blocks of 16, 32 and 64 channels.

    Each block is BatchNorm, ReLU, convolution, twice. Shortcuts have no parameters: where a stage halves the image they take
    every second pixel and pad the new channels with zeros (option A), which gives the published 0.27 M (ResNet-20) and
    0.85 M (ResNet-56) parameters.

    Attributes:
        depth: 6 n + 2.
        classes: number of outputs.
        axis_name: `pmap` axis over which batch statistics are averaged.
    """

    depth: int
    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        conv = partial(
            nn.Conv,
            kernel_size=(3, 3),
            use_bias=False,
            kernel_init=he_fan_out,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        # Statistics stay in the parameters' dtype: sums over a batch are what bfloat16 cannot hold.
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            axis_name=self.axis_name,
        )
        x = conv(16, name="stem")(x)
        for stage, channels in enumerate((16, 32, 64)):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                y = nn.relu(norm(name=f"{name}_norm1")(x))
                y = conv(channels, strides=stride, padding=1, name=f"{name}_conv1")(y)
                y = nn.relu(norm(name=f"{name}_norm2")(y))
                y = conv(channels, padding=1, name=f"{name}_conv2")(y)
                x = _shortcut(x, channels, stride) + y
        x = nn.relu(norm(name="norm")(x))
        x = x.mean(axis=(1, 2))
        head = nn.Dense(
            self.classes, kernel_init=he_fan_in, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x).astype(self.param_dtype)


def _shortcut(x, channels, stride):
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
