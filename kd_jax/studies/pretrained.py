"""Where networks start: from pre-trained weights, if a folder or file of them fits, and otherwise at random.

Folders are of RoBERTa (`models.pretrained`), files of networks for images (`models.vision_weights`).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from kd_jax import models
from kd_jax.config import Data, Networks
from kd_jax.data import Dataset, Given
from kd_jax.errors import BadInput
from kd_jax.models import Variables, pretrained, vision_weights


def given(networks: Networks, data: Data) -> Given:
    """Return what the folders of pre-trained weights fix about the tokens of texts; without any, nothing.

    Raises:
        BadInput: when they differ in vocabulary or positions, or texts would be longer than those.
    """
    if not networks.init_from or not any(map(models.is_roberta, filter(None, (networks.teacher, *networks.student)))):
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
    return str(Path(folders[0]).expanduser() / "tokenizer.json") if folders else ""


def _shown(sizes):
    return f"{sizes.vocabulary} token ids and {sizes.positions} positions"


def describe(networks: Networks, dataset: Dataset) -> dict[str, dict[str, str]]:
    """Return {network: {"folder", "sha256", "report"}} of the networks that start from pre-trained weights, after a check.

    `folder` is the folder or file as it was named, and `sha256` that of the file, or of its shards in turn.

    Raises:
        BadInput: for a folder or file that fits no network of the study, or whose weights cannot be read; for two that fit one.
    """
    starts: dict[str, dict[str, str]] = {}
    names = dict.fromkeys((networks.teacher, *networks.student))
    for path in networks.init_from:
        found = (
            _of_texts(networks, dataset, path) if dataset.tokenizer is not None else _of_images(networks, dataset, path)
        )
        for name, (files, report) in found.items():
            if name in starts:
                raise BadInput(
                    f"--init_from={path}: expected weights for another network than {name}, which {starts[name]['folder']} is"
                    " for; name one of them"
                )
            digest = hashlib.sha256()
            for file in files:
                digest.update(file.read_bytes())
            starts[name] = {"folder": str(path), "sha256": digest.hexdigest(), "report": report}
    return {name: starts[name] for name in names if name in starts}


def _of_texts(networks: Networks, dataset: Dataset, folder: str) -> dict[str, tuple[list[Path], str]]:
    """{network: (files, what was read)} of the networks that start from the weights in a folder of RoBERTa."""
    found, own = {}, pretrained.layers_and_width(folder)
    for name in filter(models.is_roberta, dict.fromkeys((networks.teacher, *networks.student))):
        shapes = _shapes(networks, dataset, name)
        layers = sum(layer.endswith("_query") for layer in shapes.params)
        if own == (layers, shapes.params["tokens"]["embedding"].shape[1]):
            _, report = pretrained.load(folder, name, shapes)
            if not any("classifier" in tensor for tensor in report.missing):
                pretrained.check_labels(folder, dataset.class_names)
            found[name] = pretrained.weight_files(folder), str(report)
    if not found:
        layers, width = own
        raise BadInput(
            f"--init_from={folder}: expected weights of a network of the study, found {layers} layers of width {width}; pass"
            f" --teacher=roberta_{layers}x{width} or such a --student"
        )
    return found


def _of_images(networks: Networks, dataset: Dataset, path: str) -> dict[str, tuple[list[Path], str]]:
    """{network: (files, what was read)} of the networks that start from a file of weights."""
    stored, found, nearest = vision_weights.names(path), {}, ("", -1)
    for name in dict.fromkeys((networks.teacher, *networks.student)):
        module = _module(dataset, name)
        if not vision_weights.holds(module):
            continue
        shapes = _shapes(networks, dataset, name)
        if vision_weights.fits(module, stored, shapes):
            _, report = vision_weights.load(path, name, module, shapes)
            found[name] = [vision_weights.weights_file(path)], report
        nearest = max(nearest, (name, vision_weights.common(module, stored, shapes)), key=lambda each: each[1])
    if found:
        return found
    name, _ = nearest
    if not name:
        held = vision_weights.architecture(stored) or "tensors of another kind"
        raise BadInput(
            f"--init_from={path}: expected weights for {networks.teacher} or a student, which only resnet18, resnet50, mobilenetv2"
            f" and their _small kin take for images, found {held}; pass such a --teacher or --student, or leave it out"
        )
    vision_weights.load(path, name, _module(dataset, name), _shapes(networks, dataset, name))  # says what does not fit
    raise AssertionError(f"{path} fits {name}")


def make(
    described: Mapping[str, Mapping[str, str]], name: str, dataset: Dataset
) -> Callable[[Variables], Variables] | None:
    """Return a function that puts pre-trained weights into random variables, or None for a network that starts at random.

    Args:
        described: what `describe` returned.
        name: the name of the network.
        dataset: the data.
    """
    if name not in described:
        return None
    path = described[name]["folder"]
    if dataset.tokenizer is not None:
        return lambda variables: pretrained.load(path, name, variables)[0]
    return lambda variables: vision_weights.load(path, name, _module(dataset, name), variables)[0]


def _shapes(networks: Networks, dataset: Dataset, name: str) -> Any:
    model = models.build(name, dataset.classes, networks.precision, **dataset.network_settings)
    return jax.eval_shape(model.init, jax.random.key(0), dataset.example())


def _module(dataset: Dataset, name: str) -> Any:
    """The flax module of a network that comes with the program; None for one of one's own."""
    settings: dict[str, Any] = {"dtype": None, "param_dtype": None, "axis_name": None}
    return None if models.is_foreign(name) else models.names.module(name, classes=dataset.classes, **settings)
