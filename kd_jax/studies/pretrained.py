"""Where networks start: from pre-trained weights, if a folder of them fits, and otherwise at random."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from kd_jax import models
from kd_jax.config import Data, Networks
from kd_jax.data import Dataset, Given
from kd_jax.errors import BadInput
from kd_jax.models import Variables, pretrained


def given(networks: Networks, data: Data) -> Given:
    """Return what the folders of pre-trained weights fix about the tokens of texts; without any, nothing.

    Raises:
        BadInput: when they differ in vocabulary or positions, or texts would be longer than those.
    """
    if not networks.init_from:
        return Given()
    sizes = {folder: pretrained.sizes(folder) for folder in networks.init_from}
    (first, expected), *others = sizes.items()
    for folder, other in others:
        if other != expected:
            raise BadInput(
                f"--init_from={folder}: expected {_shown(expected)}, those of {first}, found {_shown(other)};"
                " pass weights that share a tokenizer"
            )
    if data.max_length > expected.positions:
        raise BadInput(
            f"--max_length={data.max_length}: expected at most {expected.positions}, the positions of {first}; lower it"
        )
    return Given(None, expected.vocabulary, expected.positions, tokenizer_of(networks.init_from))


def tokenizer_of(folders: Sequence[str]) -> str:
    """Return the path of the tokenizer.json beside pre-trained weights, or an empty string without weights."""
    return str(Path(folders[0]) / "tokenizer.json") if folders else ""


def _shown(sizes):
    return f"{sizes.vocabulary} token ids and {sizes.positions} positions"


def describe(networks: Networks, dataset: Dataset) -> dict[str, dict[str, str]]:
    """Return {network: {"folder", "sha256", "report"}} of the networks that start from pre-trained weights, after a check.

    Raises:
        BadInput: for a folder that fits no network of the study, or whose weights cannot be read.
    """
    if not networks.init_from:
        return {}
    if dataset.tokenizer is None:
        raise BadInput(f"--init_from={networks.init_from[0]}: expected none for images, {dataset.name}; leave it out")
    starts, fits = {}, dict.fromkeys(networks.init_from, False)
    for name in dict.fromkeys((networks.teacher, *networks.student)):
        shapes = _shapes(networks, dataset, name)
        own = sum(layer.endswith("_query") for layer in shapes.params), shapes.params["tokens"]["embedding"].shape[1]
        for folder in networks.init_from:
            if pretrained.layers_and_width(folder) == own:
                fits[folder] = True
                _, report = pretrained.load(folder, name, shapes)
                digest = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
                starts[name] = {"folder": str(folder), "sha256": digest, "report": str(report)}
    for folder, fit in fits.items():
        if not fit:
            layers, width = pretrained.layers_and_width(folder)
            raise BadInput(
                f"--init_from={folder}: expected weights of a network of the study, found {layers} layers of width {width}; pass"
                f" --teacher=roberta_{layers}x{width} or such a --student"
            )
    return starts


def make(described: Mapping[str, Mapping[str, str]], name: str) -> Callable[[Variables], Variables] | None:
    """Return a function that puts pre-trained weights into random variables, or None for a network that starts at random.

    Args:
        described: what `describe` returned.
        name: the name of the network.
    """
    return partial(_load, described[name]["folder"], name) if name in described else None


def _load(folder: str, name: str, variables: Variables) -> Variables:
    return pretrained.load(folder, name, variables)[0]


def _shapes(networks: Networks, dataset: Dataset, name: str) -> Any:
    model = models.build(name, dataset.classes, networks.precision, **dataset.network_settings)
    return jax.eval_shape(model.init, jax.random.key(0), dataset.example())
