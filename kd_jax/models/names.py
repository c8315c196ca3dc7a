"""The names of networks, and the flax module that each stands for.

A name is a key of `NETWORKS`, such as `resnet20`, or a key of `SIZED` with its sizes after an underscore, such as `mlp_256x256`.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from kd_jax.config import BadInput
from kd_jax.models import foreign
from kd_jax.models.cnn import CNN
from kd_jax.models.linear import Linear, RandomFeatures
from kd_jax.models.mlp import MLP
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.resnet import CifarResNet, ResNet
from kd_jax.models.roberta import HEAD_WIDTH, RoBERTa

CONVOLUTIONAL = (CNN, CifarResNet, ResNet, MobileNetV2)  # the modules that need examples with rows and columns
DENSE = (MLP, Linear, RandomFeatures)  # those whose layers are matrices

# Each entry makes a module of the keyword arguments `classes`, `dtype`, `param_dtype` and `axis_name`; a flax module with these
# attributes is one by itself. To add a network to the program, enter it here; for one of a program of your own see `foreign`.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "linear": Linear,
    **{f"resnet{depth}": partial(CifarResNet, depth=depth) for depth in (8, 20, 32, 44, 56, 110)},
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2)),
    "resnet18_small": partial(ResNet, blocks=(2, 2, 2, 2), small=True),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True),
    "resnet50_small": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True, small=True),
    "mobilenetv2": MobileNetV2,
    "mobilenetv2_small": partial(MobileNetV2, small=True),
    "roberta_base": partial(RoBERTa, depth=12, width=768),
    "roberta_medium": partial(RoBERTa, depth=8, width=512),
    "roberta_small": partial(RoBERTa, depth=4, width=512),
    "roberta_tiny": partial(RoBERTa, depth=2, width=64),
}


def _mlp(name, sizes, **settings):
    return MLP(widths=_numbers(name, sizes, (1000, 1000)), **settings)


def _balanced(name, sizes, **settings):
    width, *more = _numbers(name, sizes, (1000,))
    if more or width % 2:
        raise BadInput(f"model {name!r}: expected one even width, such as balanced_512")
    return MLP(widths=(width,), balanced=True, **settings)


def _cnn(name, sizes, **settings):
    return CNN(channels=_numbers(name, sizes, (100, 100)), **settings)


def _features(name, sizes, **settings):
    count, *more = _numbers(name, sizes, (5000,))
    if more:
        raise BadInput(f"model {name!r}: expected one number of features, such as features_5000")
    return RandomFeatures(features=count, **settings)


def _roberta(name, sizes, **settings):
    depth, *widths = _numbers(name, sizes, (2, 128))
    if not sizes or len(widths) != 1 or (widths[0] > HEAD_WIDTH and widths[0] % HEAD_WIDTH):
        raise BadInput(
            f"model {name!r}: expected layers x width, the width {HEAD_WIDTH} or less or a multiple of it, such as roberta_2x128"
        )
    return RoBERTa(depth=depth, width=widths[0], **settings)


# Each entry makes a module of the name, of what stands after the underscore, and of the same keyword arguments as above. All but
# `roberta` may be named without sizes.
SIZED: dict[str, Callable[..., nn.Module]] = {
    "mlp": _mlp,
    "balanced": _balanced,
    "cnn": _cnn,
    "features": _features,
    "roberta": _roberta,
}
EXAMPLES = ("mlp_256x256", "balanced_512", "cnn_32x64", "features_5000", "roberta_2x128")


def _numbers(name: str, sizes: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numbers that `sizes` spells out, such as 256x256, or the default where it is empty."""
    # `int` alone would read 1_2 as 12.
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in sizes.split("x")) if sizes else default
    if min(numbers) < 1:
        raise BadInput(f"model {name!r}: expected widths such as {'x'.join(map(str, default))} after the underscore")
    return numbers


def module(name: str, **settings) -> nn.Module:
    """Return the flax module that a name stands for.

    Args:
        name: a key of `NETWORKS`, or one of `SIZED` with sizes.
        settings: `classes`, `dtype`, `param_dtype` and `axis_name`, which every network has.

    Raises:
        BadInput: for a name that stands for none.
    """
    if name in NETWORKS:
        return NETWORKS[name](**settings)
    family, underscore, sizes = name.partition("_")
    if family not in SIZED or (underscore and not sizes):
        raise BadInput(
            f"model {name!r}: expected one of {', '.join(NETWORKS)}, or with sizes {', '.join(EXAMPLES)}, or your own as"
            " package.module:Net"
        )
    return SIZED[family](name, sizes, **settings)


def check_name(name: str) -> str:
    """Return the name of a network as it is.

    >>> check_name("cnn_32x64")
    'cnn_32x64'

    Raises:
        BadInput: for a name that stands for no network.
    """
    if foreign.is_foreign(name):
        foreign.find(name)
        return name
    module(name, classes=2, dtype=jnp.float32, param_dtype=jnp.float32, axis_name=None)
    return name
