"""Convolutions in the forms that GPUs, TPUs and CPUs run faster.

On GPUs, of few channels: several neighbouring pixels of a row at once. cuDNN multiplies tiles of at least 32 output channels, so of
16 channels half a tile is empty, and each value of the input is loaded nine times for a 3x3 kernel. `wide` computes `count`
neighbouring pixels of the output as that many times the channels, with a kernel of 3 x (count + 2) that moves by `count` pixels:
the same products and sums, plus products with zeros, from fewer loads. Neighbouring pixels of a row lie side by side in memory, so
nothing is moved.

On TPUs: with the output's channels of a kernel side by side in memory, whichever way it is used. The compiler picks an order for
each kernel that it may lay out anew, and with the other one, which it takes for the kernels of a frozen teacher and for gradients
of inputs, it reckons with almost twice the cycles for few channels: it computes half the channels at a time. And the gradient of
a kernel several pixels at once, as on GPUs, but only where the gradient of the output lies in memory in any case, as that of a sum
does: pixels side by side keep the compiler from working out within the convolution what it reads.

On CPUs: from an input that is written out before it is read. XLA computes the gradient of a kernel from the input with its channels
first and its batch last. Left alone, it works out the normalisation and the ReLU before the convolution a second time while it
transposes, value by value from addresses far apart, which took a quarter of a ResNet-20's step; an array that is there is
transposed several times as fast.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.experimental.layout import Layout, with_layout_constraint

LAYOUT = ("NHWC", "HWIO", "NHWC")

# How many pixels at once, for the output and for the gradient of the kernel, by the largest number of channels that this is for.
# Measured on an H100 in bfloat16, batch 1024, microseconds of one layer, plain and wide: 32x32x16 forward 121 and 77, gradient of
# the kernel 154 and 67; 16x16x32 forward 35 and 29, gradient of the kernel 73 and 51; 8x8x64 is no faster wide.
PIXELS = {16: (2, 4), 32: (2, 2)}
# The same for TPUs, where only the gradient of the kernel gains. By the compiler for a v5e, batch 1024, thousands of cycles by how
# many pixels at once: 32x32x16 305 for one, 156 for four; 16x16x32 151 for one, 102 for two, 77 for four. 8x8x64 takes 75 for one
# and 50 for two, and as much more around it. Two blocks of 32x32x16, forward and backward: 4,038 for one, 3,759 for four, 3,721
# for eight.
PIXELS_ON_TPU = {16: 8, 32: 4}
FEWEST_CHANNELS = 16  # of fewer, as of the pixels of an image, nothing was measured
MOST_ON_TPU = 64  # channels of which the order of a kernel was tried on a TPU; more fill its lanes


def convolve(
    x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: Any, is_summed: bool = False, **more: Any
) -> jax.Array:
    """Return what `jax.lax.conv_general_dilated` returns, for `flax.linen.Conv`; on CUDA devices wide where that is faster, and
    on TPUs from a kernel in the order that is.

    Both are for `x` in bfloat16 alone, and it then has no forward-mode derivative. The kernel may be of another dtype, and is
    rounded to that of `x`; see `promoted`. All arguments are those of `conv_general_dilated`, but for one.

    Args:
        is_summed: whether the network only adds the output to something else, so that the gradient of the output is one that
            others use too. On TPUs that of the kernel is then computed several pixels at once.
    """
    has_form = _is_of_form(x, kernel, window_strides, padding, more)
    if not has_form:
        kernel = kernel.astype(x.dtype)
    pixels = _pixels(x, kernel) if has_form else None
    if pixels is None and kernel.shape[:2] != (1, 1):  # the gradient of such a kernel is a product of matrices
        x = written_out(x)
    if has_form:
        return _same(pixels, _pixels_on_tpu(x, kernel) if is_summed else 1, x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **more)


@jax.custom_jvp
def written_out(x: jax.Array) -> jax.Array:
    """Return `x`, bit for bit; on CPU in a way that makes XLA compute it once however often it is read.

    XLA puts a cheap operation into everything that reads its result, but not a division. It drops `optimization_barrier` on CPU
    before it decides.
    """

    def divided(x):
        # By 1, which XLA does not know; infinity stays infinite.
        return x / jnp.where(jnp.isinf(x), 2, 1).astype(x.dtype)

    return jax.lax.platform_dependent(x, cpu=divided, default=lambda x: x)


@written_out.defjvp
def _written_out_jvp(primals, tangents):
    return written_out(*primals), tangents[0]


def wide(x: jax.Array, kernel: jax.Array, count: int) -> jax.Array:
    """Return the convolution of stride 1 that pads with one zero on every side, computed `count` pixels of a row at a time.

    Args:
        x: [batch, height, width, channels]; the width is a multiple of `count`.
        kernel: [3, 3, channels, outputs].
        count: how many pixels.

    Returns:
        [batch, height, width, outputs].
    """
    if count == 1:
        return _convolved(x, kernel)
    rows, columns, channels, outputs = kernel.shape
    widened = jnp.zeros((rows, columns + count - 1, channels, count, outputs), kernel.dtype)
    for pixel in range(count):
        widened = widened.at[:, pixel : pixel + columns, :, pixel].set(kernel)
    y = _convolved(x, widened.reshape(rows, -1, channels, count * outputs), (1, count))
    return y.reshape(*x.shape[:3], outputs)


def _convolved(x, kernel, strides=(1, 1)):
    return jax.lax.conv_general_dilated(x, kernel.astype(x.dtype), strides, ((1, 1), (1, 1)), dimension_numbers=LAYOUT)


def _is_of_form(x, kernel, strides, padding, more):
    """Whether there are forms of a convolution other than the plain one."""
    plain = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
    return (
        x.dtype == jnp.bfloat16
        and x.ndim == 4
        and kernel.shape[:2] == (3, 3)
        and tuple(strides) == (1, 1)
        and not isinstance(padding, str)
        and [tuple(sides) for sides in padding] == [(1, 1), (1, 1)]
        and all(more.get(name) in (None, value) for name, value in plain.items())
        and FEWEST_CHANNELS <= min(kernel.shape[2:]) <= max(kernel.shape[2:]) <= MOST_ON_TPU
    )


def _pixels(x, kernel):
    """On CUDA, (pixels at once for the output, for the gradient of the kernel), or None where the plain form stays."""
    pixels = _of_channels(PIXELS, kernel)
    return pixels if pixels and x.shape[2] % max(pixels) == 0 else None


def _pixels_on_tpu(x, kernel):
    """On TPUs, how many pixels at once for the gradient of the kernel."""
    count = _of_channels(PIXELS_ON_TPU, kernel)
    return count if count and x.shape[2] % count == 0 else 1


def _of_channels(found, kernel):
    """What is found for so many channels as a kernel has at most, in {number of channels: what for these and for fewer}."""
    return next((each for most, each in found.items() if max(kernel.shape[2:]) <= most), None)


def promoted(
    x: jax.Array, kernel: jax.Array, bias: Any, *, dtype: Any, **more: Any
) -> tuple[jax.Array, jax.Array, Any]:
    """Return what `flax.linen.Conv` is to convolve, for its `promote_dtype`: all in one dtype, but the kernel as it is stored.

    `convolve` rounds it. On a TPU the gradient of the input starts from the kernel as it is stored: one that is rounded once for
    that and for the output would be kept, in an order that is not good for both.
    """
    x, bias = promote_dtype(x, bias, dtype=dtype, **more)
    return x, kernel, bias


def _ordered(x, kernel):
    """The convolution, of a kernel whose channels of the output lie side by side in memory."""
    return _convolved(x, with_layout_constraint(kernel, Layout(major_to_minor=(0, 1, 2, 3))))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _same(pixels, pixels_on_tpu, x, kernel):
    """The convolution; what runs is decided when the program is compiled for a device."""

    def on_cuda(x, kernel):
        return wide(x, kernel.astype(x.dtype), pixels[0]) if pixels else _convolved(x, kernel)

    return jax.lax.platform_dependent(x, kernel, cuda=on_cuda, tpu=_ordered, default=_convolved)


def _forward(pixels, pixels_on_tpu, x, kernel):
    return _same(pixels, pixels_on_tpu, x, kernel), (x, kernel)


def _backward(pixels, pixels_on_tpu, saved, of_output):
    def turned(kernel):
        # The gradient of the input is a convolution of the same kind, with the kernel turned round.
        return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)

    def on_cuda(x, kernel, of_output):
        (of_kernel,) = jax.vjp(lambda kernel: wide(x, kernel.astype(x.dtype), pixels[1]), kernel)[1](of_output)
        return wide(of_output, turned(kernel).astype(x.dtype), pixels[0]), of_kernel

    def on_tpu(x, kernel, of_output):
        # The kernel is rounded within, so that what its places in a wide one give is added up as it is stored.
        (of_kernel,) = jax.vjp(lambda kernel: wide(x, kernel, pixels_on_tpu), kernel)[1](of_output)
        return _ordered(of_output, turned(kernel)), of_kernel

    def plainly(x, kernel, of_output):
        return jax.vjp(_convolved, x, kernel)[1](of_output)

    return jax.lax.platform_dependent(
        *saved, of_output, cuda=on_cuda if pixels else plainly, tpu=on_tpu, default=plainly
    )


_same.defvjp(_forward, _backward)
