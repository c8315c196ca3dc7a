"""Convolutions in the forms that GPUs and CPUs run faster.

On GPUs, of few channels: several neighbouring pixels of a row at once. cuDNN multiplies tiles of at least 32 output channels, so of
16 channels half a tile is empty, and each value of the input is loaded nine times for a 3x3 kernel. `wide` computes `count`
neighbouring pixels of the output as that many times the channels, with a kernel of 3 x (count + 2) that moves by `count` pixels:
the same products and sums, plus products with zeros, from fewer loads. Neighbouring pixels of a row lie side by side in memory, so
nothing is moved.

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

LAYOUT = ("NHWC", "HWIO", "NHWC")

# How many pixels at once, for the output and for the gradient of the kernel, by the largest number of channels that this is for.
# Measured on an H100 in bfloat16, batch 1024, microseconds of one layer, plain and wide: 32x32x16 forward 121 and 77, gradient of
# the kernel 154 and 67; 16x16x32 forward 35 and 29, gradient of the kernel 73 and 51; 8x8x64 is no faster wide.
PIXELS = {16: (2, 4), 32: (2, 2)}
FEWEST_CHANNELS = 16  # of fewer, as of the pixels of an image, nothing was measured


def convolve(x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: Any, **more: Any) -> jax.Array:
    """Return what `jax.lax.conv_general_dilated` returns, for `flax.linen.Conv`; on CUDA devices wide where that is faster.

    That is for bfloat16 alone, and it then has no forward-mode derivative. All arguments are those of `conv_general_dilated`.
    """
    pixels = _pixels(x, kernel, window_strides, padding, more)
    if pixels is None:
        if kernel.shape[:2] != (1, 1):  # the gradient of such a kernel is a product of matrices
            x = written_out(x)
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **more)
    return _same(pixels, x, kernel)


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
    rows, columns, channels, outputs = kernel.shape
    widened = jnp.zeros((rows, columns + count - 1, channels, count, outputs), kernel.dtype)
    for pixel in range(count):
        widened = widened.at[:, pixel : pixel + columns, :, pixel].set(kernel)
    y = _convolved(x, widened.reshape(rows, -1, channels, count * outputs), (1, count))
    return y.reshape(*x.shape[:3], outputs)


def _convolved(x, kernel, strides=(1, 1)):
    return jax.lax.conv_general_dilated(x, kernel, strides, ((1, 1), (1, 1)), dimension_numbers=LAYOUT)


def _pixels(x, kernel, strides, padding, more):
    """(pixels at once for the output, for the gradient of the kernel), or None where the plain form stays."""
    plain = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
    if (
        x.dtype != jnp.bfloat16
        or x.ndim != 4
        or kernel.shape[:2] != (3, 3)
        or tuple(strides) != (1, 1)
        or isinstance(padding, str)
        or [tuple(sides) for sides in padding] != [(1, 1), (1, 1)]
        or any(more.get(name) not in (None, value) for name, value in plain.items())
        or min(kernel.shape[2:]) < FEWEST_CHANNELS
    ):
        return None
    fitting = (pixels for most, pixels in PIXELS.items() if max(kernel.shape[2:]) <= most)
    pixels = next(fitting, None)
    return pixels if pixels and x.shape[2] % max(pixels) == 0 else None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _same(pixels, x, kernel):
    """The convolution; what runs is decided when the program is compiled for a device."""
    return jax.lax.platform_dependent(x, kernel, cuda=partial(wide, count=pixels[0]), default=_convolved)


def _forward(pixels, x, kernel):
    return _same(pixels, x, kernel), (x, kernel)


def _backward(pixels, saved, of_output):
    def on_cuda(x, kernel, of_output):
        # The gradient of the input is a convolution of the same kind, with the kernel turned round.
        turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        (of_kernel,) = jax.vjp(lambda kernel: wide(x, kernel, pixels[1]), kernel)[1](of_output)
        return wide(of_output, turned, pixels[0]), of_kernel

    def plainly(x, kernel, of_output):
        return jax.vjp(_convolved, x, kernel)[1](of_output)

    return jax.lax.platform_dependent(*saved, of_output, cuda=on_cuda, default=plainly)


_same.defvjp(_forward, _backward)
