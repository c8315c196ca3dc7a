"""Residual networks: those of He et al. (2015) for ImageNet, and for CIFAR in pre-activation order (He et al. 2016)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import he_fan_in, normal_hundredth
from kd_jax.models.parts import PENULTIMATE, convolution, feature, normalisation


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
        conv, norm = convolution(self), normalisation(self, train)
        x = conv(16, 3, name="stem")(x)
        for stage, channels in enumerate((16, 32, 64)):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                y = nn.relu(norm(name=f"{name}_norm1")(x))
                y = conv(channels, 3, stride, name=f"{name}_conv1")(y)
                y = nn.relu(norm(name=f"{name}_norm2")(y))
                y = conv(channels, 3, name=f"{name}_conv2")(y)
                x = _shortcut(x, channels, stride) + y
            x = feature(self, f"stage{stage + 1}", x)
        x = nn.relu(norm(name="norm")(x))
        x = feature(self, PENULTIMATE, x.mean(axis=(1, 2)))
        head = nn.Dense(
            self.classes, kernel_init=he_fan_in, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x).astype(self.param_dtype)


def _shortcut(x, channels, stride):
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))


class ResNet(nn.Module):
    """ResNet-18, ResNet-50 and their like: four stages of 64, 128, 256 and 512 channels, as torchvision has them.

    Each convolution is followed by BatchNorm, and by ReLU but for a block's last one, where it comes after the sum. A plain block
    is two 3x3 convolutions; a bottleneck is 1x1, 3x3 and 1x1 with four times the channels, its stride in the 3x3 ("v1.5"; He
    et al. have it in the first 1x1). Where the shape changes, the shortcut is a 1x1 convolution and BatchNorm (option B).

    Convolutions start with He fan-out variance, as torchvision's. The head starts normal with deviation 0.01 (Goyal et al. 2017)
    and zero biases; torchvision's is uniform within 1 / sqrt(fan-in).

    Attributes:
        blocks: how many in each stage: (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) with bottlenecks ResNet-50.
        classes: number of outputs.
        bottleneck: of which kind the blocks are.
        small: for images of 32x32 or 64x64. The stem is a 3x3 convolution of stride 1 without max pooling, instead of a 7x7
            of stride 2 and 3x3 max pooling of stride 2; all else is the same, and the last stage sees an eighth of the
            image's side instead of a thirty-second.
        axis_name: `pmap` axis over which batch statistics are averaged.
    """

    blocks: tuple[int, ...]
    classes: int
    bottleneck: bool = False
    small: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        conv, norm = convolution(self), normalisation(self, train)
        x = conv(64, *((3, 1) if self.small else (7, 2)), name="stem")(x)
        x = nn.relu(norm(name="stem_norm")(x))
        if not self.small:
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pads with -inf
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                x = self._block(x, 64 * 2**stage, stride, conv, norm, f"stage{stage + 1}_block{block + 1}")
            x = feature(self, f"stage{stage + 1}", x)
        x = feature(self, PENULTIMATE, x.mean(axis=(1, 2)))
        head = nn.Dense(
            self.classes, kernel_init=normal_hundredth, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x).astype(self.param_dtype)

    def _block(self, x, channels, stride, conv, norm, name):
        # (output channels, kernel size, stride) of each convolution
        layers = [(channels, 3, stride), (channels, 3, 1)]
        if self.bottleneck:
            layers = [(channels, 1, 1), (channels, 3, stride), (4 * channels, 1, 1)]
        y = x
        for i, layer in enumerate(layers, start=1):
            y = norm(name=f"{name}_norm{i}")(conv(*layer, name=f"{name}_conv{i}")(y))
            if i < len(layers):
                y = nn.relu(y)
        if x.shape != y.shape:
            x = norm(name=f"{name}_shortcut_norm")(conv(y.shape[-1], 1, stride, name=f"{name}_shortcut")(x))
        return nn.relu(x + y)
