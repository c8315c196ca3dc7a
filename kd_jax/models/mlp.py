"""Fully connected networks."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.models.initializers import he_fan_in, opposed, paired
from kd_jax.models.parts import PENULTIMATE, feature


class MLP(nn.Module):
    """Dense layers with ReLU between them. The paper's network for MNIST has `widths=(1000, 1000)`.

    Attributes:
        widths: the number of units of each hidden layer.
        classes: the number of outputs.
        balanced: whether to start at the function that is zero everywhere (the doubling of Chizat, Oyallon and Bach, 2019): hidden
            units come in pairs that start equal, and the output takes their difference. Weights are as large as in an ordinary
            network and all of them are trained, so its tangent kernel is about the same. This is for one hidden layer of even
            width; with more layers the gradients of the two units of a pair would cancel on the way down.
    """

    widths: tuple[int, ...]
    classes: int
    balanced: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None  # nothing is averaged over devices; every network has this attribute

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1)
        settings: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        hidden, last = (paired, opposed) if self.balanced else (he_fan_in, he_fan_in)
        for number, width in enumerate(self.widths, start=1):
            x = feature(self, f"hidden{number}", nn.relu(nn.Dense(width, kernel_init=hidden, **settings)(x)))
        x = feature(self, PENULTIMATE, x)
        return nn.Dense(self.classes, kernel_init=last, **settings)(x).astype(self.param_dtype)
