"""Random views: always a window of the padded image, drawn evenly, and by (key, step, example) alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kd_jax.data import augment
from kd_jax.data.augment import random_views, standardise

SHAPE = 7, 5, 2
IMAGE = np.arange(1, 1 + np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)  # no two pixels equal, none 0
IDS = np.arange(4000)
compiled_views = jax.jit(random_views, static_argnums=4)


def views_of_one_image(kind, key=0, step=3, ids=IDS):
    x = jnp.broadcast_to(IMAGE, (len(ids), *SHAPE))
    return np.asarray(compiled_views(jax.random.key(key), step, jnp.asarray(ids), x, kind))


def windows():
    """{bytes of a view: (down, right, flipped)} of every window of the image padded by 4 zeros, found by hand."""
    height, width, channels = SHAPE
    padded = np.zeros((height + 8, width + 8, channels), np.float32)
    padded[4:-4, 4:-4] = IMAGE
    listed = {}
    for down in range(9):
        for right in range(9):
            window = padded[down : down + height, right : right + width]
            listed[window.tobytes()] = down, right, False
            listed[window[:, ::-1].tobytes()] = down, right, True
    assert len(listed) == 162
    return listed


def found_windows(views):
    listed = windows()
    return np.array([listed[np.ascontiguousarray(view).tobytes()] for view in views])  # KeyError: not a window


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_a_view_is_always_a_window_of_the_zero_padded_image_and_every_window_is_equally_likely(kind):
    down, right, _ = found_windows(views_of_one_image(kind)).T
    for place in (down, right, 9 * down + right):
        counts = np.bincount(place, minlength=9)
        assert (counts > 0).all()
        assert stats.chisquare(counts).pvalue > 1e-3
    assert len(np.unique(9 * down + right)) == 81


def test_half_of_the_views_are_mirrored_wherever_they_are_cut():
    down, right, flipped = found_windows(views_of_one_image("crop_flip")).T
    assert stats.binomtest(int(flipped.sum()), len(flipped)).pvalue > 1e-3
    for place in (down, right):
        assert stats.chi2_contingency(np.stack([np.bincount(place[flipped == f]) for f in (0, 1)])).pvalue > 1e-3


def test_crops_alone_are_never_mirrored():
    assert not found_windows(views_of_one_image("crop"))[:, 2].any()


def test_none_is_the_identity():
    x = np.random.default_rng(0).normal(size=(9, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(random_views(jax.random.key(0), 5, jnp.arange(9), x, "none"), x)


def test_a_crop_is_padded_with_zero_the_mean_of_standardised_pixels():
    rng = np.random.default_rng(0)
    x = np.full((500, 1, 1, 3), 200, np.uint8)
    mean, std = rng.uniform(100, 150, 3), rng.uniform(30, 60, 3)
    standardised = standardise(x, mean, std, jnp.float32)
    views = np.asarray(compiled_views(jax.random.key(0), 0, jnp.arange(500), standardised, "crop"))
    # Of one pixel, 80 of 81 windows are padding.
    padding = (views == 0).all(axis=(1, 2, 3))
    np.testing.assert_allclose(views[~padding], np.asarray(standardised)[~padding])
    assert stats.binomtest(int((~padding).sum()), 500, 1 / 81).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_a_view_depends_on_its_example_and_not_on_its_batch(kind):
    rng = np.random.default_rng(0)
    ids = rng.permutation(100_000)[:32]
    x = rng.normal(size=(32, *SHAPE)).astype(np.float32)
    key = jax.random.key(1)
    whole = np.asarray(compiled_views(key, 7, ids, x, kind))
    order = rng.permutation(32)
    shuffled = np.asarray(compiled_views(key, 7, ids[order], x[order], kind))
    np.testing.assert_array_equal(shuffled, whole[order])
    parts = [compiled_views(key, 7, ids[rows], x[rows], kind) for rows in np.split(np.arange(32), [1, 12])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_another_key_step_or_example_is_another_draw():
    first = found_windows(views_of_one_image("crop_flip", key=0, step=3))
    np.testing.assert_array_equal(found_windows(views_of_one_image("crop_flip", key=0, step=3)), first)
    others = (
        views_of_one_image("crop_flip", key=1, step=3),
        views_of_one_image("crop_flip", key=0, step=4),
        views_of_one_image("crop_flip", key=0, step=3, ids=IDS + 4000),
    )
    for other in others:
        same = (found_windows(other) == first).all(axis=1).sum()
        assert stats.binomtest(int(same), 4000, 1 / 162).pvalue > 1e-3  # independent draws agree now and then


def test_step_and_example_are_not_interchangeable():
    by_step = found_windows(np.concatenate([views_of_one_image("crop", step=s, ids=np.array([0])) for s in range(40)]))
    by_example = found_windows(views_of_one_image("crop", step=0, ids=np.arange(40)))
    assert (by_step != by_example).any(axis=1).sum() > 20


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_standardised_pixels_are_in_deviations_from_the_channels_mean(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (50, *SHAPE)).astype(np.uint8)
    mean, std = x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2))
    found = standardise(jnp.asarray(x), mean, std, dtype)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 0.03
    np.testing.assert_allclose(np.asarray(found, np.float64), (x - mean) / std, atol=tolerance)


def test_standardising_in_float64_is_exact_to_rounding(float64):
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = np.asarray(standardise(jnp.asarray(x), np.array([33.3]), np.array([78.9]), jnp.float64))
    np.testing.assert_allclose(found, (x.astype(np.float64) - 33.3) / 78.9, rtol=1e-15, atol=1e-15)


def test_the_windows_that_a_tpu_chooses_are_those_that_others_gather():
    corner = np.stack(np.mgrid[:9, :9], axis=-1).reshape(-1, 2)
    padded = np.random.default_rng(0).normal(size=(81, SHAPE[0] + 8, SHAPE[1] + 8, SHAPE[2])).astype(np.float32)
    expected = [
        image[down:, right:][: SHAPE[0], : SHAPE[1]] for image, (down, right) in zip(padded, corner, strict=True)
    ]
    for windows in (augment._chosen_windows, augment._gathered_windows):
        np.testing.assert_array_equal(jax.jit(windows)(padded, corner), expected)


def test_a_view_compiled_for_a_tpu_gathers_nothing():
    """A gather, or what it becomes there, is a loop over the images."""
    x, ids = jax.ShapeDtypeStruct((4, *SHAPE), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    traced = compiled_views.trace(jax.random.key(0), 0, ids, x, "crop_flip")
    found = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("tpu", "cpu")}
    assert ["gather" in text for text in found.values()] == [False, True]


@pytest.mark.parametrize(
    ("shape", "dtype", "flips"),
    [((7, 5, 2), jnp.float32, True), ((4, 4, 3), jnp.bfloat16, True), ((6, 5, 1), jnp.bfloat16, False)],
)
def test_views_that_a_tpu_makes_of_words_are_bit_for_bit_windows_of_standardised_images(shape, dtype, flips):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1024, *shape), np.uint8)
    corner, mirrored = rng.integers(0, 9, (1024, 2)), rng.integers(0, 2, 1024) == 1
    mean, std = np.linspace(90.3, 140.1, shape[-1]), np.linspace(50.7, 70.9, shape[-1])
    clean = partial(standardise, mean=mean, std=std, dtype=dtype)
    made = partial(augment._views_of_words, mirrored=mirrored if flips else None, clean=clean)
    found = np.asarray(jax.jit(made)(x, corner))
    padded = np.pad(jax.jit(clean)(x), ((0, 0), (4, 4), (4, 4), (0, 0)))
    for view, image, (down, right), mirror in zip(found, padded, corner, mirrored, strict=True):
        window = image[down : down + shape[0], right : right + shape[1]]
        np.testing.assert_array_equal(view, window[:, ::-1] if mirror and flips else window)


@pytest.mark.parametrize(
    ("batch", "channels", "dtype", "fill"),
    [(1024, 3, np.uint8, True), (512, 3, np.uint8, False), (1024, 4, np.uint8, False), (1024, 3, np.float32, False)],
)
def test_words_are_for_bytes_that_fill_tiles(batch, channels, dtype, fill):
    assert augment._fill_tiles(np.zeros((batch, 4, 4, channels), dtype)) == fill


def test_a_view_of_words_compiled_for_a_tpu_gathers_nothing():
    x, ids = jax.ShapeDtypeStruct((1024, 4, 4, 3), jnp.uint8), jax.ShapeDtypeStruct((1024,), jnp.int32)
    clean = partial(standardise, mean=np.zeros(3), std=np.ones(3), dtype=jnp.float32)
    views = jax.jit(partial(random_views, kind="crop_flip", clean=clean))
    traced = views.trace(jax.random.key(0), 0, ids, x)
    found = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("tpu", "cpu")}
    assert ["gather" in text for text in found.values()] == [False, True]
