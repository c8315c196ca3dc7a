"""Initial weights (He et al. 2015): a normal distribution of variance 2 / fan."""

import flax.linen as nn

he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
