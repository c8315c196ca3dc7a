"""What goes into a layer, times its kernel, is what comes out."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import BadInput
from kd_jax.models import Variables, layers, names
from kd_jax.models.parts import convolution


@pytest.mark.parametrize(
    "name", ["linear", "features_12", "mlp_7x5", "cnn_4x6", pytest.param("resnet8", marks=pytest.mark.long)]
)
def test_inputs_times_kernel_is_every_layers_output(float64, name):
    shape = (3, 8, 8, 3)
    x = np.random.default_rng(0).normal(size=shape)
    model = models.build(name, 4, "float64")
    variables = model.init(jax.random.key(1), x)
    module = names.module(name, classes=4, dtype=np.float64, param_dtype=np.float64, axis_name=None)
    collections = {"params": variables.params, "batch_stats": variables.model_state}
    _, state = module.apply(collections, x, capture_intermediates=lambda m, _: isinstance(m, nn.Dense | nn.Conv))
    found = model.layers(x)
    assert len(found) == len(state["intermediates"])
    for layer in found:
        output = state["intermediates"][layer]["__call__"][0]
        bias = variables.params[layer].get("bias", 0.0)
        product = (
            model.layer_inputs(variables, x, layer) @ layers.kernel(variables.params, layer, model.fan_in(x, layer))
            + bias
        )
        np.testing.assert_allclose(product, output.reshape(product.shape), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("mlp_7x5", "Dense_0", "Dense_2"),
        ("cnn_4", "Conv_0", "Dense_0"),
        ("resnet8", "stem", "head"),
        ("resnet18", "stem", "head"),
        ("mobilenetv2_small", "stem", "head"),
    ],
)
def test_layers_are_named_in_the_order_of_use(name, first, last):
    found = models.build(name, 4).layers(np.zeros((1, 8, 8, 3), np.float32))
    assert (found[0], found[-1]) == (first, last)


class Convolutions(nn.Module):
    """The kinds of convolution in ResNet-50 and MobileNet-v2."""

    dtype = param_dtype = np.float64

    @nn.compact
    def __call__(self, x, train=False):
        conv = convolution(self)
        x = conv(4, 7, 2, name="seven")(x)
        x = conv(4, 3, name="depthwise", feature_group_count=4)(x)
        x = conv(6, 3, 2, name="three")(x)
        return conv(5, 1, 2, name="one")(x)


def test_inputs_times_kernel_is_the_output_of_a_strided_and_padded_convolution(float64):
    x = np.random.default_rng(0).normal(size=(2, 22, 19, 3))
    module = Convolutions()
    variables = Variables(module.init(jax.random.key(0), x)["params"], {})
    _, state = module.apply({"params": variables.params}, x, capture_intermediates=True)
    assert layers.with_kernel(module, x) == ["seven", "three", "one"]
    for layer in ("seven", "three", "one"):
        found = layers.inputs(module, variables, x, layer)
        product = found @ layers.kernel(variables.params, layer, found.shape[-1])
        output = state["intermediates"][layer]["__call__"][0]
        np.testing.assert_allclose(product, output.reshape(product.shape), atol=1e-12)


def test_a_convolution_in_groups_has_no_one_kernel_and_is_refused_by_name():
    x = np.zeros((1, 8, 8, 3), np.float32)
    model = models.build("mobilenetv2_small", 4)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    kernels = [layer for layer, leaves in variables.params.items() if "kernel" in leaves]
    assert set(kernels) - set(model.layers(x)) == {layer for layer in kernels if layer.endswith("_depthwise")}
    with pytest.raises(BadInput, match="'stage2_block1_depthwise': expected one kernel"):
        jax.eval_shape(lambda v: model.layer_inputs(v, x, "stage2_block1_depthwise"), variables)


class Attentive(nn.Module):
    """Tokens through an embedding, self-attention of two heads and a dense layer that is used twice."""

    @nn.compact
    def __call__(self, x, train=False):
        y = nn.Embed(11, 6, param_dtype=np.float64, name="tokens")(x)
        y = nn.MultiHeadDotProductAttention(2, qkv_features=8, param_dtype=np.float64, name="attention")(y, y)
        shared = nn.Dense(6, param_dtype=np.float64, name="shared")
        return shared(nn.relu(shared(y)))


def test_inputs_of_embeddings_and_attention_projections_are_token_features(float64):
    """Of every projection of a self-attention, and of a layer that is used twice: inputs times kernel is its output."""
    module, tokens = Attentive(), np.random.default_rng(0).integers(0, 11, size=(3, 5))
    params = module.init(jax.random.key(0), tokens)["params"]
    attention = [f"attention/{part}" for part in ("query", "key", "value", "out")]
    assert layers.with_kernel(module, tokens) == [*attention, "shared"]  # the embedding's are tokens, not features
    kinds = (nn.Embed, nn.DenseGeneral, nn.Dense)
    _, state = module.apply({"params": params}, tokens, capture_intermediates=lambda m, _: isinstance(m, kinds))
    for layer, fan_in in zip(["tokens", *attention, "shared"], (11, 6, 6, 6, 8, 6), strict=True):
        found = layers.inputs(module, Variables(params, {}), tokens, layer)
        calls, bias = state["intermediates"], params
        for name in layer.split("/"):
            calls, bias = calls[name], bias[name]
        outputs = np.concatenate([np.reshape(call, (15, -1)) for call in calls["__call__"]])
        assert found.shape == (len(outputs), fan_in)
        product = found @ layers.kernel(params, layer, fan_in) + np.reshape(bias.get("bias", 0.0), -1)
        np.testing.assert_allclose(product, outputs, atol=1e-12)
