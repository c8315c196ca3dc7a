"""Weights as transformers saves them: read by name, all accounted for, and what does not fit refused in a line."""

import json
import shutil
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kd_jax import models
from kd_jax.config import BadInput
from kd_jax.models import pretrained

GOLDEN = Path(__file__).parents[1] / "golden"
SAVED = GOLDEN / "roberta_1x16"
CLASSES, VOCABULARY, POSITIONS = 3, 50, 24
QUERY = "roberta.encoder.layer.0.attention.self.query.weight"


@cache
def network(name=SAVED.name, classes=CLASSES, vocabulary=VOCABULARY, positions=POSITIONS):
    """(the `Model`, its variables: zeros, which no drawn or trained weight is)."""
    model = models.build(name, classes, vocabulary=vocabulary, positions=positions)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.ones((1, 4), np.int32))
    return model._replace(apply=jax.jit(model.apply)), jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes
    )


def changed(folder, tensors=lambda tensors: tensors, **config):
    """`SAVED` in a folder, with other tensors or another configuration."""
    stored = load_file(SAVED / "model.safetensors")
    save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors(stored).items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({**json.loads((SAVED / "config.json").read_text()), **config}))
    return folder


def refused(folder, *parts, **built):
    """The message names the folder and all of `parts`, in one line."""
    _, variables = network(**built)
    with pytest.raises(BadInput) as caught:
        pretrained.load(folder, built.get("name", SAVED.name), variables)
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"--init_from={folder}", "expected", *map(str, parts)):
        assert part in message


def test_logits_are_transformers_and_every_tensor_is_used():
    model, variables = network()
    found, report = pretrained.load(SAVED, SAVED.name, variables)
    assert set(report.used) == set(load_file(SAVED / "model.safetensors"))
    assert len(report.used) == len(jax.tree.leaves(variables.params)) == 25
    assert report.missing == report.unused == ()
    assert str(report) == "25 tensors read"
    golden = json.loads((GOLDEN / "roberta_forward.json").read_text())
    logits = model.apply(found, np.array(golden["tokens"], np.uint16)).logits
    np.testing.assert_allclose(logits, golden["logits"][SAVED.name], rtol=0, atol=1e-5)


def test_sizes_are_those_of_the_configuration():
    assert pretrained.sizes(SAVED) == (VOCABULARY, POSITIONS)


def as_encoder(tensors):
    """What a bare encoder's file holds: no prefix, no classification head."""
    return {name.removeprefix("roberta."): value for name, value in tensors.items() if name.startswith("roberta.")}


def as_language_model(tensors):
    """What RoBERTa's own files hold: a head for tokens, and what earlier versions of transformers wrote."""
    kept = {name: value for name, value in tensors.items() if name.startswith("roberta.")}
    dense = np.ones((16, 16), np.float32)
    more = {"lm_head.dense.weight": dense, "lm_head.bias": dense[0], "roberta.pooler.dense.weight": dense}
    return kept | more | {"roberta.embeddings.position_ids": np.arange(26)[None]}


@pytest.mark.parametrize("tensors", [as_encoder, as_language_model])
def test_a_file_without_the_classification_head_leaves_that_as_it_was_and_names_it(tmp_path, tensors):
    _, variables = network()
    whole, _ = pretrained.load(SAVED, SAVED.name, variables)
    found, report = pretrained.load(changed(tmp_path, tensors), SAVED.name, variables)
    for layer in variables.params:
        expected = variables if layer.startswith("head") else whole
        jax.tree.map(np.testing.assert_array_equal, found.params[layer], expected.params[layer])
    head = [f"classifier.{part}.{leaf}" for part in ("dense", "out_proj") for leaf in ("bias", "weight")]
    assert list(report.missing) == head
    unused = ["lm_head.bias", "lm_head.dense.weight", "roberta.embeddings.position_ids", "roberta.pooler.dense.weight"]
    assert list(report.unused) == (unused if tensors is as_language_model else [])
    assert all(name in str(report) for name in (*report.missing, *report.unused))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_stored_numbers_take_the_type_of_the_networks(tmp_path, dtype):
    folder = changed(tmp_path, lambda tensors: {name: value.astype(dtype) for name, value in tensors.items()})
    found, _ = pretrained.load(folder, SAVED.name, network()[1])
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    expected = load_file(SAVED / "model.safetensors")[QUERY].astype(dtype).astype(np.float32).T
    np.testing.assert_array_equal(found.params["layer1_query"]["kernel"], expected)


# ---- refused


def test_a_tensor_that_is_missing_or_too_many_is_named(tmp_path):
    refused(changed(tmp_path, lambda t: {name: t[name] for name in t if name != QUERY}), f"a tensor {QUERY}")
    extra = "roberta.encoder.layer.0.adapter.weight"
    refused(changed(tmp_path, lambda t: {**t, extra: t[QUERY]}), "roberta_1x16", extra)


def test_a_tensor_of_another_shape_or_kind_is_named_with_both(tmp_path):
    refused(changed(tmp_path, lambda t: {**t, QUERY: t[QUERY][:, :7]}), QUERY, "(16, 16)", "(16, 7)")
    refused(SAVED, "classifier.out_proj.", "(3", "(4", classes=4)
    refused(changed(tmp_path, lambda t: {**t, QUERY: t[QUERY].astype(np.int8)}), QUERY, "found I8")


@pytest.mark.parametrize(
    ("built", "parts"),
    [
        ({"name": "roberta_2x16"}, ("num_hidden_layers 2 for roberta_2x16", "found 1", "roberta_1x16")),
        ({"name": "roberta_1x32"}, ("hidden_size 32 for roberta_1x32", "found 16", "roberta_1x16")),
        ({"vocabulary": 60}, ("vocab_size 60", "found 50", "tokenizer.json")),
        ({"positions": 512}, ("max_position_embeddings 514", "found 26", "texts of 24 tokens")),
    ],
)
def test_a_configuration_of_another_size_is_refused_with_both_sizes(built, parts):
    refused(SAVED, *parts, **built)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "bert"),
        ("num_attention_heads", 2),
        ("intermediate_size", 32),
        ("hidden_act", "gelu_new"),
        ("layer_norm_eps", 1e-12),
        ("pad_token_id", 0),
        ("type_vocab_size", 2),
    ],
)
def test_a_configuration_of_another_function_is_refused(tmp_path, key, value):
    refused(changed(tmp_path, **{key: value}), key, f"found {value}")


def test_relative_positions_are_refused(tmp_path):
    refused(changed(tmp_path, position_embedding_type="relative_key"), "absolute positions")


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    refused(tmp_path / "none", "config.json")
    refused(tmp_path, "config.json")
    shutil.copy(SAVED / "config.json", tmp_path)
    refused(tmp_path, "model.safetensors")
    whole = (SAVED / "model.safetensors").read_bytes()
    for damaged in (whole[:-100], b"version https://git-lfs.github.com/spec/v1\n", b""):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        refused(tmp_path, "a whole model.safetensors", f"found {len(damaged)} bytes")
    for damaged in ("{", "[]", "[" * 100_000):
        (tmp_path / "config.json").write_text(damaged)
        refused(tmp_path, "JSON in its config.json")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="vocab_size and max_position_embeddings in its config"):
        pretrained.sizes(tmp_path)
