"""Write vision_weights.json: names and shapes of the tensors of torchvision's and timm's networks, and their logits in float64 on
weights that tests/models/test_vision_weights.py makes from a seed, which it expects of ours.

Needs torch, torchvision, timm and safetensors beside kd_jax and pytest, so no test runs it. From the repository:

    PYTHONPATH=.:tests/models python tests/golden/vision_weights.py

It prints the largest difference between the two, reading the files that safetensors.torch writes, and takes about a minute on two
CPU cores.
"""

import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from test_vision_weights import CLASSES, GOLDEN, images, started, values

TIMM = {"resnet18": "resnet18", "resnet50": "resnet50", "mobilenetv2": "mobilenetv2_100"}
TORCHVISION = {"resnet18": "resnet18", "resnet50": "resnet50", "mobilenetv2": "mobilenet_v2"}


def main():
    jax.config.update("jax_enable_x64", True)
    written = {}
    for name in TIMM:
        for library in ("torchvision", "timm"):
            if library == "timm":
                network = timm.create_model(TIMM[name], num_classes=CLASSES)
            else:
                network = getattr(torchvision.models, TORCHVISION[name])(num_classes=CLASSES)
            shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
            state = {key: torch.tensor(value) for key, value in values(shapes).items()}
            network.load_state_dict(state)
            network = network.double().eval()
            with torch.no_grad():
                theirs = network(torch.tensor(np.ascontiguousarray(images().transpose(0, 3, 1, 2)))).numpy()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.safetensors"
                save_file(state, path)
                model, variables, report = started(name, path)
            ours = jax.jit(model.apply)(variables, images()).logits
            difference = np.abs(ours - theirs).max()
            print(
                f"{library} {name}: logits up to {np.abs(theirs).max():.3g}, largest difference {difference:.2g}; {report}",
                flush=True,
            )
            written[f"{library} {name}"] = {"tensors": shapes, "logits": theirs.tolist()}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    GOLDEN.write_text(json.dumps({"versions": versions, "networks": written}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
