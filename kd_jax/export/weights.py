"""A network as one file of safetensors, under the names that its checkpoints have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.errors import BadInput

FILE = "model.safetensors"


def check() -> None:
    """Check that files of safetensors can be written.

    Raises:
        BadInput: without the package.
    """
    try:
        import safetensors.numpy  # noqa: F401
    except ImportError:
        raise BadInput("--format: expected the package safetensors; pip install 'kd_jax[export]'") from None


def write(folder: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write `model.safetensors`.

    Args:
        folder: where to; it exists.
        arrays: {path: array}, such as `params/Dense_0/kernel` and `model_state/BatchNorm_0/mean`, the names of the checkpoints.
        facts: what the file says about itself; its metadata are strings, so what is none becomes JSON.
    """
    from safetensors.numpy import save_file

    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / FILE, metadata)
    (folder / FILE).chmod(0o644)  # the library keeps it to its owner


def snippet(model: str, classes: int, settings: Mapping[str, Any], shape: list[int], dtype: str) -> str:
    """Return Python code that opens the file again with kd_jax, in the folder of the file.

    Args:
        model: name of the network.
        classes: number of classes.
        settings: what else `models.build` is given.
        shape, dtype: of an input, such as [1, 32, 32, 3] and `float32`.
    """
    given = "".join(f", {name}={value!r}" for name, value in settings.items())
    return f"""import numpy as np
from safetensors.numpy import load_file

from kd_jax import models
from kd_jax.workdir.packing import nest

tree = nest(load_file("{FILE}"))
variables = models.Variables(tree["params"], tree.get("model_state", {{}}))
model = models.build({model!r}, classes={classes}{given})
x = np.zeros({shape}, np.{dtype})  # your examples, as the card says
logits = model.apply(variables, x, train=False).logits
print(logits.shape)"""
