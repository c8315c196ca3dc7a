"""Networks of one's own: adapted without a change of what they compute, and refused in a line where they cannot be used."""

import sys
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_jax import models
from kd_jax.config import BadInput
from kd_jax.models import foreign, layers
from kd_jax.models.trial import trial
from kd_jax.workdir import packing

CLASSES = 3
KEY = jax.random.key(5)
sys.path.insert(0, str(Path(__file__).parent))
import own_networks as own  # noqa: E402

ALL = ("Dropped", "Normed", "Still", "Plain", "Convolved", "made", "made_nnx")


@pytest.fixture(autouse=True)
def _found(monkeypatch):
    monkeypatch.setattr(foreign, "REGISTERED", {})


def x_of(count=6, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(count, 8, 8, 1)).astype(dtype)


def built(name, precision="float32", **more):
    model = models.build(f"own_networks:{name}", CLASSES, precision, **more)
    model = model._replace(apply=jax.jit(model.apply, static_argnames="train"))
    return model, jax.jit(model.init)(KEY, x_of(dtype=models.COMPUTE_DTYPES[precision]))


def keys(count=6):
    return jax.random.split(jax.random.key(9), count)


def trained(model, variables, x, of_examples=None):
    return model.apply(variables, x, train=True, keys=of_examples)


# ---- the same network


def test_a_linen_network_computes_what_flax_computes_from_the_same_variables():
    model, variables = built("Normed")
    stored = {"params": variables.params, "batch_stats": variables.model_state["batch_stats"]}
    x = x_of() + 1
    np.testing.assert_allclose(
        model.apply(variables, x).logits, jax.jit(own.Normed(CLASSES).apply)(stored, x), rtol=1e-4, atol=1e-6
    )
    module = own.Normed(CLASSES, deterministic=False)
    _, expected = jax.jit(partial(module.apply, mutable=["batch_stats"]))(stored, x, rngs={"dropout": KEY})
    state = model.apply(variables, x, train=True, keys=keys()).state
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), state, dict(expected))
    assert (np.asarray(state["batch_stats"]["BatchNorm_0"]["mean"]) != 0).all()


def test_an_nnx_network_computes_what_nnx_computes_from_the_same_variables():
    model, variables = built("Convolved")
    module = own.Convolved((8, 8, 1), CLASSES, rngs=nnx.Rngs(0))
    values = jax.tree.map(lambda leaf: leaf, {**variables.params})
    values["norm"] = {**values["norm"], **variables.model_state["norm"]}
    nnx.update(module, values)
    x = x_of() + 1
    module.eval()
    np.testing.assert_allclose(model.apply(variables, x).logits, module(x), rtol=1e-4, atol=1e-6)
    module.train()
    outputs = model.apply(variables, x, train=True)
    np.testing.assert_allclose(outputs.logits, module(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs.state["norm"]["mean"], module.norm.mean[...], rtol=1e-6)
    np.testing.assert_allclose(outputs.state["norm"]["var"], module.norm.var[...], rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_variables_survive_a_checkpoint_and_keep_their_form_in_training(name):
    """Lists, tuples and numbered layers too: a checkpoint knows paths alone."""
    model, variables = built(name)
    arrays, leaves = packing.pack(variables._asdict())
    read = packing.nest(packing.unpack(arrays, leaves))
    back = models.Variables(read["params"], read.get("model_state", {}))
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    x = x_of()
    np.testing.assert_array_equal(model.apply(back, x).logits, model.apply(variables, x).logits)
    outputs = trained(model, back, x, keys() if model.draws(x) else None)
    assert outputs.logits.shape == (6, CLASSES)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), outputs.state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), variables.model_state
    )


def test_a_collection_of_ones_own_is_state_and_what_is_sown_is_not():
    model, variables = built("Still")
    assert variables.model_state == {"counts": {"seen": 0}}
    once = trained(model, variables, x_of()).state
    assert trained(model, variables._replace(model_state=once), x_of()).state == {"counts": {"seen": 2}}
    assert model.apply(variables, x_of()).state == {"counts": {"seen": 0}}


@pytest.mark.parametrize("name", ["Normed", "Still", "Convolved"])
def test_in_float64_everything_is_float64(name, float64):
    model, variables = built(name, "float64")
    floats = [leaf for leaf in jax.tree.leaves(variables) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    outputs = model.apply(variables, x_of(dtype=np.float64))
    assert {leaf.dtype for leaf in [*floats, outputs.logits, *outputs.features.values()]} == {np.dtype(np.float64)}


def test_a_network_is_given_what_its_arguments_are_named_after():
    given = foreign.Given(10, (4, 6, 3), 50, 7, 0.25, jnp.bfloat16, jnp.float32, "devices")
    of_texts = foreign._values(
        given, foreign.arguments(lambda n_classes, vocab_size, max_length, dropout, dtype: 0), []
    )
    assert of_texts == {"n_classes": 10, "vocab_size": 50, "max_length": 7, "dropout": 0.25, "dtype": jnp.bfloat16}
    of_images = given._replace(vocabulary=None)

    def network(features, in_features, in_channels, input_shape, axis_name=None):
        return 0

    values = foreign._values(of_images, foreign.arguments(network), ["features"])
    assert values == {
        "features": 10,
        "in_features": 72,
        "in_channels": 3,
        "input_shape": (4, 6, 3),
        "axis_name": "devices",
    }
    assert list(foreign.arguments(partial(network, in_channels=1))) == [
        "features",
        "in_features",
        "input_shape",
        "axis_name",
    ]
    assert foreign._values(given._replace(dropout=0.0), foreign.arguments(own.Dropped), []) == {"num_classes": 10}


# ---- random numbers


@pytest.mark.parametrize("name", ["Dropped", "Plain"])
def test_what_is_dropped_of_an_example_depends_on_its_key_alone_where_there_is_no_state(name):
    model, variables = built(name)
    x, of_examples = x_of(), keys()
    assert model.draws(x)
    whole = trained(model, variables, x, of_examples)
    rows = np.array([4, 1])
    part = trained(model, variables, x[rows], of_examples[rows])
    np.testing.assert_allclose(part.logits, whole.logits[rows], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(part.features["penultimate"], whole.features["penultimate"][rows], rtol=1e-5)
    dropped = np.asarray(whole.features["penultimate"]) == 0
    kept = np.asarray(model.apply(variables, x).features["penultimate"]) != 0
    assert 0.3 < dropped[kept].mean() < 0.7
    assert len({tuple(row) for row in dropped}) > 1


def test_dropout_beside_batch_statistics_is_a_function_of_the_first_key():
    model, variables = built("Normed")
    x, of_examples = x_of(), keys()
    first = trained(model, variables, x, of_examples)
    again = trained(model, variables, x, jnp.concatenate([of_examples[:1], of_examples[:5]]))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert (trained(model, variables, x, of_examples[::-1]).logits != first.logits).any()


@pytest.mark.parametrize("name", ["Still", "Convolved", "made"])
def test_a_network_that_draws_nothing_needs_no_keys(name):
    assert not built(name)[0].draws(x_of())


def test_the_share_that_is_dropped_can_be_set():
    for name in ("Dropped", "Plain"):
        assert foreign.takes_dropout(f"own_networks:{name}")
        model, variables = built(name, dropout=0.9)
        hidden = trained(model, variables, x_of(100), keys(100)).features["penultimate"]
        kept = np.asarray(model.apply(variables, x_of(100)).features["penultimate"]) != 0
        assert 0.85 < (np.asarray(hidden) == 0)[kept].mean() < 0.95
    assert not foreign.takes_dropout("own_networks:Normed")


@pytest.mark.parametrize("name", ["Normed", "Convolved"])
def test_batch_statistics_are_those_of_the_whole_batch_on_several_devices_too(name, float64):
    """Though neither network names an axis."""
    model, variables = built(name, "float64", axis_name="devices")
    x = x_of(dtype=np.float64)
    of_examples = jnp.broadcast_to(keys()[0], (2, 3)) if model.draws(x) else None

    model = models.build(f"own_networks:{name}", CLASSES, "float64", axis_name="devices")

    def of_part(x, keys):
        return model.apply(variables, x, train=True, keys=keys).state

    parts = jax.jit(jax.vmap(of_part, axis_name="devices"))(x.reshape(2, 3, *x.shape[1:]), of_examples)
    alone, _ = built(name, "float64")
    whole = alone.apply(variables, x, train=True, keys=None if of_examples is None else keys())
    jax.tree.map(
        lambda part, whole: np.testing.assert_allclose(part, np.stack([whole, whole]), rtol=1e-12),
        parts,
        whole.state,
    )


# ---- layers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Dropped", ["Dense_0", "Dense_1"]),
        ("Normed", ["Conv_0", "Dense_0"]),
        ("Plain", ["layers/0", "layers/1", "out"]),
        ("Convolved", ["conv", "head"]),
        ("made", ["layers_1", "layers_3"]),
    ],
)
def test_inputs_times_kernel_is_the_output_of_a_layer(name, expected, float64):
    model, variables = built(name, "float64")
    x = x_of(dtype=np.float64)
    assert model.layers(x) == expected
    last = expected[-1]
    kernel = layers.kernel(variables.params, last, model.fan_in(x, last))
    biases = variables.params[last]["bias"]
    np.testing.assert_allclose(
        model.layer_inputs(variables, x, last) @ kernel + biases, model.apply(variables, x).logits, atol=1e-12
    )
    if name in ("Normed", "Convolved"):
        first, of_first = expected[0], variables.params[expected[0]]
        padding = [(1, 0), (0, 1)] if name == "Normed" else "SAME"
        output = jax.lax.conv_general_dilated(
            x, of_first["kernel"], (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        product = model.layer_inputs(variables, x, first) @ layers.kernel(variables.params, first, 9)
        np.testing.assert_allclose(product, output.reshape(product.shape), atol=1e-12)


class Block(nn.Module):
    """A dense layer, as a scan calls it."""

    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(x.shape[-1])(x), None


class Scanned(nn.Module):
    """A convolution of dilation 2, and dense layers stacked by a scan: their kernels are not the matrix of one layer."""

    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (3, 3), kernel_dilation=2)(x).reshape(len(x), -1)
        x, _ = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)()(x, None)
        return nn.Dense(self.classes, name="out")(x)


def test_layers_whose_kernel_is_no_matrix_are_left_out():
    models.register("scanned", Scanned)
    assert models.build("scanned", CLASSES).layers(x_of()) == ["out"]


# ---- texts


def test_a_network_for_texts_has_the_vocabulary_and_leaves_padding_out_of_its_vectors():
    model = models.build("own_networks:Reader", CLASSES, vocabulary=30, positions=12)
    x = np.array([[5, 6, 7, 1], [8, 1, 1, 1]], np.int32)
    variables = jax.jit(model.init)(KEY, x)
    assert variables.params["tokens"]["embedding"].shape == (30, 6)
    trial("own_networks:Reader", model, CLASSES, x)
    vectors = model.layer_inputs(variables, x, "mixed")
    embedded = variables.params["tokens"]["embedding"][np.array([5, 6, 7, 8])]
    np.testing.assert_array_equal(vectors[model.counted(x, len(vectors))], embedded)
    with pytest.raises(BadInput, match="expected no argument vocabulary for these data; texts have it"):
        models.build("own_networks:Reader", CLASSES).init(KEY, x_of())


# ---- names


def test_a_registered_network_goes_by_its_name_and_a_later_one_replaces_it():
    models.register("mine", own.made)
    assert models.build("mine", CLASSES).layers(x_of()) == ["layers_1", "layers_3"]
    models.register("mine", partial(own.Dropped, dropout=0.0))
    assert models.check_name("mine") == "mine"
    assert models.build("mine", CLASSES).layers(x_of()) == ["Dense_0", "Dense_1"]
    models.register("instance", own.made(CLASSES))
    assert models.build("instance", CLASSES).layers(x_of()) == ["layers_1", "layers_3"]


@pytest.mark.parametrize(
    ("name", "network", "said"),
    [
        ("resnet20", own.Still, "expected a name that is free, this one comes with kd_jax"),
        ("mlp_mine", own.Still, "expected a name that is free"),
        ("a:b", own.Still, "expected letters, digits, _ and - after a first letter"),
        (
            "mine",
            3,
            "model 'mine': expected a flax module (linen or NNX), its class or a function that returns one, found int",
        ),
        ("mine", dict, "found the class dict"),
        ("mine", own.VALUES, "found an NNX module with values of its own, which all seeds would share"),
    ],
)
def test_what_cannot_be_registered_is_refused(name, network, said):
    with pytest.raises(BadInput) as caught:
        models.register(name, network)
    assert said in str(caught.value)
    assert not foreign.REGISTERED


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.at_all:Net", "expected a module nowhere.at_all that can be imported from"),
        ("nowhere.at_all:Net", "found ModuleNotFoundError (No module named 'nowhere')"),
        ("own_networks:Nett", "expected Nett in own_networks, found"),
        ("own_networks:NUMBER", "found int"),
        ("models/own_networks.py:Net", "expected package.module:Net, names of Python"),
        ("models/own_networks.py:Net", "write models.own_networks:Net"),
        ("own_networks:", "expected package.module:Net"),
    ],
)
def test_a_name_that_leads_to_no_network_is_refused(name, said):
    with pytest.raises(BadInput) as caught:
        models.check_name(name)
    assert str(caught.value).startswith(f"model {name!r}: expected ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["import nothing_of_that_name", "def broken(:", "raise SystemExit(3)", "1 / 0"])
def test_a_module_that_does_not_import_is_refused_with_its_error(source, tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        BadInput, match=f"model 'faulty:Net': expected a module faulty that can be imported from {tmp_path}"
    ) as caught:
        models.check_name("faulty:Net")
    assert "\n" not in str(caught.value)
    assert "Error" in str(caught.value) or "SystemExit (3)" in str(caught.value)


# ---- the trial


@pytest.mark.parametrize("name", ["Normed", "Still", "Convolved"])
def test_a_network_that_can_be_used_passes_its_trial(name):
    model, _ = built(name)
    trial(f"own_networks:{name}", model, CLASSES, x_of(2))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Needy", "expected no argument heads for these data; give it a default"),
        (
            "Broken",
            "expected it to initialise for a batch float32 [2, 8, 8, 1], it raised TypeError (dot_general requires",
        ),
        ("Unready", "expected a flax module when called with nothing, it raised RuntimeError (no)"),
        ("NoBatch", "expected __call__(self, x, ...) with a batch x, found that it takes none"),
        ("Fussy", "found that it needs mask too; give it a default"),
        ("Pairs", "expected it to return logits [batch, 3] alone, found tuple"),
        ("Decided", "expected logits as floats, found int32"),
        ("PerPixel", "expected logits [batch, 3], found [batch, 8, 8, 3]"),
        ("Infinite", "expected finite logits at random initial values, found nan"),
        (
            "Likely",
            "expected logits, found numbers from 0 to 1 that add up to 1 for every example; return what is",
        ),
        ("Dicey", "expected equal initial values for equal keys"),
        ("Fixed", "expected parameters to train, found none"),
        ("Restless", "expected it to evaluate for a batch float32 [2, 8, 8, 1], it raised InvalidRngError"),
        (
            "Grows",
            "expected its state to keep its form in training, it had last/x float32[], found last/x float32[8, 8, 1]",
        ),
        ("no_rngs", "expected an argument rngs, from which an NNX module draws its initial values"),
        ("no_module", "expected a flax module (linen or NNX), found that it returns"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_a_line(name, said):
    with pytest.raises(BadInput) as caught:
        trial(f"own_networks:{name}", models.build(f"own_networks:{name}", CLASSES), CLASSES, x_of(2))
    assert str(caught.value).startswith(f"model 'own_networks:{name}': ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_other_classes_is_refused():
    with pytest.raises(
        BadInput, match=r"expected logits \[batch, 5\], found \[batch, 3\]; let it take an argument classes"
    ):
        trial("own_networks:Still", models.build("own_networks:Still", 5), 5, x_of(2))
