"""What several networks share: named features, convolutions without biases, and normalisation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from kd_jax.models.convolution import convolve, promoted
from kd_jax.models.initializers import he_fan_out

FEATURES = "features"  # the flax collection that named features are stored in
PENULTIMATE = "penultimate"  # what the last layer of any network here is multiplied with


_COLLECTED: ContextVar[dict[str, jax.Array] | None] = ContextVar("collected", default=None)


def feature(module: Any, name: str, value: jax.Array) -> jax.Array:
    """Return `value`, and store it as the feature `name` of a network, where `Outputs.features` has it.

    Call it in the `__call__` of a network, or of a part of it, on an array [batch, ...]. The value stays as it is, and so do
    gradients. Where features are not asked for, as in `module.apply` without `mutable`, nothing is stored. In a part of a linen
    network, the name of the feature begins with that part's, such as `block1/attention`.

    Args:
        module: the linen or NNX module, which is `self` there.
        name: the name of the feature.
        value: the feature.
    """
    if not isinstance(module, nn.Module):
        collected = _COLLECTED.get()
        if collected is not None:
            collected[name] = value
        return value
    module.sow(FEATURES, name, value, init_fn=lambda: value, reduce_fn=lambda before, new: new)
    return value


@contextmanager
def collected() -> Iterator[dict[str, jax.Array]]:
    """Collect the features of an NNX network that runs inside, {name: [batch, ...]}."""
    found: dict[str, jax.Array] = {}
    token = _COLLECTED.set(found)
    try:
        yield found
    finally:
        _COLLECTED.reset(token)


def convolution(module: nn.Module) -> Callable[..., nn.Conv]:
    """Return a function `conv(channels, size, stride=1, **more)` that makes a convolution in `module`.

    It has a square kernel of He fan-out weights and no bias. The padding is `size // 2` zeros on every side, also where the stride
    is 2; "SAME" would then pad an even image on the right and below only, and weights trained elsewhere would see another image.
    Pass `is_summed` where the network only adds the output to something else; see `convolve`.
    """

    def conv(channels, size, stride=1, is_summed=False, **more):
        return nn.Conv(
            channels,
            (size, size),
            stride,
            size // 2,
            use_bias=False,
            kernel_init=he_fan_out,
            dtype=module.dtype,
            param_dtype=module.param_dtype,
            promote_dtype=promoted,  # pyright: ignore
            conv_general_dilated=partial(convolve, is_summed=is_summed),
            **more,
        )

    return conv


def normalisation(module: nn.Module, train: bool) -> Callable[..., nn.BatchNorm]:
    """Return a function `norm(name=...)` that makes a batch normalisation in `module`, with momentum 0.9 and epsilon 1e-5.

    PyTorch calls that momentum 0.1. Statistics stay in the dtype of the parameters, for bfloat16 cannot hold sums over a batch.
    PyTorch multiplies the variance that it adds to the running one by n / (n - 1), where n is the number of values per channel;
    flax does not.
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
