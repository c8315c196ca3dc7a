"""Initial weights: normal, of variance 2 / fan (He et al. 2015), of deviation 0.01 (Goyal et al. 2017) or 0.02 (RoBERTa)."""

import flax.linen as nn
import jax.numpy as jnp

he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
normal_hundredth = nn.initializers.normal(0.01)
normal_fiftieth = nn.initializers.normal(0.02)


def paired(key, shape, dtype=jnp.float32):
    """`he_fan_in` of a kernel whose second half of units repeats the first."""
    half = he_fan_in(key, shape, dtype)[:, : shape[1] // 2]
    return jnp.concatenate([half, half], axis=1)


def opposed(key, shape, dtype=jnp.float32):
    """`he_fan_in` of a kernel whose second half of inputs has the weights of the first with the other sign."""
    half = he_fan_in(key, shape, dtype)[: shape[0] // 2]
    return jnp.concatenate([half, -half])
