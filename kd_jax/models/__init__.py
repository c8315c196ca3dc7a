"""Networks as two pure functions, `init` and `apply`. The only package that imports flax.

`build("resnet20", classes=10)` returns a `Model`; its parameters and normalisation statistics are ordinary pytrees. A new
architecture is one entry in `FAMILIES`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import BadInput
from kd_jax.models import layers
from kd_jax.models.cnn import CNN
from kd_jax.models.linear import Linear, RandomFeatures
from kd_jax.models.mlp import MLP
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.parts import FEATURES
from kd_jax.models.resnet import CifarResNet, ResNet
from kd_jax.models.roberta import HEAD_WIDTH, PADDING, RoBERTa
from kd_jax.models.variables import Outputs as Outputs
from kd_jax.models.variables import Variables

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
PARAMETER_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.float32, "float64": jnp.float64}


class Model(NamedTuple):
    """A network.

    Attributes:
        init: `init(key, x) -> Variables`; `x` gives the shape of a batch, its values do not matter. Images are float [batch,
            height, width, channels]; texts integers [batch, length], padded at the end with 1.
        apply: `apply(variables, x, train=False, keys=None) -> Outputs`. Pure. With `train=False`
            the running statistics are used and returned unchanged; with `train=True` batch statistics are used, taken
            over all devices if the model was built with an `axis_name`, and networks with dropout need `keys`, a typed PRNG key
            per example [batch].
        layers: `layers(x) -> names` of the layers with a kernel, in the order in which they are used.
        layer_inputs: `layer_inputs(variables, x, layer) -> [vectors, fan-in]`: what the kernel of a layer is multiplied
            with, in evaluation mode; for a convolution its patches. Pure.
        fan_in: `fan_in(x, layer)`: length of those vectors.
        counted: `counted(x, vectors)`: an index of those of that many vectors which are not of padding; all of an image's.
        embeds: whether the first of `layers` comes after a trained embedding. Else its inputs are the data themselves, or fixed
            features of them, whatever the variables.
    """

    init: Callable
    apply: Callable
    layers: Callable
    layer_inputs: Callable
    fan_in: Callable
    counted: Callable
    embeds: bool


def _widths(name, words, default):
    # `int` alone would read 1_2 as 12.
    widths = tuple(int(word) if word.isdecimal() else 0 for word in words.split("x")) if words else default
    if min(widths) < 1:
        raise BadInput(f"model {name!r}: expected widths such as {'x'.join(map(str, default))} after the underscore")
    return widths


def _mlp(name, words, **settings):
    return MLP(widths=_widths(name, words, (1000, 1000)), **settings)


def _balanced(name, words, **settings):
    width, *more = _widths(name, words, (1000,))
    if more or width % 2:
        raise BadInput(f"model {name!r}: expected one even width, such as balanced_512")
    return MLP(widths=(width,), balanced=True, **settings)


def _features(name, words, **settings):
    (count, *more) = _widths(name, words, (5000,))
    if more:
        raise BadInput(f"model {name!r}: expected one number of features, such as features_5000")
    return RandomFeatures(features=count, **settings)


def _cnn(name, words, **settings):
    return CNN(channels=_widths(name, words, (100, 100)), **settings)


def _roberta(name, words, **settings):
    sizes = _widths(name, words, (2, 128))
    if not words or len(sizes) != 2 or (sizes[1] > HEAD_WIDTH and sizes[1] % HEAD_WIDTH):
        raise BadInput(
            f"model {name!r}: expected layers x width, the width {HEAD_WIDTH} or less or a multiple of it, such as roberta_2x128"
        )
    return RoBERTa(depth=sizes[0], width=sizes[1], **settings)


def _fixed(module, **shape):
    return lambda name, words, **settings: module(**shape, **settings)


# name -> how to build it. Those of `SIZED` take their widths after an underscore: mlp_256x256, cnn_32x64, features_5000,
# and roberta_4x256 its layers before its width.
SIZED = ("mlp", "balanced", "cnn", "features", "roberta")
FAMILIES = {"linear": _fixed(Linear), "features": _features, "mlp": _mlp, "balanced": _balanced, "cnn": _cnn}
FAMILIES |= {f"resnet{depth}": _fixed(CifarResNet, depth=depth) for depth in (8, 20, 32, 44, 56, 110)}
FAMILIES |= {
    "resnet18": _fixed(ResNet, blocks=(2, 2, 2, 2)),
    "resnet18_small": _fixed(ResNet, blocks=(2, 2, 2, 2), small=True),
    "resnet50": _fixed(ResNet, blocks=(3, 4, 6, 3), bottleneck=True),
    "resnet50_small": _fixed(ResNet, blocks=(3, 4, 6, 3), bottleneck=True, small=True),
    "mobilenetv2": _fixed(MobileNetV2),
    "mobilenetv2_small": _fixed(MobileNetV2, small=True),
}
FAMILIES |= {
    "roberta": _roberta,
    "roberta_base": _fixed(RoBERTa, depth=12, width=768),
    "roberta_medium": _fixed(RoBERTa, depth=8, width=512),
    "roberta_small": _fixed(RoBERTa, depth=4, width=512),
    "roberta_tiny": _fixed(RoBERTa, depth=2, width=64),
}
HELP = (
    "linear, features (or features_5000), mlp (or mlp_256x256), balanced (or balanced_512), cnn (or cnn_32x64), resnet8, resnet20,"
    " resnet32, resnet44, resnet56, resnet110, and resnet18, resnet50, mobilenetv2 (for small images resnet18_small,"
    " resnet50_small, mobilenetv2_small); for texts roberta_base, roberta_medium, roberta_small, roberta_tiny (or layers x width,"
    " roberta_2x128)"
)


def check_name(name):
    """Return `name` if `build` knows it, else raise `BadInput`."""
    _module(name, classes=2, dtype=jnp.float32, param_dtype=jnp.float32, axis_name=None)
    return name


def _module(name, **settings):
    if name in FAMILIES:
        return FAMILIES[name](name, "", **settings)
    family, _, words = name.partition("_")
    if family not in SIZED or not words:
        raise BadInput(f"model {name!r}: expected one of {HELP}")
    return FAMILIES[family](name, words, **settings)


def build(name, classes, precision="float32", axis_name=None, *, vocabulary=None, positions=512, dropout=0.1):
    """Return the `Model` called `name`.

    Args:
        name: a key of `FAMILIES`, with widths where the family takes them.
        classes: number of outputs.
        precision: `float32`, `bfloat16` (float32 parameters and statistics, bfloat16 arithmetic) or `float64` (needs
            `jax_enable_x64`). Logits come back in the parameters' dtype.
        axis_name: the `pmap` axis over which batch statistics are averaged while training, if any.
        vocabulary: number of token ids, for networks of texts; None for networks of images.
        positions, dropout: of networks of texts: the longest text in tokens, and the share of features dropped in training.

    Raises:
        BadInput: for a name that is not known, a network of texts without a vocabulary, one of images with one.
    """
    module = _module(
        name,
        classes=classes,
        dtype=COMPUTE_DTYPES[precision],
        param_dtype=PARAMETER_DTYPES[precision],
        axis_name=axis_name,
    )
    reads_texts = isinstance(module, RoBERTa)
    if reads_texts and vocabulary is None:
        raise BadInput(f"model {name!r}: expected texts, found images; pass a network of images, such as resnet20")
    if not reads_texts and vocabulary is not None:
        raise BadInput(f"model {name!r}: expected images, found texts; pass a network of texts, such as roberta_tiny")
    if reads_texts:
        module = module.clone(vocabulary=vocabulary, positions=positions, dropout=dropout)
    return Model(
        init=partial(_init, module),
        apply=partial(_apply, module),
        layers=partial(layers.names, module),
        layer_inputs=partial(layers.inputs, module),
        fan_in=partial(_fan_in, module),
        counted=_counted_of_texts if reads_texts else _counted_of_images,
        embeds=reads_texts,
    )


def _counted_of_images(x, vectors):
    return slice(None)


def _counted_of_texts(x, vectors):
    real = np.asarray(x) != PADDING
    # A vector per token, times the layer's uses; or per text, then all count.
    return np.tile(real.ravel(), vectors // real.size) if vectors >= real.size else slice(None)


def _init(module, key, x):
    # Parameter shapes do not depend on the batch, so one example is enough.
    variables = module.init(key, x[:1], train=False)
    # Flax starts running statistics in float32 whatever the dtype; the first step would change theirs.
    statistics = jax.tree.map(lambda leaf: leaf.astype(module.param_dtype), variables.get("batch_stats", {}))
    return Variables(variables["params"], statistics)


def _apply(module, variables, x, train=False, keys=None):
    collections = {"params": variables.params}
    if variables.model_state:
        collections["batch_stats"] = variables.model_state
    if not train:
        logits, found = module.apply(collections, x, train=False, mutable=[FEATURES])
        return Outputs(logits, _features(module, found), variables.model_state)
    more = {"keys": keys} if isinstance(module, RoBERTa) else {}  # no other network draws anything
    logits, found = module.apply(collections, x, train=True, mutable=["batch_stats", FEATURES], **more)
    return Outputs(logits, _features(module, found), found.get("batch_stats", {}))


def _features(module, found):
    return {name: value.astype(module.param_dtype) for name, value in found.get(FEATURES, {}).items()}


def _fan_in(module, x, layer):
    def inputs():
        return layers.inputs(module, _init(module, jax.random.key(0), x), x[:1], layer)

    return jax.eval_shape(inputs).shape[1]


def parameter_count(params):
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
