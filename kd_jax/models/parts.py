"""What several networks share: named features, convolutions without biases, and normalisation."""

from functools import partial

import flax.linen as nn
import jax

from kd_jax.models.initializers import he_fan_out

FEATURES = "features"  # the flax collection that named features are stored in
PENULTIMATE = "penultimate"  # what the last layer of any network here is multiplied with


def feature(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
    """Return `value`, and store it as the feature `name` of a network, where `Outputs.features` has it.

    Call it in the `__call__` of a network, on an array [batch, ...]. The value stays as it is, and so do gradients. Where features
    are not asked for, as in `module.apply` without `mutable`, nothing is stored.
    """
    module.sow(FEATURES, name, value, init_fn=lambda: None, reduce_fn=lambda before, new: new)
    return value


def convolution(module):
    """Return `conv(channels, size, stride=1, **more)`, a layer of `module`: a square kernel, no bias, He fan-out weights.

    The padding is `size // 2` zeros on every side, also where the stride is 2; "SAME" would then pad an even image on the far
    sides only, and weights trained elsewhere would see another image.
    """

    def conv(channels, size, stride=1, **more):
        return nn.Conv(
            channels,
            (size, size),
            stride,
            size // 2,
            use_bias=False,
            kernel_init=he_fan_out,
            dtype=module.dtype,
            param_dtype=module.param_dtype,
            **more,
        )

    return conv


def normalisation(module, train):
    """Return `norm(name=...)`, BatchNorm as a layer of `module`: momentum 0.9 (PyTorch's 0.1), epsilon 1e-5.

    Statistics stay in the parameters' dtype: sums over a batch are what bfloat16 cannot hold. PyTorch multiplies the variance
    that it adds to the running one by n / (n - 1), n the values per channel; Flax does not.
    """
    return partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        axis_name=module.axis_name,
    )
