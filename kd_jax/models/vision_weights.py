"""Pre-trained weights of ResNets and MobileNet-v2 as torchvision and timm save them: a file of safetensors.

Every tensor of the file is accounted for: it becomes a part of the network, or is a counter of batches (`num_batches_tracked`), or
the file is refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from kd_jax.config import BadInput
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.pretrained import FLOATS, opened
from kd_jax.models.resnet import ResNet
from kd_jax.models.variables import Variables

WRAPPERS = ("module.", "model.", "_orig_mod.")  # what DataParallel, Lightning and torch.compile put before every name
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
HEADS = ("fc", "classifier.1", "classifier")
AXES = {4: (2, 3, 1, 0), 2: (1, 0)}  # OIHW to HWIO, OI to IO
NAMED = 3  # tensors that a message names


def holds(module: Any) -> bool:
    """Return whether there are names of weights for a network of this kind."""
    return isinstance(module, ResNet | MobileNetV2)


def weights_file(path: str | Path) -> Path:
    """Return the file of weights that `--init_from` names: a file itself, or `model.safetensors` in a folder.

    Raises:
        BadInput: where there is none, or one in another format.
    """
    path = Path(path).expanduser()
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise BadInput(
            f"--init_from={path}: expected a file of safetensors, or a folder with model.safetensors; pass one"
        )
    if file.suffix != ".safetensors":
        raise BadInput(
            f"--init_from={path}: expected a file of safetensors, found {file.name}; write one with PyTorch:"
            " safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    return file


def names(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Return {tensor: shape} of a file of weights, without the counters of batches and without a wrapper's prefix.

    Raises:
        BadInput: for a file that cannot be read.
    """
    with opened(weights_file(path), path, "weights") as file:
        return {name: tuple(file.get_slice(key).get_shape()) for name, key in _keys(file).items()}


def _keys(file: Any) -> dict[str, str]:
    """{name without a wrapper's prefix: name in the file}, without the counters of batches."""
    keys = list(file.keys())
    prefix = ""
    while wrapper := next(
        (each for each in WRAPPERS if keys and all(key.startswith(prefix + each) for key in keys)), ""
    ):
        prefix += wrapper
    return {key.removeprefix(prefix): key for key in keys if not key.endswith("num_batches_tracked")}


def architecture(shapes: Mapping[str, Any]) -> str:
    """Return what network the tensors of a file belong to, in words; empty where they are of no kind that is known.

    >>> architecture({"conv1.weight": 0, "layer1.0.conv1.weight": 0, "layer1.1.conv1.weight": 0, "layer2.0.conv1.weight": 0})
    'a ResNet of 2, 1 plain blocks'

    Args:
        shapes: {tensor: shape}.
    """
    blocks = sorted({match[0] for name in shapes if (match := re.match(r"layer\d+\.\d+\.", name))})
    if blocks and "conv1.weight" in shapes:
        stages = [sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in range(1, 10)]
        count = ", ".join(str(number) for number in stages if number)
        kind = "bottleneck" if f"{blocks[0]}conv3.weight" in shapes else "plain"
        return f"a ResNet of {count} {kind} blocks"
    if "features.0.0.weight" in shapes or "conv_stem.weight" in shapes:
        depth = len({match[0] for name in shapes if (match := re.match(r"(features\.\d+|blocks\.\d+\.\d+)\.", name))})
        return f"a network like MobileNet of {depth} parts"
    return ""


def fits(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], variables: Variables) -> bool:
    """Return whether a file holds all tensors of a network but its head, in its shapes, and no others."""
    expected = _expected(module, shapes, variables)
    body = {name: shape for name, shape in expected.items() if not _is_head(name)}
    return body == {name: shape for name, shape in shapes.items() if not _is_head(name)}


def common(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], variables: Variables) -> int:
    """Return how many names a file has in common with the tensors of a network."""
    return len(set(shapes) & set(_expected(module, shapes, variables)))


def load(path: str | Path, name: str, module: nn.Module, variables: Variables) -> tuple[Variables, str]:
    """Return the variables of a network with the weights of a file, and what was read, in words.

    The head is read where it has as many classes as the network.

    Args:
        path: the file, or a folder with `model.safetensors`.
        name: the name of the network, for messages.
        module: the network, one that `holds`.
        variables: its initial values, which decide shapes and dtypes; a head of another number of classes keeps them.

    Returns:
        `Variables`, with NumPy arrays where weights were read, and the words.

    Raises:
        BadInput: for a file that cannot be read; for tensors that are missing, have another shape, or are no part of the network;
            for values that are not finite.
    """
    with opened(weights_file(path), path, "weights") as file:
        keys = _keys(file)
        shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in keys.items()}
        expected = _expected(module, shapes, variables)
        _check(path, name, expected, shapes)
        body = [each for each in expected if not _is_head(each)]
        own_head = [each for each in expected if _is_head(each)]
        keeps_head = all(shapes.get(each) == expected[each] for each in own_head)
        used = [*body, *own_head] if keeps_head else body
        values = {each: _value(path, file, keys[each]) for each in used}
    rename = _renamer(module, shapes)

    def read(where, leaf):
        value = values.get(rename(where))
        if value is None:
            return leaf
        return np.array(value.transpose(AXES.get(value.ndim, range(value.ndim))), leaf.dtype, order="C")

    params, state = (jax.tree.map_with_path(read, tree) for tree in variables)
    read_in = f"{len(used)} tensors read"
    if not keeps_head:
        theirs = next((shape[0] for each, shape in shapes.items() if _is_head(each)), 0)
        other = f"that of the file has {theirs} classes" if theirs else "the file has none"
        read_in += f"; the head is new, for {other}, and these data have {expected[own_head[0]][0]}"
    return Variables(params, state), read_in


def _check(path, name, expected, shapes):
    """Refuse a file whose tensors, but for the head, are not just those of the network."""
    lacking = [each for each in expected if each not in shapes and not _is_head(each)]
    unknown = [each for each in shapes if each not in expected and not _is_head(each)]
    found = architecture(shapes)
    what = f"; it has the tensors of {found}" if found else ""
    if lacking or unknown:
        parts = [f"no {_some(lacking)}"] if lacking else []
        parts += [f"{_some(unknown)} besides"] if unknown else []
        raise BadInput(
            f"--init_from={path}: expected the tensors of {name} as torchvision or timm name them, found"
            f" {' and '.join(parts)}{what}; pass weights of this architecture"
        )
    for each, shape in expected.items():
        if shapes.get(each) != shape and not _is_head(each):
            raise BadInput(
                f"--init_from={path}: expected the shape {shape} of {each} for {name} on these data, found {shapes[each]}{what};"
                " pass weights of this architecture and number of channels"
            )


def _some(tensors):
    more = f" and {len(tensors) - NAMED} more" if len(tensors) > NAMED else ""
    return ", ".join(tensors[:NAMED]) + more


def _value(path, file, key):
    dtype = file.get_slice(key).get_dtype()
    if dtype not in FLOATS:
        raise BadInput(
            f"--init_from={path}: expected floats of 16 to 64 bits in {key}, found {dtype}; pass weights that are not"
            " quantised"
        )
    value = np.asarray(file.get_tensor(key), np.float64 if dtype == "F64" else np.float32)
    if not np.isfinite(value).all():
        raise BadInput(
            f"--init_from={path}: expected finite weights, found {value[~np.isfinite(value)][0]} in {key}; pass weights of a"
            " network that has not diverged"
        )
    return value


def _is_head(name):
    return name.rpartition(".")[0] in HEADS


def _expected(module, shapes, variables):
    """{tensor: shape} of all of a network, in the names of the file's library and its order of axes."""
    rename, found = _renamer(module, shapes), {}
    for where, leaf in [
        *jax.tree.leaves_with_path(variables.params),
        *jax.tree.leaves_with_path(variables.model_state),
    ]:
        order = np.argsort(AXES.get(leaf.ndim, tuple(range(leaf.ndim))))
        found[rename(where)] = tuple(leaf.shape[axis] for axis in order)
    return found


def _renamer(module, shapes):
    """Return `rename(path of a leaf) -> name of its tensor` for a network, by the library whose names the file has."""
    if isinstance(module, ResNet):
        of_layer = _resnet
    elif "conv_stem.weight" in shapes:
        of_layer = _timm_mobilenet
    else:
        of_layer = _torchvision_mobilenet

    def rename(path):
        *_, layer, leaf = (entry.key for entry in path)
        return f"{of_layer(module, layer)}.{LEAVES[leaf]}"

    return rename


def _resnet(module, layer):
    """`stage1_block2_norm1` is `layer1.1.bn1`, in torchvision and timm."""
    block = re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)", layer)
    if not block:
        return {"stem": "conv1", "stem_norm": "bn1", "head": "fc"}[layer]
    part = {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}.get(block[3], block[3].replace("norm", "bn"))
    return f"layer{block[1]}.{int(block[2]) - 1}.{part}"


def _inverted(layer):
    """(stage, block, part, whether it is a normalisation) of a layer in an inverted residual, or None."""
    block = re.fullmatch(r"stage(\d+)_block(\d+)_(expand|depthwise|project)(_norm)?", layer)
    return (int(block[1]), int(block[2]), block[3], bool(block[4])) if block else None


def _torchvision_mobilenet(module, layer):
    """`stage1_block1_project` is `features.1.conv.1`."""
    stages, found = module.stages, _inverted(layer)
    if found is None:
        last = sum(count for _, _, count, _ in stages) + 1
        fixed = {"stem": "features.0.0", "stem_norm": "features.0.1", "head": "classifier.1"}
        return (fixed | {"last": f"features.{last}.0", "last_norm": f"features.{last}.1"})[layer]
    stage, block, part, norm = found
    before = sum(count for _, _, count, _ in stages[: stage - 1])
    order = ["expand", "depthwise", "project"][int(stages[stage - 1][0] == 1) :]
    place = order.index(part)
    # The last convolution of a block and its norm are not wrapped in a module of their own.
    inside = f"{place + norm}" if part == "project" else f"{place}.{int(norm)}"
    return f"features.{before + block}.conv.{inside}"


def _timm_mobilenet(module, layer):
    """`stage2_block1_project` is `blocks.1.0.conv_pwl`; a stage without expansion has other names."""
    found = _inverted(layer)
    if found is None:
        fixed = {"stem": "conv_stem", "stem_norm": "bn1", "last": "conv_head", "last_norm": "bn2", "head": "classifier"}
        return fixed[layer]
    stage, block, part, norm = found
    if module.stages[stage - 1][0] == 1:
        inside = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}[part][norm]
    else:
        inside = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}[part][
            norm
        ]
    return f"blocks.{stage - 1}.{block - 1}.{inside}"
