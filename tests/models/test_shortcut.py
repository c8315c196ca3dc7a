"""Shortcuts without parameters: every second pixel, zeros behind its channels, and the gradient of that, in every form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.models import shortcut


def by_hand(x):
    batch, height, width, channels = x.shape
    expected = np.zeros((batch, height // 2, width // 2, 2 * channels), x.dtype)
    expected[..., :channels] = x[:, ::2, ::2]
    return expected


@pytest.mark.parametrize("form", [shortcut.halved, shortcut._plainly, shortcut._in_pairs])
def test_a_halved_image_is_every_second_pixel_and_zeros(form):
    x = np.asarray(jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 4, 2)), jnp.bfloat16))
    np.testing.assert_array_equal(jax.jit(form)(x), by_hand(x))


def test_of_an_image_with_odd_sides_the_last_pixel_stays():
    x = jnp.arange(2 * 5 * 7 * 2, dtype=jnp.bfloat16).reshape(2, 5, 7, 2)
    found = shortcut.halved(x)
    np.testing.assert_array_equal(found[..., :2], x[:, ::2, ::2])
    assert found.shape == (2, 3, 4, 4)
    assert not found[..., 2:].any()


@pytest.mark.parametrize("platform", ["tpu", "default"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_its_gradient_goes_back_to_the_pixels_that_were_taken_and_is_zero_elsewhere(monkeypatch, platform, dtype):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, **forms: forms[platform](*args))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 4, 2)), dtype)
    of_output = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 4)), dtype)
    found, back = jax.vjp(shortcut.halved, x)
    np.testing.assert_array_equal(found, by_hand(np.asarray(x)))
    expected = np.zeros(x.shape, of_output.dtype)
    expected[:, ::2, ::2] = of_output[..., :2]
    np.testing.assert_array_equal(back(of_output)[0], expected)


def test_a_tpu_takes_no_strides():
    x = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.bfloat16)
    traced = jax.jit(shortcut.halved).trace(x)
    strides = ["0:8:2" in traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("tpu", "cpu", "cuda")]
    assert strides == [False, True, True]
