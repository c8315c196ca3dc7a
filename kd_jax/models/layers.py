"""The inside of any network here: which layers have a kernel, what goes into one, and the kernel as a matrix."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import BadInput

KINDS = nn.Dense | nn.DenseGeneral | nn.Conv


def names(module, x):
    """Names of the layers with a kernel, in the order in which the network uses them: `Dense_0`, `stage1_block1_conv1`, ...

    Convolutions in groups (the depthwise ones of MobileNet) are left out: each group of channels meets weights of its own, so
    there is no one matrix [fan-in, units] that all patches are multiplied with. So are embeddings, although `inputs` knows theirs:
    one-hot vectors, whose covariance takes vocabulary^2 numbers and has directions of single tokens.
    """
    found = []

    def note(call, args, kwargs, context):
        kernel = context.method_name == "__call__" and isinstance(context.module, KINDS)
        if kernel and getattr(context.module, "feature_group_count", 1) == 1:
            found.append("/".join(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))
    return list(dict.fromkeys(found))


def kernel(params, layer, fan_in):
    """The kernel of a layer as a matrix [fan-in, units].

    The fan-in of a convolution runs over rows, columns, channels; that of attention's output over heads and their features;
    that of an embedding over its vocabulary.
    """
    node = params
    for name in layer.split("/"):
        node = node[name]
    return node["embedding" if "embedding" in node else "kernel"].reshape(fan_in, -1)


def inputs(module, variables, x, layer):
    """What the kernel of a layer is multiplied with, [vectors, fan-in], in the order of `kernel`'s rows.

    Dense layers and attention's projections: a vector per example, or per token. Convolutions: a vector per patch. Embeddings: a
    one-hot vector per token. A layer that is used several times has the vectors of all its uses.

    Raises:
        BadInput: for a convolution in groups; see `names`.
    """
    caught = []

    def catch(call, args, kwargs, context):
        if context.method_name == "__call__" and "/".join(context.module.path) == layer:
            caught.append((context.module, args[0]))
        return call(*args, **kwargs)

    collections = {"params": variables.params}
    if variables.model_state:
        collections["batch_stats"] = variables.model_state
    with nn.intercept_methods(catch):
        module.apply(collections, x, train=False)
    return jnp.concatenate([_vectors(*call) for call in caught])


def _vectors(caller, value):
    """[vectors, fan-in] of a layer that is called with `value`."""
    if isinstance(caller, nn.Conv):
        if caller.feature_group_count > 1:
            name = "/".join(caller.path)
            raise BadInput(f"layer {name!r}: expected one kernel for all channels, it has one per group of them")
        value = _patches(caller, value)
    elif isinstance(caller, nn.Embed):
        value = jax.nn.one_hot(value, caller.num_embeddings)
    elif isinstance(caller, nn.DenseGeneral):
        axes = caller.axis if isinstance(caller.axis, tuple) else (caller.axis,)
        value = jnp.moveaxis(value, axes, range(-len(axes), 0))
        value = value.reshape(-1, int(np.prod(value.shape[-len(axes) :])))
    return value.reshape(-1, value.shape[-1])


def _patches(conv, x):
    """[batch, rows, columns, fan-in] of a two-dimensional convolution without groups or dilation."""
    padding = conv.padding if isinstance(conv.padding, str) else [(p, p) for p in _pair(conv.padding)]
    patches = jax.lax.conv_general_dilated_patches(
        x, conv.kernel_size, _pair(conv.strides or 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # JAX puts channels first within a patch, kernels have them last.
    rows, columns = conv.kernel_size
    shape = (*patches.shape[:3], x.shape[-1], rows * columns)
    return jnp.moveaxis(patches.reshape(shape), 3, 4).reshape(*patches.shape[:3], -1)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
