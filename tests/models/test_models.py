"""Networks against forward passes written out in NumPy, closed-form parameter counts, and what train=False promises."""

import re
from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import BadInput
from kd_jax.models import Variables

CLASSES = 10
NAMES = ["mlp_8x6", "balanced_8", "cnn_4x5", "resnet8"]


def images(count=8, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


@cache
def compiled(name, precision="float32"):
    """The `Model`, its functions compiled once for all tests."""
    model = models.build(name, CLASSES, precision)
    return model._replace(init=jax.jit(model.init), apply=jax.jit(model.apply, static_argnames="train"))


def made(name, x, precision="float32", seed=0):
    """Return a network and its variables, every number of them random: scales, biases and running statistics too."""
    model = compiled(name, precision)
    rng = np.random.default_rng(seed)

    def drawn(path, leaf):
        positive = path[-1].key in ("scale", "var")
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 0.1
        return jnp.asarray(
            rng.uniform(0.5, 2, leaf.shape) if positive else spread * rng.normal(size=leaf.shape), leaf.dtype
        )

    return model, jax.tree.map_with_path(drawn, jax.eval_shape(model.init, jax.random.key(0), x))


# ---- the forward passes, written out


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def convolution(x, layer, stride=1):
    """3x3, one pixel of zeros around the image, as nine shifted products."""
    kernel = np.asarray(layer["kernel"], np.float64)
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    return total[:, ::stride, ::stride] + np.asarray(layer.get("bias", 0), np.float64)


def normalised(x, layer, statistics):
    scale, bias = (np.asarray(layer[name], np.float64) for name in ("scale", "bias"))
    mean, var = (np.asarray(statistics[name], np.float64) for name in ("mean", "var"))
    return scale * (x - mean) / np.sqrt(var + 1e-5) + bias


def relu(x):
    return np.maximum(x, 0)


def resnet(x, depth, params, statistics):
    """Pre-activation, option A."""

    def activated(x, name):
        return relu(normalised(x, params[name], statistics[name]))

    x = convolution(x, params["stem"])
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_block{block}"
            y = convolution(activated(x, f"{name}_norm1"), params[f"{name}_conv1"], stride)
            y = convolution(activated(y, f"{name}_norm2"), params[f"{name}_conv2"])
            shortcut = np.zeros_like(y)
            shortcut[..., : x.shape[-1]] = x[:, ::stride, ::stride]
            assert shortcut.shape[-1] == channels
            x = shortcut + y
    return dense(activated(x, "norm").mean(axis=(1, 2)), params["head"])


def test_an_mlp_is_dense_layers_with_relu_between():
    x = images()
    model, variables = made("mlp_8x6", x)
    hidden = x.reshape(len(x), -1).astype(np.float64)
    for layer in ("Dense_0", "Dense_1"):
        hidden = relu(dense(hidden, variables.params[layer]))
    assert [variables.params[f"Dense_{i}"]["kernel"].shape for i in range(3)] == [(192, 8), (8, 6), (6, CLASSES)]
    logits = model.apply(variables, x).logits
    np.testing.assert_allclose(logits, dense(hidden, variables.params["Dense_2"]), rtol=1e-4, atol=1e-4)


def test_a_linear_model_is_one_product_and_random_features_are_the_relu_of_a_fixed_one_before_it():
    x = images()
    flat = x.reshape(len(x), -1).astype(np.float64)
    model, variables = made("linear", x)
    np.testing.assert_allclose(
        model.apply(variables, x).logits, dense(flat, variables.params["Dense_0"]), rtol=1e-4, atol=1e-4
    )
    model, variables = made("features_12", x)
    features = np.asarray(model.layer_inputs(variables, x, "Dense_0"))
    assert features.shape == (8, 12)
    np.testing.assert_allclose(
        model.apply(variables, x).logits, dense(features, variables.params["Dense_0"]), rtol=1e-4, atol=1e-4
    )
    # The same at another point, and with other variables: they are no part of what is trained.
    more = images(2000, seed=1)
    other = np.asarray(model.layer_inputs(made("features_12", x, seed=3)[1], more, "Dense_0"))
    again = model.layer_inputs(variables, more[:5], "Dense_0")
    np.testing.assert_allclose(other[:5], again, rtol=1e-4, atol=1e-4)  # a product of other rows can round otherwise
    assert (other >= 0).all()
    assert 0.4 < (other > 0).mean() < 0.6
    assert np.square(other).mean() == pytest.approx(np.square(more).mean(), rel=0.25)  # of 12 features


@pytest.mark.parametrize("name", ["linear", "features_12"])
def test_a_linear_model_starts_at_zero_and_trains_one_layer(name):
    x = images()
    variables = compiled(name).init(jax.random.key(0), x)
    assert list(variables.params) == ["Dense_0"]
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(variables))
    assert models.parameter_count(variables.params) == ((12 if name == "features_12" else 192) + 1) * CLASSES


@pytest.mark.parametrize("size", [8, 6])
def test_a_cnn_is_convolutions_with_relu_and_pooling_and_a_dense_layer(size):
    x = images(size=size)
    model, variables = made("cnn_4x5", x)
    hidden = x.astype(np.float64)
    for layer in ("Conv_0", "Conv_1"):
        hidden = relu(convolution(hidden, variables.params[layer]))
        odd = hidden.shape[1] % 2
        hidden = np.pad(hidden, ((0, 0), (0, odd), (0, odd), (0, 0)))  # zeros never win over relu's
        count, height, width, channels = hidden.shape
        hidden = hidden.reshape(count, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    logits = model.apply(variables, x).logits
    expected = dense(hidden.reshape(len(x), -1), variables.params["Dense_0"])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_resnet_is_the_pre_activation_network_with_parameter_free_shortcuts():
    x = images()
    model, variables = made("resnet8", x)
    logits = model.apply(variables, x).logits
    expected = resnet(x.astype(np.float64), 8, variables.params, variables.model_state)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


# ---- size and initial values


def resnet_parameters(depth, classes):
    """Counted by layer: 3x3 convolutions without biases, two numbers a channel for a normalisation, a dense layer."""
    blocks = (depth - 2) // 6
    total = 3 * 16 * 9
    for before, channels in ((16, 16), (16, 32), (32, 64)):
        first = 9 * before * channels + 9 * channels**2 + 2 * before + 2 * channels
        other = 2 * 9 * channels**2 + 4 * channels
        total += first + (blocks - 1) * other
    return total + 2 * 64 + 64 * classes + classes


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (56, 0.85)])
@pytest.mark.parametrize("classes", [10, 100])
def test_a_cifar_resnet_has_the_published_number_of_parameters(depth, published, classes):
    model = models.build(f"resnet{depth}", classes)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    found = models.parameter_count(variables.params)
    assert found == resnet_parameters(depth, classes)
    if classes == 10:
        assert round(found / 1e6, 2) == published


def test_the_depth_of_a_resnet_counts_its_convolutions_and_its_dense_layer():
    variables = jax.eval_shape(models.build("resnet20", 10).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    kernels = [leaf for path, leaf in jax.tree.leaves_with_path(variables.params) if path[-1].key == "kernel"]
    assert len(kernels) == 20


@pytest.mark.parametrize(("name", "hidden"), [("mlp", (1000, 1000)), ("mlp_7", (7,)), ("mlp_256x12x3", (256, 12, 3))])
def test_the_widths_of_an_mlp_are_in_its_name(name, hidden):
    variables = jax.eval_shape(models.build(name, 10).init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    sizes = (784, *hidden, 10)
    expected = sum(a * b + b for a, b in pairwise(sizes))
    assert models.parameter_count(variables.params) == expected


def test_the_channels_of_a_cnn_are_in_its_name():
    variables = jax.eval_shape(models.build("cnn_3x7", 10).init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert models.parameter_count(variables.params) == (9 * 3 + 3) + (9 * 3 * 7 + 7) + (7 * 7 * 7 * 10 + 10)


@pytest.mark.long
def test_initial_convolutions_of_a_resnet_are_normal_with_he_fan_out_variance():
    variables = compiled("resnet8").init(jax.random.key(0), images())
    checked = 0
    for path, leaf in jax.tree.leaves_with_path(variables.params):
        kernel = np.asarray(leaf, np.float64)
        if path[-1].key != "kernel" or kernel.ndim != 4:
            continue
        z = kernel.ravel() / np.sqrt(2 / (9 * kernel.shape[-1]))
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / z.size)
        assert abs(np.mean(z**4) - 3) < 5 * np.sqrt(96 / z.size)  # neither truncated nor uniform
        checked += 1
    assert checked == 7


def test_initial_dense_layers_have_he_fan_in_variance():
    variables = jax.jit(models.build("mlp_400x300", 10).init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    for layer, fan_in in (("Dense_0", 64), ("Dense_1", 400), ("Dense_2", 300)):
        kernel = np.asarray(variables.params[layer]["kernel"], np.float64)
        assert abs(np.mean(kernel**2) * fan_in / 2 - 1) < 4 * np.sqrt(2 / kernel.size)
        assert not np.asarray(variables.params[layer]["bias"]).any()


def test_a_balanced_network_is_an_mlp_with_he_weights_that_starts_at_zero_and_does_not_stay_there():
    x = images()
    model = compiled("balanced_400")
    variables = model.init(jax.random.key(0), x)
    assert np.abs(model.apply(variables, x).logits).max() < 1e-5
    assert np.abs(compiled("mlp_400").apply(variables, x).logits).max() < 1e-5  # it differs in where it starts alone
    for layer, fan_in in (("Dense_0", 192), ("Dense_1", 400)):
        kernel = np.asarray(variables.params[layer]["kernel"], np.float64)
        assert abs(np.mean(kernel**2) * fan_in / 2 - 1) < 4 * np.sqrt(4 / kernel.size)  # half of them are drawn
    slopes = jax.grad(lambda params: model.apply(variables._replace(params=params), x).logits[:, 0].sum())(
        variables.params
    )
    for layer in slopes:
        assert np.abs(slopes[layer]["kernel"]).max() > 1e-3


@pytest.mark.long
def test_normalisation_starts_as_the_identity_of_statistics_zero_and_one():
    variables = compiled("resnet8").init(jax.random.key(0), images())
    start = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
    for path, leaf in jax.tree.leaves_with_path(variables):
        if path[-1].key in start:
            np.testing.assert_array_equal(leaf, start[path[-1].key])


@pytest.mark.parametrize("name", ["mlp_8x6", "resnet8"])
def test_initial_values_depend_on_the_key_and_not_on_the_batch(name):
    init = compiled(name).init
    first = init(jax.random.key(0), images())
    jax.tree.map(np.testing.assert_array_equal, init(jax.random.key(0), images(2, seed=1)), first)
    other = init(jax.random.key(1), images())
    kernels = [
        (a, b)
        for (path, a), b in zip(jax.tree.leaves_with_path(first.params), jax.tree.leaves(other.params), strict=True)
        if path[-1].key == "kernel"
    ]
    assert kernels
    assert all((np.asarray(a) != np.asarray(b)).all() for a, b in kernels)


# ---- evaluation and training


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_leaves_the_running_statistics_as_they_are(name):
    x = images()
    model, variables = made(name, x)
    after = model.apply(variables, x).state
    jax.tree.map(np.testing.assert_array_equal, after, variables.model_state)
    assert jax.tree.structure(after) == jax.tree.structure(variables.model_state)
    assert bool(after) == (name == "resnet8")


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_an_examples_logits_do_not_depend_on_the_others(name):
    x = images(8)
    model, variables = made(name, x)
    whole = model.apply(variables, x).logits
    disturbed = np.concatenate([x[:2], 50 + 9 * images(6, seed=1)])
    np.testing.assert_allclose(model.apply(variables, disturbed).logits[:2], whole[:2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, x[:1]).logits, whole[:1], rtol=1e-4, atol=1e-4)


def test_in_training_a_resnets_logits_and_statistics_depend_on_the_whole_batch():
    x = images(8)
    model, variables = made("resnet8", x)
    whole, _, state = model.apply(variables, x, train=True)
    disturbed = np.concatenate([x[:2], 5 + 9 * images(6, seed=1)])
    other, _, other_state = model.apply(variables, disturbed, train=True)
    assert np.abs(np.asarray(other - whole))[:2].max() > 0.1
    for before, after, elsewhere in zip(
        *map(jax.tree.leaves, (variables.model_state, state, other_state)), strict=True
    ):
        assert (np.asarray(before) != np.asarray(after)).any()
        assert (np.asarray(elsewhere) != np.asarray(after)).any()


@pytest.mark.parametrize("name", ["mlp_8x6", "cnn_4x5"])
def test_a_network_without_normalisation_is_the_same_in_training(name):
    x = images()
    model, variables = made(name, x)
    logits, _, state = model.apply(variables, x, train=True)
    np.testing.assert_allclose(logits, model.apply(variables, x).logits, rtol=1e-6)
    assert state == variables.model_state == {}


def test_one_training_pass_moves_the_running_statistics_a_tenth_of_the_way_to_the_batchs():
    x = 3 + 2 * images()
    model, variables = made("resnet8", x)
    after = model.apply(variables, x, train=True).state
    stem = convolution(x.astype(np.float64), variables.params["stem"])
    batch = {"mean": stem.mean(axis=(0, 1, 2)), "var": stem.var(axis=(0, 1, 2))}
    for name, value in batch.items():
        before = np.asarray(variables.model_state["stage1_block1_norm1"][name], np.float64)
        expected = 0.9 * before + 0.1 * value
        np.testing.assert_allclose(after["stage1_block1_norm1"][name], expected, rtol=1e-4, atol=1e-4)


def test_training_logits_are_those_of_evaluation_with_the_batchs_own_statistics():
    x = images()
    model, variables = made("resnet8", x)
    logits, _, after = model.apply(variables, x, train=True)
    batchs = jax.tree.map(lambda old, new: 10 * (new - 0.9 * old), variables.model_state, after)
    again = model.apply(Variables(variables.params, batchs), x).logits
    np.testing.assert_allclose(again, logits, rtol=1e-3, atol=1e-3)


# ---- precision


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(name, train):
    x = images()
    model, variables = made(name, x, "bfloat16")
    exact = compiled(name).apply(variables, x, train=train).logits
    logits, _, state = model.apply(variables, x, train=train)
    for leaf in jax.tree.leaves((jax.eval_shape(model.init, jax.random.key(0), x), state, logits)):
        assert leaf.dtype == jnp.float32
    error = np.abs(np.asarray(logits - exact)).max() / np.abs(np.asarray(exact)).max()
    assert 1e-5 < error < 0.1  # the arithmetic is in eight bits, and only that


@pytest.mark.parametrize(("precision", "shown"), [("float32", "f32"), ("bfloat16", "bf16")])
@pytest.mark.parametrize(("name", "layers"), [("mlp_8x6", 3), ("cnn_4x5", 3), ("resnet8", 8)])
def test_every_product_with_a_kernel_is_in_the_precision_asked_for(name, layers, precision, shown):
    _, variables = made(name, images(), precision)
    program = str(jax.make_jaxpr(models.build(name, CLASSES, precision).apply)(variables, images()))
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)\[", program)
    assert set(products) == {shown}
    assert len(products) >= layers  # a convolution that has another form on some devices is there in each


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_float64_throughout(name, float64):
    x = images().astype(np.float64)
    model, variables = made(name, x, "float64")
    logits, _, state = model.apply(variables, x, train=True)
    for leaf in jax.tree.leaves((jax.eval_shape(model.init, jax.random.key(0), x), state, logits)):
        assert leaf.dtype == jnp.float64


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        "",
        "vgg",
        "resnet21",
        "resnet",
        "ResNet20",
        "resnet20_",
        "resnet20_16",
        "resnet20_small",
        "resnet18_",
        "resnet18_smal",
        "resnet50_small_",
        "mobilenetv2_64",
        "mlp_small",
        "mlp_",
        "mlp_0",
        "mlp_8x",
        "mlp_8x-3",
        "mlp_8X8",
        "mlp_1_2",
        "mlp_ 8",
        "balanced_7",
        "balanced_8x6",
        "cnn_3.5",
        "cnn_x",
        " mlp",
    ],
)
def test_a_name_that_is_no_network_is_refused_by_name(name):
    for ask in (models.check_name, lambda name: models.build(name, CLASSES)):
        with pytest.raises(BadInput, match="expected") as caught:
            ask(name)
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["mlp", "mlp_5", "balanced", "balanced_6", "cnn", "cnn_3x4", "resnet20", "resnet50_small", "mobilenetv2"]
)
def test_a_name_that_is_a_network_passes_the_check(name):
    assert models.check_name(name) == name
