"""Residual networks: those of He et al. (2015) for ImageNet, and for CIFAR in pre-activation order (He et al. 2016)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import he_fan_in, normal_hundredth
from kd_jax.models.parts import PENULTIMATE, convolution, feature, normalisation
from kd_jax.models.shortcut import halved


class CifarResNet(nn.Module):
    """ResNet-20, -32, -44, -56, ...: three stages of (depth - 2) / 6 two-convolution blocks of 16, 32 and 64 channels.

    A block is batch normalisation, ReLU and convolution, twice. Shortcuts have no parameters: where a stage halves the image, they
    take every second pixel and pad the new channels with zeros (option A). That gives the published 0.27 million (ResNet-20) and
    0.85 million (ResNet-56) parameters. The features of a stage are the sums that its last block returns, before normalisation.

    Attributes:
        depth: the number of layers with a kernel, 6 n + 2 for n blocks in a stage.
        classes: the number of outputs.
        axis_name: the `pmap` axis over which batch statistics are averaged.
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
                y = conv(channels, 3, is_summed=True, name=f"{name}_conv2")(y)
                x = (x if stride == 1 else halved(x)) + y
            x = feature(self, f"stage{stage + 1}", x)
        x = nn.relu(norm(name="norm")(x))
        x = feature(self, PENULTIMATE, x.mean(axis=(1, 2)))
        head = nn.Dense(
            self.classes, kernel_init=he_fan_in, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x).astype(self.param_dtype)


class ResNet(nn.Module):
    """ResNet-18, ResNet-50 and their like, the same as torchvision's: four stages of 64, 128, 256 and 512 channels.

    Batch normalisation and ReLU follow every convolution; at the end of a block the sum with the shortcut comes between the two. A
    plain block is two 3x3 convolutions. A bottleneck is a 1x1, a 3x3 and a 1x1 convolution, the last with four times the
    channels, and has its stride in the 3x3 one ("v1.5"; He et al. have it in the first 1x1). Where the shape changes, the
    shortcut is a 1x1 convolution and batch normalisation (option B).

    Convolutions start with He fan-out variance, as in torchvision. The head starts normal with standard deviation 0.01 (Goyal et
    al. 2017), and with zero biases; that of torchvision is uniform within 1 / sqrt(fan-in).

    Attributes:
        blocks: the number of blocks in each stage: (2, 2, 2, 2) is ResNet-18, and (3, 4, 6, 3) with bottlenecks is ResNet-50.
        classes: the number of outputs.
        bottleneck: whether the blocks are bottlenecks rather than plain.
        small: whether the images are small, 32x32 or 64x64. The stem is then a 3x3 convolution of stride 1 without max pooling,
            instead of a 7x7 one of stride 2 and 3x3 max pooling of stride 2. All else is the same, and the last stage has an
            eighth of the image's side instead of a thirty-second.
        axis_name: the `pmap` axis over which batch statistics are averaged.
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
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # type: ignore[arg-type]  # pads with -inf
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
