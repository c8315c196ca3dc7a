"""Weights as torchvision and timm save them: the same logits, every tensor accounted for, what does not fit refused in a line."""

import json
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from kd_jax import models
from kd_jax.config import BadInput
from kd_jax.models import names, vision_weights
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.resnet import ResNet

GOLDEN = Path(__file__).parents[1] / "golden" / "vision_weights.json"
CLASSES = 4


def images():
    """A batch of two, float64 [2, 64, 64, 3]."""
    return np.random.RandomState(1).uniform(-2, 2, (2, 64, 64, 3))


def values(shapes):
    """{tensor: float32 array} from a seed, in the order of names, such that activations stay within what float64 tells apart.

    Running statistics are random too; counters of batches are 7.
    """
    rng, found = np.random.RandomState(0), {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("num_batches_tracked"):
            found[name] = np.array(7, np.int64)
            continue
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            drawn = rng.uniform(0.5, 1.5, shape)
        else:
            bound = np.sqrt(6 / np.prod(shape[1:])) if len(shape) > 1 else 0.5
            drawn = rng.uniform(-bound, bound, shape)
        found[name] = drawn.astype(np.float32)
    return found


@cache
def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["networks"]


def module_of(name, classes=CLASSES):
    return names.module(name, classes=classes, dtype=None, param_dtype=None, axis_name=None)


def started(name, path, classes=CLASSES):
    """(the `Model` in float64, its variables with the weights of a file, what was read)."""
    model = models.build(name, classes, "float64")
    shapes = jax.eval_shape(model.init, jax.random.key(0), images())
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return model, *vision_weights.load(path, name, module_of(name, classes), zeros)


def written(path, which, change=lambda tensors: tensors):
    """A file of a golden network's tensors."""
    save_file(change(values(golden()[which]["tensors"])), path)
    return path


@pytest.mark.parametrize(
    "which",
    [
        "torchvision resnet18",
        "timm resnet18",
        "torchvision mobilenetv2",
        "timm mobilenetv2",
        # Its blocks are in the others, but for the bottleneck, whose forward pass test_imagenet_models has.
        pytest.param("torchvision resnet50", marks=pytest.mark.long),
        pytest.param("timm resnet50", marks=pytest.mark.long),
    ],
)
def test_logits_are_those_of_the_library_that_saved_the_weights(float64, tmp_path, which):
    name = which.split()[1]
    model, variables, report = started(name, written(tmp_path / "a.safetensors", which))
    logits = jax.jit(model.apply)(variables, images()).logits
    expected = np.array(golden()[which]["logits"])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    counted = [key for key in golden()[which]["tensors"] if not key.endswith("num_batches_tracked")]
    assert report == f"{len(counted)} tensors read"


# ---- in small: networks of the same code with two stages, and their tensors under the names of the libraries

SMALL = {
    "plain": ResNet(blocks=(1, 1), classes=3),
    "bottleneck": ResNet(blocks=(1, 2), classes=3, bottleneck=True),
    "mobilenet": MobileNetV2(classes=3, stages=((1, 8, 1, 1), (2, 12, 2, 2))),
}


@cache
def small(which):
    """(module, shapes of its variables on 16x16 images of 3 channels)."""
    model = models.from_module(SMALL[which])
    return SMALL[which], jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))


def tensors(which):
    """{tensor: array} of a small network under torchvision's names."""
    return values(vision_weights._expected(*small(which)[:1], {}, small(which)[1]))


def read(which, path):
    module, shapes = small(which)
    return vision_weights.load(path, f"small_{which}", module, shapes)


def refused(which, path, *parts):
    with pytest.raises(BadInput) as caught:
        read(which, path)
    said = str(caught.value)
    assert "\n" not in said
    for part in (f"--init_from={path}: expected", *parts):
        assert part in said, said


def changed(tmp_path, which, change):
    found = tensors(which)
    change(found)
    save_file(found, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("which", SMALL)
def test_every_value_lands_in_a_place_of_its_own(tmp_path, which):
    save_file(tensors(which), tmp_path / "a.safetensors")
    variables, _ = read(which, tmp_path / "a.safetensors")
    read_back = np.sort(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)]))
    np.testing.assert_array_equal(
        read_back, np.sort(np.concatenate([leaf.ravel() for leaf in tensors(which).values()]))
    )


def test_a_folder_a_wrappers_prefix_and_half_precision_are_read(tmp_path):
    whole, _ = read("plain", changed(tmp_path, "plain", lambda found: None))
    halves = {f"module._orig_mod.{name}": value.astype(np.float16) for name, value in tensors("plain").items()}
    save_file(halves, tmp_path / "model.safetensors")
    half, _ = read("plain", tmp_path)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.astype(np.float16), b.astype(np.float16)), whole, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("classes", [0, 1000])
def test_a_head_of_other_classes_is_new_and_that_is_said(tmp_path, classes):
    def change(found):
        del found["fc.weight"], found["fc.bias"]
        if classes:
            found |= {"fc.weight": np.ones((classes, 128), np.float32), "fc.bias": np.ones(classes, np.float32)}

    path = changed(tmp_path, "plain", change)
    module, shapes = small("plain")
    variables, report = vision_weights.load(path, "small_plain", module, shapes)
    assert variables.params["head"] == shapes.params["head"]
    assert isinstance(variables.params["stem"]["kernel"], np.ndarray)
    assert ("that of the file has 1000 classes" if classes else "the file has none") in report
    assert "these data have 3" in report


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda found: found.pop("bn1.running_var"), ("no bn1.running_var", "a ResNet of 1, 1 plain blocks")),
        (lambda found: found.update({"layer3.0.x": np.ones(2)}), ("found layer3.0.x besides",)),
        (lambda found: found.update({"bn1.bias": np.array([np.nan] * 64)}), ("finite weights, found nan in bn1.bias",)),
        (
            lambda found: found.update({"bn1.bias": np.zeros(64, np.int8)}),
            ("floats of 16 to 64 bits in bn1.bias, found I8",),
        ),
        (
            lambda found: found.update({"conv1.weight": np.ones((64, 1, 7, 7), np.float32)}),
            ("the shape (64, 3, 7, 7) of conv1.weight", "found (64, 1, 7, 7)"),
        ),
    ],
)
def test_a_file_that_is_not_just_the_network_is_refused_by_the_name_of_a_tensor(tmp_path, change, parts):
    refused("plain", changed(tmp_path, "plain", change), *parts)


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_file(tensors("bottleneck"), tmp_path / "a.safetensors")
    refused("plain", tmp_path / "a.safetensors", "the tensors of small_plain", "a ResNet of 1, 2 bottleneck blocks")
    refused("mobilenet", tmp_path / "a.safetensors", "found no features.", "a ResNet of 1, 2 bottleneck blocks")
    save_file(tensors("mobilenet"), tmp_path / "a.safetensors")
    refused("plain", tmp_path / "a.safetensors", "no layer1.0.conv1.weight", "a network like MobileNet")


def test_what_is_no_whole_file_of_safetensors_is_refused(tmp_path):
    refused("plain", tmp_path / "absent.safetensors", "a file of safetensors, or a folder with model.safetensors")
    refused("plain", tmp_path, "a folder with model.safetensors")
    (tmp_path / "a.pth").write_bytes(b"x")
    refused("plain", tmp_path / "a.pth", "safetensors.torch.save_file")
    path = changed(tmp_path, "plain", lambda found: None)
    path.write_bytes(path.read_bytes()[:-1])
    refused("plain", path, "a whole a.safetensors")


def test_which_files_are_for_which_networks():
    def shapes(name, x):
        model = models.build(name, CLASSES)
        return module_of(name), jax.eval_shape(model.init, jax.random.key(0), x)

    x = np.zeros((1, 32, 32, 3), np.float32)
    resnet, mobile = (
        {
            key: tuple(shape)
            for key, shape in golden()[f"torchvision {name}"]["tensors"].items()
            if "num_batches" not in key
        }
        for name in ("resnet18", "mobilenetv2")
    )
    for name, stored, expected in (
        ("resnet18", resnet, True),
        ("resnet18_small", resnet, False),  # its stem is another
        ("resnet50", resnet, False),
        ("mobilenetv2", mobile, True),
        ("mobilenetv2_small", mobile, True),  # the same tensors, other strides
        ("mobilenetv2", resnet, False),
    ):
        module, variables = shapes(name, x)
        assert vision_weights.fits(module, stored, variables) == expected, name
