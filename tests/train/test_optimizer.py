"""The optimisers of texts against plain NumPy in float64: AdamW's step, what decays, clipping, warm-up and linear decay."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from kd_jax.config import BadInput, Study, Training
from kd_jax.train import optimizer

TRAINING = Training(
    learning_rate=0.1,
    optimizer="adamw",
    momentum=0.8,
    weight_decay=0.05,
    decay_on="kernels",
    decay="linear",
    warmup=0.25,
    epochs=1,
)


def leaves(seed):
    rng = np.random.default_rng(seed)
    shapes = {
        "dense": {"kernel": (3, 4), "bias": (4,)},
        "tokens": {"embedding": (5, 3)},
        "norm": {"scale": (3,), "bias": (3,)},
    }
    return jax.tree.map(lambda shape: rng.normal(size=shape), shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))


def steps(training, total, count):
    """(parameters after `count` steps on given gradients, what those were)."""
    descent = optimizer.make_optimizer(training, total)
    params = leaves(0)
    opt_state, gradients = descent.init(params), [leaves(seed) for seed in range(1, count + 1)]
    for gradient in gradients:
        updates, opt_state = descent.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params, gradients


def test_adamw_is_adam_beside_a_decay_of_kernels_and_embeddings_alone(float64):
    found, gradients = steps(TRAINING, 8, 5)
    rates = [0.1 * min(step / 2, (8 - step) / 6) for step in range(5)]
    for layer, of_layer in leaves(0).items():
        for name, value in of_layer.items():
            decays = name in ("kernel", "embedding")
            first = second = np.zeros(value.shape)
            for t, rate in enumerate(rates):
                gradient = gradients[t][layer][name]
                first = 0.8 * first + 0.2 * gradient
                second = 0.999 * second + 0.001 * gradient**2
                step = first / (1 - 0.8 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8)
                value = value - rate * (step + (0.05 * value if decays else 0))
            # optax has its corrections of the moments in float32.
            np.testing.assert_allclose(found[layer][name], value, rtol=1e-6, err_msg=f"{layer} {name}")


def test_a_gradient_longer_than_the_clip_is_scaled_down_as_a_whole_and_a_shorter_one_left(float64):
    plain = Training(optimizer="sgd", momentum=0.0, learning_rate=1.0, epochs=1)
    before = jax.tree.leaves(leaves(0))
    gradient = jax.tree.leaves(leaves(1))
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in gradient))
    for clip, factor in ((norm / 4, 0.25), (2 * norm, 1.0), (0.0, 1.0)):
        training = replace(plain, gradient_clip=float(clip))
        moved = [b - a for a, b in zip(jax.tree.leaves(steps(training, 4, 1)[0]), before, strict=True)]
        for left, right in zip(moved, gradient, strict=True):
            np.testing.assert_allclose(left, factor * right, rtol=1e-10)


def test_linear_decay_rises_from_0_to_the_peak_and_falls_to_0_at_the_last_step(float64):
    schedule = optimizer.learning_rate_schedule(TRAINING, 40)
    np.testing.assert_allclose([schedule(step) for step in range(11)], 0.1 * np.arange(11) / 10)
    np.testing.assert_allclose(
        [schedule(step) for step in range(10, 41)], 0.1 * (40 - np.arange(10, 41)) / 30, atol=1e-15
    )
    without = optimizer.learning_rate_schedule(Training(decay="linear", learning_rate=0.3), 6)
    np.testing.assert_allclose([without(step) for step in range(7)], 0.3 * (1 - np.arange(7) / 6), atol=1e-15)


def test_no_time_of_gradient_flow_is_claimed_for_adamw_or_clipped_gradients():
    assert optimizer.descent_times(TRAINING, 8, [0, 8]) is None
    assert optimizer.descent_times(Training(gradient_clip=1.0), 8, [0, 8]) is None
    assert optimizer.descent_times(Training(), 8, [0, 8]) is not None


def test_points_of_decay_beside_linear_decay_are_refused():
    with pytest.raises(BadInput, match=r"--decay_at=0\.5: expected none beside --decay=linear"):
        Study.from_flags(decay="linear", decay_at=(0.5,))
