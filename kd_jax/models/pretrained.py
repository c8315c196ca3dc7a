"""Pre-trained weights of RoBERTa as Hugging Face's transformers keeps them: a folder with `config.json` and `model.safetensors`."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.config import BadInput
from kd_jax.models.roberta import HEAD_WIDTH, NORM_EPSILON, PADDING
from kd_jax.models.variables import Variables

# our names -> those of transformers; the names in `LAYER_MODULES` come after `encoder.layer.N.`
MODULES = {
    "tokens": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "head_dense": "classifier.dense",
    "head_out": "classifier.out_proj",
}
LAYER_MODULES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
PREFIX = "roberta."  # of the encoder's tensors in a model that has a head too
FLOATS = ("F64", "F32", "F16", "BF16")


class Sizes(NamedTuple):
    """What a network must be built with, beside its name, to hold pre-trained weights.

    Attributes:
        vocabulary: the number of token ids, which is that of the tokenizer in the same folder.
        positions: the length of the longest text, in tokens.
    """

    vocabulary: int
    positions: int


class Report(NamedTuple):
    """Which tensors of a file became part of a network, by the names that transformers gives them.

    Attributes:
        used: tensors that were read from the file.
        missing: tensors of the classification head that the file lacks, or has for other classes; they keep their initial values.
        unused: tensors in the file that are no part of this network, such as another head or the pooler.
    """

    used: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self):
        parts = [f"{len(self.used)} tensors read"]
        parts += [f"not in the file, so new: {', '.join(self.missing)}"] if self.missing else []
        parts += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def sizes(directory: str | Path) -> Sizes:
    """Return the `Sizes` that the `config.json` of a folder states.

    Raises:
        BadInput: where that file is missing, is no JSON, or does not state them.
    """
    config = _config(directory)
    vocabulary, rows = config.get("vocab_size"), config.get("max_position_embeddings")
    if not isinstance(vocabulary, int) or not isinstance(rows, int):
        raise BadInput(
            f"--init_from={directory}: expected vocab_size and max_position_embeddings in its config.json; download it anew"
        )
    return Sizes(vocabulary, rows - PADDING - 1)


def layers_and_width(directory: str | Path) -> tuple[int | None, int | None]:
    """Return the number of layers and the width that the `config.json` of a folder states; None for what it does not state.

    Raises:
        BadInput: where that file is missing or is no JSON.
    """
    config = _config(directory)
    return config.get("num_hidden_layers"), config.get("hidden_size")


def check_labels(directory: str | Path, classes: Sequence[str]) -> None:
    """Refuse a fine-tuned head whose classes have the names of the data's in another order: it would be read the wrong way round.

    Args:
        directory: the folder.
        classes: the names of the data's classes; empty where they have none.

    Raises:
        BadInput: when they differ in nothing but their order.
    """
    named = _config(directory).get("id2label")
    if not isinstance(named, dict) or len(named) != len(classes):
        return
    theirs = [str(named.get(str(number), "")).lower() for number in range(len(classes))]
    ours = [name.lower() for name in classes]
    if theirs != ours and sorted(theirs) == sorted(ours):
        raise BadInput(
            f"--init_from={directory}: expected a head for the classes {', '.join(ours)}, in this order, found {', '.join(theirs)}"
            " as id2label of its config.json; exchange the rows of classifier.out_proj and the names, or remove the head"
        )


def load(directory: str | Path, name: str, variables: Variables) -> tuple[Variables, Report]:
    """Return the variables of a network with the pre-trained weights of a folder, and a report of what was read.

    The classification head is read where the file has one, as after fine-tuning.

    Args:
        directory: the folder, with `config.json` and `model.safetensors`.
        name: the name of the network, for messages.
        variables: the initial values of the network, which was built with the `sizes` of the folder. They decide shapes and
            dtypes, so half precision in the file is widened. A head that the file lacks keeps them.

    Returns:
        `Variables`, with NumPy arrays where weights were read, and the `Report`.

    Raises:
        BadInput: for a file that is missing or damaged; for the configuration of another network; for a tensor of the encoder that
            is missing, that this network has no place for, that has another shape or type, or that is not finite.
    """
    _check_config(directory, name, variables.params)
    used, missing = [], []
    with _weights(directory) as file:
        stored = {key.removeprefix(PREFIX): key for key in file.keys()}  # noqa: SIM118 (it is no dict)

        def read(path, leaf):
            wanted, transposed = their_name(path)
            key = stored.get(wanted)
            if key is not None:
                used.append(key)
                return _tensor(directory, file, key, leaf, transposed)
            if not wanted.startswith("classifier."):
                raise BadInput(
                    f"--init_from={directory}: expected a tensor {PREFIX}{wanted} in model.safetensors; it is not there,"
                    " so pass a folder with all weights of a RoBERTa"
                )
            missing.append(wanted)
            return leaf

        params = jax.tree.map_with_path(read, variables.params)
    unused = sorted(set(stored.values()) - set(used))
    for key in unused:
        # What the encoder has beyond ours would have changed its function.
        if re.match(r"(embeddings|encoder)\.", key.removeprefix(PREFIX)) and not key.endswith(".position_ids"):
            raise BadInput(
                f"--init_from={directory}: expected the encoder of {name} in model.safetensors; it has {key} too, so it is"
                " of another kind"
            )
    return Variables(params, variables.model_state), Report(tuple(used), tuple(missing), tuple(unused))


def their_name(path):
    """Return the name of a parameter in transformers, without the prefix, and whether it is transposed there."""
    layer, leaf = (entry.key for entry in path)
    inside = re.fullmatch(r"layer(\d+)_(\w+)", layer)
    module = f"encoder.layer.{int(inside[1]) - 1}.{LAYER_MODULES[inside[2]]}" if inside else MODULES[layer]
    return f"{module}.{'bias' if leaf == 'bias' else 'weight'}", leaf == "kernel"


def _tensor(directory, file, key, leaf, transposed):
    stored, expected = file.get_slice(key), leaf.shape[::-1] if transposed else leaf.shape
    if tuple(stored.get_shape()) != expected:
        raise BadInput(
            f"--init_from={directory}: expected the shape {expected} of {key} in model.safetensors, found"
            f" {tuple(stored.get_shape())}; pass a folder whose weights fit its config.json and the classes of the data"
        )
    if stored.get_dtype() not in FLOATS:
        raise BadInput(
            f"--init_from={directory}: expected floats of 16 to 64 bits in {key} of model.safetensors, found"
            f" {stored.get_dtype()}; pass weights that are not quantised"
        )
    value = file.get_tensor(key)
    if not np.isfinite(value).all():
        raise BadInput(
            f"--init_from={directory}: expected finite numbers in {key} of model.safetensors, found NaN or infinity; download it"
            " anew, or ask whoever made it"
        )
    return np.array(value.T if transposed else value, leaf.dtype, order="C")


class _Shards:
    """Several opened files of safetensors, as one."""

    def __init__(self, files: Sequence[Any]):
        self._of = {key: file for file in files for key in file.keys()}  # noqa: SIM118 (it is no dict)

    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._of)

    def get_slice(self, key: str) -> Any:
        """Return what is known of a tensor without reading it."""
        return self._of[key].get_slice(key)

    def get_tensor(self, key: str) -> np.ndarray:
        """Return a tensor."""
        return self._of[key].get_tensor(key)


def weight_files(directory: str | Path) -> list[Path]:
    """Return the files of safetensors in a folder: `model.safetensors`, or the shards that its index lists.

    Raises:
        BadInput: where there is neither, or a shard is missing.
    """
    folder = Path(directory).expanduser()
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return [_existing(directory, "model.safetensors")]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        plain = all(name == Path(name).name for name in names)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        names, plain = [], False
    if not names or not plain:
        raise BadInput(f"--init_from={directory}: expected names of files in {index.name}; download it anew")
    return [_existing(directory, name) for name in names]


@contextmanager
def _weights(directory: str | Path) -> Iterator[Any]:
    with ExitStack() as stack:
        files = [stack.enter_context(opened(path, directory, "text")) for path in weight_files(directory)]
        yield files[0] if len(files) == 1 else _Shards(files)


def opened(path: Path, typed: str | Path, extra: str) -> Any:
    """Return an opened file of safetensors, for use in a `with`; a tensor is read when it is asked for.

    Args:
        path: the file.
        typed: what `--init_from` says, for messages.
        extra: the extra of this package that brings the reader along, for messages.

    Raises:
        BadInput: where the file is damaged, or the reader is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise BadInput(
            f"--init_from={typed}: expected the package safetensors; pip install 'kd_jax[{extra}]'"
        ) from None
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise BadInput(
            f"--init_from={typed}: expected a whole {path.name}, found {path.stat().st_size} bytes that are not"
            f" ({error}); download it anew"
        ) from None


def _config(directory):
    path = _existing(directory, "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise BadInput(f"--init_from={directory}: expected JSON in its config.json; download it anew")
    return config


def _existing(directory, file):
    path = Path(directory).expanduser() / file
    if not path.is_file():
        if file.endswith(".safetensors") and (path.parent / "pytorch_model.bin").is_file():
            raise BadInput(
                f"--init_from={directory}: expected a folder with {file}, found pytorch_model.bin; convert it with transformers:"
                ' AutoModel.from_pretrained("DIR").save_pretrained("DIR")'
            )
        raise BadInput(f"--init_from={directory}: expected a folder with {file}; pass one, with tokenizer.json beside")
    return path


def _check_config(directory, name, params):
    """Raise `BadInput` unless `config.json` describes the network with these parameters."""
    config = _config(directory)
    (vocabulary, width), rows = params["tokens"]["embedding"].shape, len(params["positions"]["embedding"])
    expected = {
        "model_type": "roberta",
        "num_hidden_layers": sum(layer.endswith("_query") for layer in params),
        "hidden_size": width,
        "num_attention_heads": max(width // HEAD_WIDTH, 1),
        "intermediate_size": 4 * width,
        "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPSILON,
        "pad_token_id": PADDING,
        "type_vocab_size": 1,
        "vocab_size": vocabulary,
        "max_position_embeddings": rows,
    }
    fixes = {
        "num_hidden_layers": f"name the network roberta_{config.get('num_hidden_layers')}x{config.get('hidden_size')}",
        "num_attention_heads": f"pass weights whose heads have {HEAD_WIDTH} features",
        "vocab_size": "take tokenizer.json and model.safetensors from one folder",
        "max_position_embeddings": f"build the network for texts of {sizes(directory).positions} tokens",
    }
    fixes["hidden_size"] = fixes["num_hidden_layers"]
    for key, value in expected.items():
        if config.get(key) != value:
            raise BadInput(
                f"--init_from={directory}: expected {key} {value} for {name}, found {config.get(key)} in its config.json;"
                f" {fixes.get(key, 'pass the folder of a RoBERTa')}"
            )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise BadInput(f"--init_from={directory}: expected absolute positions; pass the folder of a RoBERTa")
