"""Initial weights: normal, of variance 2 / fan (He et al. 2015), or of deviation 0.01 (Goyal et al. 2017)."""

import flax.linen as nn

he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
normal_hundredth = nn.initializers.normal(0.01)
