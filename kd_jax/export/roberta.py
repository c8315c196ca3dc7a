"""A RoBERTa as a folder that Hugging Face's transformers opens, and `--init_from` too."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax.models import pretrained
from kd_jax.models.roberta import HEAD_WIDTH, NORM_EPSILON, PADDING

SPECIAL = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}


def write(
    folder: Path,
    params: dict[str, Any],
    labels: Sequence[str],
    tokenizer: str,
    max_length: int,
    dropout: float,
    facts: dict[str, str],
) -> None:
    """Write `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json`.

    Args:
        folder: where to; it exists.
        params: the parameters of the network, NumPy arrays in nested dicts.
        labels: the names of the classes.
        tokenizer: contents of the study's tokenizer.json.
        max_length: the length to which texts were cut, in tokens.
        dropout: the share of features that was dropped in training; attention weights were not.
        facts: further metadata of the file of weights.
    """
    from safetensors.numpy import save_file

    tensors = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name, transposed = pretrained.their_name(path)
        prefix = "" if name.startswith("classifier.") else pretrained.PREFIX
        tensors[prefix + name] = np.ascontiguousarray(leaf.T if transposed else leaf)
    save_file(tensors, folder / "model.safetensors", {"format": "pt", **facts})
    (folder / "model.safetensors").chmod(0o644)  # the library keeps it to its owner
    _write_json(folder / "config.json", config(params, labels, dropout))
    tokens = json.loads(tokenizer)
    if (tokens.get("post_processor") or {}).get("type") != "RobertaProcessing":
        # kd_jax puts the forms of RoBERTa together itself; others leave that to the file.
        tokens["post_processor"] = {
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        }
    _write_json(folder / "tokenizer.json", tokens | {"truncation": None, "padding": None})
    known = {entry["content"] for entry in tokens["added_tokens"]} | set(tokens["model"]["vocab"])
    named = {f"{name}_token": token for name, token in SPECIAL.items() if token in known}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **named,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def config(params: dict[str, Any], labels: Sequence[str], dropout: float) -> dict[str, Any]:
    """Return what `config.json` says about a network; arguments as for `write`."""
    (vocabulary, width), rows = params["tokens"]["embedding"].shape, len(params["positions"]["embedding"])
    names = dict(enumerate(labels))
    return {
        "architectures": ["RobertaForSequenceClassification"],
        "model_type": "roberta",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": sum(layer.endswith("_query") for layer in params),
        "num_attention_heads": max(width // HEAD_WIDTH, 1),
        "intermediate_size": 4 * width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": dropout,
        "max_position_embeddings": rows,
        "type_vocab_size": 1,
        "layer_norm_eps": NORM_EPSILON,
        "position_embedding_type": "absolute",
        "bos_token_id": 0,
        "pad_token_id": PADDING,
        "eos_token_id": 2,
        "num_labels": len(names),
        "id2label": {str(number): label for number, label in names.items()},
        "label2id": {label: number for number, label in names.items()},
        "problem_type": "single_label_classification",
        "torch_dtype": np.dtype(params["tokens"]["embedding"].dtype).name,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


SNIPPET = """import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".").eval()
batch = tokenizer(["a text", "another"], padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
print(logits.softmax(dim=1))"""
