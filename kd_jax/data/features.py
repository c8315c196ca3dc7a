"""What a prepared set consists of, from its `features.json`: TFDS' own features alone, for a class is imported by its name."""

import json
import re
from pathlib import Path
from typing import Any

from kd_jax.errors import BadInput

OWN = re.compile(r"tensorflow_datasets\.core\.features(\.\w+)+")  # what TFDS' own features are called


def builder_of(folder: Path | str) -> Any:
    """Return TFDS' builder of a prepared set, whose features are TFDS' own: it imports any module that `features.json` names.

    Raises:
        BadInput: for another class of features, or what is no description of features.
    """
    import tensorflow_datasets as tfds

    path = Path(folder) / "features.json"
    try:
        described = [json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split()) if isinstance(error, ValueError) else type(error).__name__
        raise BadInput(
            f"--dataset: expected a description of features in {path}, found: {said}; prepare it again"
        ) from None
    while described:
        part = described.pop()
        if isinstance(part, dict):
            described += part.values()
            for key in ("pythonClassName", "python_class_name", "type"):
                name = part.get(key)
                if isinstance(name, str) and (key != "type" or "." in name) and not OWN.fullmatch(name):
                    raise BadInput(
                        f"--dataset: expected features of TFDS in {path}, found {name[:80]!r}, which would import code; prepare"
                        " the set again"
                    )
        elif isinstance(part, list):
            described += part
    return tfds.builder_from_directory(str(folder))
