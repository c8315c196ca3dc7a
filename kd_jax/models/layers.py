"""Any network from the inside: which layers have a kernel, what that kernel is multiplied with, and the kernel as a matrix.

A layer is known by its name in the tree of parameters, such as `Dense_0` or `stage1_block1_conv1`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import BadInput
from kd_jax.models.variables import Variables

KINDS = nn.Dense | nn.DenseGeneral | nn.Conv


def with_kernel(module: nn.Module, x: Any) -> list[str]:
    """Return the names of the layers that have a kernel, in the order in which the network uses them.

    Convolutions in groups, such as the depthwise ones of MobileNet, are left out: each group of channels meets weights of its own,
    so there is no one matrix [fan-in, units] that all patches are multiplied with. Embeddings are left out too, although `inputs`
    knows what goes into them: one-hot vectors, whose covariance has vocabulary^2 entries and single tokens as eigenvectors.

    Args:
        module: a network.
        x: a batch, of which the shape matters alone.
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


def kernel(params: Any, layer: str, fan_in: int) -> Any:
    """Return the kernel of a layer as a matrix [fan-in, units].

    The rows are in the order of `inputs`: for a convolution over the rows, columns and channels of a patch; for the output
    projection of attention over heads and their features; for an embedding over its vocabulary.

    Args:
        params: the parameters of a network, as arrays of JAX or NumPy.
        layer: the name of a layer.
        fan_in: how many inputs one of its units has.
    """
    node = params
    for name in layer.split("/"):
        node = node[name]
    return node["embedding" if "embedding" in node else "kernel"].reshape(fan_in, -1)


def inputs(module: nn.Module, variables: Variables, x: Any, layer: str) -> jax.Array:
    """Return the vectors that the kernel of a layer is multiplied with for a batch `x`, [vectors, fan-in].

    A dense layer and a projection of attention have a vector per example, or per token; a convolution has one per patch; an
    embedding has a one-hot vector per token. A layer that is used several times has the vectors of all its uses.

    Raises:
        BadInput: for a convolution in groups; see `with_kernel`.
    """
    collections = {"params": variables.params}
    if variables.model_state:
        collections["batch_stats"] = variables.model_state
    return caught(lambda: module.apply(collections, x, train=False), layer)


def caught(run: Callable[[], Any], layer: str) -> jax.Array:
    """Return what `inputs` does for a network that `run()` runs, whatever its arguments.

    Args:
        run: runs a network of linen modules.
        layer: the name of the layer.
    """
    calls = []

    def catch(call, args, kwargs, context):
        if context.method_name == "__call__" and "/".join(context.module.path) == layer:
            calls.append((context.module, args[0]))
        return call(*args, **kwargs)

    with nn.intercept_methods(catch):
        run()
    return jnp.concatenate([_vectors(*call) for call in calls])


def understood(context: Any) -> bool:
    """Return whether flax is calling a layer of which `inputs` knows what goes into its kernel, in a network of any kind."""
    module = context.module
    known = context.method_name == "__call__" and isinstance(module, KINDS)
    return known and (not isinstance(module, nn.Conv) or is_plain(module))


def is_plain(conv: Any) -> bool:
    """Return whether a convolution, of linen or NNX, is one over rows and columns without groups or dilation."""
    sizes = conv.kernel_size if isinstance(conv.kernel_size, Sequence) else (conv.kernel_size,)
    dilations = (*_pair(conv.input_dilation or 1), *_pair(conv.kernel_dilation or 1))
    return (
        len(sizes) == 2
        and conv.feature_group_count == 1
        and set(dilations) == {1}
        and (not isinstance(conv.padding, str) or conv.padding in ("SAME", "VALID"))
    )


def _vectors(caller, value):
    """Return the vectors [vectors, fan-in] of a layer that is called with `value`."""
    if isinstance(caller, nn.Conv):
        if caller.feature_group_count > 1:
            name = "/".join(caller.path)
            raise BadInput(f"layer {name!r}: expected one kernel for all channels, it has one per group of them")
        value = patches(caller, value)
    elif isinstance(caller, nn.Embed):
        value = jax.nn.one_hot(value, caller.num_embeddings)
    elif isinstance(caller, nn.DenseGeneral):
        value = contracted(caller.axis, value)
    return value.reshape(-1, value.shape[-1])


def contracted(axis: Any, value: jax.Array) -> jax.Array:
    """Return [vectors, fan-in], given the axis or axes along which a layer sums."""
    axes: Any = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    value = jnp.moveaxis(value, axes, tuple(range(-len(axes), 0)))
    return value.reshape(-1, int(np.prod(value.shape[-len(axes) :])))


def patches(conv: Any, x: jax.Array) -> jax.Array:
    """Return the patches [batch, rows, columns, fan-in] of a two-dimensional convolution without groups or dilation."""
    padding: Any = conv.padding if isinstance(conv.padding, str) else [_pair(sides) for sides in _pair(conv.padding)]
    found = jax.lax.conv_general_dilated_patches(
        x, conv.kernel_size, _pair(conv.strides or 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # JAX puts channels first within a patch, kernels have them last.
    rows, columns = conv.kernel_size
    shape = (*found.shape[:3], x.shape[-1], rows * columns)
    return jnp.moveaxis(found.reshape(shape), 3, 4).reshape(*found.shape[:3], -1)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
