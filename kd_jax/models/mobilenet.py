"""MobileNet-v2 (Sandler et al. 2018): inverted residuals, for images of ImageNet's size and for small ones."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import normal_hundredth
from kd_jax.models.parts import PENULTIMATE, convolution, feature, normalisation

# expansion, output channels, blocks, stride of the first block: Table 2 of the paper
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(nn.Module):
    """MobileNet-v2 of width 1, the same as torchvision's but for its dropout.

    A block widens its input by a 1x1 convolution (the first block does not), filters every channel by a 3x3 convolution of its own,
    and narrows it by another 1x1 convolution. Batch normalisation follows all three, and ReLU6 the first two. The input is added
    where the stride is 1 and the output has its shape. In training torchvision drops a fifth of the features before the head;
    networks for images take no random key here, so nothing is dropped. In evaluation the two are the same.

    Convolutions start with He fan-out variance (for the depthwise ones over all channels, as in torchvision). The head starts
    normal with standard deviation 0.01, and with zero biases.

    Attributes:
        classes: the number of outputs.
        small: whether the images are small, such as 32x32. The strides of the stem and of stage 2 are then 1, as in
            kuangliu/pytorch-cifar, so that the last stage has an eighth of the image's side instead of a thirty-second. That
            repository also puts convolutions into shortcuts that change the number of channels, and takes ReLU for ReLU6; here
            all else is the same as without `small`.
        stages: the stages, in the form of `STAGES`.
        axis_name: the `pmap` axis over which batch statistics are averaged.
    """

    classes: int
    small: bool = False
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        conv, norm = convolution(self), normalisation(self, train)

        def step(x, name, *layer, **more):
            return norm(name=f"{name}_norm")(conv(*layer, name=name, **more)(x))

        x = nn.relu6(step(x, "stem", 32, 3, 1 if self.small else 2))
        for stage, (expansion, channels, count, first_stride) in enumerate(self.stages, start=1):
            for block in range(1, count + 1):
                stride = 1 if block > 1 or (self.small and stage == 2) else first_stride
                name = f"stage{stage}_block{block}"
                wide = expansion * x.shape[-1]
                y = nn.relu6(step(x, f"{name}_expand", wide, 1)) if expansion > 1 else x
                y = nn.relu6(step(y, f"{name}_depthwise", wide, 3, stride, feature_group_count=wide))
                y = step(y, f"{name}_project", channels, 1)
                x = x + y if stride == 1 and x.shape[-1] == channels else y
            x = feature(self, f"stage{stage}", x)
        x = nn.relu6(step(x, "last", 1280, 1))
        x = feature(self, PENULTIMATE, x.mean(axis=(1, 2)))
        head = nn.Dense(
            self.classes, kernel_init=normal_hundredth, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x).astype(self.param_dtype)
