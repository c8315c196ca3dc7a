"""Networks as two pure functions, `init` and `apply`. The only package that imports flax.

`build("resnet20", classes=10)` returns a `Model`; its parameters and normalisation statistics are ordinary pytrees. The names
that `build` takes are in `names`, where a new network is one entry. A network is a flax module that takes a batch and returns
logits; what it passes to `feature` on the way is in `Outputs.features`.

A network of your own is named `package.module:Net`, in a module that Python can import, also from the current directory; or as
`register` was told. It is a class of flax linen or NNX, a function that returns a module of these, or a linen module. It is given
those of the following that the class or function has as an argument:

    classes (or num_classes, n_classes, num_labels, num_outputs, n_outputs, out_features, dout;
        features, where it is required)        the number of classes
    rngs                                       NNX's source of random numbers; an NNX module must take it
    in_features or din, in_channels, input_shape
                                               of images and vectors: the numbers in an example, those of its last axis, its shape
    vocabulary or vocab_size, positions or max_length
                                               of texts: the number of token ids, the length of the longest text
    dropout or dropout_rate                    the share of `--dropout`, if there is one
    dtype, param_dtype, axis_name              as for `build`; parameters and state are stored in `param_dtype` in any case

Its `__call__` takes a batch: float images [batch, height, width, channels], float vectors [batch, features], or int texts
[batch, length] that are padded at the end with 1. It is also given those of `train`, `training`, `is_training`, `deterministic`,
`use_running_average` that it has as an argument; a linen module may have them as an attribute. It returns logits [batch, classes].

In linen, collections besides `params` are kept as the network's state, such as `batch_stats`; what is sown is not. In NNX,
parameters are what is an `nnx.Param`, and state is what else there is but for random numbers. Batch normalisation of flax takes its
statistics over all devices for images and vectors, also where the module names no axis; for texts, and where statistics are of
one's own making, each device has its own, which are averaged after each step.

Whatever draws, such as dropout, draws from a key of (run, step, example) in networks without state, which go through a batch
example by example for that; in networks with state it draws from the key of the first example of each device's part of the batch.
So a resumed run has the bits of one that was not stopped; and without state the draws do not depend on the number of devices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import BadInput
from kd_jax.models import foreign, layers, names
from kd_jax.models.adapted import Adapted, adapted
from kd_jax.models.foreign import is_foreign as is_foreign
from kd_jax.models.foreign import origin as origin
from kd_jax.models.foreign import register as register
from kd_jax.models.foreign import remember as remember
from kd_jax.models.foreign import takes_dropout as takes_dropout
from kd_jax.models.names import check_name as check_name
from kd_jax.models.parts import FEATURES
from kd_jax.models.parts import feature as feature
from kd_jax.models.roberta import PADDING, RoBERTa
from kd_jax.models.variables import Outputs as Outputs
from kd_jax.models.variables import Variables

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
PARAMETER_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.float32, "float64": jnp.float64}


class Model(NamedTuple):
    """A network as pure functions.

    In all of them `x` is a batch: images are float [batch, height, width, channels]; vectors of numbers float [batch, features];
    texts are integers [batch, length], padded at the end with 1. A layer is known by its name, such as `stage1_block1_conv1`.

    Attributes:
        init: `init(key, x) -> Variables`, random initial values. `x` gives the shape of an example; its values do not matter.
        apply: `apply(variables, x, train=False, keys=None) -> Outputs`. With `train=False` the running statistics are used and
            returned unchanged. With `train=True` the statistics of the batch are used, taken over all devices if the model was
            built with an `axis_name`, and the running ones move towards them; a network that `draws` then needs `keys`, a typed
            PRNG key per example [batch].
        layers: `layers(x) -> list of names` of the layers that have a kernel, in the order in which they are used.
        layer_inputs: `layer_inputs(variables, x, layer) -> [vectors, fan-in]`: the vectors that the kernel of a layer is multiplied
            with, in evaluation mode; those of a convolution are its patches.
        fan_in: `fan_in(x, layer) -> int`, the length of those vectors.
        counted: `counted(x, vectors) -> index`, which of so many vectors belong to the data rather than to the padding of a text.
        embeds: whether a trained embedding comes before the first of `layers`. Where none does, the inputs of the first layer
            are the data themselves, or fixed features of them, whatever the variables. Of a network of one's own it is not known,
            and true.
        draws: `draws(x) -> bool`, whether training draws random numbers, as for dropout.
    """

    init: Callable[[jax.Array, Any], Variables]
    apply: Callable[..., Outputs]
    layers: Callable[[Any], list[str]]
    layer_inputs: Callable[[Variables, Any, str], jax.Array]
    fan_in: Callable[[Any, str], int]
    counted: Callable[[Any, int], Any]
    embeds: bool
    draws: Callable[[Any], bool]


def build(
    name: str,
    classes: int,
    precision: str = "float32",
    axis_name: str | None = None,
    *,
    vocabulary: int | None = None,
    positions: int = 512,
    dropout: float | None = None,
    vectors: bool = False,
) -> Model:
    """Return the network of a name.

    >>> model = build("mlp_8", classes=3)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    >>> logits, features, state = model.apply(variables, jnp.ones((2, 4, 4, 1)))
    >>> logits.shape, features["hidden1"].shape, state
    ((2, 3), (2, 8), {})

    Args:
        name: the name of a network; see `names`, and for one of your own above.
        classes: the number of outputs.
        precision: `float32`; `bfloat16`, which is the arithmetic, with parameters and statistics in float32; or `float64`, which
            needs `jax_enable_x64`. Logits and features have the dtype of the parameters.
        axis_name: the `pmap` axis over which batch statistics are averaged in training; None for one device.
        vocabulary: the number of token ids, for networks that read texts; None for networks that read images.
        positions: the length of the longest text in tokens, for networks that read texts.
        dropout: the share of features that is dropped in training, for networks that read texts, and those of your own that take
            it; None for 0.1, or what your own have.
        vectors: whether an example is a vector of numbers, [features], in which there is nothing to convolve.

    Raises:
        BadInput: for a name that stands for no network, a network of texts without a vocabulary, or one of images with one, or one
            with convolutions for vectors.
    """
    if is_foreign(name):
        return _adapted(name, classes, precision, axis_name, vocabulary, positions, dropout)
    module = names.module(
        name,
        classes=classes,
        dtype=COMPUTE_DTYPES[precision],
        param_dtype=PARAMETER_DTYPES[precision],
        axis_name=axis_name,
    )
    reads_texts = isinstance(module, RoBERTa)
    if vectors and (reads_texts or isinstance(module, names.CONVOLUTIONAL)):
        expected = "texts" if reads_texts else "images"
        raise BadInput(
            f"model {name!r}: expected {expected}, found vectors of numbers; pass a network for them, such as mlp_256x256 or linear"
        )
    if reads_texts and vocabulary is None:
        raise BadInput(f"model {name!r}: expected texts, found images; pass a network of images, such as resnet20")
    if not reads_texts and vocabulary is not None:
        raise BadInput(f"model {name!r}: expected images, found texts; pass a network of texts, such as roberta_tiny")
    if reads_texts:
        share = 0.1 if dropout is None else dropout
        module = module.clone(vocabulary=vocabulary, positions=positions, dropout=share)
    return from_module(module)


def is_roberta(name: str) -> bool:
    """Return whether a name stands for a RoBERTa of this package."""
    settings: dict[str, Any] = {"classes": 2, "dtype": None, "param_dtype": None, "axis_name": None}
    return not is_foreign(name) and isinstance(names.module(name, **settings), RoBERTa)


def is_dense(name: str) -> bool:
    """Return whether a name stands for a network of this package whose layers are all matrices, such as an MLP."""
    settings: dict[str, Any] = {"classes": 2, "dtype": None, "param_dtype": None, "axis_name": None}
    return not is_foreign(name) and isinstance(names.module(name, **settings), names.DENSE)


def kind_of(name: str, x: Any, classes: int, vocabulary: int | None = None, positions: int = 512) -> str:
    """Return whether a network of one's own is of `linen` or `nnx`; arguments are as for `build`, and `x` is a batch."""
    given = foreign.Given(classes, tuple(x.shape[1:]), vocabulary, positions, None, jnp.float32, jnp.float32, None)
    return "nnx" if foreign.is_nnx(name, given) else "linen"


def _adapted(name, classes, precision, axis_name, vocabulary, positions, dropout) -> Model:
    dtypes = COMPUTE_DTYPES[precision], PARAMETER_DTYPES[precision]
    if vocabulary is not None:
        axis_name = (
            None  # each device cuts its part of the texts to a length of its own; none may wait for another within that
        )

    def given(shape):
        return foreign.Given(classes, shape, vocabulary, positions, dropout, *dtypes, axis_name)

    chosen: dict[str, Adapted] = {}

    def network(x):
        if (
            not chosen
        ):  # of which kind it is, may be known only once it is made, and for that it may need the shape of an example
            chosen["network"] = adapted(name, given, tuple(x.shape[1:]))
        return chosen["network"]

    return Model(
        init=lambda key, x: network(x).init(key, x),
        apply=lambda variables, x, train=False, keys=None: network(x).apply(variables, x, train, keys),
        layers=lambda x: network(x).layers(x),
        layer_inputs=lambda variables, x, layer: network(x).layer_inputs(variables, x, layer),
        fan_in=lambda x, layer: network(x).fan_in(x, layer),
        counted=_counted_of_images if vocabulary is None else _counted_of_texts,
        embeds=True,
        draws=lambda x: network(x).draws(x),
    )


def from_module(module: nn.Module) -> Model:
    """Return a flax module as a `Model`.

    The module needs an attribute `param_dtype`, and a `__call__(x, train=False)` that returns logits.
    """
    reads_texts = isinstance(module, RoBERTa)
    return Model(
        init=partial(_init, module),
        apply=partial(_apply, module),
        layers=partial(layers.with_kernel, module),
        layer_inputs=partial(layers.inputs, module),
        fan_in=partial(_fan_in, module),
        counted=_counted_of_texts if reads_texts else _counted_of_images,
        embeds=reads_texts,
        draws=lambda x: reads_texts and module.dropout > 0,
    )


def _counted_of_images(x, vectors):
    return slice(None)


def _counted_of_texts(x, vectors):
    real = np.asarray(x) != PADDING
    # There is a vector per token, times the uses of the layer; or another number, as one per text, and then all count.
    return np.tile(real.ravel(), vectors // real.size) if vectors % real.size == 0 else slice(None)


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
        try:
            logits, updated = module.apply(collections, x, train=False, mutable=[FEATURES])
        except (flax.errors.ScopeParamShapeError, flax.errors.ScopeParamNotFoundError) as error:
            said = " ".join(str(error).split("(http")[0].split())
            raise BadInput(
                f"a checkpoint: expected the parameters of the network that study.json names, found another's: {said} Restore"
                " study.json, or the run's folder"
            ) from None
        return Outputs(logits, _features(module, updated), variables.model_state)
    more: Any = {"keys": keys} if isinstance(module, RoBERTa) else {}  # no other network draws anything
    logits, updated = module.apply(collections, x, train=True, mutable=["batch_stats", FEATURES], **more)
    return Outputs(logits, _features(module, updated), updated.get("batch_stats", {}))


def _features(module, updated):
    return {name: value.astype(module.param_dtype) for name, value in updated.get(FEATURES, {}).items()}


def _fan_in(module, x, layer):
    def inputs():
        return layers.inputs(module, _init(module, jax.random.key(0), x), x[:1], layer)

    return jax.eval_shape(inputs).shape[1]


def parameter_count(params: Any) -> int:
    """Return the number of trainable scalars in a tree of arrays.

    >>> parameter_count({"kernel": np.zeros((3, 2)), "bias": np.zeros(2)})
    8
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))
