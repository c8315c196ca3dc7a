"""RoBERTa: transformers' logits on the same weights, padding that changes nothing, dropout by example, eigendirections."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from kd_jax import models
from kd_jax.analysis import eigen
from kd_jax.config import BadInput
from kd_jax.data import Split
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.extract import weights
from kd_jax.models import layers, roberta
from kd_jax.train import devices, optimizer

GOLDEN = Path(__file__).parents[1] / "golden" / "roberta_forward.json"
NAME, CLASSES, VOCABULARY, POSITIONS = "roberta_3x128", 3, 50, 24
LENGTHS = (24, 2, 17, 1, 9)
SMALL = "roberta_1x16"


def texts(lengths=LENGTHS, padded=POSITIONS, seed=0):
    """Random tokens, uint16 [texts, padded], each between <s> and </s> and padded with 1."""
    rng = np.random.RandomState(seed)
    x = np.ones((len(lengths), padded), np.uint16)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = rng.randint(5, VOCABULARY, length)
        row[length - 1], row[0] = 2, 0
    return x


@cache
def compiled(name=SMALL, precision="float32", dropout=0.1):
    """The `Model`, its functions compiled once for all tests."""
    model = models.build(name, CLASSES, precision, vocabulary=VOCABULARY, positions=POSITIONS, dropout=dropout)
    return model._replace(init=jax.jit(model.init), apply=jax.jit(model.apply, static_argnames="train"))


def made(name=SMALL, precision="float32", dropout=0.1):
    """Return a network and its variables, every number of them random; `golden/roberta_forward.py` draws the same.

    One stream, frozen by NumPy for good, over the leaves in the order of their sorted paths.
    """
    model, rng = compiled(name, precision, dropout), np.random.RandomState(0)

    def draw(path, leaf):
        if path[-1].key == "scale":
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            bound = np.sqrt(6 / leaf.shape[0]) if path[-1].key == "kernel" else 0.5
            value = rng.uniform(-bound, bound, leaf.shape)
        return value.astype(leaf.dtype)

    return model, jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), texts()))


def golden(name):
    return np.array(json.loads(GOLDEN.read_text())["logits"][name])


# ---- the function


def test_logits_are_transformers():
    model, variables = made(NAME)
    logits = model.apply(variables, texts()).logits
    np.testing.assert_allclose(logits, golden(NAME), rtol=0, atol=1e-5)


def test_logits_are_transformers_to_the_last_digits_in_float64(float64):
    model, variables = made(NAME, "float64")
    logits = model.apply(variables, texts().astype(np.int64)).logits  # and from tokens of another integer type
    np.testing.assert_allclose(logits, golden(NAME), rtol=0, atol=1e-12)


def test_the_base_networks_have_as_many_parameters_as_transformers():
    counted = json.loads(GOLDEN.read_text())["parameters"]
    assert counted["roberta_base"] == 124_647_170
    for name, count in counted.items():
        model = models.build(name, 2, vocabulary=50265)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 4), jnp.uint16))
        assert models.parameter_count(shapes.params) == count


def test_padding_behind_a_text_changes_nothing():
    model, variables = made()
    longer = texts((9, 2, 12, 7, 1))
    keys = jax.random.split(jax.random.key(0), len(longer))
    for more in ({}, {"train": True, "keys": keys}):
        logits, longer_logits = (model.apply(variables, x, **more).logits for x in (longer[:, :12], longer))
        np.testing.assert_allclose(longer_logits, logits, rtol=1e-5, atol=1e-5)


def test_what_belongs_to_padding_has_no_gradient_and_what_belongs_to_tokens_has():
    model, variables = made()
    x = texts((9, 5, 2, 1, 8))
    slopes = jax.jit(jax.grad(lambda v: model.apply(v, x).logits[:, 0].sum()))(variables).params
    for name, used in (("tokens", set(x.ravel())), ("positions", set(range(2, 11)))):
        moved = np.abs(slopes[name]["embedding"]).max(axis=1) > 0
        assert set(np.flatnonzero(moved)) == used - {roberta.PADDING}


def test_a_text_longer_than_the_positions_is_refused():
    with pytest.raises(BadInput, match=r"texts of 25 tokens: expected at most the 24"):
        jax.eval_shape(compiled().init, jax.random.key(0), texts(padded=25))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_attention_is_a_softmax_over_the_first_tokens(float64, precision):
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 2, 7, 2, 8))  # [batch, length, heads, features]
    lengths = np.array([7, 4], np.int32)
    expected = np.empty_like(value)
    for text, head in np.ndindex(2, 2):
        k, v = (part[text, : lengths[text], head] for part in (key, value))
        weights = np.exp(query[text, :, head] @ k.T / np.sqrt(8))
        expected[text, :, head] = weights @ v / weights.sum(axis=1, keepdims=True)
    dtype = models.COMPUTE_DTYPES[precision]
    found = roberta.attention(*(jnp.asarray(part, dtype) for part in (query, key, value)), lengths)
    assert found.dtype == dtype
    tolerance = {"float32": 1e-6, "bfloat16": 0.03, "float64": 1e-14}[precision]
    np.testing.assert_allclose(found.astype(jnp.float64), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "features", "platform", "version", "capability", "expected"),
    [
        ("bfloat16", 64, "gpu", "cuda 12090", "9.0", "cudnn"),
        ("bfloat16", 64, "gpu", "cuda 12090", "7.5", "xla"),
        ("bfloat16", 60, "gpu", "cuda 12090", "9.0", "xla"),
        ("float32", 64, "gpu", "cuda 12090", "9.0", "xla"),
        ("bfloat16", 64, "gpu", "rocm 60200", "gfx90a", "xla"),
        ("bfloat16", 64, "tpu", "tpu", None, "xla"),
        ("bfloat16", 64, "cpu", "cpu", None, "xla"),
    ],
)
def test_the_fused_kernel_is_asked_for_where_it_exists(dtype, features, platform, version, capability, expected):
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(platform=platform, client=client, compute_capability=capability)
    assert roberta._implementation(jnp.dtype(dtype), features, device) == expected


# ---- dropout


def test_what_is_dropped_of_a_text_depends_on_its_key_alone():
    model, variables = made()
    x, keys = texts(), jax.random.split(jax.random.key(0), 2 * len(LENGTHS))
    logits = model.apply(variables, x, train=True, keys=keys[:5]).logits
    # Two of them in another batch, at other places.
    other, at = texts(seed=1), np.array([4, 0])
    other[at] = x[[1, 2]]
    elsewhere = model.apply(variables, other, train=True, keys=keys[5:].at[at].set(keys[1:3])).logits
    np.testing.assert_allclose(elsewhere[at], logits[1:3], rtol=1e-5, atol=1e-5)
    same = model.apply(variables, x[[0] * 5], train=True, keys=keys[:5]).logits
    assert len(np.unique(np.asarray(same)[:, 0])) == 5  # one text, five keys


def test_dropout_keeps_the_mean_and_drops_its_share_elsewhere_at_every_site():
    keys = jax.random.split(jax.random.key(0), 4)
    first, second = (np.asarray(roberta.dropped(jnp.ones((4, 50, 40)), keys, site, 0.1)) for site in (1, 2))
    for found in (first, second):
        np.testing.assert_allclose(np.unique(found), [0, 1 / 0.9], rtol=1e-6)
        assert (found == 0).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / found.size))
    both = ((first == 0) & (second == 0)).mean()
    assert both == pytest.approx(0.01, abs=4 * np.sqrt(0.01 / first.size))
    assert ((first[0] == 0) & (first[1] == 0)).mean() == pytest.approx(0.01, abs=4 * np.sqrt(0.01 / 2000))


def test_all_precisions_drop_the_same(float64):
    keys = jax.random.split(jax.random.key(0), 2)
    found = [np.asarray(roberta.dropped(jnp.ones((2, 9, 8), dtype), keys, 1, 0.1)) == 0 for dtype in ("bfloat16", "f8")]
    np.testing.assert_array_equal(*found)


def test_training_without_dropout_is_evaluation_and_with_it_needs_keys():
    model, variables = made(dropout=0.0)
    logits, _, model_state = model.apply(variables, texts(), train=True)
    np.testing.assert_allclose(logits, model.apply(variables, texts()).logits, rtol=1e-6)
    assert model_state == variables.model_state == {}
    with pytest.raises(ValueError, match="a key per example"):
        compiled().apply(variables, texts(), train=True)


# ---- training and precision


def test_initial_weights_are_normal_with_deviation_two_hundredths():
    variables = compiled().init(jax.random.key(0), texts())
    for path, leaf in jax.tree.leaves_with_path(variables.params):
        leaf = np.asarray(leaf, np.float64)
        if path[-1].key in ("bias", "scale"):
            np.testing.assert_array_equal(leaf, path[-1].key == "scale")
        else:
            z = leaf.ravel() / 0.02
            assert abs(z.mean()) < 4 / np.sqrt(z.size)
            assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / z.size)


def dtypes(model, variables):
    """Of what is made and of what comes back, in evaluation and in training."""
    keys = jax.random.split(jax.random.key(0), len(LENGTHS))
    trees = (
        jax.eval_shape(model.init, jax.random.key(0), texts()),
        jax.eval_shape(lambda: model.apply(variables, texts())),
        jax.eval_shape(lambda: model.apply(variables, texts(), train=True, keys=keys)),
    )
    return {leaf.dtype for leaf in jax.tree.leaves(trees)}


def test_bfloat16_is_the_arithmetic_and_float32_what_is_kept():
    model, variables = made(precision="bfloat16")
    assert dtypes(model, variables) == {jnp.dtype("float32")}
    logits, exact = (network.apply(variables, texts()).logits for network in (model, compiled()))
    assert 1e-4 < np.abs(logits - exact).max() / np.abs(exact).max() < 0.1
    program = str(jax.make_jaxpr(model.apply)(variables, texts()))
    found = re.findall(r":(\w+)\[[\d,]*\] = (dot_general|rsqrt|exp|erfc)\b", program)
    # Products with eight kernels and with the values; scores, which are summed in float32; normalisations; softmax; GELU.
    products = {("bf16", "dot_general"): 9, ("f32", "dot_general"): 1}
    assert Counter(found) == {**products, ("f32", "rsqrt"): 3, ("f32", "exp"): 1, ("bf16", "erfc"): 1}


def every_bfloat16(limit):
    """All numbers of bfloat16 up to a limit, both signs, without subnormal ones."""
    bits = np.arange(2**16, dtype=np.uint16).view(jnp.bfloat16).astype(np.float64)
    return np.unique(bits[np.isfinite(bits) & (np.abs(bits) <= limit) & (np.abs(bits) >= 1e-30)])


def test_the_form_of_gelu_for_a_tpu_is_x_times_the_normal_distribution_function():
    x = every_bfloat16(9.0)
    expected = x * scipy.special.ndtr(x)
    found = np.asarray(roberta.gelu_by_erf(jnp.asarray(x, jnp.float32)), np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=7e-7)
    rounded = roberta.gelu_by_erf(jnp.asarray(x, jnp.bfloat16))
    assert rounded.dtype == jnp.bfloat16
    nearest, usual = jnp.asarray(expected, jnp.bfloat16), nn.gelu(jnp.asarray(x, jnp.bfloat16), approximate=False)
    right = [np.mean(np.asarray(form == nearest)[np.abs(x) > 1e-3]) for form in (rounded, usual)]
    assert right[0] > 0.85 > right[1]
    slope = jax.vmap(jax.grad(roberta.gelu_by_erf))(jnp.asarray(x, jnp.float32))
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(slope, scipy.special.ndtr(x) + x * density, atol=2e-6)


@pytest.mark.parametrize(
    ("platform", "precision", "has"),
    [("tpu", "bfloat16", "erf"), ("tpu", "float32", "erfc"), ("cpu", "bfloat16", "erfc")],
)
def test_a_tpu_has_its_own_gelu_in_bfloat16_and_no_other_device_has(platform, precision, has):
    x = jax.ShapeDtypeStruct((4, 8), models.COMPUTE_DTYPES[precision])
    text = jax.jit(roberta.gelu).trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert set(re.findall(r"chlo\.(erfc?)\b", text)) == {has}


@pytest.mark.parametrize(("platform", "count"), [("tpu", 1), ("cpu", 0)])
def test_what_is_dropped_is_drawn_once_on_a_tpu(platform, count):
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
    x = jax.ShapeDtypeStruct((4, 5, 8), np.float32)
    dropped = jax.jit(lambda x, keys: roberta.dropped(x, keys, 1, 0.1)).trace(x, keys)
    assert dropped.lower(lowering_platforms=(platform,)).as_text().count("optimization_barrier") == count


def test_float64_is_float64_throughout(float64):
    model, variables = made(precision="float64")
    assert dtypes(model, variables) == {jnp.dtype("float64")}
    assert "f32" not in str(jax.make_jaxpr(model.apply)(variables, texts()))


def test_kernels_and_embeddings_are_decayed_and_nothing_else_is():
    for name, text in ((SMALL, True), ("resnet8", False)):
        x = texts() if text else np.zeros((1, 8, 8, 3), np.float32)
        model = compiled() if text else models.build(name, CLASSES)
        params = jax.eval_shape(model.init, jax.random.key(0), x).params
        decayed = jax.tree.map(lambda _, kept: kept, params, optimizer._is_kernel(params))
        names = {path[-1].key: leaf for path, leaf in jax.tree.leaves_with_path(decayed)}
        expected = {"kernel": True, "bias": False, "scale": False} | ({"embedding": True} if text else {})
        assert names == expected
        for path, leaf in jax.tree.leaves_with_path(decayed):
            assert leaf == expected[path[-1].key]


def test_an_epoch_of_texts_is_one_loop_on_the_device():
    """Attention's kernels are matrices, not to be taken for convolutions, which XLA's CPU backend slows down in loops."""
    params = jax.eval_shape(compiled().init, jax.random.key(0), texts()).params
    assert devices.loops_on_device(jax.devices("cpu"), params)


# ---- eigendirections

LAYERS = [f"layer1_{part}" for part in ("query", "key", "value", "attention_out", "intermediate", "output")]
LAYERS += ["head_dense", "head_out"]


def test_inputs_times_kernel_is_every_layers_output(float64):
    model, variables = made(precision="float64")
    module = roberta.RoBERTa(1, 16, CLASSES, VOCABULARY, POSITIONS, dtype=np.float64, param_dtype=np.float64)
    x = texts()
    assert model.layers(x) == LAYERS

    @jax.jit
    def both(variables):
        _, found = module.apply(
            {"params": variables.params}, x, capture_intermediates=lambda m, _: isinstance(m, nn.Dense)
        )
        return found["intermediates"], {layer: model.layer_inputs(variables, x, layer) for layer in LAYERS}

    outputs, inputs = both(variables)
    for layer in LAYERS:
        kernel = layers.kernel(variables.params, layer, model.fan_in(x, layer))
        (output,) = outputs[layer]["__call__"]
        product = inputs[layer] @ kernel + variables.params[layer]["bias"]
        np.testing.assert_allclose(product, output.reshape(product.shape), atol=1e-12)


def test_directions_are_those_of_the_texts_without_their_padding(float64, monkeypatch):
    """Against NumPy's of each text's own vectors."""
    model, variables = made(precision="float64")
    x, layer = texts(np.random.RandomState(1).randint(1, POSITIONS, 32), seed=2), "layer1_output"
    monkeypatch.setattr(weights, "PATCH_BATCH", 16)
    y = np.zeros(len(x), np.int32)
    split = Split(x, y, y, np.arange(len(x)))
    dataset = TokenisedTexts(
        name="made",
        train=split,
        test=split,
        classes=CLASSES,
        test_split="test",
        fingerprint="",
        vocabulary=VOCABULARY,
        buckets=(x.shape[1] // 2, x.shape[1]),
        tokenizer_json="",
        token_facts={"positions": POSITIONS},
    )
    found = weights.input_directions(dataset, SMALL, "float64", variables, layer)
    inputs = jax.jit(lambda x: model.layer_inputs(variables, x, layer))
    vectors = np.concatenate([inputs(text[None])[: (text != roberta.PADDING).sum()] for text in x])
    matrix = np.cov(vectors.T, bias=True)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(matrix)[::-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(matrix @ found.vectors, found.vectors * found.values, atol=1e-12)
    assert eigen.alive(found.values) > 50


def test_the_head_has_a_vector_per_text_and_they_all_count():
    model, variables = made()
    vectors = jax.eval_shape(lambda: model.layer_inputs(variables, texts(), "head_dense"))
    assert vectors.shape == (len(LENGTHS), 16)
    assert model.counted(texts(), len(LENGTHS)) == slice(None)


# ---- names


@pytest.mark.parametrize(
    ("name", "depth", "width"),
    [
        ("roberta_base", 12, 768),
        ("roberta_medium", 8, 512),
        ("roberta_small", 4, 512),
        ("roberta_tiny", 2, 64),
        ("roberta_3x192", 3, 192),
        ("roberta_1x10", 1, 10),
    ],
)
def test_a_name_says_layers_and_width(name, depth, width):
    assert models.check_name(name) == name
    model = models.build(name, 2, vocabulary=9, positions=4)
    params = jax.eval_shape(model.init, jax.random.key(0), np.ones((1, 4), np.int32)).params
    assert sum(layer.endswith("_query") for layer in params) == depth
    assert params["layer1_intermediate"]["kernel"].shape == (width, 4 * width)
    assert params["tokens"]["embedding"].shape == (9, width)
    assert params["positions"]["embedding"].shape == (4 + 2, width)


@pytest.mark.parametrize(
    "name", ["roberta", "roberta_", "roberta_large", "roberta_2", "roberta_2x100", "roberta_2x64x3"]
)
def test_a_name_that_is_no_network_is_refused_by_name(name):
    for ask in (models.check_name, lambda name: models.build(name, 2, vocabulary=9)):
        with pytest.raises(BadInput, match="expected") as caught:
            ask(name)
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_network_of_texts_is_refused_on_images_and_one_of_images_on_texts():
    with pytest.raises(BadInput, match="'roberta_tiny': expected texts"):
        models.build("roberta_tiny", 2)
    with pytest.raises(BadInput, match="'resnet20': expected images"):
        models.build("resnet20", 2, vocabulary=9)
