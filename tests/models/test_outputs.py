"""What a network returns beside its logits: features that are what their names say, and that change nothing."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import layers, names

CLASSES, VOCABULARY = 4, 30

STAGES = {
    "linear": {},
    "features_12": {},
    "mlp_7x5": {"hidden1": (7,), "hidden2": (5,)},
    "balanced_6": {"hidden1": (6,)},
    "cnn_3x5": {"stage1": (4, 4, 3), "stage2": (2, 2, 5)},
    "resnet8": {"stage1": (8, 8, 16), "stage2": (4, 4, 32), "stage3": (2, 2, 64)},
    "resnet18_small": {f"stage{i + 1}": (8 >> i, 8 >> i, 64 << i) for i in range(4)},
    "mobilenetv2_small": {
        f"stage{i}": (side, side, channels)
        for i, (side, channels) in enumerate([(8, 16), (8, 24), (4, 32), (2, 64), (2, 96), (1, 160), (1, 320)], start=1)
    },
    "roberta_2x16": {"layer1": (16,), "layer2": (16,)},
}
WIDTHS = {
    "linear": 192,
    "features_12": 12,
    "mlp_7x5": 5,
    "balanced_6": 6,
    "cnn_3x5": 20,
    "resnet8": 64,
    "resnet18_small": 512,
    "mobilenetv2_small": 1280,
    "roberta_2x16": 16,
}


def texts(lengths=(9, 4, 1), longest=12):
    """Token ids [texts, longest], padded at the end with 1."""
    ids = np.random.default_rng(0).integers(2, VOCABULARY, (len(lengths), longest))
    return np.where(np.arange(longest) < np.array(lengths)[:, None], ids, 1).astype(np.int32)


def made(name, precision="float32"):
    """(network, a batch of 3 for it)."""
    if name.startswith("roberta"):
        return models.build(name, CLASSES, precision, vocabulary=VOCABULARY, positions=12, dropout=0.0), texts()
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(models.COMPUTE_DTYPES["float32"])
    return models.build(name, CLASSES, precision), x


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("train", [False, True])
def test_every_network_names_its_stages_and_the_input_of_its_last_layer(name, train):
    model, x = made(name, "bfloat16")
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    found = jax.eval_shape(partial(model.apply, train=train), variables, x).features
    expected = STAGES[name] | {"penultimate": (WIDTHS[name],)}
    assert {key: value.shape[1:] for key, value in found.items()} == expected
    assert {value.shape[0] for value in found.values()} == {3}
    assert {value.dtype for value in found.values()} == {jnp.dtype("float32")}  # that of the parameters, as of logits


@pytest.mark.parametrize(
    "name", ["linear", "features_12", "mlp_7x5", "balanced_6", "cnn_3x5", "resnet8", "roberta_2x16"]
)
def test_the_last_layer_turns_the_penultimate_feature_into_the_logits(name, float64):
    model, x = made(name, "float64")
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape), shapes)
    logits, features, _ = jax.jit(model.apply)(variables, x)
    last = model.layers(x)[-1]
    kernel = layers.kernel(variables.params, last, model.fan_in(x, last))
    np.testing.assert_allclose(features["penultimate"] @ kernel + variables.params[last]["bias"], logits, rtol=1e-12)


@pytest.mark.long
def test_the_last_stage_of_a_cifar_resnet_is_normalised_and_averaged_to_the_penultimate_feature(float64):
    model, x = made("resnet8", "float64")
    variables = jax.jit(model.init)(jax.random.key(0), x)
    statistics = {"mean": np.linspace(-0.2, 0.2, 64), "var": np.linspace(0.5, 2, 64)}
    state = variables.model_state | {"norm": statistics}
    features = jax.jit(model.apply)(variables._replace(model_state=state), x).features
    normalised = (features["stage3"] - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
    np.testing.assert_allclose(np.maximum(normalised, 0).mean(axis=(1, 2)), features["penultimate"], rtol=1e-10)


@pytest.mark.long
def test_the_features_of_a_text_do_not_depend_on_its_padding():
    model, x = made("roberta_2x16")
    variables = jax.jit(model.init)(jax.random.key(0), x)
    whole, cut = (model.apply(variables, texts).features for texts in (x, x[:, :9]))
    for name, value in whole.items():
        np.testing.assert_allclose(cut[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["mlp_7x5", "cnn_3x5", "resnet8", "roberta_2x16"])
def test_features_that_nothing_reads_leave_the_compiled_gradient_as_it_is(name):
    """The program of a loss on the logits is, to the instruction, that of a network without names for its features."""
    model, x = made(name)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    module = names.module(name, classes=CLASSES, dtype=jnp.float32, param_dtype=jnp.float32, axis_name=None)
    if name.startswith("roberta"):
        module = module.clone(vocabulary=VOCABULARY, positions=12, dropout=0.0)

    def with_features(params, x):
        logits, _, state = model.apply(variables._replace(params=params), x, train=True)
        return jnp.square(logits).sum(), state

    def without(params, x):
        collections = {"params": params} | ({"batch_stats": variables.model_state} if variables.model_state else {})
        logits, found = module.apply(collections, x, train=True, mutable=["batch_stats"])
        return jnp.square(logits).sum(), found.get("batch_stats", {})

    programs = [
        jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(variables.params, x).compile()
        for loss in (with_features, without)
    ]
    costs = [program.cost_analysis() for program in programs]
    for key in ("flops", "bytes accessed"):
        assert costs[0][key] == costs[1][key]
    assert programs[0].memory_analysis().temp_size_in_bytes == programs[1].memory_analysis().temp_size_in_bytes
    jax.tree.map(np.testing.assert_array_equal, *(program(variables.params, x) for program in programs))


class Plain(nn.Module):
    """A network of a user's own, which returns logits and names no features."""

    classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


@pytest.mark.parametrize("train", [False, True])
def test_a_network_that_returns_logits_alone_has_no_features(train, monkeypatch):
    monkeypatch.setitem(names.NETWORKS, "plain", Plain)
    model, x = made("plain")
    variables = model.init(jax.random.key(0), x)
    logits, features, state = model.apply(variables, x, train=train)
    assert logits.shape == (3, CLASSES)
    assert features == state == {}


def test_a_loss_on_features_has_a_gradient_in_the_layers_below_them_alone():
    model, x = made("mlp_7x5")
    variables = model.init(jax.random.key(0), x)

    @jax.grad
    def slopes(params):
        return jnp.square(model.apply(variables._replace(params=params), x).features["hidden1"]).sum()

    found = slopes(variables.params)
    assert np.abs(found["Dense_0"]["kernel"]).max() > 0
    assert not any(np.asarray(found[layer]["kernel"]).any() for layer in ("Dense_1", "Dense_2"))
