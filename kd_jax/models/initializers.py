"""Initial weights, all normal: of variance 2 / fan-in or 2 / fan-out (He et al. 2015), or of standard deviation 0.01 (Goyal et al.
2017) or 0.02 (Liu et al. 2019, RoBERTa)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
normal_hundredth = nn.initializers.normal(0.01)
normal_fiftieth = nn.initializers.normal(0.02)


def paired(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Return a kernel [inputs, units] drawn as by `he_fan_in`, of which the second half of the units repeats the first."""
    half = he_fan_in(key, shape, dtype)[:, : shape[1] // 2]
    return jnp.concatenate([half, half], axis=1)


def opposed(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Return a kernel [inputs, units] drawn as by `he_fan_in`, of which the second half of the inputs has the weights of the first
    with the opposite sign."""
    half = he_fan_in(key, shape, dtype)[: shape[0] // 2]
    return jnp.concatenate([half, -half])
