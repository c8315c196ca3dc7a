"""Convolutions computed several pixels at a time are the convolutions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import convolution
from kd_jax.models.convolution import LAYOUT


def drawn(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def by_hand(x, kernel):
    """The 3x3 convolution of stride 1 with a border of zeros, as its definition has it, in NumPy."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = ((i, j, padded[:, i : i + height, j : j + width]) for i in range(3) for j in range(3))
    return sum(part @ kernel[i, j] for i, j, part in shifted)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_several_pixels_at_once_are_the_convolution_of_the_definition(count, float64):
    x, kernel = drawn((2, 5, 8, 3), 0), drawn((3, 3, 3, 4), 1)
    np.testing.assert_allclose(convolution.wide(x, kernel, count), by_hand(x, kernel), atol=1e-12)


@pytest.mark.parametrize("pixels", [(2, 4), (4, 2)])
def test_its_gradients_are_those_of_the_definition(pixels, float64, monkeypatch):
    # What a GPU would run, on the CPU.
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cuda, tpu, default: cuda(*args))
    x, kernel, weights = drawn((2, 4, 8, 3), 0), drawn((3, 3, 3, 5), 1), drawn((2, 4, 8, 5), 2)
    of_x, of_kernel = jax.grad(lambda x, k: (convolution._same(pixels, 1, x, k) * weights).sum(), (0, 1))(x, kernel)
    # The sum is linear in each: its derivative along a direction is its value there.
    for seed in range(3):
        d = drawn(x.shape, 10 + seed)
        np.testing.assert_allclose((of_x * d).sum(), (by_hand(d, kernel) * weights).sum(), rtol=1e-10)
        d = drawn(kernel.shape, 20 + seed)
        np.testing.assert_allclose((of_kernel * d).sum(), (by_hand(x, d) * weights).sum(), rtol=1e-10)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_gradients_of_the_form_for_tpus_are_those_of_the_convolution(count, float64, monkeypatch):
    x, kernel, weights = drawn((2, 4, 8, 3), 0), drawn((3, 3, 3, 5), 1), drawn((2, 4, 8, 5), 2)

    def loss(x, kernel):
        return (convolution._same(None, count, x, kernel) * weights).sum()

    expected = jax.grad(loss, (0, 1))(x, kernel)
    # What a TPU would run, on the CPU.
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cuda, tpu, default: tpu(*args))
    found = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    for of_form, of_plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(of_form, of_plain, atol=1e-12)


def lowered(name, platform, precision="bfloat16"):
    """The program of a training step's gradient, as it is handed to the compiler of a platform."""
    model = models.build(name, 10, precision)
    x = jnp.zeros((4, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)

    def loss(params, state):
        return model.apply(models.Variables(params, state), x, train=True).logits.sum()

    return (
        jax.jit(jax.grad(loss))
        .trace(variables.params, variables.model_state)
        .lower(lowering_platforms=(platform,))
        .as_text()
    )


def test_only_accelerators_in_bfloat16_compute_several_pixels_at_once():
    of_pixels = "3x4x16x32", "3x6x16x64", "3x10x16x128"  # kernels of two, four and eight pixels of 16 channels
    texts = [lowered("resnet8", platform) for platform in ("cuda", "tpu", "cpu")]
    # CUDA devices also for outputs and gradients of inputs, two at once.
    assert [[f"{wide}xbf16" in text for wide in of_pixels] for text in texts] == [
        [True, True, False],
        [False, False, True],
        [False, False, False],
    ]
    for platform in ("cuda", "tpu"):
        assert not any(f"{wide}xf32" in lowered("resnet8", platform, "float32") for wide in of_pixels)


def test_of_the_gradient_of_a_kernel_a_tpu_rounds_what_each_pixel_gives_and_not_their_sum(monkeypatch):
    x, weights = (jnp.asarray(drawn((64, 8, 8, 16), seed), jnp.bfloat16) for seed in (0, 1))
    kernel = jnp.asarray(drawn((3, 3, 16, 16), 2), jnp.float32)
    # What a TPU would run, on the CPU.
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cuda, tpu, default: tpu(*args))
    (found,) = jax.vjp(lambda kernel: convolution._same(None, 8, x, kernel), kernel)[1](weights)
    assert found.dtype == jnp.float32
    padded = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [[padded[:, i : i + 8, j : j + 8] for j in range(3)] for i in range(3)]
    exact = np.array([[np.einsum("bhwc,bhwo->co", part, np.float64(weights)) for part in row] for row in shifted])
    # Eight sums, each about a third as large as theirs, rounded to 8 bits; with their sum rounded too it is above 2^-9.
    assert np.sqrt(np.mean((found - exact) ** 2)) < 2**-9 * np.sqrt(np.mean(exact**2))


def test_only_tpus_in_bfloat16_are_told_the_order_of_a_kernel():
    found = [lowered("resnet8", platform).count("LayoutConstraint") for platform in ("tpu", "cuda", "cpu")]
    # Of six 3x3 convolutions of 16 to 64 channels four have stride 1; each has an output and a gradient of its input.
    assert found == [8, 0, 0]
    assert "LayoutConstraint" not in lowered("resnet8", "tpu", "float32")


PLAIN = "plain"
WIDE_OF_STAGES = ("3x10x16x128", "3x6x32x128")  # kernels of eight pixels at once, and of four


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "padding", "more", "expected"),
    [
        ((1, 32, 32, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1)), {}, (2, 4)),
        ((1, 16, 16, 32), (3, 3, 32, 32), (1, 1), ((1, 1), (1, 1)), {"lhs_dilation": (1, 1)}, (2, 2)),
        ((1, 8, 8, 64), (3, 3, 64, 64), (1, 1), ((1, 1), (1, 1)), {}, None),
        ((1, 32, 30, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1)), {}, None),
        ((1, 8, 8, 128), (3, 3, 128, 128), (1, 1), ((1, 1), (1, 1)), {}, PLAIN),
        ((1, 32, 32, 3), (3, 3, 3, 16), (1, 1), ((1, 1), (1, 1)), {}, PLAIN),
        ((1, 32, 32, 16), (3, 3, 16, 32), (2, 2), ((1, 1), (1, 1)), {}, PLAIN),
        ((1, 32, 32, 16), (3, 3, 16, 16), (1, 1), "SAME", {}, PLAIN),
        ((1, 32, 32, 16), (3, 3, 16, 16), (1, 1), ((0, 0), (0, 0)), {}, PLAIN),
        ((1, 32, 32, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1)), {"rhs_dilation": (2, 2)}, PLAIN),
        ((1, 32, 32, 32), (3, 3, 16, 32), (1, 1), ((1, 1), (1, 1)), {"feature_group_count": 2}, PLAIN),
    ],
)
def test_which_convolutions_are_meant(shape, kernel, strides, padding, more, expected):
    x, k = jax.ShapeDtypeStruct(shape, jnp.bfloat16), jax.ShapeDtypeStruct(kernel, jnp.bfloat16)
    has_form = convolution._is_of_form(x, k, strides, padding, more)
    assert (convolution._pixels(x, k) if has_form else PLAIN) == expected


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(16, 32, 8), (32, 16, 4), (64, 8, 1), (16, 20, 1), (128, 8, 1)]
)
def test_how_many_pixels_of_a_kernels_gradient_a_tpu_computes_at_once(channels, width, expected):
    x, kernel = (
        jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((1, 8, width, channels), (3, 3, channels, channels))
    )
    assert convolution._pixels_on_tpu(x, kernel) == expected


def test_of_a_block_a_tpu_computes_the_second_gradient_of_a_kernel_several_pixels_at_once():
    # Three stages of one block each.
    text = lowered("resnet8", "tpu")
    made = [len(re.findall(rf"stablehlo.convolution.*-> tensor<{shape}xbf16>", text)) for shape in WIDE_OF_STAGES]
    assert made == [1, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_an_array_that_is_written_out_keeps_its_bits_and_its_derivatives(dtype, float64):
    numbers = jnp.array([0.0, -0.0, 1e-40, -1e-30, 1.5, 3e38, np.inf, -np.inf, np.nan], dtype)
    x = jnp.concatenate([numbers, jnp.asarray(drawn(1000, 0), dtype)])
    found = jax.jit(convolution.written_out)(x)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(found).view(np.uint8), np.asarray(x).view(np.uint8))
    t = jnp.asarray(drawn(x.shape, 1), dtype)
    np.testing.assert_array_equal(jax.jvp(convolution.written_out, (x,), (t,))[1], t)
    np.testing.assert_array_equal(jax.vjp(convolution.written_out, x)[1](t)[0], t)
    np.testing.assert_array_equal(jax.vmap(convolution.written_out)(t[:, None]), t[:, None])


def test_on_cpu_alone_the_input_of_a_convolution_is_written_out_before_it_is_transposed():
    divided = re.compile(r"stablehlo.divide .*tensor<4x32x32x16xf32>")
    found = [bool(divided.search(lowered("resnet8", platform, "float32"))) for platform in ("cpu", "cuda", "tpu")]
    assert found == [True, False, False]
    x, kernel = jnp.asarray(drawn((4, 8, 8, 3), 0), jnp.float32), jnp.asarray(drawn((3, 3, 3, 5), 1), jnp.float32)

    def loss(x, kernel):
        y = convolution.convolve(jax.nn.relu(2 * x + 1), kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)
        return (y**2).sum()

    program = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile().as_text()
    # Each computation is a paragraph. None both takes the maximum with zero and transposes.
    moved = [part for part in program.split("\n\n") if " maximum(" in part and " transpose(" in part]
    assert " transpose(" in program
    assert not moved
