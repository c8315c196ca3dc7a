"""Write torchvision_forward.json: torchvision's logits in float64, which tests/test_imagenet_models.py expects of ours.

Needs torch and torchvision beside kd_jax and pytest, so no test runs it. With PYTHONPATH holding both the repository and tests/:

    PYTHONPATH=.:tests python tests/golden/torchvision_forward.py

It prints the largest difference between the two and takes about a minute on two CPU cores.
"""

import json
import re

import jax
import numpy as np
import torch
import torchvision
from test_imagenet_models import CLASSES, GOLDEN, PUBLISHED, drawn
from torch import nn

from kd_jax import models
from kd_jax.models.mobilenet import STAGES

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def resnet_name(layer):
    """torchvision's name of a ResNet's layer: `stage1_block2_norm1` is `layer1.1.bn1`."""
    block = re.fullmatch(r"stage(\d)_block(\d)_(\w+)", layer)
    if not block:
        return {"stem": "conv1", "stem_norm": "bn1", "head": "fc"}[layer]
    part = {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}.get(block[3], block[3].replace("norm", "bn"))
    return f"layer{block[1]}.{int(block[2]) - 1}.{part}"


def mobilenet_name(layer):
    """torchvision's name of a MobileNet's layer: `stage1_block1_project` is `features.1.conv.1`."""
    block = re.fullmatch(r"stage(\d)_block(\d)_([a-z]+)(_norm)?", layer)
    if not block:
        fixed = {
            "stem": "features.0.0",
            "stem_norm": "features.0.1",
            "last": "features.18.0",
            "last_norm": "features.18.1",
        }
        return (fixed | {"head": "classifier.1"})[layer]
    stage, norm = int(block[1]), int(bool(block[4]))
    before = sum(count for _, _, count, _ in STAGES[: stage - 1])
    order = ["expand", "depthwise", "project"][int(STAGES[stage - 1][0] == 1) :]
    place = order.index(block[3])
    # The last convolution of a block and its norm are not wrapped in a module of their own.
    part = f"{place + norm}" if block[3] == "project" else f"{place}.{norm}"
    return f"features.{before + int(block[2])}.conv.{part}"


def torchvisions(name):
    """torchvision's network in evaluation mode; `_small` ones are its own with another stem."""
    family, small = name.removesuffix("_small"), name.endswith("_small")
    if family == "mobilenetv2":
        stages = [[*stage[:3], 1 if small and i == 1 else stage[3]] for i, stage in enumerate(STAGES)]
        network = torchvision.models.mobilenet_v2(num_classes=CLASSES, inverted_residual_setting=stages)
        if small:
            network.features[0][0].stride = (1, 1)
    else:
        network = getattr(torchvision.models, family)(num_classes=CLASSES)
        if small:
            network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network.double().eval()


def state_dict(variables, rename):
    """Our arrays under torchvision's names and in its order of axes."""
    state = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        layer, key = path[-2].key, path[-1].key
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, (0,))  # HWIO to OIHW, IO to OI
        state[f"{rename(layer)}.{LEAVES[key]}"] = torch.tensor(np.ascontiguousarray(leaf.transpose(order)))
    return state


def load(network, state):
    """Load `state`, which must be all of the network but the counters of batches."""
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing


def main():
    jax.config.update("jax_enable_x64", True)
    logits = {}
    for name in [*PUBLISHED, *(f"{name}_small" for name in PUBLISHED)]:
        x, variables = drawn(name)
        network = torchvisions(name)
        load(network, state_dict(variables, mobilenet_name if "mobilenet" in name else resnet_name))
        with torch.no_grad():
            theirs = network(torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()
        ours = jax.jit(models.build(name, CLASSES, "float64").apply)(variables, x).logits
        difference = np.abs(ours - theirs).max()
        print(f"{name}: logits up to {np.abs(theirs).max():.3g}, largest difference {difference:.2g}", flush=True)
        logits[name] = theirs.tolist()
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    GOLDEN.write_text(json.dumps({"versions": versions, "logits": logits}, indent=1) + "\n")


if __name__ == "__main__":
    main()
