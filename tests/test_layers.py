"""What goes into a layer, times its kernel, is what comes out."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import layers


@pytest.mark.parametrize("name", ["mlp_7x5", "cnn_4x6", "resnet8"])
def test_inputs_times_kernel_is_every_layers_output(float64, name):
    shape = (3, 8, 8, 3)
    x = np.random.default_rng(0).normal(size=shape)
    model = models.build(name, 4, "float64")
    variables = model.init(jax.random.key(1), x)
    module = models._module(name, classes=4, dtype=np.float64, param_dtype=np.float64, axis_name=None)
    collections = {"params": variables.params, "batch_stats": variables.model_state}
    _, state = module.apply(collections, x, capture_intermediates=lambda m, _: isinstance(m, nn.Dense | nn.Conv))
    found = model.layers(x)
    assert len(found) == len(state["intermediates"])
    for layer in found:
        output = state["intermediates"][layer]["__call__"][0]
        bias = variables.params[layer].get("bias", 0.0)
        product = model.layer_inputs(variables, x, layer) @ layers.kernel(variables.params, layer) + bias
        np.testing.assert_allclose(product, output.reshape(product.shape), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("mlp_7x5", "Dense_0", "Dense_2"), ("cnn_4", "Conv_0", "Dense_0"), ("resnet8", "stem", "head")],
)
def test_layers_are_named_in_the_order_of_use(name, first, last):
    found = models.build(name, 4).layers(np.zeros((1, 8, 8, 3), np.float32))
    assert (found[0], found[-1]) == (first, last)
