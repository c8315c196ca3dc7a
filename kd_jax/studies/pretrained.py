"""Where networks start: from pre-trained weights, if a folder of them fits, else at random."""

import hashlib
from functools import partial
from pathlib import Path

import jax

from kd_jax import models
from kd_jax.config import BadInput
from kd_jax.data import Given
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.models import pretrained


def given(study):
    """Return the `data.Given` that the folders of pre-trained weights fix; nothing without any.

    Raises:
        BadInput: when they differ in vocabulary or positions, or texts would be longer than those.
    """
    if not study.init_from:
        return Given()
    sizes = {folder: pretrained.sizes(folder) for folder in study.init_from}
    (first, expected), *others = sizes.items()
    for folder, found in others:
        if found != expected:
            raise BadInput(
                f"--init_from={folder}: expected {_shown(expected)}, those of {first}, found {_shown(found)};"
                " pass weights that share a tokenizer"
            )
    if study.max_length > expected.positions:
        raise BadInput(
            f"--max_length={study.max_length}: expected at most {expected.positions}, the positions of {first}; lower it"
        )
    return Given(None, expected.vocabulary, expected.positions, tokenizer_of(study.init_from))


def tokenizer_of(folders):
    """Return the path of the tokenizer.json beside pre-trained weights, or an empty string without weights."""
    return str(Path(folders[0]) / "tokenizer.json") if folders else ""


def _shown(sizes):
    return f"{sizes.vocabulary} token ids and {sizes.positions} positions"


def describe(study, dataset):
    """Return {network: {"folder", "sha256", "report"}} of the networks that start from pre-trained weights, after a look at all.

    Args:
        study, dataset: what is to be trained on what.

    Raises:
        BadInput: for a folder that no network of the study fits, or whose weights cannot be read.
    """
    if not study.init_from:
        return {}
    if not isinstance(dataset, TokenisedTexts):
        raise BadInput(f"--init_from={study.init_from[0]}: expected none for images, {dataset.name}; leave it out")
    found, fits = {}, dict.fromkeys(study.init_from, False)
    for name in dict.fromkeys((study.teacher, *study.student)):
        shapes = _shapes(study, dataset, name)
        own = sum(layer.endswith("_query") for layer in shapes.params), shapes.params["tokens"]["embedding"].shape[1]
        for folder in study.init_from:
            if pretrained.layers_and_width(folder) == own:
                fits[folder] = True
                _, report = pretrained.load(folder, name, shapes)
                digest = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
                found[name] = {"folder": str(folder), "sha256": digest, "report": str(report)}
    for folder, fit in fits.items():
        if not fit:
            layers, width = pretrained.layers_and_width(folder)
            raise BadInput(
                f"--init_from={folder}: expected weights of a network of the study, found {layers} layers of width {width}; pass"
                f" --teacher=roberta_{layers}x{width} or such a --student"
            )
    return found


def make(described, name):
    """Return `start(variables) -> variables` with pre-trained weights in them, or None for a network that starts at random.

    Args:
        described: of `describe`.
        name: of the network.
    """
    return partial(_load, described[name]["folder"], name) if name in described else None


def _load(folder, name, variables):
    return pretrained.load(folder, name, variables)[0]


def _shapes(study, dataset, name):
    model = models.build(name, dataset.classes, study.precision, **dataset.network_settings)
    return jax.eval_shape(model.init, jax.random.key(0), dataset.example())
