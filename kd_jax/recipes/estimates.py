"""The table of what the paper's settings would take on accelerators, as `experiments/estimates.py` wrote it."""

import json
from pathlib import Path
from typing import Any

from kd_jax.files import write_text

PATH = Path(__file__).with_name("estimates.json")


def read() -> dict[str, Any]:
    """Return the table; `studies.estimates.table` says what is in it."""
    return json.loads(PATH.read_text(encoding="utf-8"))


def write(table: dict[str, Any]) -> None:
    """Write the table."""
    write_text(PATH, json.dumps(table, indent=1) + "\n")
